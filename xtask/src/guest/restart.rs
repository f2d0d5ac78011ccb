//! The restart: the daemon ends in order and is started again under a guest that works on, waits meanwhile, and notices nothing.

use std::time::Duration;

use super::disk::{Kind, Store};
use super::ledger::Ledger;
use super::trouble::{Step, Trouble};
use super::world::{Tally, World};
use crate::soak::random::Random;

/// Restarts the daemon so often under one guest.
pub(crate) fn run(
    world: &World,
    kind: Kind,
    store: Store<'_>,
    count: usize,
    reconnect_seconds: u64,
) -> Step<Tally> {
    let mut random = Random::of(world.seed, "restart");
    let files = kind.make(&world.platter, world.folder(), store, random.number())?;
    let mut ledger = Ledger::of(files);
    let mut daemon = world.daemon()?;
    let machine = world.machine("0", reconnect_seconds, &mut random)?;
    for _ in 0..count {
        world.work(&machine, &mut ledger, random.between(1, 10))?;
        daemon.ask_to_end()?;
        daemon.wait().map_err(Trouble::Found)?;
        std::thread::sleep(Duration::from_millis(random.below(500)));
        daemon = world.daemon()?;
    }
    world.work(&machine, &mut ledger, random.between(1, 10))?;
    world.stop(machine, &mut ledger)?;
    daemon.ask_to_end()?;
    daemon.wait().map_err(Trouble::Found)?;
    ledger.check(&world.files()?).map_err(Trouble::Found)?;
    Ok(Tally {
        round_count: count,
        file_count: ledger.len(),
    })
}
