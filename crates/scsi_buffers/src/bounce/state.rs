//! The books of a pool: who holds how much, what lies idle, and who waits. No locks, no memory mapping.

use guestmem::PAGE_SIZE_BYTES;
use guestmem::Pages;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::task::Waker;

/// Idle memory is worth keeping up to here; more is better used by others.
const IDLE_BYTES_MAX: usize = 16 << 20;

/// The books of a pool.
///
/// Invariants: (I1) `bytes_in_use + bytes_idle <= bytes_max`. (I2) The first waiter does not fit: it needs more than
/// `bytes_max - bytes_in_use`. (I3) A waiter is in `waiters`, or in `granted` with its bytes in use, never both;
/// `waiters` is sorted by ticket.
#[derive(Default)]
pub(super) struct State {
    pub(super) bytes_max: usize,
    pub(super) bytes_in_use: usize,
    pub(super) bytes_in_use_max: usize,
    pub(super) bytes_idle: usize,
    pub(super) allocation_count: u64,
    pub(super) reuse_count: u64,
    pub(super) wait_count: u64,
    pub(super) refused_count: u64,
    /// By size.
    idle: BTreeMap<usize, Vec<Pages>>,
    waiters: VecDeque<Waiter>,
    granted: BTreeSet<Ticket>,
    next_ticket: Ticket,
}

/// A place in the queue: lower ones are served first.
pub(super) type Ticket = u64;

struct Waiter {
    ticket: Ticket,
    bytes: usize,
    waker: Waker,
}

/// What is left to do once the lock on the books is gone: both may take long.
#[must_use]
#[derive(Default)]
pub(super) struct Aftermath {
    pub(super) wake: Vec<Waker>,
    pub(super) unmap: Vec<Pages>,
}

impl Aftermath {
    /// Does it.
    pub(super) fn run(self) {
        drop(self.unmap);
        self.wake.into_iter().for_each(Waker::wake);
    }
}

impl State {
    pub(super) fn new(bytes_max: usize) -> Self {
        State {
            bytes_max: bytes_max
                .checked_next_multiple_of(PAGE_SIZE_BYTES)
                .unwrap_or(usize::MAX - (PAGE_SIZE_BYTES - 1)),
            ..State::default()
        }
    }

    pub(super) fn waiter_count(&self) -> usize {
        self.waiters.len()
    }

    /// Takes `bytes` if they are free and nobody is waiting for them.
    pub(super) fn try_reserve(&mut self, bytes: usize, aftermath: &mut Aftermath) -> bool {
        if !self.waiters.is_empty() || bytes > self.bytes_max - self.bytes_in_use {
            return false;
        }
        self.reserve(bytes, aftermath);
        true
    }

    /// Queues up for `bytes`.
    pub(super) fn enqueue(&mut self, bytes: usize, waker: Waker) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.wait_count += 1;
        self.waiters.push_back(Waiter {
            ticket,
            bytes,
            waker,
        });
        ticket
    }

    /// Whether `ticket` was served: then it is done with, and its bytes are the caller's. Otherwise `waker` is the one to wake.
    pub(super) fn take_grant(&mut self, ticket: Ticket, waker: &Waker) -> bool {
        if self.granted.remove(&ticket) {
            return true;
        }
        let index = self
            .waiter_index(ticket)
            .expect("a ticket waits until it is granted");
        self.waiters[index].waker.clone_from(waker);
        false
    }

    /// Gives up a ticket for `bytes`, served or not.
    pub(super) fn cancel(&mut self, ticket: Ticket, bytes: usize, aftermath: &mut Aftermath) {
        if self.granted.remove(&ticket) {
            self.bytes_in_use -= bytes;
        } else if let Some(index) = self.waiter_index(ticket) {
            self.waiters.remove(index);
        }
        self.grant(aftermath);
    }

    /// Idle memory of exactly `bytes`, for bytes already in use.
    pub(super) fn take_idle(&mut self, bytes: usize) -> Option<Pages> {
        let pages = self.idle.get_mut(&bytes)?.pop()?;
        self.bytes_idle -= bytes;
        self.reuse_count += 1;
        Some(pages)
    }

    /// Ends the use of `bytes`, whose memory, if it was ever mapped, is kept for the next.
    pub(super) fn release(
        &mut self,
        bytes: usize,
        pages: Option<Pages>,
        aftermath: &mut Aftermath,
    ) {
        self.bytes_in_use -= bytes;
        if let Some(pages) = pages {
            if self.bytes_idle + bytes <= self.bytes_max.min(IDLE_BYTES_MAX) {
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
        while let Some(first) = self.waiters.front()
            && first.bytes <= self.bytes_max - self.bytes_in_use
            && let Some(first) = self.waiters.pop_front()
        {
            self.reserve(first.bytes, aftermath);
            self.granted.insert(first.ticket);
            aftermath.wake.push(first.waker);
        }
    }

    /// Counts `bytes`, which fit, as in use, and drops idle memory until both fit.
    fn reserve(&mut self, bytes: usize, aftermath: &mut Aftermath) {
        self.bytes_in_use += bytes;
        self.bytes_in_use_max = self.bytes_in_use_max.max(self.bytes_in_use);
        self.allocation_count += 1;
        // One that is about to be taken out of idle memory is not dropped for its own sake.
        let reusable = if self.idle.get(&bytes).is_some_and(|list| !list.is_empty()) {
            bytes
        } else {
            0
        };
        while self.bytes_in_use + self.bytes_idle > self.bytes_max + reusable {
            let Some(mut largest) = self.idle.last_entry() else {
                break;
            };
            let size = *largest.key();
            match largest.get_mut().pop() {
                Some(pages) => {
                    self.bytes_idle -= size;
                    aftermath.unmap.push(pages);
                }
                None => {
                    largest.remove();
                }
            }
        }
    }

    fn waiter_index(&self, ticket: Ticket) -> Option<usize> {
        self.waiters
            .binary_search_by_key(&ticket, |waiter| waiter.ticket)
            .ok()
    }
}
