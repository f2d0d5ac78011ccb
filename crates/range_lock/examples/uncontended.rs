//! What a lock costs when nobody else wants the range: `cargo run --release -p range_lock --example uncontended`.
#![allow(clippy::print_stdout, reason = "an example prints")]

use futures_lite::future::block_on;
use range_lock::RangeLock;
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: u64 = 2_000_000;

/// Prints what each of `calls` took since `begun`.
fn report(name: &str, begun: Instant, calls: u64) {
    println!(
        "{name:<44} {:>8.1} ns",
        begun.elapsed().as_secs_f64() * 1e9 / calls as f64
    );
}

/// Prints the median of five runs of `ROUNDS` calls.
fn measure(name: &str, mut call: impl FnMut(u64)) {
    let mut runs: Vec<f64> = (0..5)
        .map(|_| {
            let begun = Instant::now();
            (0..ROUNDS).for_each(&mut call);
            begun.elapsed().as_secs_f64() * 1e9 / ROUNDS as f64
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    println!("{name:<44} {:>8.1} ns", runs[2]);
}

/// Prints the cost for each of two threads that use stripes of their own, or the same ones.
fn measure_two_threads(name: &str, address_of: impl Fn(u64, u64) -> u64 + Sync) {
    let lock = RangeLock::new();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (lock, address_of) = (&lock, &address_of);
            scope.spawn(move || {
                for n in 0..ROUNDS {
                    let address = address_of(thread, n);
                    drop(black_box(lock.try_read(address..address + 4096)));
                }
            });
        }
    });
    report(name, begun, ROUNDS);
}

fn main() {
    let lock = RangeLock::new();
    let address = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24 & !0xfff;
    measure("try_read 4 KiB, dropped", |n| {
        drop(black_box(lock.try_read(address(n)..address(n) + 4096)));
    });
    measure("try_write 4 KiB, dropped", |n| {
        drop(black_box(lock.try_write(address(n)..address(n) + 4096)));
    });
    block_on(async {
        let begun = Instant::now();
        for n in 0..ROUNDS {
            drop(black_box(lock.write(address(n)..address(n) + 4096).await));
        }
        report("write().await 4 KiB, dropped", begun, ROUNDS);
    });
    measure("try_write 2 stripes, dropped", |n| {
        let start = (n << 20) + (1 << 19);
        drop(black_box(lock.try_write(start..start + (1 << 20))));
    });
    let crowd: Vec<_> = (0..32)
        .map(|n| lock.try_read(n << 12..(n + 1) << 12))
        .collect();
    measure("try_read 4 KiB beside 32 held in the stripe", |_| {
        drop(black_box(lock.try_read(1 << 19..(1 << 19) + 4096)));
    });
    drop(crowd);
    let begun = Instant::now();
    for _ in 0..ROUNDS / 16 {
        drop(black_box(lock.try_write(0..u64::MAX)));
    }
    report("try_write of everything, dropped", begun, ROUNDS / 16);
    measure_two_threads("two threads, stripes of their own", |thread, n| {
        (n % 8 * 2 + thread) << 20
    });
    measure_two_threads("two threads, one stripe", |thread, n| {
        (n % 8 * 2 + thread) << 12
    });
}
