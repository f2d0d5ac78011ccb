//! The power cut: the daemon is killed in the middle of work, and what the guest was told is durable has to be there.
//!
//! Where all that was acknowledged outlives the daemon, in the page cache, the guest may too: it waits, meets no error, and works on once
//! the daemon is back. So one guest is there for several kills, of which it survives all but the last. Where something may die with the
//! daemon that was not flushed (a durable layer's records, also above a file), no guest can live on: it believes to have written it.

use std::time::{Duration, Instant};

use super::disk::{self, Kind, Store};
use super::ledger::Ledger;
use super::machine::{Machine, WAITS};
use super::trouble::{Step, Trouble};
use super::world::{Tally, World, note};
use crate::soak::daemon::Daemon;
use crate::soak::random::Random;

/// How many guests a disk has before another one is made: each begins with what the one before it left.
const GUESTS_MAX: usize = 4;

/// How many kills a guest is there for that may survive them.
const KILLS_MAX: usize = 5;

/// Kills the daemon so often, and looks each time.
pub(crate) fn run(world: &World, kind: Kind, store: Store<'_>, count: usize) -> Step<Tally> {
    let kills_max = match (kind, store) {
        (Kind::Raw | Kind::Through, Store::File) => KILLS_MAX,
        _ => 1,
    };
    let mut random = Random::of(world.seed, store.name());
    let mut tally = Tally::default();
    let mut ledger = Ledger::default();
    for guest in 0.. {
        if tally.round_count == count {
            break;
        }
        if guest % GUESTS_MAX == 0 {
            let files = kind.make(&world.platter, world.folder(), store, random.number())?;
            ledger = Ledger::of(files);
        }
        let kills = kills_max.min(count - tally.round_count);
        if kind.has_cache() {
            disk::fill_cache(&world.platter, world.folder())?;
        }
        let tag = guest.to_string();
        life(world, &mut ledger, &mut tally, &tag, kills, &mut random)?;
    }
    Ok(tally)
}

/// The same, once, with a cache that holds what it was not filled with.
pub(crate) fn run_spoiled(world: &World, kind: Kind) -> Step<Tally> {
    let mut random = Random::of(world.seed, "spoiled");
    let mut tally = Tally::default();
    let files = kind.make(&world.platter, world.folder(), Store::File, random.number())?;
    disk::fill_cache(&world.platter, world.folder())?;
    disk::spoil_cache(world.folder())?;
    let mut ledger = Ledger::of(files);
    life(world, &mut ledger, &mut tally, "0", 1, &mut random)?;
    Ok(tally)
}

/// One life of a guest, up to its sudden end with the last of so many kills.
fn life(
    world: &World,
    ledger: &mut Ledger,
    tally: &mut Tally,
    tag: &str,
    kills: usize,
    random: &mut Random,
) -> Step {
    let mut daemon = world.daemon()?;
    let mut machine = world.machine(tag, WAITS, random)?;
    for kill in 1..=kills {
        kill_daemon(world, &mut daemon, &machine, ledger, random)?;
        let is_last = kill == kills;
        if is_last {
            // Without having met an error: its requests wait for the daemon to come back.
            machine.kill()?;
        }
        let found = world.files()?;
        hear_rest(&machine, ledger, is_last)?;
        ledger.check(&found).map_err(Trouble::Found)?;
        tally.round_count += 1;
        tally.file_count += ledger.len();
        if !is_last {
            daemon = world.daemon()?;
        }
    }
    machine.check_kernel_log()
}

/// Lets the guest work, and kills the daemon somewhere in the middle of something.
fn kill_daemon(
    world: &World,
    daemon: &mut Daemon,
    machine: &Machine,
    ledger: &mut Ledger,
    random: &mut Random,
) -> Step {
    world.work(machine, ledger, random.between(3, 25))?;
    let end = Instant::now() + Duration::from_millis(random.below(150));
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        if let Some(said) = machine.hear_within(left)? {
            note(ledger, &said)?;
        }
    }
    daemon.kill();
    Ok(daemon.reap()?)
}

/// What the guest had said is owed, also if nobody had heard it yet. What it says to be durable after the daemon's death was so before.
fn hear_rest(machine: &Machine, ledger: &mut Ledger, has_ended: bool) -> Step {
    loop {
        let said = match has_ended {
            true => machine.hear()?,
            false => machine.hear_within(Duration::ZERO)?,
        };
        match said {
            None => return Ok(()),
            Some(said) => note(ledger, &said)?,
        }
    }
}
