//! Real threads: what the ranges protect is never seen half written, every request gets its turn, invariants hold meanwhile.

use super::invariants::{check_invariants, entry_count_and_capacity};
use crate::{RangeGuard, RangeLock};
use futures_lite::future::{block_on, poll_once};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const CELL_COUNT: u64 = 96;
const THREAD_COUNT: u64 = 4;
const ROUNDS: u64 = 15_000;

/// A small generator of pseudo-random numbers (SplitMix64): the same sequence for the same seed.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn range(&mut self) -> Range<u64> {
        let (a, b) = (self.next() % CELL_COUNT, self.next() % CELL_COUNT);
        a.min(b)..a.max(b) + 1
    }
}

/// One cell of data with two words that only a held range keeps equal.
#[derive(Default)]
struct Cell {
    left: AtomicU64,
    right: AtomicU64,
}

struct World {
    lock: RangeLock,
    cells: Vec<Cell>,
}

impl World {
    /// Writes `stamp` into the range, the two words of each cell far apart in time.
    fn write(&self, guard: &RangeGuard, stamp: u64) {
        let cells = &self.cells[guard.range().start as usize..guard.range().end as usize];
        cells
            .iter()
            .for_each(|cell| cell.left.store(stamp, Ordering::Relaxed));
        cells
            .iter()
            .rev()
            .for_each(|cell| cell.right.store(stamp, Ordering::Relaxed));
    }

    fn check(&self, guard: &RangeGuard, seed: u64) {
        for index in guard.range() {
            let cell = &self.cells[index as usize];
            let (left, right) = (
                cell.left.load(Ordering::Relaxed),
                cell.right.load(Ordering::Relaxed),
            );
            assert_eq!(left, right, "cell {index} is torn (seed {seed})");
        }
    }

    fn run(&self, seed: u64) {
        let mut numbers = Numbers(seed);
        for round in 0..ROUNDS {
            let range = numbers.range();
            match numbers.next() % 4 {
                0 => {
                    let guard = block_on(self.lock.write(range));
                    self.check(&guard, seed);
                    self.write(&guard, seed << 32 | round);
                }
                1 => {
                    // Waits for one poll and gives up: a guard that came is used, a place in the queue is given back.
                    if let Some(guard) = block_on(poll_once(self.lock.write(range))) {
                        self.write(&guard, seed << 32 | round);
                    }
                }
                2 => {
                    if let Some(guard) = self.lock.try_read(range) {
                        self.check(&guard, seed);
                    }
                }
                _ => self.check(&block_on(self.lock.read(range)), seed),
            }
        }
    }
}

#[test]
fn what_a_range_protects_is_never_torn() {
    // Stripes of 2: ranges within one shard, over several, and over all of them.
    let world = World {
        lock: RangeLock::with_stripe_len(2),
        cells: (0..CELL_COUNT).map(|_| Cell::default()).collect(),
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..=THREAD_COUNT)
            .map(|seed| {
                scope.spawn({
                    let world = &world;
                    move || world.run(seed)
                })
            })
            .collect();
        let watcher = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                check_invariants(&world.lock);
                std::thread::yield_now();
            }
        });
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.store(true, Ordering::Relaxed);
        watcher.join().expect("the invariants hold");
        results
            .into_iter()
            .for_each(|result| result.expect("no torn cell"));
    });
    assert_eq!(entry_count_and_capacity(&world.lock).0, 0);
}
