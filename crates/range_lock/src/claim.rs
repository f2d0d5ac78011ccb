//! Claims and the table of shards that they stand in; the invariants are listed in [`crate::queue`].

use crate::queue::{Granted, Mode, Queue, Shard};
use crate::waiter::Waiter;
use parking_lot::MutexGuard;
use smallvec::SmallVec;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;

/// Enough that few stripes in use at once share a shard; few enough that a range over all of them stays near a microsecond.
pub(crate) const SHARD_COUNT: usize = 32;

/// All shards of one lock.
///
/// Each shard has its own reference count, so that guards in different stripes do not share even that.
pub(crate) struct Table {
    pub(crate) stripe_shift: u32,
    pub(crate) shards: [Arc<Shard>; SHARD_COUNT],
}

/// What became of a request that asked to enter.
pub(crate) enum Entered {
    Granted(Claim),
    Waiting(Claim, Arc<Waiter>),
    /// It would have had to wait, and came without a waker.
    Refused,
}

/// A place in the queues, held or waiting; dropping it gives the place up, and wakes whom that lets go on.
pub(crate) struct Claim {
    range: Range<u64>,
    mode: Mode,
    ticket: u64,
    place: Place,
}

/// The shards in which a claim stands.
enum Place {
    /// An empty range.
    Nowhere,
    One(Arc<Shard>),
    Many(Arc<Table>),
}

impl Table {
    pub(crate) fn new(stripe_shift: u32) -> Self {
        Self {
            stripe_shift,
            shards: std::array::from_fn(|_| Arc::new(Shard::default())),
        }
    }

    /// Takes a place in every shard of `range` at one instant, which is what makes the order the same everywhere (I1).
    pub(crate) fn enter(
        self: &Arc<Self>,
        range: Range<u64>,
        mode: Mode,
        waker: Option<&Waker>,
    ) -> Entered {
        if range.is_empty() {
            return Entered::Granted(Claim {
                range,
                mode,
                ticket: 0,
                place: Place::Nowhere,
            });
        }
        let touched = ShardSet::of(&range, self.stripe_shift);
        let first = touched.first();
        if touched.is_single() {
            let shard = &self.shards[first];
            let entered = enter_queues(&mut [shard.queue.lock()], first, &range, mode, waker);
            return entered.into_claim(range, mode, || Place::One(Arc::clone(shard)));
        }
        // Ascending order, always: two requests cannot wait for each other's mutex.
        let mut queues: SmallVec<[MutexGuard<'_, Queue>; SHARD_COUNT]> = touched
            .ascending()
            .map(|index| self.shards[index].queue.lock())
            .collect();
        let entered = enter_queues(&mut queues, first, &range, mode, waker);
        drop(queues);
        entered.into_claim(range, mode, || Place::Many(Arc::clone(self)))
    }
}

/// The outcome of [`enter_queues`], before it is wrapped into a claim.
enum Ticket {
    Held(u64),
    Waiting(u64, Arc<Waiter>),
    None,
}

impl Ticket {
    fn into_claim(self, range: Range<u64>, mode: Mode, place: impl FnOnce() -> Place) -> Entered {
        match self {
            Self::Held(ticket) => Entered::Granted(Claim {
                range,
                mode,
                ticket,
                place: place(),
            }),
            Self::Waiting(ticket, waiter) => Entered::Waiting(
                Claim {
                    range,
                    mode,
                    ticket,
                    place: place(),
                },
                waiter,
            ),
            Self::None => Entered::Refused,
        }
    }
}

/// Enters all of `queues`, whose mutexes are held, or none.
fn enter_queues(
    queues: &mut [MutexGuard<'_, Queue>],
    first_shard: usize,
    range: &Range<u64>,
    mode: Mode,
    waker: Option<&Waker>,
) -> Ticket {
    let blocked = queues
        .iter()
        .filter(|queue| queue.has_conflict(range, mode))
        .count();
    let waiter = match (blocked, waker) {
        (0, _) => None,
        (_, None) => return Ticket::None,
        (_, Some(waker)) => Some(Arc::new(Waiter::new(blocked as u32, waker))),
    };
    // Unique in the whole table, without a counter that all shards would share.
    let ticket = queues[0].issue_ticket() * SHARD_COUNT as u64 + first_shard as u64;
    match waiter {
        None => {
            queues
                .iter_mut()
                .for_each(|queue| queue.push_held(ticket, range, mode));
            Ticket::Held(ticket)
        }
        Some(waiter) => {
            queues
                .iter_mut()
                .for_each(|queue| queue.push_waiting(ticket, range, mode, &waiter));
            Ticket::Waiting(ticket, waiter)
        }
    }
}

impl Claim {
    pub(crate) fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut granted = Granted::new();
        match &self.place {
            Place::Nowhere => {}
            Place::One(shard) => shard.queue.lock().remove(self.ticket, &mut granted),
            // One shard at a time: whoever is held up by this claim is held up until the last of them.
            Place::Many(table) => {
                for index in ShardSet::of(&self.range, table.stripe_shift).ascending() {
                    table.shards[index]
                        .queue
                        .lock()
                        .remove(self.ticket, &mut granted);
                }
            }
        }
        for waiter in granted {
            waiter.wake();
        }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("range", &self.range)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// A set of shards, one bit each.
#[derive(Clone, Copy)]
pub(crate) struct ShardSet(u32);

const _: () = assert!(SHARD_COUNT == u32::BITS as usize);

impl ShardSet {
    /// The shards of a range that is not empty: stripe `n` belongs to shard `n % SHARD_COUNT`.
    pub(crate) fn of(range: &Range<u64>, stripe_shift: u32) -> Self {
        let first = range.start >> stripe_shift;
        let last = (range.end - 1) >> stripe_shift;
        let count = (last - first).saturating_add(1).min(SHARD_COUNT as u64) as u32;
        let from_zero = u32::MAX >> (SHARD_COUNT as u32 - count);
        Self(from_zero.rotate_left((first % SHARD_COUNT as u64) as u32))
    }

    fn is_single(self) -> bool {
        self.0.is_power_of_two()
    }

    fn first(self) -> usize {
        self.0.trailing_zeros() as usize
    }

    pub(crate) fn ascending(self) -> impl Iterator<Item = usize> {
        (0..SHARD_COUNT).filter(move |index| self.0 >> index & 1 == 1)
    }
}
