//! `cargo xtask worlds`: random disks on simulated storage, under faults and crashes, for as long as asked.
//!
//! The program is the crate `worlds`. It is built as tests are, with every assertion.

use crate::workspace::Workspace;
use crate::{Fallible, run};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long to try, in seconds
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u64,
    /// Where the seeds of the worlds begin, as a run printed it; a new one unless given
    #[arg(long)]
    pub(crate) seed: Option<String>,
    /// Run the world of this seed, and no other
    #[arg(long, conflicts_with_all = ["seconds", "seed"])]
    pub(crate) only: Option<String>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Fallible {
    let mut command = run::cargo(workspace);
    command.args(["run", "--quiet", "--package", "worlds", "--"]);
    match &args.only {
        Some(seed) => command.args(["--only", seed]),
        None => command.args(["--seconds", &args.seconds.to_string()]),
    };
    if let Some(seed) = &args.seed {
        command.args(["--seed", seed]);
    }
    run::run(&mut command)
}
