//! `cargo xtask`: the project's own tools, run from anywhere in the checkout.
//!
//! - `ci` runs everything that a change must pass; `.ci/run` calls it.
//! - `test` runs every ring of tests, the one against real programs included.
//! - `tidy` checks what the compiler does not: which crate may use which, door signs, links,
//!   generated pages, code shown in pages, unsafe code, manifests.
//! - `fuzz` tries hostile input for some seconds.
//! - `worlds` tries random disks on simulated storage, under faults and crashes.
//! - `soak` keeps the real daemon busy, with faults and restarts, for some minutes.
//! - `kills` kills the daemon in the middle of its work, and looks at what it kept.
//! - `guest` lets a Linux guest use a disk, and cuts the power.
//! - `sanitize` runs the tests of unsafe code under AddressSanitizer.
//! - `docs` writes the generated pages anew.
//! - `bench` measures us against a peer, side by side in one run.
//!
//! Each command is one module. None of them depends on a crate of ours: what they need from the
//! daemon they get by running it, as a user would. A failure is one `error:` line and exit code 1.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks to whoever started it"
)]

mod bench;
mod ci;
mod docs;
mod fuzz;
mod guest;
mod kills;
mod peers;
mod run;
mod sanitize;
mod soak;
mod test;
mod tidy;
mod workspace;
mod worlds;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// What went wrong, in words for the person at the terminal.
type Fallible<T = ()> = Result<T, String>;

#[derive(Parser)]
#[command(
    name = "xtask",
    bin_name = "cargo xtask",
    about = "Platter's own tools"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything that a change must pass, and say how long each step took
    Ci(ci::Args),
    /// Run every ring of tests, the one against real programs included
    Test(test::Args),
    /// Check crate rows, door signs, unsafe code, manifests, links and generated pages
    Tidy,
    /// Try hostile input on everything that takes input from outside
    Fuzz(fuzz::Args),
    /// Try random disks on simulated storage, under faults and crashes, against the contract
    Worlds(worlds::Args),
    /// Keep the real daemon busy, with faults, resizes and restarts, and look at every byte
    Soak(soak::Args),
    /// Kill the daemon in the middle of its work, again and again, and look at what it kept
    Kills(kills::Args),
    /// Let a Linux guest work on a served disk, end the daemon under it, and look at what is left
    Guest(guest::Args),
    /// Run the tests of the crates with unsafe code under AddressSanitizer
    Sanitize(sanitize::Args),
    /// Write the generated pages of the documentation anew
    Docs,
    /// Measure Platter against a peer, side by side in one run
    #[command(subcommand)]
    Bench(bench::Command),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match Workspace::load().and_then(|workspace| dispatch(cli.command, &workspace)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command, workspace: &Workspace) -> Fallible {
    match command {
        Command::Ci(args) => ci::run(workspace, &args),
        Command::Test(args) => test::run(workspace, &args).map(|summary| println!("{summary}")),
        Command::Tidy => tidy::run(workspace),
        Command::Fuzz(args) => fuzz::run(workspace, &args),
        Command::Worlds(args) => worlds::run(workspace, &args),
        Command::Soak(args) => soak::run(workspace, &args),
        Command::Kills(args) => kills::run(workspace, &args),
        Command::Guest(args) => guest::run(workspace, &args),
        Command::Sanitize(args) => sanitize::run(workspace, &args),
        Command::Docs => docs::run(workspace),
        Command::Bench(command) => bench::run(workspace, &command),
    }
}
