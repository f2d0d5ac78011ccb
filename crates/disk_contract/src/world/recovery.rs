//! What is left after the power was cut, and whether the disk makes of it what it promised.

use super::chronicle::Recoverable;
use super::client::{self, Plan, Shared};
use super::stores::{Store, Stores};
use super::{Report, advance, read_all};
use crate::Clause;
use crate::Violation;
use crate::history::Value;
use crate::ledger::Fault;
use disk_backend::Disk;
use disk_sim::{Crash, EXHAUSTIVE_MAX, Image, Sim, Stuck, images_of};
use fastrand::Rng;

/// How often the power is cut, one time after the other, before anybody could do much.
const CUTS_MAX: u32 = 3;

/// How many images of a later cut are looked at.
const LATER_IMAGES: usize = 3;

/// How many requests are made between two cuts, at most.
const LATER_REQUESTS_MAX: u32 = 12;

/// Draws images of crashes, and builds the disk on them again.
pub(super) struct Recovery<'a> {
    pub(super) stores: &'a [Store],
    pub(super) shared: &'a Shared,
    pub(super) sector_size: u32,
    pub(super) images_per_crash: usize,
    /// How often the power was cut before.
    pub(super) cut_count: u32,
}

impl Recovery<'_> {
    /// Cuts the power at this instant, and recovers from what may be left. The world itself goes on.
    pub(super) fn crash(
        &self,
        build: &impl AsyncFn(&mut Stores) -> Disk,
        rng: &mut Rng,
        report: &mut Report,
    ) -> Result<(), Violation> {
        let recoverable = self.shared.chronicle.borrow().recoverable();
        report.crash_count += 1;
        for left in self.images(rng) {
            report.image_count += 1;
            self.recover(build, left, rng, &recoverable, report)?;
        }
        Ok(())
    }

    /// What the stores hold, in each of the images.
    fn images(&self, rng: &mut Rng) -> Vec<Vec<Image>> {
        let crashes: Vec<Crash> = self.stores.iter().map(Store::crash).collect();
        let request_count: usize = crashes.iter().map(Crash::request_count).sum();
        let limit = match request_count <= EXHAUSTIVE_MAX && self.cut_count == 0 {
            true => 1 << EXHAUSTIVE_MAX,
            false => self.images_per_crash,
        };
        images_of(&crashes, limit, rng.u64(..))
    }

    /// Builds the disk on what is left, and looks at it. Then, now and then, it is used again, and the power cut again; or it is only
    /// opened again: what it recovered to, it keeps.
    fn recover(
        &self,
        build: &impl AsyncFn(&mut Stores) -> Disk,
        left: Vec<Image>,
        rng: &mut Rng,
        recoverable: &Recoverable,
        report: &mut Report,
    ) -> Result<(), Violation> {
        let mut rng = Rng::with_seed(rng.u64(..));
        let opened = open(build, left.clone(), self.sector_size, rng.u64(..));
        let (first, stores, polls) = opened.map_err(|fault| self.violation(fault))?;
        report.poll_count += polls;
        self.check(recoverable, &first)?;
        match rng.u8(0..8) {
            0 if self.cut_count + 1 < CUTS_MAX => self.go_on(build, left, &first, &mut rng, report),
            1 => {
                let left = stores.iter().map(|store| store.crash().sample(&mut rng));
                let opened = open(build, left.collect(), self.sector_size, rng.u64(..));
                let (second, _, polls) = opened.map_err(|fault| self.violation(fault))?;
                report.poll_count += polls;
                self.check_kept(&first, &second)
            }
            _ => Ok(()),
        }
    }

    /// What is there after a crash may be there.
    fn check(&self, recoverable: &Recoverable, content: &[Value]) -> Result<(), Violation> {
        let fault = |fault| self.violation(fault);
        recoverable
            .check_size(content.len() as u64)
            .map_err(fault)?;
        for (sector, value) in (0..).zip(content) {
            let checked = recoverable.check_value(sector, *value);
            checked.map_err(|(clause, what)| {
                let description = self.shared.chronicle.borrow().describe(sector);
                self.violation((clause, what + &description))
            })?;
        }
        Ok(())
    }

    fn check_kept(&self, first: &[Value], second: &[Value]) -> Result<(), Violation> {
        match first == second {
            true => Ok(()),
            false => Err(self.violation((
                Clause::C11,
                format!("the disk held {first:x?} after a crash, and {second:x?} after the next"),
            ))),
        }
    }

    /// Builds the disk on what is left, which recovers to `content`, makes some requests, and cuts the power at any step of these, from the
    /// first on: so also while the disk still recovers.
    fn go_on(
        &self,
        build: &impl AsyncFn(&mut Stores) -> Disk,
        left: Vec<Image>,
        content: &[Value],
        rng: &mut Rng,
        report: &mut Report,
    ) -> Result<(), Violation> {
        // Declared first: tasks borrow it.
        let shared;
        let seed = rng.u64(..);
        let mut sim = Sim::new(seed);
        let mut stores = Stores::new(sim.clock(), seed, self.sector_size, 0).after_crash(left);
        let stuck = |what: Stuck| self.violation((Clause::C4, format!("after a crash {what}")));
        let disk = sim.block_on(build(&mut stores)).map_err(stuck)?;
        let again = sim.block_on(read_all(&disk)).map_err(stuck)?;
        let again = again.map_err(|fault| self.violation(fault))?;
        self.check_kept(content, &again)?;
        let plan = Plan {
            may_fail: false,
            may_refuse: false,
            ..self.shared.plan
        };
        let trace = self.shared.trace.borrow().clone();
        let chronicle = self.shared.chronicle.borrow().after_crash(content);
        let requests = rng.u32(1..=LATER_REQUESTS_MAX);
        shared = Shared::new(disk, chronicle, trace, plan, requests);
        shared
            .trace
            .borrow_mut()
            .step("the power is cut, and comes back".to_owned());
        for _ in 0..rng.u32(1..=4) {
            let seed = rng.u64(..);
            let graveyard = sim.graveyard();
            sim.spawn("a request", client::run(&shared, seed, graveyard));
        }
        let most = 1 << rng.u32(0..=8);
        for _ in 0..rng.u32(0..=most) {
            if !advance(&mut sim, &shared)? {
                break;
            }
        }
        let later = Recovery {
            stores: &stores.into_ground().stores,
            shared: &shared,
            images_per_crash: LATER_IMAGES,
            cut_count: self.cut_count + 1,
            ..*self
        };
        let result = later.crash(build, rng, report);
        report.operation_count += shared.made.get();
        report.poll_count += sim.polls();
        result
    }

    fn violation(&self, fault: Fault) -> Violation {
        // What went wrong before the crash says more.
        let (clause, what) = self
            .shared
            .chronicle
            .borrow()
            .check()
            .err()
            .unwrap_or(fault);
        self.shared.trace.borrow().violation(clause, what)
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
