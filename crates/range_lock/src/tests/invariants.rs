//! The invariants that `queue` lists, checked over all shards at one instant, also while other threads enter and leave.

use crate::RangeLock;
use crate::claim::ShardSet;
use crate::queue::{Entry, Mode, Queue};
use crate::waiter::Waiter;
use parking_lot::MutexGuard;
use std::collections::HashMap;
use std::sync::Arc;

/// What all shards together say about one claim.
#[derive(Default)]
struct Seen {
    entry_count: usize,
    touched_count: usize,
    held_up_count: usize,
    waiter: Option<Arc<Waiter>>,
}

/// The naive rule, written a second time.
fn conflict(one: &Entry, other: &Entry) -> bool {
    let overlap =
        one.range().start.max(other.range().start) < one.range().end.min(other.range().end);
    overlap && [one.mode, other.mode].contains(&Mode::Exclusive)
}

pub(super) fn check_invariants(lock: &RangeLock) {
    let table = &lock.table;
    let queues: Vec<_> = table
        .shards
        .iter()
        .map(|shard| shard.queue.lock())
        .collect();
    let mut claims: HashMap<u64, Seen> = HashMap::new();
    for (shard_index, queue) in queues.iter().enumerate() {
        for entry in queue.entries() {
            let touched: Vec<usize> = ShardSet::of(&entry.range(), table.stripe_shift)
                .ascending()
                .collect();
            assert!(
                touched.contains(&shard_index),
                "I6: {entry:?} in shard {shard_index}"
            );
            let seen = claims.entry(entry.ticket).or_default();
            seen.entry_count += 1;
            seen.touched_count = touched.len();
            if let Some(waiter) = entry.waiter() {
                seen.held_up_count += 1;
                seen.waiter = Some(Arc::clone(waiter));
            }
        }
    }
    queues
        .iter()
        .for_each(|queue| check_queue(queue.entries(), &claims));
    claims.values().for_each(check_claim);
    check_order(&queues);
}

/// I2, I3 and I5.
fn check_queue(entries: &[Entry], claims: &HashMap<u64, Seen>) {
    let is_held = |entry: &Entry| claims[&entry.ticket].held_up_count == 0;
    for (index, entry) in entries.iter().enumerate() {
        let conflicts: Vec<_> = entries[..index]
            .iter()
            .filter(|other| conflict(entry, other))
            .collect();
        assert_eq!(conflicts.len(), entry.blockers(), "I2: {entry:?}");
        assert_eq!(
            entry.blockers() > 0,
            entry.waiter().is_some(),
            "I3: {entry:?}"
        );
        if is_held(entry) {
            let clash = conflicts.into_iter().find(|other| is_held(other));
            assert!(clash.is_none(), "I5: {entry:?} and {clash:?} are both held");
        }
    }
}

/// I4.
fn check_claim(seen: &Seen) {
    let Some(waiter) = &seen.waiter else { return };
    if seen.entry_count == seen.touched_count {
        assert_eq!(
            waiter.shards_blocked(),
            seen.held_up_count,
            "I4: {waiter:?}"
        );
    } else {
        assert!(
            waiter.shards_blocked() > 0,
            "I4: a leaving claim was granted: {waiter:?}"
        );
    }
}

/// I1.
fn check_order(queues: &[MutexGuard<'_, Queue>]) {
    let orders: Vec<Vec<u64>> = queues
        .iter()
        .map(|queue| queue.entries().iter().map(|entry| entry.ticket).collect())
        .collect();
    for one in &orders {
        for other in &orders {
            let shared_in_one = one.iter().filter(|ticket| other.contains(ticket));
            let shared_in_other = other.iter().filter(|ticket| one.contains(ticket));
            assert!(
                shared_in_one.eq(shared_in_other),
                "I1: {one:?} and {other:?}"
            );
        }
    }
}

/// How many entries all shards hold, and how many they have room for.
pub(super) fn entry_count_and_capacity(lock: &RangeLock) -> (usize, usize) {
    let queues = lock.table.shards.iter().map(|shard| shard.queue.lock());
    queues.fold((0, 0), |(count, room), queue| {
        (count + queue.entries().len(), room + queue.capacity())
    })
}
