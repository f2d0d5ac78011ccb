//! Runs worlds for as long as asked.

use clap::Parser;
use disk_contract::Report;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use worlds::Failure;

/// Tries random disks on simulated storage, under faults and crashes, against the contract.
#[derive(Debug, Parser)]
#[command(name = "worlds")]
struct Arguments {
    /// How long to try, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where the seeds of the worlds begin; a new one unless given.
    #[arg(long, value_parser = number)]
    seed: Option<u64>,
    /// Runs the world of this seed, and no other.
    #[arg(long, value_parser = number, conflicts_with_all = ["seconds", "seed"])]
    only: Option<u64>,
    /// How many threads run worlds; as many as there are processors unless given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

fn number(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| "write a number from 0 on, in decimal, or with 0x in front".to_owned())
}

#[expect(clippy::print_stdout, reason = "a program of the command line")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.only {
        return match worlds::run(seed) {
            Ok(report) => {
                println!("worlds: seed {seed:#x} keeps the contract: {report:?}");
                ExitCode::SUCCESS
            }
            Err(failure) => fail(&failure),
        };
    }
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("worlds: seed {seed:#x}");
    let began = Instant::now();
    let run = Run {
        next: AtomicU64::new(0),
        seed,
        until: began + Duration::from_secs(arguments.seconds),
        has_failed: AtomicBool::new(false),
        total: Mutex::default(),
    };
    let threads = arguments.threads.map_or_else(processors, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| run.worlds());
        }
    });
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    let total = run.total.into_inner().expect("nobody panics with it");
    if let Some(failure) = total.failure {
        return fail(&failure);
    }
    println!("worlds: {}", summary(&total.report, total.worlds, minutes));
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "a program of the command line")]
fn fail(failure: &Failure) -> ExitCode {
    eprintln!("error: worlds: {failure}");
    ExitCode::FAILURE
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What all threads do together.
struct Run {
    next: AtomicU64,
    seed: u64,
    until: Instant,
    has_failed: AtomicBool,
    total: Mutex<Total>,
}

#[derive(Default)]
struct Total {
    report: Report,
    worlds: u64,
    failure: Option<Failure>,
}

impl Run {
    /// Runs one world after another until the time is over, or something is broken.
    fn worlds(&self) {
        let (mut report, mut worlds) = (Report::default(), 0);
        let mut found = None;
        while Instant::now() < self.until && !self.has_failed.load(Ordering::Relaxed) {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            match worlds::run(seed_of(self.seed, index)) {
                Ok(one) => report.add(one),
                Err(failure) => {
                    self.has_failed.store(true, Ordering::Relaxed);
                    found = Some(failure);
                }
            }
            worlds += 1;
        }
        let mut total = self.total.lock().expect("nobody panics with it");
        total.report.add(report);
        total.worlds += worlds;
        total.failure = total.failure.take().or(found);
    }
}

/// The seeds of a run's worlds have nothing to do with each other, nor with those of a run whose seed is close.
fn seed_of(seed: u64, index: u64) -> u64 {
    let mut rng = fastrand::Rng::with_seed(seed);
    let first = rng.u64(..);
    fastrand::Rng::with_seed(first.wrapping_add(index)).u64(..)
}

fn summary(report: &Report, worlds: u64, minutes: f64) -> String {
    let per_minute = |count: u64| (count as f64 / minutes) as u64;
    format!(
        "{worlds} worlds kept the contract; per minute: {} operations, {} crashes, {} crash images, {} polls",
        per_minute(report.operation_count),
        per_minute(report.crash_count),
        per_minute(report.image_count),
        per_minute(report.poll_count),
    )
}
