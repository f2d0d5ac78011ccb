//! `cargo xtask bench`: ratios against a peer or a limit, both measured in the same run. Absolute numbers do not carry
//! from one machine to another; a ratio mostly does.

mod core;
mod durable;
mod file;
mod fio;
mod instructions;
mod nbd;
mod nbdcopy;
mod opening;
mod overlay;
mod server;
mod stats;

use std::path::{Path, PathBuf};
use std::process::Command as Process;

use crate::peers::{self, Peer};
use crate::workspace::Workspace;
use crate::{Fallible, run};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Disks in process against plain copies of the same bytes
    Core(core::Args),
    /// A durable layer over an image against the file alone, and against qcow2
    Durable(durable::Args),
    /// Disks in files against what fio does to the same files, and served, against QEMU
    File(file::Args),
    /// How many instructions a request executes, in process; the same on every machine of a kind
    Instructions(instructions::Args),
    /// `platter serve` against other NBD servers, driven by the same clients
    Nbd(nbd::Args),
    /// A RAM layer over a file against the file alone, both served by us
    Overlay(overlay::Args),
}

const FIO: Peer = Peer {
    tool: "fio",
    package: "fio",
};
const NBDCOPY: Peer = Peer {
    tool: "nbdcopy",
    package: "libnbd-bin",
};
const TASKSET: Peer = Peer {
    tool: "taskset",
    package: "util-linux",
};

pub(crate) fn run(workspace: &Workspace, command: &Command) -> Fallible {
    match command {
        Command::Core(args) => core::run(workspace, args),
        Command::Durable(args) => durable::run(workspace, args),
        Command::File(args) => file::run(workspace, args),
        Command::Instructions(args) => instructions::run(workspace, args),
        Command::Nbd(args) => nbd::run(workspace, args),
        Command::Overlay(args) => overlay::run(workspace, args),
    }
}

/// An error that says how to get what is missing.
fn demand(tools: &[Peer]) -> Fallible {
    let missing = peers::missing(tools);
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the benchmark needs what is not here; install it with:\n  {}",
        peers::install_line(&missing)
    ))
}

/// Builds packages for release, and returns the folder of their programs.
fn build(workspace: &Workspace, packages: &[&str]) -> Fallible<PathBuf> {
    let mut cargo = run::cargo(workspace);
    cargo.args(["build", "--release"]);
    for package in packages {
        cargo.args(["--package", package]);
    }
    run::run(&mut cargo)?;
    Ok(workspace.target.join("release"))
}

/// The first line of what a program says of its version, without what a distribution adds.
fn version(program: &Path) -> Fallible<String> {
    let text = run::output(Process::new(program).arg("--version"))?;
    let line = text.lines().next().unwrap_or_default();
    Ok(line.split(" (").next().unwrap_or_default().to_owned())
}

fn processor_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model
        .map_or("unknown processor", |(_, name)| name.trim())
        .to_owned()
}

/// A temporary folder in memory, with room for so many bytes. An interrupted run leaves it in `/dev/shm`.
fn tmpfs(bytes: u64) -> Fallible<tempfile::TempDir> {
    folder_in(Path::new("/dev/shm"), bytes)
}

/// A temporary folder with room for so many bytes, which an interrupted run leaves there.
fn folder_in(place: &Path, bytes: u64) -> Fallible<tempfile::TempDir> {
    let shown = place.display();
    let failed = |error: std::io::Error| format!("cannot make a folder in {shown}: {error}");
    let space = rustix::fs::statvfs(place).map_err(|errno| failed(errno.into()))?;
    let free = space.f_bavail * space.f_frsize;
    if free < bytes {
        return Err(format!(
            "the disks that are files need {} MiB in {shown}, where {} are free: make room (a tmpfs grows by `mount -o remount,size=...`)",
            bytes >> 20,
            free >> 20
        ));
    }
    tempfile::Builder::new()
        .prefix("platter-bench-")
        .tempdir_in(place)
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_an_error_with_the_line_that_installs_it() {
        let absent = Peer {
            tool: "no-such-tool-here",
            package: "nothing",
        };
        let error = demand(&[absent]).unwrap_err();
        assert!(error.contains("apt-get install") && error.ends_with(" nothing"));
    }

    #[test]
    fn more_than_all_memory_is_refused_with_what_is_free() {
        let error = tmpfs(u64::MAX).err().unwrap();
        assert!(error.contains("are free"), "{error}");
    }
}
