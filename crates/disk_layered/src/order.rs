//! What overlapping requests of a stack that writes through, or fills caches, wait for.
//!
//! Sectors are numbers here. Four things happen to a range of them:
//! - a *change*: an operation of several steps that must look like one (a write to two layers);
//! - a *fill*: an operation that puts into a cache what was read from below;
//! - an *observation*: a read, in the memory of its caller. Nobody can finish it for the caller, so nobody waits for it;
//! - a *turn*: a read that is an operation, with memory of its own, after observations that changes kept disturbing.
//!
//! Invariants:
//! - R1: a change waits for every older operation whose range overlaps its own, a turn for every such change, and both for
//!   nothing else. So reads never wait for each other, and a turn, which disturbs nobody, makes no other one necessary.
//! - R2: an observation begins when no change of its range is unfinished, and is *disturbed* by a change of its range that
//!   begins before it ends. What a disturbed one has seen is not used.
//! - R3: a fill begins at an instant of an observation that no change has disturbed. So no change began since what it holds
//!   was read, and changes that begin later wait for it (L2).
//! - R4: an instant is: all shards that the range touches are locked. They are locked in ascending order.
//! - R5: at most [`OPERATIONS_MAX`] operations are unfinished in a shard: whoever begins one more finishes some first. Of these
//!   at most [`FILLS_MAX`] are fills: nobody waits for their data, and there is no need to begin one more.

use crate::operation::{Body, Operation};
use smallvec::SmallVec;
use std::future::poll_fn;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use sync::atomic::{AtomicU64, Ordering};
use sync::{Mutex, MutexGuard, Race};

const SHARD_COUNT: usize = 16;

/// How many operations of a shard are left to those who forgot them.
const OPERATIONS_MAX: usize = 128;

/// How many fills of a shard may be unfinished. Each holds a copy of up to 1 MiB of what was read.
const FILLS_MAX: usize = 16;

/// A range that covers every sector.
pub(crate) const EVERYTHING: Range<u64> = 0..u64::MAX;

/// See the head of this module.
pub(crate) struct Order {
    shards: [Mutex<Shard>; SHARD_COUNT],
    /// The binary logarithm of a stripe's length: neighbouring sectors share a shard.
    stripe_shift: u32,
    next_observation: AtomicU64,
}

#[derive(Default)]
struct Shard {
    operations: Vec<Entry>,
    observations: Vec<Seen>,
}

struct Entry {
    range: Range<u64>,
    kind: Kind,
    operation: Arc<Operation>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Change,
    Fill,
    Turn,
}

impl Kind {
    /// R1
    fn waits_for(self, older: Self) -> bool {
        self == Self::Change || older == Self::Change
    }
}

/// An observation, as its shards know it.
struct Seen {
    range: Range<u64>,
    id: u64,
    is_disturbed: bool,
}

/// A read that runs. Dropping it ends it.
pub(crate) struct Observation<'a> {
    order: &'a Order,
    range: Range<u64>,
    id: u64,
}

impl Order {
    /// For sectors of `1 << sector_shift` bytes; stripes are 1 MiB.
    pub(crate) fn new(sector_shift: u32) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            stripe_shift: 20_u32.saturating_sub(sector_shift),
            next_observation: AtomicU64::new(0),
        }
    }

    /// Begins a change (R1); `run` it. The range is not empty.
    pub(crate) async fn change(&self, range: Range<u64>, body: Body) -> Arc<Operation> {
        self.begin(range, Kind::Change, body).await
    }

    /// Begins a read that takes its turn among the changes (R1); `run` it. The range is not empty.
    pub(crate) async fn turn(&self, range: Range<u64>, body: Body) -> Arc<Operation> {
        self.begin(range, Kind::Turn, body).await
    }

    async fn begin(&self, range: Range<u64>, kind: Kind, body: Body) -> Arc<Operation> {
        self.make_room(&range).await;
        let mut shards = self.lock(&range);
        let earlier = overlapping(&mut shards, &range, |older| kind.waits_for(older));
        let operation = Operation::new(earlier, body);
        for shard in &mut shards {
            shard.push(&range, kind, &operation);
            if kind == Kind::Change {
                // R2
                for seen in &mut shard.observations {
                    seen.is_disturbed |= overlap(&seen.range, &range);
                }
            }
        }
        operation
    }

    /// Begins an observation, after the changes of its range that are unfinished now. None if others began meanwhile.
    pub(crate) async fn observe(&self, range: &Range<u64>) -> Option<Observation<'_>> {
        for is_last in [false, true] {
            let changes = {
                let mut shards = self.lock(range);
                let changes = overlapping(&mut shards, range, |kind| kind == Kind::Change);
                if changes.is_empty() {
                    return Some(self.begin_observation(shards, range));
                }
                changes
            };
            if is_last {
                break;
            }
            for change in changes {
                change.finish().await;
            }
        }
        None
    }

    fn begin_observation(&self, mut shards: Shards<'_>, range: &Range<u64>) -> Observation<'_> {
        let id = self.next_observation.fetch_add(1, Ordering::Relaxed);
        for shard in &mut shards {
            shard.observations.push(Seen {
                range: range.clone(),
                id,
                is_disturbed: false,
            });
        }
        Observation {
            order: self,
            range: range.clone(),
            id,
        }
    }

    /// Keeps a fill of a stack without changes until it has ended, for [`help`](Self::help) and [`drain`](Self::drain). A fill
    /// too many is dropped; returns whether it was kept.
    pub(crate) fn keep_fill(&self, range: &Range<u64>, operation: &Arc<Operation>) -> bool {
        let mut shards = self.lock(range);
        let has_room = shards.iter().all(Pruned::has_room_for_fill);
        if has_room {
            for shard in &mut shards {
                shard.push(range, Kind::Fill, operation);
            }
        }
        has_room
    }

    /// Polls fills near `range` that were woken since whoever began them went away.
    pub(crate) async fn help(&self, range: &Range<u64>) {
        let woken = {
            let mut shards = self.lock(range);
            let is_woken = |entry: &&Entry| entry.operation.is_woken();
            let woken = |shard: &mut Pruned<'_>| {
                let entries = shard.operations.iter().filter(is_woken);
                entries
                    .map(|entry| Arc::clone(&entry.operation))
                    .collect::<Vec<_>>()
            };
            shards.iter_mut().flat_map(woken).collect::<Vec<_>>()
        };
        if !woken.is_empty() {
            poll_fn(|cx| {
                for operation in &woken {
                    let _ = operation.poll(cx);
                }
                Poll::Ready(())
            })
            .await;
        }
    }

    /// Finishes every operation that has begun.
    pub(crate) async fn drain(&self) {
        let unfinished = overlapping(&mut self.lock(&EVERYTHING), &EVERYTHING, |_| true);
        for operation in unfinished {
            operation.finish().await;
        }
    }

    /// Waits for something else, and gets every operation as far as it goes meanwhile: what is waited for may wait for one that
    /// nobody else polls (C4).
    pub(crate) async fn advance_during<T>(&self, wait: impl Future<Output = T>) -> T {
        let mut wait = pin!(wait);
        poll_fn(|cx| {
            let done = wait.as_mut().poll(cx);
            if done.is_pending() {
                let unfinished = overlapping(&mut self.lock(&EVERYTHING), &EVERYTHING, |_| true);
                for operation in unfinished {
                    let _ = operation.poll(cx);
                }
            }
            done
        })
        .await
    }

    /// R5
    async fn make_room(&self, range: &Range<u64>) {
        loop {
            let oldest = {
                let shards = self.lock(range);
                let full = shards
                    .iter()
                    .find(|shard| shard.operations.len() >= OPERATIONS_MAX);
                full.map(|shard| Arc::clone(&shard.operations[0].operation))
            };
            match oldest {
                Some(operation) => operation.finish().await,
                None => return,
            }
        }
    }

    /// R4
    fn lock(&self, range: &Range<u64>) -> Shards<'_> {
        debug_assert!(!range.is_empty(), "{range:?}");
        let first = range.start >> self.stripe_shift;
        let last = (range.end - 1) >> self.stripe_shift;
        let mut indexes: SmallVec<[usize; SHARD_COUNT]> = (first..=last)
            .take(SHARD_COUNT)
            .map(|stripe| (stripe % SHARD_COUNT as u64) as usize)
            .collect();
        indexes.sort_unstable();
        indexes
            .iter()
            .map(|index| Pruned::lock(&self.shards[*index]))
            .collect()
    }
}

type Shards<'a> = SmallVec<[Pruned<'a>; SHARD_COUNT]>;

/// A shard that is locked, and forgets what is done.
struct Pruned<'a>(MutexGuard<'a, Shard>);

impl<'a> Pruned<'a> {
    fn lock(shard: &'a Mutex<Shard>) -> Self {
        let mut shard = shard.lock();
        shard.operations.retain(|entry| !entry.operation.is_done());
        Self(shard)
    }

    /// R5
    fn has_room_for_fill(&self) -> bool {
        let is_fill = |entry: &&Entry| entry.kind == Kind::Fill;
        self.operations.len() < OPERATIONS_MAX
            && self.operations.iter().filter(is_fill).count() < FILLS_MAX
    }

    fn push(&mut self, range: &Range<u64>, kind: Kind, operation: &Arc<Operation>) {
        self.operations.push(Entry {
            range: range.clone(),
            kind,
            operation: Arc::clone(operation),
        });
    }
}

impl std::ops::Deref for Pruned<'_> {
    type Target = Shard;

    fn deref(&self) -> &Shard {
        &self.0
    }
}

impl std::ops::DerefMut for Pruned<'_> {
    fn deref_mut(&mut self) -> &mut Shard {
        &mut self.0
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

/// The unfinished operations that overlap `range`, each once; the oldest of a shard last, which is where it is taken from.
fn overlapping(
    shards: &mut Shards<'_>,
    range: &Range<u64>,
    is_wanted: impl Fn(Kind) -> bool,
) -> Vec<Arc<Operation>> {
    let mut found: Vec<Arc<Operation>> = Vec::new();
    for shard in shards.iter() {
        for entry in shard.operations.iter().rev() {
            if is_wanted(entry.kind)
                && overlap(&entry.range, range)
                && !found
                    .iter()
                    .any(|known| Arc::ptr_eq(known, &entry.operation))
            {
                found.push(Arc::clone(&entry.operation));
            }
        }
    }
    found
}

impl Observation<'_> {
    /// Whether no change disturbed it, at the instant when it ends.
    pub(crate) fn end(self) -> bool {
        let undisturbed = self.remove(&mut self.order.lock(&self.range));
        std::mem::forget(self);
        undisturbed
    }

    /// Begins a fill with what a part of this observation has read, unless it is disturbed by now (R3).
    pub(crate) fn fill(&self, part: &Range<u64>, operation: &Arc<Operation>) -> bool {
        // All shards of the observation, so that its flags are read at one instant.
        let mut shards = self.order.lock(&self.range);
        let is_mine = |seen: &&Seen| seen.id == self.id;
        let is_disturbed = |shard: &Pruned<'_>| {
            shard
                .observations
                .iter()
                .find(is_mine)
                .is_none_or(|seen| seen.is_disturbed)
        };
        let is_too_late =
            shards.iter().any(is_disturbed) && !sync::is_planted(Race::FillOfDisturbedRead);
        if is_too_late || !shards.iter().all(Pruned::has_room_for_fill) {
            return false;
        }
        // In more shards than its own part touches, which makes nobody wait who would not.
        for shard in &mut shards {
            shard.push(part, Kind::Fill, operation);
        }
        true
    }

    fn remove(&self, shards: &mut Shards<'_>) -> bool {
        let mut undisturbed = true;
        for shard in shards.iter_mut() {
            let seen = &mut shard.observations;
            if let Some(index) = seen.iter().position(|seen| seen.id == self.id) {
                undisturbed &= !seen.swap_remove(index).is_disturbed;
            }
        }
        undisturbed
    }
}

impl Drop for Observation<'_> {
    fn drop(&mut self) {
        self.remove(&mut self.order.lock(&self.range));
    }
}

#[cfg(test)]
mod tests;
