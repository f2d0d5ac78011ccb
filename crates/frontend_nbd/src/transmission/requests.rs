//! The requests of one connection that have no final reply yet.
//!
//! - R1: a request leaves the table when it was taken in whole and none of its steps is under way.

use nbd_protocol::{Errno, Request};
use std::time::Instant;

/// One request.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) request: Request,
    /// When it was understood.
    pub(super) began: Instant,
    /// How many of its steps are under way.
    pub(super) steps: usize,
    /// All of its steps have begun, and its payload was received or read past.
    pub(super) is_taken_in: bool,
    /// The first thing that went wrong.
    pub(super) failure: Option<Failure>,
    pub(super) delivery: Delivery,
}

/// Why a request fails.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) errno: Errno,
    pub(super) message: String,
}

/// How a request is answered if all goes well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Once, after all steps.
    AtEnd,
    /// Once, after all steps and a flush.
    AtEndFlushed,
    /// Data, in one message.
    Whole,
    /// Data, in chunks that say where they belong.
    Chunks,
    /// Data after one head, in order; `begun` once the head is on its way.
    Stream { begun: bool },
}

/// The requests, by a number that each keeps while it is here.
#[derive(Debug, Default)]
pub(super) struct Requests {
    entries: Vec<Option<Pending>>,
    free: Vec<usize>,
}

impl Requests {
    pub(super) fn insert(&mut self, request: Request, delivery: Delivery, began: Instant) -> usize {
        let pending = Pending {
            request,
            began,
            steps: 0,
            is_taken_in: false,
            failure: None,
            delivery,
        };
        match self.free.pop() {
            Some(index) => {
                self.entries[index] = Some(pending);
                index
            }
            None => {
                self.entries.push(Some(pending));
                self.entries.len() - 1
            }
        }
    }

    pub(super) fn get(&mut self, index: usize) -> &mut Pending {
        let entry = self.entries[index].as_mut();
        entry.expect("a request is here until its final reply (R1)")
    }

    pub(super) fn remove(&mut self, index: usize) -> Pending {
        self.free.push(index);
        let entry = self.entries[index].take();
        entry.expect("a request leaves once (R1)")
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}

impl Pending {
    /// Whether nothing is left to do but to answer (R1).
    pub(super) fn is_over(&self) -> bool {
        self.is_taken_in && self.steps == 0
    }

    /// Keeps the first failure.
    pub(super) fn fail(&mut self, errno: Errno, message: String) {
        self.failure.get_or_insert(Failure { errno, message });
    }
}
