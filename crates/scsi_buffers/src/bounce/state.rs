//! The books of a pool: who holds how much, what lies idle, and who waits. No locks, no mapping of memory.

use guestmem::PAGE_SIZE_BYTES;
use guestmem::Pages;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::task::Waker;

/// Idle memory is worth keeping up to here; more is of better use to others.
const IDLE_BYTES_MAX: usize = 16 << 20;

/// The books of a pool.
///
/// Invariants: (I1) `bytes_in_use + bytes_idle <= bytes_max`. (I2) The first waiter does not fit: it needs more than
/// `bytes_max - bytes_in_use`. (I3) `waiters` is sorted by ticket; a ticket is there or in `granted`, whose bytes are in
/// use, never in both. (I4) `bytes_idle` is the sum of the idle memory, no list of which is empty.
pub(super) struct State {
    bytes_max: usize,
    bytes_in_use: usize,
    bytes_idle: usize,
    /// Memory of the given size, ready to be used again.
    idle: BTreeMap<usize, Vec<Pages>>,
    waiters: VecDeque<Waiter>,
    /// Waiters that were served and have not looked yet, with the idle memory there was for them.
    granted: BTreeMap<Ticket, Option<Pages>>,
    next_ticket: Ticket,
    pub(super) counters: Counters,
}

/// What happened since the pool was made.
#[derive(Clone, Copy, Default)]
pub(super) struct Counters {
    pub(super) bytes_in_use_max: usize,
    pub(super) allocation_count: u64,
    pub(super) reuse_count: u64,
    pub(super) wait_count: u64,
    pub(super) too_large_count: u64,
}

/// A place in the queue: lower ones are served first.
pub(super) type Ticket = u64;

struct Waiter {
    ticket: Ticket,
    bytes: usize,
    waker: Waker,
}

/// What is left to do once the books are unlocked: it may take long, and dropping a waker may drop a task that holds a
/// buffer of this pool.
#[must_use]
#[derive(Default)]
pub(super) struct Aftermath {
    wake: Vec<Waker>,
    unmap: Vec<Pages>,
    forget: Option<Waker>,
}

impl Aftermath {
    pub(super) fn run(self) {
        drop(self.unmap);
        drop(self.forget);
        self.wake.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// Books for at most `bytes_max`, which is a whole number of pages.
    pub(super) fn new(bytes_max: usize) -> Self {
        assert!(
            bytes_max.is_multiple_of(PAGE_SIZE_BYTES),
            "the bound is in whole pages"
        );
        State {
            bytes_max,
            bytes_in_use: 0,
            bytes_idle: 0,
            idle: BTreeMap::new(),
            waiters: VecDeque::new(),
            granted: BTreeMap::new(),
            next_ticket: 0,
            counters: Counters::default(),
        }
    }

    pub(super) fn bytes_in_use(&self) -> usize {
        self.bytes_in_use
    }

    pub(super) fn bytes_idle(&self) -> usize {
        self.bytes_idle
    }

    pub(super) fn waiter_count(&self) -> usize {
        self.waiters.len()
    }

    /// Takes `bytes` into use if they are free and nobody waits: `Some`, with idle memory of that size if there is any.
    pub(super) fn try_reserve(
        &mut self,
        bytes: usize,
        aftermath: &mut Aftermath,
    ) -> Option<Option<Pages>> {
        (self.waiters.is_empty() && self.fits(bytes)).then(|| self.reserve(bytes, aftermath))
    }

    /// Queues up for `bytes`, which were just found not to be free.
    pub(super) fn enqueue(&mut self, bytes: usize, waker: Waker) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.counters.wait_count += 1;
        self.waiters.push_back(Waiter {
            ticket,
            bytes,
            waker,
        });
        ticket
    }

    /// `Some` if `ticket` was served: then it is done with, and its bytes are the caller's. Otherwise `waker` is the one
    /// to wake from now on.
    pub(super) fn take_grant(
        &mut self,
        ticket: Ticket,
        waker: &Waker,
        aftermath: &mut Aftermath,
    ) -> Option<Option<Pages>> {
        if let Some(pages) = self.granted.remove(&ticket) {
            return Some(pages);
        }
        let index = self
            .waiter_index(ticket)
            .expect("a ticket waits until it is granted");
        let current = &mut self.waiters[index].waker;
        if !current.will_wake(waker) {
            aftermath.forget = Some(std::mem::replace(current, waker.clone()));
        }
        None
    }

    /// Gives up a ticket for `bytes`, served or not.
    pub(super) fn cancel(&mut self, ticket: Ticket, bytes: usize, aftermath: &mut Aftermath) {
        if let Some(pages) = self.granted.remove(&ticket) {
            self.release(bytes, pages, aftermath);
        } else if let Some(index) = self.waiter_index(ticket) {
            aftermath.forget = self.waiters.remove(index).map(|waiter| waiter.waker);
            // It may have been the first, and the one behind it may need less.
            self.grant(aftermath);
        }
    }

    /// Ends the use of `bytes`. Their memory, if it was ever mapped, is kept for the next.
    pub(super) fn release(
        &mut self,
        bytes: usize,
        pages: Option<Pages>,
        aftermath: &mut Aftermath,
    ) {
        self.bytes_in_use -= bytes;
        if let Some(pages) = pages {
            if self.bytes_idle + bytes <= IDLE_BYTES_MAX {
                self.bytes_idle += bytes;
                self.idle.entry(bytes).or_default().push(pages);
            } else {
                aftermath.unmap.push(pages);
            }
        }
        self.grant(aftermath);
    }

    /// Serves waiters in order while they fit.
    fn grant(&mut self, aftermath: &mut Aftermath) {
        while let Some(waiter) = self.waiters.pop_front() {
            if !self.fits(waiter.bytes) {
                self.waiters.push_front(waiter);
                break;
            }
            let pages = self.reserve(waiter.bytes, aftermath);
            self.granted.insert(waiter.ticket, pages);
            aftermath.wake.push(waiter.waker);
        }
    }

    fn fits(&self, bytes: usize) -> bool {
        bytes <= self.bytes_max - self.bytes_in_use
    }

    /// Counts `bytes`, which fit, as in use; takes idle memory for them if there is any of that size, and lets go of
    /// other idle memory until all fits.
    fn reserve(&mut self, bytes: usize, aftermath: &mut Aftermath) -> Option<Pages> {
        let pages = self.take_idle(bytes);
        self.bytes_in_use += bytes;
        while self.bytes_in_use + self.bytes_idle > self.bytes_max {
            let largest = self.idle.last_key_value().map(|(&size, _)| size);
            let largest = largest.expect("what does not fit is idle");
            aftermath.unmap.extend(self.take_idle(largest));
        }
        self.counters.bytes_in_use_max = self.counters.bytes_in_use_max.max(self.bytes_in_use);
        self.counters.allocation_count += 1;
        self.counters.reuse_count += u64::from(pages.is_some());
        pages
    }

    fn take_idle(&mut self, bytes: usize) -> Option<Pages> {
        let list = self.idle.get_mut(&bytes)?;
        let pages = list.pop();
        if list.is_empty() {
            self.idle.remove(&bytes);
        }
        self.bytes_idle -= bytes;
        pages
    }

    fn waiter_index(&self, ticket: Ticket) -> Option<usize> {
        self.waiters
            .binary_search_by_key(&ticket, |waiter| waiter.ticket)
            .ok()
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        assert!(self.bytes_in_use + self.bytes_idle <= self.bytes_max, "I1");
        assert!(
            self.waiters
                .front()
                .is_none_or(|first| !self.fits(first.bytes)),
            "I2"
        );
        assert!(
            self.waiters.iter().is_sorted_by(|a, b| a.ticket < b.ticket),
            "I3"
        );
        assert!(
            self.waiters
                .iter()
                .all(|waiter| !self.granted.contains_key(&waiter.ticket)),
            "I3"
        );
        let idle = self.idle.iter().map(|(size, list)| size * list.len());
        assert_eq!(idle.sum::<usize>(), self.bytes_idle, "I4");
        assert!(self.idle.values().all(|list| !list.is_empty()), "I4");
    }
}
