//! A value that every request looks at, and that is replaced as a whole.

use sharded::Sharded;
use std::ops::Deref;
use std::sync::Arc;
use sync::RwLock;

/// The current one of values that follow each other.
///
/// Looking takes a lock that, mostly, no other processor touches; it is held for what takes no waiting, and no longer. What is longer
/// [`get`](Self::get)s the value.
///
/// Invariant: whoever replaces the value holds the locks of all shards, taken in their order. So at any instant all shards have the same value,
/// and once anybody has seen a value nobody sees an earlier one.
pub(crate) struct Current<T>(Sharded<RwLock<Arc<T>>>);

impl<T> Current<T> {
    pub(crate) fn new(value: T) -> Self {
        let value = Arc::new(value);
        Self(Sharded::new(|| RwLock::new(Arc::clone(&value))))
    }

    /// The value, which stays until this is dropped: not across an await, nor while it is [`set`](Self::set).
    #[inline]
    pub(crate) fn look(&self) -> impl Deref<Target = Arc<T>> + '_ {
        self.0.mine().read()
    }

    /// The value, for as long as anybody has it.
    pub(crate) fn get(&self) -> Arc<T> {
        Arc::clone(&self.look())
    }

    pub(crate) fn set(&self, value: &Arc<T>) {
        let mut shards: Vec<_> = self.0.iter().map(RwLock::write).collect();
        for shard in &mut shards {
            **shard = Arc::clone(value);
        }
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
                        value = **current.look();
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
        assert_eq!((*first, **current.look()), (1, 2));
        assert_eq!(Arc::strong_count(&first), 1, "no shard has kept it");
    }
}
