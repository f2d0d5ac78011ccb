//! `platter`: composable virtual disks for any client that speaks NBD.
//!
//! Row 10. The command and the daemon. Everything a disk is made of lives in the other crates; here is only what a process needs:
//! arguments, logging, signals, exit codes. It is no library to build on: what it can do is in the crates below, and the program of
//! `main.rs` is its one user.
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     platter::run()
//! }
//! ```
//!
//! **Guarantees** and **failure** are those of the commands, as their pages in `docs/` tell them; an error is one line and an exit code.

mod activation;
mod check;
mod cli;
mod command;
mod connect;
mod control;
mod daemon;
mod descriptors;
mod door;
mod doors;
mod exit;
mod handover;
mod listening;
mod logging;
mod manual;
mod metrics;
mod output;
mod plan;
mod ready;
mod reference;
mod runtime_dir;
mod serve;
mod signals;
mod tls;
mod tools;
mod transfer;
mod tree;
#[doc(hidden)]
pub mod trial;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

/// Does what the command line asks for.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    logging::start(&cli.logging);
    let result = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Info(args) => tools::info::run(&args),
        Command::Map(args) => tools::map::run(&args),
        Command::Copy(args) => tools::copy::run(&args),
        Command::Compare(args) => tools::compare::run(&args),
        Command::Layer(args) => tools::layer::run(&args),
        Command::Inspect(args) => control::inspect(&args),
        Command::Set(args) => control::set(&args),
        Command::Export(args) => control::export(&args),
        Command::Resize(args) => control::resize(&args),
        Command::Schema(args) => reference::run(&args),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::pages(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => error.report(),
    }
}
