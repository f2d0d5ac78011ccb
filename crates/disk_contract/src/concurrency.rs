//! Several threads on the same few sectors (C2).
//!
//! Every write stamps each of its sectors, from the first byte to the last, with a number of its own, so a reader sees at once
//! whether a sector is whole, and whose it is. Calls and returns are counted by one clock; afterwards the history of each
//! sector must make sense.

use crate::history::{self, Event, Value, ZERO};
use crate::subject::{Checked, Subject};
use crate::{Clause, DiskSpec};
use disk_backend::{BlockState, DiskError, DiskIo, UnmapBehavior};
use fastrand::Rng;
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// The sectors that all threads work on.
const HOT_SECTORS_MAX: u64 = 8;

const THREADS: u64 = 4;

/// The requests of each thread; fewer where sectors are large.
const REQUESTS: u32 = 400;
const REQUESTS_OF_LARGE_SECTORS: u32 = 80;
const LARGE_SECTOR_BYTES: u32 = 16 << 10;

/// The low bits of a stamp, which hold the sector's number.
const SECTOR_BITS: u32 = 16;

/// Gives a disk the content from which [`check`] starts: every other hot sector has a stamp, the rest is zero.
pub(crate) fn stamp_content(spec: &mut DiskSpec) {
    let size = spec.sector_size as usize;
    spec.content.fill(0);
    for (sector, bytes) in spec.content.chunks_exact_mut(size).enumerate() {
        let initial = initial_value(sector as u64);
        if initial != ZERO {
            fill(bytes, initial);
        }
    }
}

/// Hammers a disk that holds what [`stamp_content`] says.
pub(crate) fn check<T: DiskIo>(subject: &mut Subject<'_, T>) -> Checked {
    let sector_count = subject.sector_count();
    let hot_count = sector_count.min(HOT_SECTORS_MAX);
    let start = match subject.rng().u8(0..3) {
        0 => 0,
        1 => sector_count - hot_count,
        _ => (sector_count - hot_count) / 2,
    };
    let arena = Arena {
        disk: subject.disk(),
        hot: start..start + hot_count,
        clock: AtomicU64::new(1),
    };
    let seeds: Vec<u64> = (0..THREADS).map(|_| subject.rng().u64(..)).collect();
    let logs = std::thread::scope(|scope| {
        let spawn = |(thread, seed): (usize, u64)| {
            let arena = &arena;
            scope.spawn(move || block_on(Worker::new(arena, thread as u64, seed).run()))
        };
        let workers: Vec<_> = seeds.into_iter().enumerate().map(spawn).collect();
        let logs = workers.into_iter().map(|worker| match worker.join() {
            Ok(log) => log,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        logs.collect::<Result<Vec<_>, Fault>>()
    });
    let events = logs
        .map_err(|(clause, what)| subject.violation(clause, what))?
        .concat();
    for sector in arena.hot.clone() {
        let initial = Event {
            is_write: true,
            value: initial_value(sector),
            called: 0,
            returned: 0,
        };
        let of_sector = events.iter().filter(|(at, _)| *at == sector);
        let history: Vec<_> = std::iter::once(initial)
            .chain(of_sector.map(|(_, event)| *event))
            .collect();
        history::check(&history).map_err(|what| {
            subject.violation(
                Clause::C2,
                format!("sector {sector}, seen by threads: {what}"),
            )
        })?;
    }
    Ok(())
}

/// What went wrong in a thread.
type Fault = (Clause, String);

/// What the threads share.
struct Arena<'a, T> {
    disk: &'a T,
    hot: Range<u64>,
    clock: AtomicU64,
}

impl<T> Arena<'_, T> {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }
}

/// One thread.
struct Worker<'a, T> {
    arena: &'a Arena<'a, T>,
    rng: Rng,
    /// Stamps are unique: each thread counts in its own residue class.
    next_stamp: u64,
    log: Vec<(u64, Event)>,
}

impl<'a, T: DiskIo> Worker<'a, T> {
    fn new(arena: &'a Arena<'a, T>, thread: u64, seed: u64) -> Self {
        Self {
            arena,
            rng: Rng::with_seed(seed),
            next_stamp: THREADS + thread,
            log: Vec::new(),
        }
    }

    async fn run(mut self) -> Result<Vec<(u64, Event)>, Fault> {
        let is_large = self.arena.disk.sector_size() >= LARGE_SECTOR_BYTES;
        let requests = if is_large {
            REQUESTS_OF_LARGE_SECTORS
        } else {
            REQUESTS
        };
        for _ in 0..requests {
            let range = self.range();
            match self.rng.u8(0..20) {
                0..8 => self.write(range).await?,
                8..16 => self.read(range).await?,
                16 => self.write_zeroes(range).await?,
                17 => self.unmap(range).await?,
                18 => self.status(range).await?,
                _ => self.flush().await?,
            }
        }
        Ok(self.log)
    }

    fn range(&mut self) -> Range<u64> {
        let hot = self.arena.hot.clone();
        let start = self.rng.u64(hot.clone());
        start..self.rng.u64(start + 1..=hot.end)
    }

    async fn write(&mut self, range: Range<u64>) -> Result<(), Fault> {
        let size = self.arena.disk.sector_size() as usize;
        let stamp = self.next_stamp;
        self.next_stamp += THREADS;
        let mut data = vec![0; (range.end - range.start) as usize * size];
        for (sector, bytes) in range.clone().zip(data.chunks_exact_mut(size)) {
            fill(bytes, value(stamp, sector));
        }
        let called = self.arena.now();
        let buffers = HostBuffers::from_ref(&data);
        let fua = self.rng.u8(0..8) == 0;
        let buffers = buffers.buffers();
        let result = self.arena.disk.write_vectored(&buffers, range.start, fua);
        accepted("write", result.await)?;
        self.record_change(range, called, |sector| value(stamp, sector));
        Ok(())
    }

    async fn read(&mut self, range: Range<u64>) -> Result<(), Fault> {
        let size = self.arena.disk.sector_size() as usize;
        let mut data = vec![0xc5; (range.end - range.start) as usize * size];
        let called = self.arena.now();
        let result = {
            let buffers = HostBuffers::from_mut(&mut data);
            self.arena
                .disk
                .read_vectored(&buffers.buffers(), range.start)
                .await
        };
        accepted("read", result)?;
        let returned = self.arena.now();
        for (sector, bytes) in range.zip(data.chunks_exact(size)) {
            let value = value_of(bytes, sector)?;
            self.record_sight(sector, value, called, returned);
        }
        Ok(())
    }

    async fn write_zeroes(&mut self, range: Range<u64>) -> Result<(), Fault> {
        let called = self.arena.now();
        let may_unmap = self.rng.bool();
        let count = range.end - range.start;
        let result = self
            .arena
            .disk
            .write_zeroes(range.start, count, false, may_unmap, false);
        accepted("write_zeroes", result.await)?;
        self.record_change(range, called, |_| ZERO);
        Ok(())
    }

    async fn unmap(&mut self, range: Range<u64>) -> Result<(), Fault> {
        let behavior = self.arena.disk.unmap_behavior();
        if behavior == UnmapBehavior::Unspecified {
            // Nobody can say what it did.
            return Ok(());
        }
        let called = self.arena.now();
        let result = self
            .arena
            .disk
            .unmap(range.start, range.end - range.start, false);
        accepted("unmap", result.await)?;
        if behavior == UnmapBehavior::Zeroes {
            self.record_change(range, called, |_| ZERO);
        }
        Ok(())
    }

    /// What is said to be zero was so at an instant (C12).
    async fn status(&mut self, range: Range<u64>) -> Result<(), Fault> {
        let called = self.arena.now();
        let result = self
            .arena
            .disk
            .block_status(range.start, range.end - range.start);
        let status = accepted("block_status", result.await)?;
        let returned = self.arena.now();
        let mut at = range.start;
        for extent in status.extents() {
            let sectors = at..at + extent.sector_count;
            at = sectors.end;
            if extent.state != BlockState::Data {
                for sector in sectors {
                    self.record_sight(sector, ZERO, called, returned);
                }
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Fault> {
        let result = self.arena.disk.sync_cache().await;
        result.map_err(|error| (Clause::C5, format!("the flush failed: {error:?}")))
    }

    /// A change that was called then and returned now.
    fn record_change(&mut self, range: Range<u64>, called: u64, value: impl Fn(u64) -> Value) {
        let returned = self.arena.now();
        self.log.extend(range.map(|sector| {
            let event = Event {
                is_write: true,
                value: value(sector),
                called,
                returned,
            };
            (sector, event)
        }));
    }

    /// Something that was seen in a sector.
    fn record_sight(&mut self, sector: u64, value: Value, called: u64, returned: u64) {
        let event = Event {
            is_write: false,
            value,
            called,
            returned,
        };
        self.log.push((sector, event));
    }
}

fn accepted<R>(request: &str, result: Result<R, DiskError>) -> Result<R, Fault> {
    result.map_err(|error| (Clause::C1, format!("a legal {request} failed: {error:?}")))
}

fn initial_value(sector: u64) -> Value {
    match sector % 2 {
        0 => value(1, sector),
        _ => ZERO,
    }
}

/// What a sector holds after the write with this stamp.
fn value(stamp: u64, sector: u64) -> Value {
    stamp << SECTOR_BITS | sector & ((1 << SECTOR_BITS) - 1)
}

fn fill(bytes: &mut [u8], value: Value) {
    for word in bytes.as_chunks_mut::<8>().0 {
        *word = value.to_le_bytes();
    }
}

/// The value that a sector holds, if it is whole and in its place.
fn value_of(bytes: &[u8], sector: u64) -> Result<Value, Fault> {
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
