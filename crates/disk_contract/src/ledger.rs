//! Requests that leave a trace by which everybody can see whose they were, and the list of what each of them did and saw.
//!
//! Every write stamps each of its sectors, from the first byte to the last, with a number of its own, so a reader sees at once
//! whether a sector is whole, and whose it is. Calls and returns are counted by one clock; afterwards the history of each
//! sector must make sense ([`history`]).

use crate::history::{self, Event, Value, ZERO};
use crate::{Clause, DiskSpec};
use disk_backend::{BlockState, BlockStatus, DiskError, DiskIo, UnmapBehavior};
use scsi_buffers::HostBuffers;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// The low bits of a stamp, which hold the sector's number.
const SECTOR_BITS: u32 = 16;

/// When a request ends that is never heard of again.
pub(crate) const NEVER: u64 = u64::MAX;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    WriteZeroes,
    Unmap,
    Status,
    Flush,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] = [
        Self::Read,
        Self::Write,
        Self::WriteZeroes,
        Self::Unmap,
        Self::Status,
        Self::Flush,
    ];

    /// Whether a read-only disk refuses it.
    pub(crate) fn is_change(self) -> bool {
        matches!(self, Self::Write | Self::WriteZeroes | Self::Unmap)
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::WriteZeroes => "write_zeroes",
            Self::Unmap => "unmap",
            Self::Status => "block_status",
            Self::Flush => "sync_cache",
        }
    }
}

/// What went wrong.
pub(crate) type Fault = (Clause, String);

/// A disk of which some sectors are written with stamps, by one or by many.
pub(crate) struct Arena<'a, T> {
    disk: &'a T,
    hot: Range<u64>,
    clock: AtomicU64,
}

/// A request that was called, or is about to be.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) kind: Kind,
    pub(crate) range: Range<u64>,
    stamp: u64,
    called: u64,
}

/// What a request brought back.
#[derive(Debug)]
pub(crate) enum Sight {
    Nothing,
    Bytes(Vec<u8>),
    Status(BlockStatus),
}

/// Gives a disk the content with which the arena begins: every other sector has a stamp, the rest is zero.
pub(crate) fn stamp_content(spec: &mut DiskSpec) {
    let size = spec.sector_size as usize;
    spec.content.fill(0);
    for (sector, bytes) in spec.content.chunks_exact_mut(size).enumerate() {
        fill(bytes, initial_value(sector as u64));
    }
}

impl<'a, T: DiskIo> Arena<'a, T> {
    pub(crate) fn new(disk: &'a T, hot: Range<u64>) -> Self {
        Self {
            disk,
            hot,
            clock: AtomicU64::new(1),
        }
    }

    pub(crate) fn disk(&self) -> &'a T {
        self.disk
    }

    pub(crate) fn hot(&self) -> Range<u64> {
        self.hot.clone()
    }

    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Makes the request. The future owns its memory.
    pub(crate) async fn perform(&self, call: &Call, fua: bool) -> Result<Sight, DiskError> {
        let Range { start, end } = call.range;
        let (disk, count) = (self.disk, end - start);
        match call.kind {
            Kind::Read => {
                let mut data = vec![0xc5; self.len_of(&call.range)];
                let host = HostBuffers::from_mut(&mut data);
                disk.read_vectored(&host.buffers(), start).await?;
                drop(host);
                return Ok(Sight::Bytes(data));
            }
            Kind::Write => {
                let mut data = vec![0; self.len_of(&call.range)];
                let sectors = data.chunks_exact_mut(disk.sector_size() as usize);
                for (sector, bytes) in call.range.clone().zip(sectors) {
                    fill(bytes, value(call.stamp, sector));
                }
                let host = HostBuffers::from_ref(&data);
                disk.write_vectored(&host.buffers(), start, fua).await?;
            }
            Kind::WriteZeroes => {
                let may_unmap = call.stamp.is_multiple_of(2);
                disk.write_zeroes(start, count, fua, may_unmap, false)
                    .await?;
            }
            Kind::Unmap => disk.unmap(start, count, false).await?,
            Kind::Status => return disk.block_status(start, count).await.map(Sight::Status),
            Kind::Flush => disk.sync_cache().await?,
        }
        Ok(Sight::Nothing)
    }

    fn len_of(&self, range: &Range<u64>) -> usize {
        (range.end - range.start) as usize * self.disk.sector_size() as usize
    }

    /// Whether all that was seen can have happened one thing after another, sector by sector.
    pub(crate) fn check(&self, log: &[(u64, Event)]) -> Result<(), Fault> {
        for sector in self.hot() {
            let initial = Event::write(initial_value(sector), 0, 0);
            let of_sector = log.iter().filter(|(at, _)| *at == sector);
            let history: Vec<_> = std::iter::once(initial)
                .chain(of_sector.map(|(_, event)| *event))
                .collect();
            history::check(&history).map_err(|what| {
                let is_late = history::check(&history::if_given_up_were_not_over(&history)).is_ok();
                let clause = if is_late { Clause::C9 } else { Clause::C2 };
                (clause, format!("sector {sector}: {what}"))
            })?;
        }
        Ok(())
    }
}

/// The list of one thread's requests.
pub(crate) struct Ledger<'a, T> {
    arena: &'a Arena<'a, T>,
    /// Stamps are unique: each ledger counts in its own residue class.
    next_stamp: u64,
    stride: u64,
    log: Vec<(u64, Event)>,
}

impl<'a, T: DiskIo> Ledger<'a, T> {
    /// The ledger `index` of `count`.
    pub(crate) fn new(arena: &'a Arena<'a, T>, index: u64, count: u64) -> Self {
        Self {
            arena,
            next_stamp: 2 + index,
            stride: count,
            log: Vec::new(),
        }
    }

    pub(crate) fn into_log(self) -> Vec<(u64, Event)> {
        self.log
    }

    pub(crate) fn log(&self) -> &[(u64, Event)] {
        &self.log
    }

    pub(crate) fn call(&mut self, kind: Kind, range: Range<u64>) -> Call {
        let stamp = self.next_stamp;
        self.next_stamp += self.stride;
        Call {
            kind,
            range,
            stamp,
            called: self.arena.now(),
        }
    }

    /// A request returned this.
    pub(crate) fn returned(
        &mut self,
        call: &Call,
        result: Result<Sight, DiskError>,
    ) -> Result<(), Fault> {
        let returned = self.arena.now();
        let title = call.kind.title();
        let sight = result.map_err(|error| match call.kind {
            Kind::Flush => (Clause::C5, format!("the flush failed: {error:?}")),
            _ => (Clause::C1, format!("a legal {title} failed: {error:?}")),
        })?;
        match sight {
            Sight::Bytes(bytes) => self.saw_bytes(call, &bytes, returned),
            Sight::Status(status) => {
                self.saw_status(call, &status, returned);
                Ok(())
            }
            Sight::Nothing => {
                for (sector, value) in self.changes(call) {
                    let event = Event::write(value, call.called, returned);
                    self.log.push((sector, event));
                }
                Ok(())
            }
        }
    }

    /// A request failed, or its future was dropped, now: it happened until now, or never.
    pub(crate) fn gave_up(&mut self, call: &Call) {
        let now = self.arena.now();
        self.may_have_happened(call, now);
    }

    /// A request that is never heard of again may happen at any time.
    pub(crate) fn forgot(&mut self, call: &Call) {
        self.may_have_happened(call, NEVER);
    }

    fn may_have_happened(&mut self, call: &Call, returned: u64) {
        for (sector, value) in self.changes(call) {
            let event = Event::write(value, call.called, returned);
            self.log.push((sector, event.if_it_happened()));
        }
    }

    /// What a request writes to which sector.
    fn changes(&self, call: &Call) -> Vec<(u64, Value)> {
        let stamp = match call.kind {
            Kind::Write => Some(call.stamp),
            Kind::WriteZeroes => None,
            Kind::Unmap if self.arena.disk.unmap_behavior() == UnmapBehavior::Zeroes => None,
            _ => return Vec::new(),
        };
        let sectors = call.range.clone();
        let change = |sector| (sector, stamp.map_or(ZERO, |stamp| value(stamp, sector)));
        sectors.map(change).collect()
    }

    fn saw_bytes(&mut self, call: &Call, bytes: &[u8], returned: u64) -> Result<(), Fault> {
        let size = self.arena.disk.sector_size() as usize;
        for (sector, bytes) in call.range.clone().zip(bytes.chunks_exact(size)) {
            let value = value_of(bytes, sector)?;
            self.log
                .push((sector, Event::read(value, call.called, returned)));
        }
        Ok(())
    }

    /// What is said to be zero was so at an instant (C12).
    fn saw_status(&mut self, call: &Call, status: &BlockStatus, returned: u64) {
        let mut at = call.range.start;
        for extent in status.extents() {
            let sectors = at..at + extent.sector_count;
            at = sectors.end;
            if extent.state != BlockState::Data {
                let event = Event::read(ZERO, call.called, returned);
                self.log.extend(sectors.map(|sector| (sector, event)));
            }
        }
    }
}

fn initial_value(sector: u64) -> Value {
    match sector % 2 {
        0 => value(1, sector),
        _ => ZERO,
    }
}

/// What a sector holds after the write with this stamp.
pub(crate) fn value(stamp: u64, sector: u64) -> Value {
    stamp << SECTOR_BITS | sector & ((1 << SECTOR_BITS) - 1)
}

pub(crate) fn fill(bytes: &mut [u8], value: Value) {
    for word in bytes.as_chunks_mut::<8>().0 {
        *word = value.to_le_bytes();
    }
}

/// The value that a sector holds, if it is whole and in its place.
pub(crate) fn value_of(bytes: &[u8], sector: u64) -> Result<Value, Fault> {
    let words = bytes.as_chunks::<8>().0;
    let first = words[0];
    if let Some(at) = words.iter().position(|word| *word != first) {
        let what = format!(
            "sector {sector} is torn: {:#x} at its beginning, {:#x} at byte {}",
            Value::from_le_bytes(first),
            Value::from_le_bytes(words[at]),
            at * 8
        );
        return Err((Clause::C2, what));
    }
    let found = Value::from_le_bytes(first);
    match found == ZERO || found == value(found >> SECTOR_BITS, sector) {
        true => Ok(found),
        false => Err((
            Clause::C2,
            format!("sector {sector} holds {found:#x}, which was written to another sector"),
        )),
    }
}
