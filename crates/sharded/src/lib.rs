//! Values in several copies, so that threads do not write to the same memory.
//!
//! Foundation (row 1): knows nothing of disks. What every request writes to, be it a count or the word of a lock, must not be one place
//! for all processors: they would spend their time handing it to each other. So there is a copy, a *shard*, for about each
//! processor, and a thread uses its own; whoever wants to know or to change the whole visits all.
//!
//! ```
//! use sharded::Sharded;
//! use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
//!
//! let hits = Sharded::new(|| AtomicU64::new(0));
//! hits.mine().fetch_add(1, Relaxed);
//! assert_eq!(hits.iter().map(|shard| shard.load(Relaxed)).sum::<u64>(), 1);
//! ```
//!
//! **Guarantees.** A thread has the same shard of a value for its whole life. Shards lie on cache lines of their own. Finding one's own takes
//! a few instructions, no lock and no allocation.
//!
//! **Not here.** A shard is not a thread's alone: there may be more threads than shards, so what is in it must be `Sync` by itself.
//!
//! **Failure.** Nothing here can fail.

use std::cell::Cell;
use std::fmt;
use std::ops::Index;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Each shard takes 128 bytes of memory, or a multiple.
const SHARD_COUNT_MAX: usize = 16;

/// A value in several copies.
///
/// Invariant: their number is a power of two.
pub struct Sharded<T>(Box<[Shard<T>]>);

/// Two cache lines, because processors fetch lines in pairs.
#[repr(align(128))]
struct Shard<T>(T);

impl<T> Sharded<T> {
    /// As many copies as this machine makes worth having: about one for each processor, and at most 16.
    pub fn new(mut make: impl FnMut() -> T) -> Self {
        Self((0..shard_count()).map(|_| Shard(make())).collect())
    }

    /// The shard that the calling thread uses.
    #[inline]
    pub fn mine(&self) -> &T {
        &self[self.my_index()]
    }

    /// Which shard the calling thread uses.
    #[inline]
    pub fn my_index(&self) -> usize {
        number_of_thread() & (self.0.len() - 1)
    }

    /// Every shard, always in the same order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &T> {
        self.0.iter().map(|shard| &shard.0)
    }
}

impl<T> Index<usize> for Sharded<T> {
    type Output = T;

    /// # Panics
    /// If there is no such shard.
    #[inline]
    fn index(&self, index: usize) -> &T {
        &self.0[index].0
    }
}

impl<T: fmt::Debug> fmt::Debug for Sharded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Asked once, because the answer costs reading files.
fn shard_count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        processors.next_power_of_two().min(SHARD_COUNT_MAX)
    })
}

/// A number of the calling thread: threads get them in turn.
#[inline]
fn number_of_thread() -> usize {
    /// What no thread is called.
    const NONE: usize = usize::MAX;
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(NONE) };
    }
    #[cold]
    fn next() -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NUMBER.replace(NEXT.fetch_add(1, Ordering::Relaxed) & (NONE >> 1));
        NUMBER.get()
    }
    match NUMBER.get() {
        NONE => next(),
        number => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_follow_each_other_have_different_shards() {
        let sharded = Sharded::new(|| AtomicUsize::new(0));
        let count = sharded.iter().len();
        assert!(count.is_power_of_two());
        // Other tests may start threads meanwhile, and those take numbers as well: so twice as many as there are shards.
        for _ in 0..64 * count {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mine = sharded.my_index();
                    sharded.mine().fetch_add(1, Ordering::Relaxed);
                    assert_eq!(sharded.my_index(), mine);
                });
            });
        }
        let used: Vec<_> = sharded.iter().map(|s| s.load(Ordering::Relaxed)).collect();
        assert_eq!(used.iter().sum::<usize>(), 64 * count);
        assert!(used.iter().all(|uses| *uses > 0), "{used:?}");
    }

    #[test]
    fn shards_share_no_cache_line() {
        let sharded = Sharded::new(|| 0_u8);
        let places: Vec<_> = sharded
            .iter()
            .map(|s| std::ptr::from_ref(s).addr())
            .collect();
        assert!(places.iter().all(|place| place % 128 == 0), "{places:?}");
    }
}
