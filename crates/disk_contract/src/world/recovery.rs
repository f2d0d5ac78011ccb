//! What is left after the power was cut, and whether the disk makes of it what it promised.

use super::chronicle::{Chronicle, Recoverable};
use super::client::Shared;
use super::stores::{Store, Stores};
use super::{Report, read_all};
use crate::Clause;
use crate::Violation;
use crate::history::Value;
use crate::ledger::Fault;
use disk_backend::Disk;
use disk_sim::{Crash, EXHAUSTIVE_MAX, Image, Sim, images_of};
use fastrand::Rng;

/// Draws images of crashes, and builds the disk on them again.
pub(super) struct Recovery<'a> {
    pub(super) stores: &'a [Store],
    pub(super) shared: &'a Shared,
    pub(super) sector_size: u32,
    pub(super) images_per_crash: usize,
}

impl Recovery<'_> {
    /// Cuts the power at this instant, and recovers from what may be left. The world itself goes on.
    pub(super) fn crash(
        &self,
        build: &impl AsyncFn(&mut Stores) -> Disk,
        rng: &mut Rng,
        report: &mut Report,
    ) -> Result<(), Violation> {
        let chronicle = self.shared.chronicle.borrow();
        let recoverable = chronicle.recoverable();
        report.crash_count += 1;
        for left in self.images(rng) {
            report.image_count += 1;
            let seed = rng.u64(..);
            let recovered = recover(
                build,
                left,
                self.sector_size,
                seed,
                &recoverable,
                &chronicle,
            );
            // What went wrong before the crash says more.
            let recovered = recovered.map_err(|fault| chronicle.check().err().unwrap_or(fault));
            let polls = recovered
                .map_err(|(clause, what)| self.shared.trace.borrow().violation(clause, what))?;
            report.poll_count += polls;
        }
        Ok(())
    }

    /// What the stores hold, in each of the images.
    fn images(&self, rng: &mut Rng) -> Vec<Vec<Image>> {
        let crashes: Vec<Crash> = self.stores.iter().map(Store::crash).collect();
        let request_count: usize = crashes.iter().map(Crash::request_count).sum();
        let limit = match request_count <= EXHAUSTIVE_MAX {
            true => 1 << EXHAUSTIVE_MAX,
            false => self.images_per_crash,
        };
        images_of(&crashes, limit, rng.u64(..))
    }
}

/// Builds the disk on what is left, and looks at it twice: what it recovered to, it keeps, also if the power is cut again.
fn recover(
    build: &impl AsyncFn(&mut Stores) -> Disk,
    left: Vec<Image>,
    sector_size: u32,
    seed: u64,
    recoverable: &Recoverable,
    chronicle: &Chronicle,
) -> Result<u64, Fault> {
    let mut rng = Rng::with_seed(seed);
    let (first, stores, polls) = open(build, left, sector_size, rng.u64(..))?;
    recoverable.check_size(first.len() as u64)?;
    for (sector, value) in (0..).zip(&first) {
        let checked = recoverable.check_value(sector, *value);
        checked.map_err(|(clause, what)| (clause, what + &chronicle.describe(sector)))?;
    }
    if rng.u8(0..4) > 0 {
        return Ok(polls);
    }
    let left = stores.iter().map(|store| store.crash().sample(&mut rng));
    let (second, _, more_polls) = open(build, left.collect(), sector_size, rng.u64(..))?;
    match first == second {
        true => Ok(polls + more_polls),
        false => Err((
            Clause::C11,
            format!("the disk held {first:x?} after a crash, and {second:x?} after the next"),
        )),
    }
}

/// Builds the disk, and reads and flushes it.
fn open(
    build: &impl AsyncFn(&mut Stores) -> Disk,
    left: Vec<Image>,
    sector_size: u32,
    seed: u64,
) -> Result<(Vec<Value>, Vec<Store>, u64), Fault> {
    let mut sim = Sim::new(seed);
    let mut stores = Stores::new(sim.clock(), seed, sector_size, 0).after_crash(left);
    let opened = sim.block_on(async {
        let disk = build(&mut stores).await;
        let content = read_all(&disk).await;
        let content =
            content.map_err(|(_, what)| (Clause::C11, format!("after a crash {what}")))?;
        let flushed = disk.sync_cache().await;
        flushed.map_err(|error| {
            (
                Clause::C5,
                format!("after a crash a flush failed: {error:?}"),
            )
        })?;
        Ok(content)
    });
    let content = opened.map_err(|stuck| (Clause::C4, format!("after a crash {stuck}")))??;
    let polls = sim.polls();
    Ok((content, stores.into_ground().stores, polls))
}
