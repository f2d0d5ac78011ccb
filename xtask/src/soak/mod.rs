//! `cargo xtask soak`: the real daemon under load, with faults, deaths, resizes and restarts, for as long as it is told to.
//!
//! Four exports, and eight clients at once: two each of `fio` (which verifies), `nbdcopy` (with exports that are added for it and removed
//! again), `qemu-io`, and a client of our own that dies in the middle of requests. One more resizes all exports. Each byte of each export
//! belongs to one of them, who knows what it must be. Now and then everybody rests, and all bytes, the memory, the descriptors and the
//! threads of the daemon are looked at; now and then it gets a SIGTERM, at rest or at work, and is started again.
//!
//! - `exports`: what is served, what of it a restart keeps, and who has which part. `content` and `region`: what a sector may hold.
//! - `director`, `plan`, `gate`: who works when. `faults`: rules that come and go, and which errors they excuse.
//! - `fio`, `copier`, `qemu_io`, `mortal`, `resizer`: the clients. `wire`, `control`, `tool`: what they use.
//! - `verify`, `resources`: the verdicts.
//!
//! All that is chosen by chance comes from the seed. When things happen is up to the machine: a seed brings the same choices again, not
//! the same instant.

mod client;
pub(crate) mod content;
pub(crate) mod control;
mod copier;
pub(crate) mod daemon;
mod director;
mod exports;
mod faults;
mod fio;
mod gate;
mod mortal;
mod plan;
mod qemu_io;
pub(crate) mod random;
mod region;
mod report;
mod resizer;
mod resources;
mod tool;
mod verify;
pub(crate) mod wire;
mod world;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::director::Director;
use self::plan::Plan;
use self::world::World;
use crate::peers::{self, Peer};
use crate::workspace::Workspace;
use crate::{Fallible, run};

/// How long anything may take. Only what hangs reaches it.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(120);

/// How long to wait between two looks at something that tells nobody when it changes.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// What is served, in the folder of the images.
const DOCUMENT: &str = "soak.json";

const PEERS: &[&str] = &["fio", "nbdcopy", "qemu-io"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long it takes; at the end everything is looked at, which takes some seconds more
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) minutes: u64,
    /// Where all chance comes from, as a run has printed it [default: a new one]
    #[arg(long, value_parser = seed)]
    pub(crate) seed: Option<u64>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Fallible {
    let missing = missing();
    if !missing.is_empty() {
        return Err(format!(
            "the soak needs what is not here; install it with:\n  {}",
            peers::install_line(&missing)
        ));
    }
    run::run(run::cargo(workspace).args(["build", "--release", "--package", "platter"]))?;
    let program = workspace.target.join("release/platter");
    let seed = args.seed.unwrap_or_else(new_seed);
    let replay = format!(
        "cargo xtask soak --minutes {} --seed {seed:#x}",
        args.minutes
    );
    println!("soak: seed {seed:#x}; the same choices again: {replay}");
    let folder = tempfile::Builder::new().prefix("platter-soak-").tempdir();
    let folder = folder.map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    match soak(&program, folder.path(), seed, args.minutes) {
        Ok(table) => {
            println!("\n{table}");
            Ok(())
        }
        Err(what) => {
            let kept = folder.keep();
            let log = kept.join(daemon::LOG);
            Err(format!(
                "{what}\nthe daemon's log is {}, its images are beside it\nthe same choices again: {replay}",
                log.display()
            ))
        }
    }
}

/// The programs that it needs and that are not here.
pub(crate) fn missing() -> Vec<Peer> {
    let mut missing = peers::missing(&peers::all());
    missing.retain(|peer| PEERS.contains(&peer.tool));
    missing
}

fn soak(program: &Path, folder: &Path, seed: u64, minutes: u64) -> Fallible<String> {
    let begun = Instant::now();
    exports::make_images(folder)?;
    let document = folder.join(DOCUMENT);
    std::fs::write(&document, exports::document(seed).to_string())
        .map_err(|error| format!("cannot write {}: {error}", document.display()))?;
    let world = Arc::new(World::new(seed, folder.to_owned()));
    let mut director = Director::begin(program.to_owned(), world.clone())?;
    let mut plan = Plan::new(seed, minutes);
    let result = director.run(&mut plan, Duration::from_secs(60 * minutes));
    let found = director.dismiss();
    result?;
    Ok(report::table(&world, &found, begun.elapsed()))
}

pub(crate) fn new_seed() -> u64 {
    RandomState::new().build_hasher().finish() & 0xffff_ffff
}

/// A number, in decimal or with `0x` in hexadecimal.
pub(crate) fn seed(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "a seed is a number such as 17 or 0x2a".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_read_as_it_is_printed() {
        assert_eq!(seed(&format!("{:#x}", 0xdead_u64)), Ok(0xdead));
        assert_eq!(seed("17"), Ok(17));
        assert!(seed("seventeen").is_err());
    }

    #[test]
    fn every_program_is_one_that_can_be_installed() {
        for tool in PEERS {
            assert!(peers::all().iter().any(|peer| peer.tool == *tool), "{tool}");
        }
    }
}
