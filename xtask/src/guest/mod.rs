//! `cargo xtask guest`: a Linux guest works on a disk that the real daemon serves, and the power is cut.
//!
//! Three things are done to it; each has a module. `kill` cuts the power of daemon and guest together. `restart` ends the daemon in order
//! and starts it again under a guest that works on. `replay` logs what arrives at the disk's store, and looks at what could have been
//! left of it at each flush. With `--planted` each of them meets a disk that breaks its promise, and has to say so.
//!
//! - `kit`, `modules`, `cpio`, `initramfs`, `init.sh`: what the guest is made of, and what it does.
//! - `machine`, `saved`, `said`, `ledger`: who runs it, from where on, what it says, and what it is owed therefore.
//! - `disk`, `first_files`, `log_server`, `write_log`: what it works on.
//! - `look`, `trouble`: the verdict.
//!
//! All that is chosen by chance comes from the seed. When things happen is up to the machine.

mod cpio;
mod disk;
mod first_files;
mod initramfs;
mod kill;
mod kit;
mod ledger;
mod log_server;
mod look;
mod machine;
mod modules;
mod replay;
mod restart;
mod said;
mod saved;
mod trouble;
mod world;
mod write_log;

use std::time::Instant;

use self::disk::{Kind, Store};
use self::kit::Kit;
use self::machine::Parts;
use self::replay::Replayer;
use self::trouble::{Step, Trouble};
use self::world::{Tally, World};
use crate::peers::{self, Peer};
use crate::soak::{new_seed, seed};
use crate::workspace::Workspace;
use crate::{Fallible, run};

const PEERS: &[&str] = &["debugfs", "e2fsck", "mke2fs", "qemu-nbd"];

const INITRAMFS: &str = "initramfs";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often the power is cut with each store, and the daemon restarted; of images five times as many are looked at
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Only with this disk
    #[arg(long)]
    pub(crate) disk: Option<Kind>,
    /// Only this
    #[arg(long)]
    pub(crate) part: Option<Part>,
    /// Use disks that break their promises, and fail unless that is found
    #[arg(long, conflicts_with = "rounds")]
    pub(crate) planted: bool,
    /// Where all chance comes from, as a run has printed it [default: a new one]
    #[arg(long, value_parser = seed)]
    pub(crate) seed: Option<u64>,
    /// Fetch what the guest is made of, if it is not there
    #[arg(long)]
    pub(crate) install: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// The power is cut
    Kill,
    /// The daemon is restarted
    Restart,
    /// What arrives at the store is logged and replayed
    Replay,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Fallible {
    let kit = match missing(workspace, args.install)? {
        Ok(kit) => kit,
        Err(line) => {
            return Err(format!(
                "the guest needs what is not here; install it with:\n  {line}"
            ));
        }
    };
    run::run(run::cargo(workspace).args(["build", "--release", "--package", "platter"]))?;
    let seed = args.seed.unwrap_or_else(new_seed);
    println!("guest: seed {seed:#x}; the same choices again with --seed {seed:#x}");
    let folder = tempfile::Builder::new().prefix("platter-guest-").tempdir();
    let folder = folder.map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    let initramfs = folder.path().join(INITRAMFS);
    std::fs::write(&initramfs, initramfs::make(&kit)?)
        .map_err(|error| format!("cannot write {}: {error}", initramfs.display()))?;
    let saved = saved::make(Parts {
        kit: &kit,
        initramfs: &initramfs,
        folder: folder.path(),
    })?;
    let world = World {
        platter: workspace.target.join("release/platter"),
        kit,
        initramfs,
        saved,
        folder: folder.path().to_owned(),
        seed,
    };
    let result = match args.planted {
        true => planted(&world, args),
        false => all(&world, args),
    };
    result.map_err(|what| {
        let kept = folder.keep();
        format!(
            "{what}\nthe images and the logs of daemon, guest and kernel are in {}",
            kept.display()
        )
    })
}

/// What the guest is made of, or a line that gets what is missing.
pub(crate) fn missing(workspace: &Workspace, may_fetch: bool) -> Fallible<Result<Kit, String>> {
    let mut missing: Vec<Peer> = peers::missing(&peers::all());
    missing.retain(|peer| PEERS.contains(&peer.tool));
    if !missing.is_empty() {
        return Ok(Err(peers::install_line(&missing)));
    }
    let kit = Kit::find(workspace, may_fetch)?;
    Ok(kit.ok_or_else(|| "cargo xtask guest --install".to_owned()))
}

fn all(world: &World, args: &Args) -> Fallible {
    let count = args.rounds as usize;
    let kinds = Kind::ALL.into_iter();
    for kind in kinds.filter(|kind| args.disk.is_none_or(|only| only == *kind)) {
        let name = kind.name();
        if args.wants(Part::Kill) {
            for store in [Store::File, Store::KeptBack] {
                let what = format!("{name} on {}: power cuts", store.name());
                tell(&what, || kill::run(world, kind, store, count))?;
            }
        }
        if args.wants(Part::Restart) {
            let what = format!("{name}: restarts under one guest");
            tell(&what, || {
                restart::run(world, kind, Store::KeptBack, count, machine::WAITS)
            })?;
        }
        // A store that was built again is another one than that which a cache was filled from.
        if args.wants(Part::Replay) && !kind.has_cache() {
            let what = format!("{name}: images at flushes and between them");
            tell(&what, || {
                replay::run(world, kind, 5 * count, Replayer::Right)
            })?;
        }
    }
    Ok(())
}

/// Each part with something that it must find.
fn planted(world: &World, args: &Args) -> Fallible {
    let kinds = Kind::ALL.into_iter();
    for kind in kinds.filter(|kind| args.disk.is_none_or(|only| only == *kind)) {
        let name = kind.name();
        if args.wants(Part::Kill) {
            let what = format!("{name}, with flushes that do nothing: power cuts");
            must_find(&what, || kill::run(world, kind, Store::Lying, 3))?;
            if kind.has_cache() {
                let what = format!("{name}, with a cache that was spoiled: a power cut");
                must_find(&what, || kill::run_spoiled(world, kind))?;
            }
        }
        if args.wants(Part::Restart) {
            let what = format!("{name}, with a QEMU that does not wait: a restart");
            must_find(&what, || restart::run(world, kind, Store::File, 1, 0))?;
        }
        if args.wants(Part::Replay) && !kind.has_cache() {
            let what = format!("{name}, with writes left out: images");
            must_find(&what, || replay::run(world, kind, 40, Replayer::Forgetful))?;
        }
    }
    Ok(())
}

fn tell(what: &str, work: impl FnOnce() -> Step<Tally>) -> Fallible {
    let begun = Instant::now();
    let Tally {
        round_count,
        file_count,
    } = work()?;
    println!(
        "{what}: {round_count}, with {file_count} files that had to be there, in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

fn must_find(what: &str, work: impl FnOnce() -> Step<Tally>) -> Fallible {
    match work() {
        Err(Trouble::Found(found)) => {
            let line = found.lines().next().unwrap_or_default();
            println!("{what}: found, as it should be: {line}");
            Ok(())
        }
        Err(broken) => Err(broken.into()),
        Ok(_) => Err(format!("{what}: nothing was found, and something is wrong")),
    }
}

impl Args {
    fn wants(&self, part: Part) -> bool {
        self.part.is_none_or(|only| only == part)
    }
}
