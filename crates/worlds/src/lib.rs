//! Random disks on simulated storage, tried against the contract under faults and crashes.
//!
//! Row 10, a tool: `cargo xtask worlds --seconds N --seed S` runs it. Each world is one seed: a disk of up to eight layers of all
//! kinds that can stand on simulated storage, in any legal configuration, with wrappers at random places, used as
//! [`World`] says.
//!
//! ```
//! let report = worlds::run(7).expect("the contract is kept");
//! assert!(report.operation_count > 100);
//! ```
//!
//! **Guarantees.** A seed is a run: the same disk, requests, faults and crashes, to the last poll.
//!
//! **What it does not do.** Disks whose work goes on outside of the process, or in threads of their own (files, NBD), have no
//! simulated time, and cannot be cut off at an instant: the suites of their crates and the soak try them.
//!
//! **Failure.** A [`Failure`] says what was broken on which disk, and the command that breaks it again.

mod build;
mod graph;

use disk_contract::{Report, Violation, World};
use fastrand::Rng;
use graph::DiskGraph;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How many requests each world makes.
pub const REQUESTS: u32 = 250;

/// A world in which the contract was broken.
#[derive(Debug)]
pub struct Failure {
    /// The seed of the world.
    pub seed: u64,
    /// What was broken.
    pub what: Broken,
}

/// What was broken.
#[derive(Debug)]
pub enum Broken {
    /// A clause of the contract.
    Clause(Violation),
    /// Something panicked, on the disk that is named.
    Panic(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Broken::Clause(violation) => violation.fmt(f),
            Broken::Panic(disk) => {
                writeln!(f, "panicked, as printed above\n  disk: {disk}")?;
                write!(f, "  replay: {}", replay_line(self.seed))
            }
        }
    }
}

impl std::error::Error for Failure {}

fn replay_line(seed: u64) -> String {
    format!("cargo xtask worlds --only {seed:#x}")
}

/// Runs the world of a seed.
///
/// # Errors
/// What was broken.
pub fn run(seed: u64) -> Result<Report, Failure> {
    let graph = DiskGraph::random(&mut Rng::with_seed(seed));
    let name = graph.to_string();
    let mut world = World::new(seed).name(&name).request_count(REQUESTS);
    if graph.has_copies_that_stay() {
        world = world.with_copies_that_stay();
    }
    if graph.may_refuse_changes() {
        world = world.that_may_refuse_changes();
    }
    let run = || world.run(async |stores| build::disk(&graph, stores).await);
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(violation)) => Err(Failure {
            seed,
            what: Broken::Clause(violation.replayed_by(replay_line(seed))),
        }),
        Err(_) => Err(Failure {
            seed,
            what: Broken::Panic(name),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_reported_with_its_disk_and_the_command_that_has_it_again() {
        let failure = Failure {
            seed: 0x1234,
            what: Broken::Panic("a stack".to_owned()),
        };
        let report = "panicked, as printed above\n  disk: a stack\n  replay: cargo xtask worlds --only 0x1234";
        assert_eq!(failure.to_string(), report);
    }
}
