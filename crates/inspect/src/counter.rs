//! Counts that many threads add to at once.

use sharded::Sharded;
use std::array;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A few counts that belong together, for hot paths: threads that add at the same time mostly write to different cache lines.
///
/// A count is named by its index, below `N`. It only grows, and wraps at 2^64. Reading adds the shards up, and may miss
/// additions that run at the same time.
pub struct Counters<const N: usize>(Sharded<[AtomicU64; N]>);

impl<const N: usize> Counters<N> {
    /// Counts that are all zero.
    pub fn new() -> Self {
        Self(Sharded::new(|| array::from_fn(|_| AtomicU64::new(0))))
    }

    /// Adds to the count of this index.
    ///
    /// # Panics
    /// If there is no such count.
    #[inline]
    pub fn add(&self, index: usize, by: u64) {
        self.0.mine()[index].fetch_add(by, Ordering::Relaxed);
    }

    /// Adds to several counts, named by their indices. Cheaper than one by one.
    ///
    /// # Panics
    /// If there is no such count.
    #[inline]
    pub fn add_all<const M: usize>(&self, counts: [(usize, u64); M]) {
        let shard = self.0.mine();
        for (index, by) in counts {
            shard[index].fetch_add(by, Ordering::Relaxed);
        }
    }

    /// The count of this index, now.
    ///
    /// # Panics
    /// If there is no such count.
    pub fn get(&self, index: usize) -> u64 {
        let counts = self.0.iter().map(|shard| &shard[index]);
        counts.fold(0, |sum, count| {
            sum.wrapping_add(count.load(Ordering::Relaxed))
        })
    }
}

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Debug for Counters<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries((0..N).map(|index| self.get(index)))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additions_of_all_threads_count() {
        let counters = Counters::<2>::new();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        counters.add(0, 1);
                        counters.add_all([(1, 1), (1, 2)]);
                    }
                });
            }
        });
        assert_eq!([counters.get(0), counters.get(1)], [20_000, 60_000]);
    }
}
