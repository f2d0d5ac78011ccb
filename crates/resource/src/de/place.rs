//! Where the deserializer is, without allocating until someone wants to know.

use super::Nested;
use crate::path::{JsonPath, Segment};
use std::cell::RefCell;

/// Where we are, as a list from here upwards that lives on the stack.
#[derive(Clone, Copy)]
pub(super) enum Place<'p> {
    /// Where the whole value stands, and where to note the descriptions in it.
    Root(&'p JsonPath, Option<&'p RefCell<Vec<Nested>>>),
    Key(&'p Place<'p>, &'p str, usize),
    Index(&'p Place<'p>, usize, usize),
}

impl<'p> Place<'p> {
    pub(super) fn key(&'p self, key: &'p str) -> Self {
        Place::Key(self, key, self.depth() + 1)
    }

    pub(super) fn index(&'p self, index: usize) -> Self {
        Place::Index(self, index, self.depth() + 1)
    }

    pub(super) fn depth(&self) -> usize {
        match self {
            Place::Root(..) => 0,
            Place::Key(_, _, depth) | Place::Index(_, _, depth) => *depth,
        }
    }

    pub(super) fn nested(&self) -> Option<&'p RefCell<Vec<Nested>>> {
        let mut place = self;
        loop {
            match place {
                Place::Root(_, nested) => return *nested,
                Place::Key(parent, ..) | Place::Index(parent, ..) => place = parent,
            }
        }
    }

    pub(super) fn to_path(self) -> JsonPath {
        let mut segments = Vec::with_capacity(self.depth());
        let mut place = &self;
        let root = loop {
            place = match place {
                Place::Root(root, _) => break *root,
                Place::Key(parent, key, _) => {
                    segments.push(Segment::Key((*key).to_owned()));
                    parent
                }
                Place::Index(parent, index, _) => {
                    segments.push(Segment::Index(*index));
                    parent
                }
            };
        };
        let below = segments.into_iter().rev();
        root.segments().iter().cloned().chain(below).collect()
    }
}
