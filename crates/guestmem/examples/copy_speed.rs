//! How fast the copies in and out of shared memory are, as ratios to `copy_from_slice` and `fill` of the same bytes.
//!
//! `cargo run --release -p guestmem --example copy_speed` prints, for each size, the median over interleaved rounds of
//! (time of the plain copy) / (time of ours): above 1 is faster than plain. "hot" repeats one pair of places, "cold" walks
//! through areas larger than the caches.
#![allow(unsafe_code, clippy::print_stdout)]

use guestmem::Pages;
use guestmem::Segment;
use guestmem::copy;
use std::hint::black_box;
use std::time::Duration;
use std::time::Instant;

const AREA_BYTES: usize = 128 << 20;
const ROUND_BYTES: usize = 64 << 20;
const ROUNDS: usize = 15;

fn main() {
    let mut from = Pages::new(AREA_BYTES).expect("memory for the source");
    let mut to = Pages::new(AREA_BYTES).expect("memory for the target");
    from.fill(1);
    to.fill(2);
    println!(
        "{:>8} {:>5} {:>6} {:>6} {:>6}",
        "bytes", "where", "read", "write", "fill"
    );
    for len in [512, 4 << 10, 64 << 10, 1 << 20] {
        for (place, area) in [("hot", len), ("cold", AREA_BYTES)] {
            // The middle of three figures each: one round of every kind after the other, so that all meet the same noise.
            let mut ratios: [Vec<f64>; 3] = Default::default();
            for round in 0..ROUNDS {
                let mut walk = Walk::new(len, area, round);
                let plain =
                    walk.time(|at| to[at..][..len].copy_from_slice(black_box(&from[at..][..len])));
                let read = walk.time(|at| {
                    copy::read(
                        black_box(Segment::from_slice(&from[at..][..len])),
                        &mut to[at..][..len],
                    )
                });
                let write = walk.time(|at| {
                    let target = Segment::from_mut(&mut to[at..][..len]);
                    // SAFETY: the target was made from exclusively borrowed memory.
                    unsafe { copy::write(black_box(target), &from[at..][..len]) }
                });
                let plain_fill = walk.time(|at| black_box(&mut to[at..][..len]).fill(round as u8));
                let fill = walk.time(|at| {
                    let target = Segment::from_mut(&mut to[at..][..len]);
                    // SAFETY: as above.
                    unsafe { copy::fill(black_box(target), round as u8) }
                });
                ratios[0].push(ratio(plain, read));
                ratios[1].push(ratio(plain, write));
                ratios[2].push(ratio(plain_fill, fill));
            }
            let [read, write, fill] = ratios.map(median);
            println!("{len:>8} {place:>5} {read:>6.2} {write:>6.2} {fill:>6.2}");
        }
    }
}

/// Visits places `len` bytes apart in an area, in an order that a processor does not foresee.
struct Walk {
    len: usize,
    places: usize,
    seed: u64,
}

impl Walk {
    fn new(len: usize, area: usize, round: usize) -> Self {
        Walk {
            len,
            places: area / len,
            seed: round as u64,
        }
    }

    /// How long it takes to do `work` at the offsets of as many places as make up a round.
    fn time(&mut self, mut work: impl FnMut(usize)) -> Duration {
        let mut seed = self.seed;
        let start = Instant::now();
        for _ in 0..ROUND_BYTES / self.len {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            work((seed >> 33) as usize % self.places * self.len);
        }
        self.seed = seed;
        start.elapsed()
    }
}

fn ratio(plain: Duration, ours: Duration) -> f64 {
    plain.as_secs_f64() / ours.as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
