//! One shard's queue: every claim, held or waiting, whose range touches a stripe of the shard.
//!
//! Two ranges that overlap share a stripe, hence a shard, so that looking only at the shards of a range misses no conflict.
//!
//! Invariants, which the tests check after each step:
//! - **I1** Entries stand in the order in which their claims arrived; two claims stand in the same order in every shard that they share.
//! - **I2** `blockers` of an entry counts the entries before it, in this queue, that conflict with it.
//! - **I3** An entry has a waiter exactly if its `blockers` is above zero.
//! - **I4** `shards_blocked` of a waiter counts its entries whose `blockers` is above zero: at zero the claim is held. A claim that gives
//!   up while it waits leaves one shard after another, and is counted too high meanwhile: it is never granted.
//! - **I5** Two claims that are held do not conflict (follows from I1 to I4, and is what the lock is for).
//! - **I6** An entry stands only in shards that its range touches.

use crate::waiter::Waiter;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::Arc;

/// An empty queue that has grown beyond this gives its memory back.
const IDLE_CAPACITY_MAX: usize = 64;

/// The claims that one release lets go on; more than a few are rare.
pub(crate) type Granted = SmallVec<[Arc<Waiter>; 4]>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

/// One shard; padded so that two of them never share a cache line, nor a pair of lines fetched together.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Shard {
    pub(crate) queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: Vec<Entry>,
    /// How many tickets this shard has issued.
    tickets_issued: u64,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) ticket: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) mode: Mode,
    blockers: u32,
    waiter: Option<Arc<Waiter>>,
}

impl Entry {
    pub(crate) fn conflicts(&self, range: &Range<u64>, mode: Mode) -> bool {
        self.start < range.end
            && range.start < self.end
            && (self.mode == Mode::Exclusive || mode == Mode::Exclusive)
    }
}

impl Queue {
    /// The next number of this shard, from 0; the caller makes it unique among shards.
    pub(crate) fn issue_ticket(&mut self) -> u64 {
        self.tickets_issued += 1;
        self.tickets_issued - 1
    }

    pub(crate) fn has_conflict(&self, range: &Range<u64>, mode: Mode) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.conflicts(range, mode))
    }

    /// Appends a claim that nothing in this shard holds up.
    pub(crate) fn push_held(&mut self, ticket: u64, range: &Range<u64>, mode: Mode) {
        self.entries.push(Entry {
            ticket,
            start: range.start,
            end: range.end,
            mode,
            blockers: 0,
            waiter: None,
        });
    }

    /// Appends a claim; `waiter` is kept if something in this shard holds it up.
    pub(crate) fn push_waiting(
        &mut self,
        ticket: u64,
        range: &Range<u64>,
        mode: Mode,
        waiter: &Arc<Waiter>,
    ) {
        let conflicts = self
            .entries
            .iter()
            .filter(|entry| entry.conflicts(range, mode))
            .count();
        let blockers =
            u32::try_from(conflicts).expect("four thousand million claims do not fit into memory");
        let waiter = (blockers > 0).then(|| Arc::clone(waiter));
        self.entries.push(Entry {
            ticket,
            start: range.start,
            end: range.end,
            mode,
            blockers,
            waiter,
        });
    }

    /// Takes a claim out, held or waiting, and appends to `granted` those that nothing holds up any more.
    pub(crate) fn remove(&mut self, ticket: u64, granted: &mut Granted) {
        let index = self.entries.iter().position(|entry| entry.ticket == ticket);
        let index = index.expect("a claim stands in each of its shards until it leaves");
        let gone = self.entries.remove(index);
        let gone_range = gone.start..gone.end;
        for later in &mut self.entries[index..] {
            // A later entry that is not held up in this shard does not conflict with the one that left (I2).
            if later.blockers > 0 && later.conflicts(&gone_range, gone.mode) {
                later.blockers -= 1;
                if later.blockers == 0 {
                    let waiter = later
                        .waiter
                        .take()
                        .expect("an entry that is held up has a waiter (I3)");
                    if waiter.unblock_shard() {
                        granted.push(waiter);
                    }
                }
            }
        }
        if self.entries.is_empty() && self.entries.capacity() > IDLE_CAPACITY_MAX {
            self.entries.shrink_to(IDLE_CAPACITY_MAX);
        }
    }
}

#[cfg(test)]
impl Queue {
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn capacity(&self) -> usize {
        self.entries.capacity()
    }
}

#[cfg(test)]
impl Entry {
    pub(crate) fn range(&self) -> Range<u64> {
        self.start..self.end
    }

    pub(crate) fn blockers(&self) -> usize {
        self.blockers as usize
    }

    pub(crate) fn waiter(&self) -> Option<&Arc<Waiter>> {
        self.waiter.as_ref()
    }
}
