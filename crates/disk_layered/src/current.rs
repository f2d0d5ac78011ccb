//! A value that every request looks at, and that is replaced as a whole.

use sharded::Sharded;
use std::mem;
use std::sync::Arc;
use sync::RwLock;

/// The current one of values that follow each other.
///
/// Whoever needs it gets a share of it, which no other processor counts: the lock and the count are of a shard. The lock is held for no
/// longer than that takes.
///
/// Invariant: whoever replaces the value holds the locks of all shards, taken in their order. So at any instant all shards have the same value,
/// and once anybody has seen a value nobody sees an earlier one.
pub(crate) struct Current<T>(Sharded<RwLock<Share<T>>>);

/// A share of a value, which stays for as long as anybody has one. The outer count is the shard's own.
pub(crate) type Share<T> = Arc<Arc<T>>;

impl<T> Current<T> {
    pub(crate) fn new(value: T) -> Self {
        let value = Arc::new(value);
        Self(Sharded::new(|| RwLock::new(Arc::new(Arc::clone(&value)))))
    }

    #[inline]
    pub(crate) fn get(&self) -> Share<T> {
        Arc::clone(&self.0.mine().read())
    }

    pub(crate) fn set(&self, value: &Arc<T>) {
        let mut shards: Vec<_> = self.0.iter().map(RwLock::write).collect();
        let shards_of_old: Vec<_> = shards
            .iter_mut()
            .map(|shard| mem::replace(&mut **shard, Arc::new(Arc::clone(value))))
            .collect();
        drop(shards);
        // It may be large, and nobody should wait for its end.
        drop(shards_of_old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn whoever_follows_one_that_saw_a_value_sees_no_earlier_one() {
        const LAST: u64 = 20_000;
        let current = Current::new(0);
        // The latest that anybody has seen.
        let seen = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| (1..=LAST).for_each(|value| current.set(&Arc::new(value))));
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut value = 0;
                    while value < LAST {
                        let before = seen.load(Ordering::SeqCst);
                        value = **current.get();
                        assert!(value >= before, "{value} after {before}");
                        seen.fetch_max(value, Ordering::SeqCst);
                    }
                });
            }
        });
    }

    #[test]
    fn a_value_that_was_got_outlives_its_successor() {
        let current = Current::new(1);
        let first = current.get();
        current.set(&Arc::new(2));
        assert_eq!((**first, **current.get()), (1, 2));
        assert_eq!(Arc::strong_count(&first), 1, "no shard has kept it");
    }
}
