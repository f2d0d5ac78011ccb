//! A disk, and the model that it is held against: every request is made of both, and every answer compared.

use crate::alone::poll_times;
use crate::illegal::{Bounds, Illegal, MemoryFault, Refusal};
use crate::ledger::Kind;
use crate::model::{Difference, Model};
use crate::request_memory::{Description, MemoryBank, RequestMemory};
use crate::violation::{Trace, Violation};
use crate::{Clause, DiskSpec};
use disk_backend::{BlockState, BlockStatus, DiskError, DiskIo, UnmapBehavior};
use fastrand::Rng;
use std::ops::Range;
use std::pin::pin;

pub(crate) type Checked<T = ()> = Result<T, Violation>;

/// Disks up to this size are compared as a whole after each request that had to be refused.
const SMALL_DISK_BYTES: u64 = 8 << 10;

/// A disk under test.
pub(crate) struct Subject<'a, T> {
    disk: &'a T,
    model: Model,
    rng: Rng,
    bank: MemoryBank,
    trace: Trace,
    sector_size: u32,
    is_read_only: bool,
    unmap_behavior: UnmapBehavior,
}

impl<'a, T: DiskIo> Subject<'a, T> {
    /// A disk that was made for `spec`, in the run of `seed`; `what` says what it is, if that is not plain.
    pub(crate) fn new(
        disk: &'a T,
        spec: DiskSpec,
        what: String,
        case: &'static str,
        seed: u64,
    ) -> Self {
        let read_only = if spec.is_read_only { "read-only, " } else { "" };
        let gap = if what.is_empty() { "" } else { " " };
        let title = format!(
            "{}{gap}{what}, {read_only}{} sectors of {} bytes",
            disk.disk_type(),
            spec.sector_count,
            spec.sector_size
        );
        Self {
            disk,
            rng: Rng::with_seed(spec.seed),
            bank: MemoryBank::new(),
            trace: Trace::new(title, case, seed),
            sector_size: spec.sector_size,
            is_read_only: spec.is_read_only,
            unmap_behavior: disk.unmap_behavior(),
            model: Model::new(spec.sector_size, spec.content),
        }
    }

    pub(crate) fn disk(&self) -> &'a T {
        self.disk
    }

    pub(crate) fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    pub(crate) fn sector_count(&self) -> u64 {
        self.model.sector_count()
    }

    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            sector_count: self.sector_count(),
            sector_size: self.sector_size,
            is_read_only: self.is_read_only,
        }
    }

    pub(crate) fn violation(&self, clause: Clause, what: impl Into<String>) -> Violation {
        self.trace.violation(clause, what)
    }

    /// The disk is what was asked for, and holds what it was to hold.
    pub(crate) async fn verify_initial(&mut self) -> Checked {
        self.verify_metadata()?;
        self.compare_all().await?;
        self.model.set_initial_verified();
        self.status(0..self.sector_count()).await
    }

    fn verify_metadata(&mut self) -> Checked {
        self.trace.step("look at the metadata".into());
        let facts = [
            (
                "sector_count",
                self.disk.sector_count(),
                self.sector_count(),
            ),
            (
                "sector_size",
                self.disk.sector_size().into(),
                self.sector_size.into(),
            ),
            (
                "is_read_only",
                self.disk.is_read_only().into(),
                self.is_read_only.into(),
            ),
        ];
        for (name, found, asked) in facts {
            if found != asked {
                let what = format!("{name} is {found}, but {asked} was asked of the factory");
                return Err(self.violation(Clause::C1, what));
            }
        }
        Ok(())
    }

    /// Reads the whole disk and compares every byte.
    pub(crate) async fn compare_all(&mut self) -> Checked {
        self.read(0..self.sector_count()).await
    }

    pub(crate) async fn read(&mut self, range: Range<u64>) -> Checked {
        self.trace.step(format!("read sectors {range:?}"));
        let len = self.len_of(&range);
        let mut memory = RequestMemory::new(&mut self.rng, len, &mut self.bank);
        let result = {
            let description = memory.for_disk_read();
            let buffers = description.buffers();
            self.disk.read_vectored(&buffers, range.start).await
        };
        self.accepted(result)?;
        if !memory.is_untouched_outside() {
            return Err(self.violation(Clause::C1, "the read wrote beside its buffers"));
        }
        let observed = self.model.observe(range.start, &memory.take());
        self.agreed(observed)
    }

    pub(crate) async fn write(&mut self, range: Range<u64>, fua: bool) -> Checked {
        self.trace
            .step(format!("write sectors {range:?}, fua {fua}"));
        let data = self.random_data(&range);
        let mut memory = RequestMemory::new(&mut self.rng, data.len(), &mut self.bank);
        memory.put(&data);
        let result = {
            let description = memory.for_disk_write();
            let buffers = description.buffers();
            self.disk.write_vectored(&buffers, range.start, fua).await
        };
        self.accepted(result)?;
        if memory.take() != data || !memory.is_untouched_outside() {
            return Err(self.violation(Clause::C1, "the write changed the memory it came from"));
        }
        let step = self.trace.step_number();
        self.model.write(step, range.start, &data);
        Ok(())
    }

    /// `options` are FUA, may unmap, and no fallback.
    pub(crate) async fn write_zeroes(&mut self, range: Range<u64>, options: [bool; 3]) -> Checked {
        let [fua, may_unmap, no_fallback] = options;
        self.trace.step(format!(
            "write_zeroes to sectors {range:?}, fua {fua}, may_unmap {may_unmap}, no_fallback {no_fallback}"
        ));
        let count = range.end - range.start;
        let result = self
            .disk
            .write_zeroes(range.start, count, fua, may_unmap, no_fallback)
            .await;
        match result {
            // Some of the range may have had a better way (C8).
            Err(DiskError::Unsupported) if no_fallback => self.model.may_zero(range),
            result => {
                self.accepted(result)?;
                self.model.zero(self.trace.step_number(), range);
            }
        }
        Ok(())
    }

    pub(crate) async fn unmap(&mut self, range: Range<u64>, block_level_only: bool) -> Checked {
        self.trace.step(format!(
            "unmap sectors {range:?}, block_level_only {block_level_only}"
        ));
        let result = self
            .disk
            .unmap(range.start, range.end - range.start, block_level_only)
            .await;
        self.accepted(result)?;
        let step = self.trace.step_number();
        self.model.unmap(step, range, self.unmap_behavior);
        Ok(())
    }

    /// Asks for the status of all of a range, and holds each answer against the model.
    pub(crate) async fn status(&mut self, range: Range<u64>) -> Checked {
        let mut at = range.start;
        while at < range.end {
            let count = range.end - at;
            self.trace
                .step(format!("block_status of sectors {at}..{}", range.end));
            let result = self.disk.block_status(at, count).await;
            let status = self.accepted(result)?;
            check_shape(&status, count).map_err(|what| self.violation(Clause::C12, what))?;
            let start = at;
            for extent in status.extents() {
                let sectors = at..at + extent.sector_count;
                at = sectors.end;
                if extent.state == BlockState::Data {
                    continue;
                }
                for sector in sectors {
                    let observed = self.model.observe_zero(sector).map_err(|difference| {
                        let what = format!("{:?} is claimed, but {difference}", extent.state);
                        self.violation(difference.clause, what)
                    });
                    observed?;
                }
            }
            assert!(at > start, "the shape was checked");
        }
        Ok(())
    }

    pub(crate) async fn flush(&mut self) -> Checked {
        self.trace.step("sync_cache".into());
        let result = self.disk.sync_cache().await;
        result.map_err(|error| self.violation(Clause::C5, format!("the flush failed: {error:?}")))
    }

    /// Waits for what dropped futures left behind.
    pub(crate) async fn drain(&mut self) {
        self.trace.step("drain".into());
        self.disk.drain().await;
    }

    /// Requests of no sectors do nothing where they are legal.
    pub(crate) async fn empty_requests(&mut self, sector: u64) -> Checked {
        self.read(sector..sector).await?;
        self.trace
            .step(format!("block_status of no sectors at {sector}"));
        let result = self.disk.block_status(sector, 0).await;
        let status = self.accepted(result)?;
        if status.sector_count() > 0 {
            return Err(self.violation(Clause::C12, format!("asked of nothing, got {status:?}")));
        }
        if !self.is_read_only {
            self.write(sector..sector, true).await?;
            self.unmap(sector..sector, false).await?;
            self.write_zeroes(sector..sector, [true, true, false])
                .await?;
        }
        Ok(())
    }

    /// Makes a request that must be refused.
    pub(crate) async fn refuse(&mut self, request: Illegal) -> Checked {
        let expected = self.bounds().refusal(&request).expect("it is illegal");
        self.trace.step(format!("{request:?}, to be refused"));
        let result = match request {
            Illegal::Data {
                is_write,
                sector,
                bytes,
                memory,
            } => self.illegal_data(is_write, sector, bytes, memory).await?,
            Illegal::Unmap { sector, count } => self.disk.unmap(sector, count, false).await,
            Illegal::WriteZeroes { sector, count } => {
                self.disk
                    .write_zeroes(sector, count, false, true, false)
                    .await
            }
            Illegal::BlockStatus { sector, count } => {
                self.disk.block_status(sector, count).await.map(drop)
            }
        };
        let found = result.as_ref().map_err(Refusal::of);
        if found != Err(Some(expected)) {
            let what =
                format!("it must be refused with {expected:?}, but the answer is {result:?}");
            return Err(self.violation(Clause::C1, what));
        }
        match self.sector_count() * u64::from(self.sector_size) <= SMALL_DISK_BYTES {
            true => self.compare_all().await,
            false => Ok(()),
        }
    }

    async fn illegal_data(
        &mut self,
        is_write: bool,
        sector: u64,
        bytes: usize,
        fault: MemoryFault,
    ) -> Checked<Result<(), DiskError>> {
        let mut memory = RequestMemory::guest(&mut self.rng, bytes, &mut self.bank);
        let result = {
            let description: Description<'_> = match (is_write, fault) {
                (_, MemoryFault::PartlyMissing) => memory.partly_missing(!is_write),
                (true, _) | (false, MemoryFault::NotWritable) => memory.for_disk_write(),
                (false, MemoryFault::Sound) => memory.for_disk_read(),
            };
            let buffers = description.buffers();
            match is_write {
                true => self.disk.write_vectored(&buffers, sector, false).await,
                false => self.disk.read_vectored(&buffers, sector).await,
            }
        };
        match memory.is_untouched() {
            true => Ok(result),
            false => {
                let what = "a request that must be refused transferred data all the same";
                Err(self.violation(Clause::C1, what))
            }
        }
    }

    /// Polls a change up to `poll_count` times and drops it.
    pub(crate) async fn drop_change(
        &mut self,
        range: Range<u64>,
        kind: Kind,
        poll_count: u32,
    ) -> Checked {
        let title = kind.title();
        self.trace.step(format!(
            "poll a {title} to sectors {range:?} up to {poll_count} times, and drop it"
        ));
        let data = match kind {
            Kind::Write => self.random_data(&range),
            _ => vec![0; self.len_of(&range)],
        };
        let (start, count) = (range.start, range.end - range.start);
        let polled = match kind {
            Kind::Write => {
                let mut memory = self.memory_to_leave(data.len());
                memory.put(&data);
                let description = memory.for_disk_write();
                let buffers = description.buffers();
                let request = pin!(self.disk.write_vectored(&buffers, start, false));
                poll_times(request, poll_count)
            }
            Kind::WriteZeroes => {
                let request = pin!(self.disk.write_zeroes(start, count, false, true, false));
                poll_times(request, poll_count)
            }
            _ => {
                let request = pin!(self.disk.unmap(start, count, false));
                poll_times(request, poll_count)
            }
        };
        let step = self.trace.step_number();
        let is_complete = polled.is_some();
        self.accepted(polled.unwrap_or(Ok(())))?;
        match (kind, self.unmap_behavior) {
            (Kind::Unmap, UnmapBehavior::Unspecified) => self.model.may_zero(range),
            (Kind::Unmap, UnmapBehavior::Ignored) => {}
            _ if !is_complete => self.model.may_write(step, range.start, &data),
            (Kind::Unmap, behavior) => self.model.unmap(step, range, behavior),
            _ => self.model.write(step, range.start, &data),
        }
        Ok(())
    }

    /// Polls a read up to `poll_count` times and drops it.
    pub(crate) async fn drop_read(&mut self, range: Range<u64>, poll_count: u32) -> Checked {
        self.trace.step(format!(
            "poll a read of sectors {range:?} up to {poll_count} times, and drop it"
        ));
        let len = self.len_of(&range);
        let mut memory = self.memory_to_leave(len);
        let polled = {
            let description = memory.for_disk_read();
            let buffers = description.buffers();
            let request = pin!(self.disk.read_vectored(&buffers, range.start));
            poll_times(request, poll_count)
        };
        self.accepted(polled.unwrap_or(Ok(())))
    }

    /// Changes the size, or finds that the disk cannot.
    pub(crate) async fn resize(&mut self, sector_count: u64) -> Checked<bool> {
        self.trace.step(format!("resize to {sector_count} sectors"));
        let result = self.disk.resize(sector_count).await;
        let is_supported = !matches!(result, Err(DiskError::Unsupported));
        if is_supported {
            result.map_err(|error| {
                self.violation(Clause::C10, format!("the resize failed: {error:?}"))
            })?;
            self.model.resize(self.trace.step_number(), sector_count);
        }
        let found = self.disk.sector_count();
        match found == self.sector_count() {
            true => Ok(is_supported),
            false => Err(self.violation(
                Clause::C10,
                format!("the disk has {found} sectors, not {}", self.sector_count()),
            )),
        }
    }

    fn accepted<R>(&self, result: Result<R, DiskError>) -> Checked<R> {
        result.map_err(|error| {
            self.violation(Clause::C1, format!("a legal request failed: {error:?}"))
        })
    }

    fn agreed(&self, result: Result<(), Difference>) -> Checked {
        result.map_err(|difference| self.violation(difference.clause, difference.to_string()))
    }

    /// Memory of its own for a request that may outlive its future.
    fn memory_to_leave(&mut self, len: usize) -> RequestMemory {
        RequestMemory::guest(&mut self.rng, len, &mut MemoryBank::new())
    }

    fn random_data(&mut self, range: &Range<u64>) -> Vec<u8> {
        let mut data = vec![0; self.len_of(range)];
        self.rng.fill(&mut data);
        data
    }

    fn len_of(&self, range: &Range<u64>) -> usize {
        // The disk is in memory as a model, so its length is a usize.
        (range.end - range.start) as usize * self.sector_size as usize
    }
}

/// An answer is not empty, no longer than what was asked about, bounded, and the sum of its parts.
fn check_shape(status: &BlockStatus, count: u64) -> Result<(), String> {
    let extents = status.extents();
    let sum: u64 = extents.iter().map(|extent| extent.sector_count).sum();
    let faults = [
        (sum == 0, "is empty"),
        (sum > count, "covers more than it was asked about"),
        (
            extents.iter().any(|extent| extent.sector_count == 0),
            "has an empty extent",
        ),
        (
            sum != status.sector_count(),
            "does not cover what its extents do",
        ),
        (
            extents.len() > BlockStatus::EXTENTS_MAX,
            "has too many extents",
        ),
    ];
    match faults.into_iter().find(|(applies, _)| *applies) {
        Some((_, fault)) => Err(format!("the answer {fault}: {status:?}")),
        None => Ok(()),
    }
}
