//! Measures disks in process, through [`Disk`](disk_backend::Disk) as a frontend would call it, each against a limit in the same round:
//! mostly a plain copy of the same bytes.
//!
//! Row 10: a tool. `cargo xtask bench core` runs it and makes a table of what it prints: a JSON object for each case and round,
//! with the nanoseconds that an operation took (`ours_ns`), that its limit took right after (`limit_ns`), and the goal for their
//! ratio. A round does a fixed number of operations, so both halves of it do the same.
//!
//! One thread and a plain `block_on`, unless a case says otherwise; 512-byte sectors; a working set of 256 MiB, so caches of the
//! processor do not flatter anyone.

mod cases;
mod copies;
mod disks;
mod measure;

use clap::Parser;

/// Measure disks in process.
#[derive(Debug, Parser)]
struct Args {
    /// How often each case is measured
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only the cases whose name contains this
    #[arg(long, default_value = "")]
    case: String,
    /// Do so many operations of one side of one case and measure nothing, for a program that counts instructions
    #[arg(long, requires = "side")]
    operations: Option<u64>,
    /// The side: `ours` or `limit`
    #[arg(long, value_enum)]
    side: Option<SideName>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum SideName {
    Ours,
    Limit,
}

#[expect(clippy::print_stdout, reason = "what it prints is what it is for")]
fn main() {
    let args = Args::parse();
    for case in cases::all() {
        if !case.name.contains(&args.case) {
            continue;
        }
        let mut pair = (case.prepare)();
        if let (Some(operations), Some(side)) = (args.operations, args.side) {
            pair.run(matches!(side, SideName::Ours), operations);
            continue;
        }
        for round in 0..=args.rounds {
            let (ours, limit) = pair.measure(case.operation_count);
            // The first round warms up, and pays for pages that nobody has touched.
            if round > 0 {
                let line = serde_json::json!({
                    "case": case.name,
                    "limit": case.limit,
                    "goal": case.goal,
                    "ours_ns": ours,
                    "limit_ns": limit,
                });
                println!("{line}");
            }
        }
    }
}
