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
use scsi_buffers::HostBuffers;
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
    /// A size changes at one place at a time; otherwise nobody could say what it should be. What is forgotten changes it for ever.
    is_resizing: Cell<bool>,
}

/// What may happen in a world.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) may_fail: bool,
    /// Whether changes may be refused after a failed flush.
    pub(super) may_refuse: bool,
    pub(super) is_read_only: bool,
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
                resize(shared, &mut rng, &graveyard).await
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
        0..10 if shared.plan.drops => Fate::DroppedAfter(polls(rng)),
        10..12 if shared.plan.forgets => Fate::ForgottenAfter(polls(rng)),
        _ => Fate::Completes,
    }
}

/// Resizes are rare, and so meet an end of their own more often.
fn fate_of_resize(shared: &Shared, rng: &mut Rng) -> Fate {
    match rng.u8(0..100) {
        0..40 if shared.plan.drops => Fate::DroppedAfter(polls(rng)),
        40..50 if shared.plan.forgets => Fate::ForgottenAfter(polls(rng)),
        _ => Fate::Completes,
    }
}

/// After how many polls: mostly few, since most requests need few.
fn polls(rng: &mut Rng) -> u32 {
    let most = 1 << rng.u32(0..=6);
    rng.u32(0..=most)
}

impl Plan {
    /// Whether a request may have failed so.
    fn allows(&self, kind: Kind, error: &DiskError) -> bool {
        match error {
            DiskError::Io(_) | DiskError::MediumError(..) | DiskError::NoSpace => self.may_fail,
            DiskError::ReadOnly => kind.is_change() && (self.may_refuse || self.is_read_only),
            _ => false,
        }
    }

    /// Whether such a request cannot be done.
    fn refuses(&self, kind: Kind) -> bool {
        self.is_read_only && kind.is_change()
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
        Ok(_) if shared.plan.refuses(kind) => {
            Err((Clause::C1, format!("{asked} was done, to a read-only disk")))
        }
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
            let is_expected = shared.plan.allows(kind, &error)
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
    let kinds = [
        Kind::Read,
        Kind::Write,
        Kind::WriteZeroes,
        Kind::Unmap,
        Kind::Status,
    ];
    let kind = kinds[rng.usize(0..kinds.len())];
    let count = match (kind, rng.u8(0..3)) {
        // These bring memory along.
        (Kind::Read | Kind::Write, _) => 1,
        (_, 0) => 0,
        (_, 1) => u64::MAX - sector.min(u64::MAX - 1) + rng.u64(0..4),
        _ => 1,
    };
    let request = format!("{} of {count} sectors from {sector} on", kind.title());
    let number = shared.step(format!("illegal {request}"));
    let result = beyond_the_end(&shared.disk, kind, sector, count).await;
    shared.over(number);
    match result {
        // This comes first (C1).
        Err(DiskError::ReadOnly) if shared.plan.refuses(kind) => Ok(()),
        Err(DiskError::IllegalBlock) if !shared.plan.refuses(kind) => Ok(()),
        other => {
            let what = format!("{request} is beyond the end, and the answer was {other:?}");
            Err((Clause::C1, what))
        }
    }
}

async fn beyond_the_end(disk: &Disk, kind: Kind, sector: u64, count: u64) -> Result<(), DiskError> {
    let mut data = vec![0; disk.sector_size() as usize];
    match kind {
        Kind::Read => {
            let host = HostBuffers::from_mut(&mut data);
            disk.read_vectored(&host.buffers(), sector).await
        }
        Kind::Write => {
            let host = HostBuffers::from_ref(&data);
            disk.write_vectored(&host.buffers(), sector, false).await
        }
        Kind::WriteZeroes => disk.write_zeroes(sector, count, false, true, false).await,
        Kind::Unmap => disk.unmap(sector, count, false).await,
        Kind::Status => disk.block_status(sector, count).await.map(drop),
        Kind::Flush => disk.sync_cache().await,
    }
}

/// Changes the size, or begins to; whoever waits for that learns of it (C10).
async fn resize<'a>(
    shared: &'a Shared,
    rng: &mut Rng,
    graveyard: &Graveyard<'a>,
) -> Result<(), Fault> {
    shared.is_resizing.set(true);
    let disk = &shared.disk;
    let old = disk.sector_count();
    let new = rng.u64(1..=shared.plan.sector_count_max);
    let fate = fate_of_resize(shared, rng);
    let number = shared.step(format!("resize from {old} to {new} sectors, {fate:?}"));
    let ticket = shared.chronicle.borrow_mut().call_resize(old, new);
    let mut waits = pin!(disk.wait_resize(old));
    let heard = poll_once(&mut waits).await;
    let end = match Fated::new(disk.resize(new), fate, graveyard).await {
        Ending::Completed(result) => check_resize(shared, new, result)?,
        // What may go on for ever may change the size at any time.
        Ending::Forgotten => return Ok(()),
        Ending::Dropped if shared.plan.forgets => {
            shared.over(number);
            return Ok(());
        }
        Ending::Dropped => {
            disk.drain().await;
            End::Dropped
        }
    };
    shared.chronicle.borrow_mut().end(&ticket, end);
    let now = disk.sector_count();
    if now != old {
        let heard = match heard {
            Some(heard) => heard,
            None => waits.await,
        };
        if heard != now {
            let what = format!("who waited heard of {heard} sectors, not of {now}");
            return Err((Clause::C10, what));
        }
    }
    shared.is_resizing.set(false);
    shared.over(number);
    Ok(())
}

/// How a resize ended that came to its end.
fn check_resize(shared: &Shared, new: u64, result: Result<(), DiskError>) -> Result<End, Fault> {
    let now = shared.disk.sector_count();
    match result {
        Ok(()) if now == new => Ok(End::Completed),
        Ok(()) => Err((
            Clause::C10,
            format!("a resize to {new} sectors made it {now}"),
        )),
        Err(DiskError::Unsupported | DiskError::ReadOnly) => Ok(End::Failed),
        Err(error) if shared.plan.allows(Kind::Write, &error) => Ok(End::Failed),
        Err(error) => Err((
            Clause::C10,
            format!("a resize to {new} sectors failed: {error:?}"),
        )),
    }
}
