//! How long operations take.

use std::time::Instant;

/// The two sides of a case.
pub(crate) struct Pair {
    ours: Side,
    limit: Side,
}

/// Does so many operations, and returns the nanoseconds that one took.
pub(crate) type Side = Box<dyn FnMut(u64) -> f64>;

impl Pair {
    pub(crate) fn new(ours: Side, limit: Side) -> Self {
        Self { ours, limit }
    }

    /// Nanoseconds for an operation of ours, and for one of the limit.
    pub(crate) fn measure(&mut self, operation_count: u64) -> (f64, f64) {
        ((self.ours)(operation_count), (self.limit)(operation_count))
    }

    /// Does so many operations of one side.
    pub(crate) fn run(&mut self, is_ours: bool, operation_count: u64) {
        let side = if is_ours {
            &mut self.ours
        } else {
            &mut self.limit
        };
        side(operation_count);
    }
}

/// A side that does its operations one after the other, each told its number.
pub(crate) fn each(mut operation: impl FnMut(u64) + 'static) -> Side {
    Box::new(move |count| time(count, &mut operation))
}

/// Nanoseconds for one of `count` operations.
pub(crate) fn time(count: u64, mut operation: impl FnMut(u64)) -> f64 {
    let start = Instant::now();
    for number in 0..count {
        operation(number);
    }
    start.elapsed().as_nanos() as f64 / count as f64
}

/// How much longer two threads take than one, each for its own operations: 1 is perfect scaling.
///
/// `run` is given a thread's number and how many operations it has to do.
pub(crate) fn slowdown_of_two(count: u64, run: impl Fn(u64, u64) + Sync) -> f64 {
    let timed = |thread_count: u64| {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..thread_count {
                let run = &run;
                scope.spawn(move || run(thread, count));
            }
        });
        start.elapsed().as_secs_f64()
    };
    let alone = timed(1);
    timed(2) / alone
}

/// The place of an operation among `places`, in an order that is random, and the same for both sides.
pub(crate) fn scattered(number: u64, places: u64) -> u64 {
    // SplitMix64 (Steele, Lea and Flood, 2014). The result is scaled, not divided: a division takes as long as some of what is measured.
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    ((u128::from(mixed) * u128::from(places)) >> 64) as u64
}
