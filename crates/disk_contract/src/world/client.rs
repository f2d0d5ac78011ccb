//! Those who use the disk of a world: each makes one request after another, at random.

use super::chronicle::{Chronicle, End};
use super::request::{Asked, Request};
use crate::ledger::{Fault, Kind, value_of};
use crate::violation::Trace;
use crate::{Clause, Violation};
use disk_backend::{BlockState, BlockStatus, Disk, DiskError};
use disk_sim::{Ending, Fate, Fated, Graveyard, Stuck};
use fastrand::Rng;
use futures_lite::future::poll_once;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::pin;

/// What the clients of a world share.
pub(super) struct Shared {
    pub(super) disk: Disk,
    pub(super) chronicle: RefCell<Chronicle>,
    pub(super) trace: RefCell<Trace>,
    pub(super) violation: RefCell<Option<Violation>>,
    pub(super) plan: Plan,
    /// How many requests may still be made.
    pub(super) left: Cell<u32>,
    pub(super) made: Cell<u64>,
    /// The requests under way, and those that were forgotten.
    open: RefCell<BTreeMap<u64, String>>,
    /// A size changes at one place at a time; otherwise nobody could say what it should be.
    is_resizing: Cell<bool>,
}

/// What may happen in a world.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) may_fail: bool,
    pub(super) drops: bool,
    pub(super) forgets: bool,
    pub(super) resizes: bool,
    /// No request is longer, in sectors.
    pub(super) request_sectors_max: u64,
    /// No disk becomes longer, in sectors.
    pub(super) sector_count_max: u64,
}

impl Shared {
    pub(super) fn new(
        disk: Disk,
        chronicle: Chronicle,
        trace: Trace,
        plan: Plan,
        requests: u32,
    ) -> Self {
        Self {
            disk,
            chronicle: RefCell::new(chronicle),
            trace: RefCell::new(trace),
            violation: RefCell::new(None),
            plan,
            left: Cell::new(requests),
            made: Cell::new(0),
            open: RefCell::default(),
            is_resizing: Cell::new(false),
        }
    }

    /// What waits for ever.
    pub(super) fn stuck(&self, stuck: &Stuck) -> Fault {
        let mut what = stuck.to_string();
        for request in self.open.borrow().values() {
            what += "\n    ";
            what += request;
        }
        (Clause::C4, what)
    }

    pub(super) fn broke(&self, (clause, what): Fault) {
        let violation = self.trace.borrow().violation(clause, what);
        self.violation.borrow_mut().get_or_insert(violation);
    }

    /// A request is made; its number.
    fn step(&self, request: String) -> u64 {
        let number = self.made.get() + 1;
        self.made.set(number);
        let step = format!("step {number}: {request}");
        self.open.borrow_mut().insert(number, step);
        self.trace.borrow_mut().step(request);
        number
    }

    /// A request is over.
    fn over(&self, number: u64) {
        self.open.borrow_mut().remove(&number);
    }
}

/// Makes requests until there are enough.
pub(super) async fn run<'a>(shared: &'a Shared, seed: u64, graveyard: Graveyard<'a>) {
    let mut rng = Rng::with_seed(seed);
    while shared.left.get() > 0 && shared.violation.borrow().is_none() {
        shared.left.set(shared.left.get() - 1);
        let result = match rng.u8(0..100) {
            0..2 => illegal(shared, &mut rng).await,
            2..4 if shared.plan.resizes && !shared.is_resizing.get() => {
                resize(shared, &mut rng).await
            }
            4 if !shared.plan.forgets => {
                let number = shared.step("drain".to_owned());
                shared.disk.drain().await;
                shared.over(number);
                Ok(())
            }
            _ => one(shared, &mut rng, &graveyard).await,
        };
        if let Err(fault) = result {
            shared.broke(fault);
        }
    }
}

fn fate(shared: &Shared, rng: &mut Rng) -> Fate {
    match rng.u8(0..100) {
        0..10 if shared.plan.drops => Fate::DroppedAfter(rng.u32(0..6)),
        10..12 if shared.plan.forgets => Fate::ForgottenAfter(rng.u32(0..6)),
        _ => Fate::Completes,
    }
}

/// Makes a legal request, and writes down what came of it.
async fn one<'a>(
    shared: &'a Shared,
    rng: &mut Rng,
    graveyard: &Graveyard<'a>,
) -> Result<(), Fault> {
    let size = shared.disk.sector_count();
    if size == 0 {
        return Ok(());
    }
    let fate = fate(shared, rng);
    let count = rng.u64(1..=shared.plan.request_sectors_max.min(size));
    let sector = rng.u64(0..=size - count);
    let asked = Asked::random(rng, sector..sector + count);
    let request = Request::new(
        &asked,
        shared.disk.sector_size(),
        &mut shared.chronicle.borrow_mut(),
    );
    let number = shared.step(format!("{asked}, {fate:?}"));
    let ticket = request.call(&shared.disk, &mut shared.chronicle.borrow_mut());
    let called = ticket.called;
    let (kind, range) = (asked.kind, asked.range.clone());
    let is_vague = request.is_vague(&shared.disk);
    let ending = Fated::new(request.perform(&shared.disk), fate, graveyard).await;
    let mut chronicle = shared.chronicle.borrow_mut();
    if ending.is_over() {
        shared.over(number);
    }
    let result = match ending {
        Ending::Completed(result) => result,
        Ending::Dropped => {
            chronicle.end(&ticket, End::Dropped);
            return Ok(());
        }
        Ending::Forgotten => return Ok(()),
    };
    match result {
        Ok(seen) => {
            let end = match is_vague {
                true => End::CompletedWithEither,
                false => End::Completed,
            };
            chronicle.end(&ticket, end);
            match kind {
                Kind::Read => {
                    let size = shared.disk.sector_size() as usize;
                    for (sector, bytes) in range.zip(seen.bytes.chunks_exact(size)) {
                        let value = value_of(bytes, sector)?;
                        chronicle.saw(called, sector, value);
                    }
                }
                Kind::Status => saw_status(&mut chronicle, called, range.start, &seen.status),
                Kind::Flush => chronicle.flushed(called),
                Kind::Write | Kind::WriteZeroes | Kind::Unmap => {}
            }
            Ok(())
        }
        Err(error) => {
            let is_expected = shared.plan.may_fail
                || matches!(error, DiskError::IllegalBlock) && chronicle.was_resized_since(called);
            chronicle.end(&ticket, End::Failed);
            match is_expected {
                true => Ok(()),
                false => Err((clause_of(kind), format!("{asked} failed: {error:?}"))),
            }
        }
    }
}

fn clause_of(kind: Kind) -> Clause {
    match kind {
        Kind::Flush => Clause::C5,
        _ => Clause::C1,
    }
}

/// What is said to be zero was so at an instant (C12).
fn saw_status(chronicle: &mut Chronicle, called: u64, from: u64, status: &BlockStatus) {
    let mut at = from;
    for extent in status.extents() {
        let sectors = at..at + extent.sector_count;
        at = sectors.end;
        if extent.state != BlockState::Data {
            for sector in sectors {
                chronicle.saw(called, sector, crate::history::ZERO);
            }
        }
    }
}

/// Makes a request that lies beyond the end, some of them so far that a sum would overflow (C1).
async fn illegal(shared: &Shared, rng: &mut Rng) -> Result<(), Fault> {
    let size = shared.plan.sector_count_max;
    let sector = match rng.u8(0..3) {
        0 => size + rng.u64(1..1000),
        1 => u64::MAX - rng.u64(0..3),
        _ => 1 << rng.u32(32..64),
    };
    let count = match rng.u8(0..3) {
        0 => 0,
        1 => u64::MAX - sector.min(u64::MAX - 1) + rng.u64(0..4),
        _ => 1,
    };
    let number = shared.step(format!(
        "illegal request of {count} sectors from {sector} on"
    ));
    let disk = &shared.disk;
    let result = match rng.u8(0..4) {
        0 => disk.write_zeroes(sector, count, false, true, false).await,
        1 => disk.unmap(sector, count, false).await,
        2 => disk.block_status(sector, count).await.map(drop),
        _ => {
            let mut data = vec![0; disk.sector_size() as usize];
            let host = scsi_buffers::HostBuffers::from_mut(&mut data);
            disk.read_vectored(&host.buffers(), sector).await
        }
    };
    shared.over(number);
    match result {
        Err(DiskError::IllegalBlock) => Ok(()),
        other => Err((
            Clause::C1,
            format!(
                "{count} sectors from {sector} on are beyond the end, and the answer was {other:?}"
            ),
        )),
    }
}

/// Changes the size; whoever waits for that learns of it (C10).
async fn resize(shared: &Shared, rng: &mut Rng) -> Result<(), Fault> {
    shared.is_resizing.set(true);
    let disk = &shared.disk;
    let old = disk.sector_count();
    let new = rng.u64(1..=shared.plan.sector_count_max);
    let number = shared.step(format!("resize from {old} to {new} sectors"));
    let ticket = shared.chronicle.borrow_mut().call_resize(old, new);
    let mut waits = pin!(disk.wait_resize(old));
    let mut heard = poll_once(&mut waits).await;
    let result = disk.resize(new).await;
    let now = disk.sector_count();
    let is_done = result.is_ok();
    shared.chronicle.borrow_mut().end(
        &ticket,
        match is_done {
            true => End::Completed,
            false => End::Failed,
        },
    );
    match result {
        Ok(()) if now != new => {
            return Err((
                Clause::C10,
                format!("a resize to {new} sectors made it {now}"),
            ));
        }
        Ok(()) if old != new => {
            let heard = match heard.take() {
                Some(heard) => heard,
                None => waits.await,
            };
            if heard != new {
                return Err((
                    Clause::C10,
                    format!("who waited heard of {heard} sectors, not of {new}"),
                ));
            }
        }
        Ok(()) | Err(DiskError::Unsupported | DiskError::ReadOnly) => {}
        Err(_) if shared.plan.may_fail => {}
        Err(error) => {
            return Err((
                Clause::C10,
                format!("a resize to {new} sectors failed: {error:?}"),
            ));
        }
    }
    shared.is_resizing.set(false);
    shared.over(number);
    Ok(())
}
