//! Counting what is in flight without a place that all threads write to, and waiting until it has ended.
//!
//! Each operation is counted in the shard of the thread that began it, under the epoch that it began in. Whoever drains moves
//! the epoch on, so that what begins meanwhile is counted elsewhere and cannot hold up the drain. A shard has counters for a few
//! epochs, which take turns.
//!
//! Invariants:
//! - I1: an operation is uncounted once, in the counter that counted it, whichever thread it ends on. So no counter is ever
//!   negative, and one that is zero has nothing in flight.
//! - I2: what is counted under epoch `e` was counted while the epoch was `e`: whoever begins looks at the epoch, counts, and
//!   looks again; if the epoch has moved it takes that back and begins anew.
//! - I3: the epoch moves to `e` only by somebody who saw, during `e - 1`, each of the counters that it will use at zero. So what
//!   was counted under `e - EPOCHS` has ended.
//! - I4: a drain that found the epoch at `e` waits for what was counted under `e` and the `EPOCHS - 1` before it, because there is
//!   nothing older (I3) and nothing of an earlier epoch can be counted any more once the drain has moved the epoch on (I2).
//! - I5: whoever waits is woken: it listens, then looks at the counter; whoever uncounts to zero changes the counter, then looks
//!   whether anybody drains. One of the two sees the other.
//!
//! **Memory ordering.** I2 to I5 compare places that different threads write, so the epoch, the counters and the number of
//! drains are all accessed `SeqCst`: then there is one order of all these accesses, and "before" above means that order. (Each
//! counting is a read-modify-write, which costs the same in any ordering where it matters.) Since whoever sees a counter at
//! zero reads what the last uncounting wrote, all that the operation did happened before the drain returns.

use event_listener::Event;
use sharded::Sharded;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// How many epochs have counters of their own: what fills the memory of a shard. A power of two, so that wrapping epochs stay in turn.
const EPOCHS: usize = 16;

/// Operations in flight: counts them, and waits for them to end.
///
/// [`Disk`](crate::Disk) counts its requests with one; a backend whose operations outlive their futures (C9) counts those with
/// one of its own, for [`DiskIo::drain`](crate::DiskIo::drain). Counting never allocates and never waits.
pub struct InFlight {
    shards: Sharded<[AtomicUsize; EPOCHS]>,
    epoch: AtomicUsize,
    /// How many wait in [`drain`](Self::drain).
    drains: AtomicUsize,
    has_moved: Event,
}

/// An operation that is in flight until this is dropped. If it is forgotten, the operation stays in flight for ever.
#[derive(Debug)]
#[must_use = "the operation ends when this is dropped"]
pub struct Counted<'a> {
    in_flight: &'a InFlight,
    counter: &'a AtomicUsize,
}

/// As [`Counted`], for operations that go where they can borrow nothing.
#[derive(Debug)]
#[must_use = "the operation ends when this is dropped"]
pub struct OwnedCounted {
    in_flight: Arc<InFlight>,
    place: Place,
}

/// Which counter counted an operation.
#[derive(Debug, Clone, Copy)]
struct Place {
    shard: usize,
    epoch: usize,
}

impl InFlight {
    /// Nothing is in flight.
    pub fn new() -> Self {
        Self {
            shards: Sharded::new(Default::default),
            epoch: AtomicUsize::new(0),
            drains: AtomicUsize::new(0),
            has_moved: Event::new(),
        }
    }

    /// Counts an operation that begins now.
    #[inline]
    pub fn begin(&self) -> Counted<'_> {
        Counted {
            counter: self.count().1,
            in_flight: self,
        }
    }

    /// Counts an operation that begins now.
    pub fn begin_owned(self: &Arc<Self>) -> OwnedCounted {
        OwnedCounted {
            place: self.count().0,
            in_flight: Arc::clone(self),
        }
    }

    /// How many operations are in flight: exact if none begins or ends meanwhile.
    pub fn count_now(&self) -> usize {
        let counters = self.shards.iter().flatten();
        counters.map(|counter| counter.load(Relaxed)).sum()
    }

    /// Waits until all that began before the first poll has ended, whatever begins meanwhile. Dropping the future changes
    /// nothing.
    ///
    /// Among sixteen drains that wait at once for something that does not end, the last may also wait for what begins after it.
    pub async fn drain(&self) {
        let _announced = Announced::new(&self.drains);
        let last = self.epoch.load(SeqCst);
        let next = last.wrapping_add(1);
        self.wait_until_ended(next.wrapping_sub(EPOCHS)).await;
        let step = self.epoch.compare_exchange(last, next, SeqCst, SeqCst); // I3
        if step.is_ok() {
            self.has_moved.notify(usize::MAX);
        }
        // Otherwise somebody else has taken this step.
        for age in 0..EPOCHS - 1 {
            self.wait_until_ended(last.wrapping_sub(age)).await; // I4
        }
    }

    /// Waits until all that was counted under `epoch` has ended.
    async fn wait_until_ended(&self, epoch: usize) {
        for shard in 0..self.shards.iter().len() {
            let counter = self.counter(Place { shard, epoch });
            let has_ended = || counter.load(SeqCst) == 0 || self.is_long_over(epoch);
            while !has_ended() {
                let moved = self.has_moved.listen();
                if has_ended() {
                    break; // I5
                }
                moved.await;
            }
        }
    }

    /// Whether another epoch has taken over the counters of this one (I3).
    fn is_long_over(&self, epoch: usize) -> bool {
        self.epoch.load(SeqCst).wrapping_sub(epoch) >= EPOCHS
    }

    #[inline]
    fn count(&self) -> (Place, &AtomicUsize) {
        loop {
            let epoch = self.epoch.load(SeqCst);
            if let Some(counted) = self.count_in(epoch) {
                return counted;
            }
        }
    }

    /// Counts an operation under `epoch`, unless that is over (I2).
    #[inline]
    fn count_in(&self, epoch: usize) -> Option<(Place, &AtomicUsize)> {
        let shard = self.shards.my_index();
        let place = Place { shard, epoch };
        let counter = self.counter(place);
        counter.fetch_add(1, SeqCst);
        if self.epoch.load(SeqCst) != epoch {
            self.uncount(counter);
            return None;
        }
        Some((place, counter))
    }

    #[inline]
    fn uncount(&self, counter: &AtomicUsize) {
        let before = counter.fetch_sub(1, SeqCst);
        debug_assert!(before > 0, "I1");
        if before == 1 && self.drains.load(SeqCst) > 0 {
            self.has_moved.notify(usize::MAX); // I5
        }
    }

    #[inline]
    fn counter(&self, place: Place) -> &AtomicUsize {
        &self.shards[place.shard][place.epoch % EPOCHS]
    }
}

impl Default for InFlight {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InFlight").field(&self.count_now()).finish()
    }
}

impl inspect::Inspect for InFlight {
    fn inspect(&self, request: inspect::Request<'_>) {
        request.value(self.count_now() as u64);
    }
}

impl Drop for Counted<'_> {
    #[inline]
    fn drop(&mut self) {
        self.in_flight.uncount(self.counter);
    }
}

impl Drop for OwnedCounted {
    fn drop(&mut self) {
        self.in_flight.uncount(self.in_flight.counter(self.place));
    }
}

/// Somebody drains, until this is dropped.
struct Announced<'a>(&'a AtomicUsize);

impl<'a> Announced<'a> {
    fn new(drains: &'a AtomicUsize) -> Self {
        drains.fetch_add(1, SeqCst);
        Self(drains)
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests;
