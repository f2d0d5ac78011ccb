//! `cargo xtask sanitize`: the tests of the crates that have unsafe code, under AddressSanitizer.
//!
//! The sanitizer is a part of every compiler, but its switch is one of those that a stable compiler has locked; the key is the one
//! that `cargo fuzz` uses, too. What it compiles is kept apart from everything else, in `target/sanitize`.

use crate::workspace::Workspace;
use crate::{Fallible, run};

/// Those that hand addresses to the kernel, or copy through them.
const CRATES: &[&str] = &["guestmem", "scsi_buffers", "posio", "uring"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this crate
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(CRATES))]
    only: Option<String>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Fallible {
    let mut command = run::cargo(workspace);
    command
        .args([
            "test",
            "--lib",
            "--tests",
            "--target-dir",
            "target/sanitize",
        ])
        // So that what runs while the rest is compiled is not built so, too.
        .args([
            "--target",
            &format!("{}-unknown-linux-gnu", std::env::consts::ARCH),
        ]);
    let wanted = |name: &str| args.only.as_deref().is_none_or(|only| only == name);
    for name in CRATES.iter().filter(|name| wanted(name)) {
        command.args(["--package", name]);
    }
    command
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Zsanitizer=address")
        // A ring is never closed, and owns what it has: that is no leak.
        .env("ASAN_OPTIONS", "detect_leaks=0");
    run::run(&mut command)
}
