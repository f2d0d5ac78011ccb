//! `cargo xtask bench`: ratios against a peer or a limit, both measured in the same run. Absolute numbers do not carry
//! from one machine to another; a ratio mostly does.

mod core;
mod fio;
mod instructions;
mod nbd;
mod server;
mod stats;

use crate::Fallible;
use crate::workspace::Workspace;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Disks in process against plain copies of the same bytes
    Core(core::Args),
    /// How many instructions a request executes, in process; the same on every machine of a kind
    Instructions(instructions::Args),
    /// `platter serve` against `nbdkit memory`, driven by the same client
    Nbd(nbd::Args),
}

pub(crate) fn run(workspace: &Workspace, command: &Command) -> Fallible {
    match command {
        Command::Core(args) => core::run(workspace, args),
        Command::Instructions(args) => instructions::run(workspace, args),
        Command::Nbd(args) => nbd::run(workspace, args),
    }
}
