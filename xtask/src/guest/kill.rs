//! The power cut: daemon and guest are killed in the middle of work, and what the guest was told is durable has to be there.

use std::time::{Duration, Instant};

use super::disk::{Kind, Store};
use super::ledger::Ledger;
use super::machine::WAITS;
use super::trouble::{Step, Trouble};
use super::world::{Tally, World};
use crate::soak::random::Random;

/// How many lives a disk has before another one is made: each begins with what the one before it left.
const LIVES_MAX: usize = 4;

/// Cuts the power so often, and looks each time.
pub(crate) fn run(world: &World, kind: Kind, store: Store<'_>, count: usize) -> Step<Tally> {
    let mut random = Random::of(world.seed, store.name());
    let mut tally = Tally::default();
    let mut ledger = Ledger::default();
    for round in 0..count {
        if round % LIVES_MAX == 0 {
            kind.make(&world.platter, world.folder(), store, random.number())?;
            ledger = Ledger::default();
        }
        life(world, &mut ledger, round, &mut random)?;
        let found = world.files()?;
        ledger.check(&found).map_err(Trouble::Found)?;
        tally.round_count += 1;
        tally.file_count += ledger.len();
    }
    Ok(tally)
}

/// One life of daemon and guest, up to its sudden end.
fn life(world: &World, ledger: &mut Ledger, round: usize, random: &mut Random) -> Step {
    let mut daemon = world.daemon()?;
    let mut machine = world.machine(&round.to_string(), WAITS, random)?;
    world.work(&machine, ledger, random.between(3, 25))?;
    // Somewhere in the middle of something.
    let end = Instant::now() + Duration::from_millis(random.below(150));
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        if let Some(said) = machine.hear_within(left)? {
            ledger.note(&said);
        }
    }
    // The guest dies without having met an error: its requests wait for the daemon to come back.
    daemon.kill();
    daemon.reap()?;
    machine.kill()?;
    // What it had said is owed, also if nobody had heard it yet.
    while let Some(said) = machine.hear()? {
        ledger.note(&said);
    }
    machine.check_kernel_log()
}
