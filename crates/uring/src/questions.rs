//! The operations of a ring, what they are known by, and what the kernel is still to be told of them.

use crate::entry::Entry;
use slab::Slab;
use std::collections::VecDeque;

/// Marks answers that are of no interest: to the giving up of operations.
pub(crate) const NO_KEY: u64 = u64::MAX;

/// An operation of a ring. Never used for another one again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    pub(crate) fn to_user_data(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(crate) fn of_user_data(user_data: u64) -> Self {
        Self {
            index: user_data as u32,
            generation: (user_data >> 32) as u32,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    Do(Key),
    GiveUp(Key),
}

/// What the kernel has not been told yet.
#[derive(Default)]
pub(crate) struct Questions {
    /// There was no room for them.
    pub(crate) waiting: VecDeque<Question>,
    /// They wait for the end of a pause.
    pub(crate) later: VecDeque<Question>,
    /// What lies in the queue, in its order.
    pub(crate) in_queue: VecDeque<Question>,
}

impl Questions {
    /// Where an operation waits, if it does.
    pub(crate) fn place_of(&mut self, key: Key) -> Option<(&mut VecDeque<Question>, usize)> {
        [&mut self.waiting, &mut self.later]
            .into_iter()
            .find_map(|list| {
                let place = list.iter().position(|one| *one == Question::Do(key))?;
                Some((list, place))
            })
    }
}

/// The operations that have not ended.
#[derive(Default)]
pub(crate) struct Entries {
    slab: Slab<(u32, Box<Entry>)>,
    generation: u32,
}

impl Entries {
    pub(crate) fn insert(&mut self, entry: Box<Entry>) -> Key {
        // Only all bits of both at once would be NO_KEY, and there are never so many entries.
        self.generation = self.generation.wrapping_add(1);
        let index = self.slab.insert((self.generation, entry));
        Key {
            index: u32::try_from(index).expect("memory ends before that many operations"),
            generation: self.generation,
        }
    }

    pub(crate) fn get(&mut self, key: Key) -> Option<&mut Box<Entry>> {
        let (generation, entry) = self.slab.get_mut(key.index as usize)?;
        (*generation == key.generation).then_some(entry)
    }

    pub(crate) fn remove(&mut self, key: Key) -> Box<Entry> {
        self.slab.remove(key.index as usize).1
    }
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.slab.iter().map(|(_, (_, entry))| &**entry)
    }
}
