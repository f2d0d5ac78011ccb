//! Worlds: a disk on simulated storage, used by many at once, whose requests fail, are dropped and forgotten, and whose power is
//! cut again and again.

mod chronicle;
mod client;
mod recovery;
mod request;
mod stores;

pub use stores::Stores;

use crate::history::Value;
use crate::ledger::{Fault, value_of};
use crate::violation::Trace;
use crate::{Clause, Violation};
use chronicle::Chronicle;
use client::{Plan, Shared};
use disk_backend::{Disk, Persistence};
use disk_sim::{Sim, Step, Stuck};
use fastrand::Rng;
use recovery::Recovery;
use scsi_buffers::HostBuffers;
use stores::Ground;

/// A run of one disk: up to 16 clients, whose random requests overlap, fail, are dropped and forgotten; resizes; and crashes at
/// any step, each of whose images must be one from which the disk recovers what C5, C6 and C11 promise. On some of them it is used
/// again, and the power is cut again, while it recovers or soon after.
///
/// A disk that is read-only refuses each change, and does the rest as others do.
///
/// Everything that was seen must be explicable sector by sector (C2, C7, C8, C9, C12), nobody may wait for ever (C4), and with that
/// whoever waits for another size learns of it (C10).
#[derive(Debug, Clone)]
pub struct World {
    seed: u64,
    name: String,
    request_count: u32,
    crash_count: u32,
    images_per_crash: usize,
    seen_is_kept: bool,
    may_refuse: bool,
}

/// What happened in a world without a violation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Requests that were made.
    pub operation_count: u64,
    /// Instants at which the power was cut.
    pub crash_count: u64,
    /// Images that were recovered from.
    pub image_count: u64,
    /// How often something was polled.
    pub poll_count: u64,
}

impl Report {
    /// Adds what happened in another world.
    pub fn add(&mut self, other: Self) {
        self.operation_count += other.operation_count;
        self.crash_count += other.crash_count;
        self.image_count += other.image_count;
        self.poll_count += other.poll_count;
    }
}

impl World {
    /// A world of 200 requests and eight crashes.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            name: "simulated".to_owned(),
            request_count: 200,
            crash_count: 8,
            images_per_crash: 16,
            seen_is_kept: true,
            may_refuse: false,
        }
    }

    /// What the report of a violation calls the disk.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How many requests are made.
    #[must_use]
    pub fn request_count(mut self, request_count: u32) -> Self {
        self.request_count = request_count;
        self
    }

    /// How often the power is cut, about, if the disk says that it is persistent; and once more at the end.
    #[must_use]
    pub fn crash_count(mut self, crash_count: u32) -> Self {
        self.crash_count = crash_count;
        self
    }

    /// How many images are drawn of a crash of more than eight writes, at most. Of fewer all are drawn, and 256 if those may be torn.
    #[must_use]
    pub fn images_per_crash(mut self, images_per_crash: usize) -> Self {
        self.images_per_crash = images_per_crash;
        self
    }

    /// For a disk in which what failed may have happened in a volatile copy alone, because the copy cannot be thrown away (L4): then
    /// it may be seen, and gone after a crash.
    #[must_use]
    pub fn with_copies_that_stay(mut self) -> Self {
        self.seen_is_kept = false;
        self
    }

    /// For a disk that may take no changes after a failed flush, until it is opened anew (C8). Of any other it is demanded that a
    /// flush succeeds when nothing fails any more.
    #[must_use]
    pub fn that_may_refuse_changes(mut self) -> Self {
        self.may_refuse = true;
        self
    }

    /// Runs the world of the disk that `build` makes of the stores that it asks for. It is called for each recovery too, and must ask
    /// for the same each time.
    ///
    /// # Errors
    /// The first [`Violation`]. The same seed finds it again.
    pub fn run(&self, build: impl AsyncFn(&mut Stores) -> Disk) -> Result<Report, Violation> {
        let mut rng = Rng::with_seed(self.seed);
        // Declared first: tasks borrow it.
        let shared;
        let mut sim = Sim::new(rng.u64(..));
        let ground;
        (shared, ground) = self.begin(&build, &mut sim, &mut rng)?;
        for store in &ground.stores {
            store.set_failure_percent(ground.failure_percent);
        }
        for begin in ground.when_it_begins {
            begin();
        }
        for _ in 0..rng.u32(1..=16) {
            let seed = rng.u64(..);
            let graveyard = sim.graveyard();
            sim.spawn("a request", client::run(&shared, seed, graveyard));
        }
        let recovery = Recovery {
            stores: &ground.stores,
            shared: &shared,
            sector_size: shared.disk.sector_size(),
            images_per_crash: self.images_per_crash,
            cut_count: 0,
        };
        let mut report = Report::default();
        let is_persistent = shared.disk.persistence() == Persistence::Persistent;
        let mut power = Power::new(self.request_count, self.crash_count, &mut rng);
        while advance(&mut sim, &shared)? {
            if is_persistent && power.is_cut(shared.made.get(), &mut rng) {
                recovery.crash(&build, &mut rng, &mut report)?;
            }
        }
        for end in ground.when_it_ends {
            end();
        }
        finish(&mut sim, &shared, &ground.stores)?;
        if is_persistent {
            recovery.crash(&build, &mut rng, &mut report)?;
        }
        report.operation_count += shared.made.get();
        report.poll_count += sim.polls();
        Ok(report)
    }

    /// Builds the disk, and draws what may happen to it.
    fn begin(
        &self,
        build: &impl AsyncFn(&mut Stores) -> Disk,
        sim: &mut Sim<'_>,
        rng: &mut Rng,
    ) -> Result<(Shared, Ground), Violation> {
        let trace = Trace::of_world(self.name.clone(), self.seed);
        let sector_size = if rng.u8(0..4) == 0 { 4096 } else { 512 };
        let failure_percent = [0, 0, 1, 10][rng.usize(0..4)];
        let stores_seed = rng.u64(..);
        let content = first_content(build, stores_seed, sector_size);
        let content = content.map_err(|(clause, what)| trace.violation(clause, what))?;
        let mut stores = Stores::new(sim.clock(), stores_seed, sector_size, failure_percent);
        let disk = sim.block_on(build(&mut stores));
        let disk = disk.map_err(|stuck| trace.violation(Clause::C4, stuck.to_string()))?;
        let plan = Plan {
            may_fail: failure_percent > 0,
            may_refuse: failure_percent > 0 && self.may_refuse,
            is_read_only: disk.is_read_only(),
            drops: rng.bool(),
            forgets: rng.u8(0..4) == 0,
            resizes: rng.u8(0..3) == 0,
            request_sectors_max: rng.u64(1..=8),
            sector_count_max: 2 * disk.sector_count().max(1),
        };
        // RAM that was resized cannot throw away what it gained.
        let seen_is_kept = self.seen_is_kept && !plan.resizes;
        let chronicle = Chronicle::new(&content, seen_is_kept, plan.may_fail);
        let shared = Shared::new(disk, chronicle, trace, plan, self.request_count);
        Ok((shared, stores.into_ground()))
    }
}

/// Takes a step of the world; whether there was one left.
fn advance(sim: &mut Sim<'_>, shared: &Shared) -> Result<bool, Violation> {
    let is_done = match sim.step() {
        Ok(step) => matches!(step, Step::Done),
        Err(stuck) => {
            shared.broke(shared.stuck(&stuck));
            true
        }
    };
    match shared.violation.borrow_mut().take() {
        Some(violation) => Err(violation),
        None => Ok(!is_done),
    }
}

/// When the power is cut: now and then, counted in requests, and from there on at any step.
struct Power {
    requests_between: u64,
    next: u64,
    steps_left: Option<u32>,
}

impl Power {
    fn new(request_count: u32, crash_count: u32, rng: &mut Rng) -> Self {
        let requests_between = u64::from(request_count / crash_count.max(1)).max(1);
        Self {
            requests_between,
            next: rng.u64(1..=requests_between),
            steps_left: None,
        }
    }

    /// Whether it is cut at this step, when so many requests were made.
    fn is_cut(&mut self, request_count: u64, rng: &mut Rng) -> bool {
        if self.steps_left.is_none() && request_count >= self.next {
            self.next += rng.u64(1..=2 * self.requests_between);
            self.steps_left = Some(rng.u32(0..20));
        }
        let is_now = self.steps_left == Some(0);
        self.steps_left = self.steps_left.and_then(|steps| steps.checked_sub(1));
        is_now
    }
}

/// When all requests are over, and nothing fails any more: everything is read, and made durable.
fn finish<'a>(
    sim: &mut Sim<'a>,
    shared: &'a Shared,
    stores: &[stores::Store],
) -> Result<(), Violation> {
    for store in stores {
        store.set_failure_percent(0);
    }
    let trace = shared.trace.borrow().clone();
    let stuck = |stuck: Stuck| trace.violation(Clause::C4, stuck.to_string());
    let fault = |(clause, what): Fault| trace.violation(clause, what);
    if sim.graveyard().count() == 0 {
        sim.block_on(shared.disk.drain()).map_err(stuck)?;
    }
    let called = shared.chronicle.borrow_mut().tick();
    let content = sim.block_on(read_all(&shared.disk)).map_err(stuck)?;
    let content = content.map_err(fault);
    let mut chronicle = shared.chronicle.borrow_mut();
    match content {
        Ok(content) => {
            chronicle.tick();
            for (sector, value) in (0..).zip(content) {
                chronicle.saw(called, sector, value);
            }
        }
        Err(violation) => return Err(violation),
    }
    chronicle.check().map_err(fault)?;
    let called = chronicle.tick();
    drop(chronicle);
    // A flush that failed before is made good by a later one (C8).
    let flushed = sim.block_on(shared.disk.sync_cache()).map_err(stuck)?;
    if shared.plan.may_refuse && flushed.is_err() {
        return Ok(());
    }
    let clause = if shared.plan.may_fail {
        Clause::C8
    } else {
        Clause::C5
    };
    flushed.map_err(|error| fault((clause, format!("the last flush failed: {error:?}"))))?;
    shared.chronicle.borrow_mut().flushed(called);
    Ok(())
}

/// What the disk holds in the beginning. Read from another one that is built the same, so that no cache is filled.
fn first_content(
    build: &impl AsyncFn(&mut Stores) -> Disk,
    seed: u64,
    sector_size: u32,
) -> Result<Vec<Value>, Fault> {
    let mut sim = Sim::new(seed);
    let mut stores = Stores::new(sim.clock(), seed, sector_size, 0);
    let content = sim.block_on(async { read_all(&build(&mut stores).await).await });
    content.map_err(|stuck| (Clause::C4, stuck.to_string()))?
}

/// What each sector of a disk holds.
async fn read_all(disk: &Disk) -> Result<Vec<Value>, Fault> {
    let size = disk.sector_size() as usize;
    let mut data = vec![0; disk.sector_count() as usize * size];
    let host = HostBuffers::from_mut(&mut data);
    let read = disk.read_vectored(&host.buffers(), 0).await;
    drop(host);
    read.map_err(|error| {
        (
            Clause::C1,
            format!("the whole disk cannot be read: {error:?}"),
        )
    })?;
    let sectors = (0..).zip(data.chunks_exact(size));
    sectors.map(|(at, bytes)| value_of(bytes, at)).collect()
}
