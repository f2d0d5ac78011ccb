//! A right disk, and the ways in which it can be made wrong.

use disk_backend::{
    BlockExtent, BlockState, BlockStatus, DiskError, DiskIo, Persistence, UnmapBehavior,
};
use disk_contract::{DiskSpec, ReferenceDisk};
use futures_lite::future::yield_now;
use guestmem::{MemoryRead, MemoryWrite};
use inspect::Inspect;
use scsi_buffers::{HostBuffers, RequestBuffers};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is wrong with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Takes a sum that wraps around for one inside the disk.
    RangeWrapsAround,
    AcceptsEmptyRequestsAnywhere,
    /// Serves the whole sectors of a request, and drops the rest.
    DropsPartialSector,
    /// Looks at the range before the length.
    ChecksRangeFirst,
    /// Finds out about memory that is missing after it has begun.
    TransfersBeforeItRefuses,
    AcceptsWritesThoughReadOnly,
    AcceptsUnmapsThoughReadOnly,
    /// Fails where it could have written zeros as data.
    RefusesToFallBack,
    /// Writes to the sector after the right one, except at the end.
    WritesOneSectorOff,
    LosesLastSectorOfLongWrites,
    /// Reads what the first sector held before the last write to it.
    ReadsStaleData,
    /// Takes the pieces of a scattered write in the wrong order.
    MixesUpPieces,
    /// Writes the halves of a sector one after the other.
    TearsSectors,
    /// Writes back the sector beside the written one, as it was a moment ago.
    LosesUpdatesBeside,
    FlushFails,
    UnmapKeepsData,
    UnmapForgetsLastSector,
    /// Says that unmaps are ignored, and zeroes.
    IgnoredUnmapZeroes,
    /// Says that unmaps are unspecified, and reads now zero, now the old data.
    UnspecifiedUnmapWavers,
    /// Writes what a dropped future wanted at the next flush.
    DroppedWriteComesLate,
    CannotResize,
    GrowingRevivesOldData,
    NeverTellsOfResize,
    TellsOfResizeTooSoon,
    HoleOverData,
    EmptyStatus,
    StatusBeyondRange,
}

/// See [`Fault`].
#[derive(Debug)]
pub(crate) struct PlantedDisk {
    fault: Fault,
    inner: ReferenceDisk,
    sector_size: usize,
    is_read_only: bool,
    /// What the fault remembers: sectors and the data it has for them.
    memory: Mutex<Vec<(u64, Vec<u8>)>>,
    read_count: AtomicU64,
}

impl PlantedDisk {
    pub(crate) fn new(spec: DiskSpec, fault: Fault) -> Self {
        let is_lax = matches!(
            fault,
            Fault::AcceptsWritesThoughReadOnly | Fault::AcceptsUnmapsThoughReadOnly
        );
        let mut inner = spec.clone();
        inner.is_read_only &= !is_lax;
        Self {
            fault,
            sector_size: spec.sector_size as usize,
            is_read_only: spec.is_read_only,
            inner: ReferenceDisk::new(inner),
            memory: Mutex::default(),
            read_count: AtomicU64::new(0),
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// The answer that the fault gives in place of a check.
    fn faulty_check(
        &self,
        sector: u64,
        len: usize,
        is_write: bool,
    ) -> Option<Result<(), DiskError>> {
        let count = (len / self.sector_size) as u64;
        let wraps = sector.checked_add(count).is_none();
        let is_outside = wraps || sector + count > self.sector_count();
        match self.fault {
            Fault::RangeWrapsAround if wraps && len.is_multiple_of(self.sector_size) => {
                Some(Ok(()))
            }
            Fault::AcceptsEmptyRequestsAnywhere if len == 0 && !self.is_read_only => Some(Ok(())),
            Fault::ChecksRangeFirst if is_outside => Some(Err(DiskError::IllegalBlock)),
            Fault::AcceptsUnmapsThoughReadOnly if is_write && self.is_read_only => {
                Some(Err(DiskError::ReadOnly))
            }
            _ => None,
        }
    }

    async fn sectors(&self, sector: u64, count: u64) -> Vec<u8> {
        let mut bytes = vec![0; count as usize * self.sector_size];
        let buffers = HostBuffers::from_mut(&mut bytes);
        self.inner
            .read_vectored(&buffers.buffers(), sector)
            .await
            .unwrap();
        drop(buffers);
        bytes
    }

    async fn store(&self, sector: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let buffers = HostBuffers::from_ref(bytes);
        self.inner
            .write_vectored(&buffers.buffers(), sector, false)
            .await
    }

    /// A write that is legal, done as the fault does it.
    async fn faulty_write(&self, data: &[u8], sector: u64) -> Result<(), DiskError> {
        let count = (data.len() / self.sector_size) as u64;
        match self.fault {
            Fault::WritesOneSectorOff if sector + count < self.sector_count() => {
                self.store(sector + 1, data).await
            }
            Fault::LosesLastSectorOfLongWrites if count > 5 => {
                self.store(sector, &data[..data.len() - self.sector_size])
                    .await
            }
            Fault::ReadsStaleData if sector == 0 && count > 0 => {
                let before = self.sectors(0, 1).await;
                *self.memory.lock().unwrap() = vec![(0, before)];
                self.store(sector, data).await
            }
            Fault::TearsSectors => {
                let mut torn = self.sectors(sector, count).await;
                let half = self.sector_size / 2;
                let halves = torn.chunks_exact_mut(half).zip(data.chunks_exact(half));
                for (torn, data) in halves.step_by(2) {
                    torn.copy_from_slice(data);
                }
                self.store(sector, &torn).await?;
                self.let_somebody_read();
                self.store(sector, data).await
            }
            Fault::LosesUpdatesBeside if sector > 0 && count > 0 => {
                let mut both = self.sectors(sector - 1, count + 1).await;
                self.let_somebody_read();
                both[self.sector_size..].copy_from_slice(data);
                self.store(sector - 1, &both).await
            }
            Fault::DroppedWriteComesLate if count > 0 => {
                self.memory.lock().unwrap().push((sector, data.to_vec()));
                yield_now().await;
                self.memory.lock().unwrap().clear();
                self.store(sector, data).await
            }
            _ => self.store(sector, data).await,
        }
    }

    /// Gives other threads, where there are any, time for a request.
    fn let_somebody_read(&self) {
        let before = self.read_count.load(Ordering::SeqCst);
        for _ in 0..50 {
            if self.read_count.load(Ordering::SeqCst) > before + 1 {
                break;
            }
            std::thread::yield_now();
        }
    }
}

/// The bytes of a request, its pieces last to first.
fn mixed_up(buffers: &RequestBuffers<'_>) -> Vec<u8> {
    let mut pieces = Vec::new();
    let mut offset = 0;
    for segment in buffers.segments() {
        let len = segment.unwrap().len();
        pieces.push(bytes_of(&buffers.subrange(offset, len)));
        offset += len;
    }
    pieces.reverse();
    pieces.concat()
}

fn bytes_of(buffers: &RequestBuffers<'_>) -> Vec<u8> {
    let mut bytes = vec![0; buffers.len()];
    buffers.reader().read(&mut bytes).unwrap();
    bytes
}

impl DiskIo for PlantedDisk {
    fn disk_type(&self) -> &str {
        "planted"
    }

    fn sector_count(&self) -> u64 {
        self.inner.sector_count()
    }

    fn sector_size(&self) -> u32 {
        self.inner.sector_size()
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        None
    }

    fn physical_sector_size(&self) -> u32 {
        self.inner.physical_sector_size()
    }

    fn is_fua_respected(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    fn persistence(&self) -> Persistence {
        Persistence::Volatile
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        match self.fault {
            Fault::IgnoredUnmapZeroes => UnmapBehavior::Ignored,
            Fault::UnspecifiedUnmapWavers => UnmapBehavior::Unspecified,
            _ => UnmapBehavior::Zeroes,
        }
    }

    async fn unmap(&self, sector: u64, count: u64, hint: bool) -> Result<(), DiskError> {
        if self.has(Fault::RangeWrapsAround) && sector.checked_add(count).is_none() {
            return Ok(());
        }
        if self.has(Fault::AcceptsEmptyRequestsAnywhere) && count == 0 {
            return Ok(());
        }
        let is_inside = sector
            .checked_add(count)
            .is_some_and(|end| end <= self.sector_count());
        if self.is_read_only || !is_inside || count == 0 {
            return self.inner.unmap(sector, count, hint).await;
        }
        match self.fault {
            Fault::UnmapKeepsData => Ok(()),
            Fault::UnmapForgetsLastSector => self.inner.unmap(sector, count - 1, hint).await,
            Fault::UnspecifiedUnmapWavers => {
                let before = self.sectors(sector, 1).await;
                *self.memory.lock().unwrap() = vec![(sector, before)];
                self.inner.unmap(sector, count, hint).await
            }
            _ => self.inner.unmap(sector, count, hint).await,
        }
    }

    async fn read_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        if let Some(answer) = self.faulty_check(sector, buffers.len(), false) {
            return answer;
        }
        let mut buffers = *buffers;
        if self.has(Fault::DropsPartialSector) {
            buffers = buffers.subrange(0, buffers.len() / self.sector_size * self.sector_size);
        }
        if self.has(Fault::TransfersBeforeItRefuses) && !buffers.is_empty() {
            let first = buffers.subrange(0, 1);
            // Whatever comes of it, the rest of the request is what is refused.
            let _ = first.writer().write(&[0]);
        }
        self.inner.read_vectored(&buffers, sector).await?;
        self.read_count.fetch_add(1, Ordering::SeqCst);
        let mut memory = self.memory.lock().unwrap();
        let is_read = |at: u64| {
            at.checked_sub(sector)
                .is_some_and(|offset| offset < (buffers.len() / self.sector_size) as u64)
        };
        if let Some((at, bytes)) = memory.first()
            && is_read(*at)
            && matches!(
                self.fault,
                Fault::ReadsStaleData | Fault::UnspecifiedUnmapWavers
            )
        {
            let offset = (at - sector) as usize * self.sector_size;
            let place = buffers.subrange(offset, self.sector_size);
            place.writer().write(bytes)?;
            // The next read gets it right.
            memory.clear();
        }
        Ok(())
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        _fua: bool,
    ) -> Result<(), DiskError> {
        if let Some(answer) = self.faulty_check(sector, buffers.len(), true) {
            return answer;
        }
        let mut buffers = *buffers;
        if self.has(Fault::DropsPartialSector) {
            buffers = buffers.subrange(0, buffers.len() / self.sector_size * self.sector_size);
        }
        let is_whole = buffers.len().is_multiple_of(self.sector_size);
        let count = (buffers.len() / self.sector_size) as u64;
        let is_inside = sector
            .checked_add(count)
            .is_some_and(|end| end <= self.sector_count());
        if !is_whole || !is_inside || buffers.check_readable().is_err() {
            return self.inner.write_vectored(&buffers, sector, false).await;
        }
        let data = match self.fault {
            Fault::MixesUpPieces => mixed_up(&buffers),
            _ => bytes_of(&buffers),
        };
        self.faulty_write(&data, sector).await
    }

    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        may_unmap: bool,
        no_fallback: bool,
    ) -> Result<(), DiskError> {
        if let Some(answer) = self.faulty_check(sector, 0, true)
            && (count == 0 || answer.is_err())
        {
            return answer;
        }
        let result = self
            .inner
            .write_zeroes(sector, count, fua, may_unmap, no_fallback)
            .await;
        match self.fault {
            Fault::RefusesToFallBack if count > 2 => result.and(Err(DiskError::Unsupported)),
            _ => result,
        }
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        if self.has(Fault::FlushFails) {
            return Err(DiskError::Io(std::io::Error::other("planted")));
        }
        if self.has(Fault::DroppedWriteComesLate) {
            let late = std::mem::take(&mut *self.memory.lock().unwrap());
            for (sector, data) in late {
                self.store(sector, &data).await?;
            }
        }
        Ok(())
    }

    async fn block_status(&self, sector: u64, count: u64) -> Result<BlockStatus, DiskError> {
        let status = self.inner.block_status(sector, count).await?;
        let one = |sector_count, state| {
            let layer = None;
            BlockStatus::one(BlockExtent {
                sector_count,
                state,
                layer,
            })
        };
        Ok(match self.fault {
            Fault::HoleOverData if count > 2 => one(count, BlockState::Hole),
            Fault::EmptyStatus => BlockStatus::default(),
            Fault::StatusBeyondRange if count > 0 => one(count + 1, BlockState::Data),
            _ => status,
        })
    }

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        if self.has(Fault::CannotResize) {
            return Err(DiskError::Unsupported);
        }
        let before = self.sector_count();
        if self.has(Fault::GrowingRevivesOldData) && sector_count < before {
            let cut_off = self.sectors(sector_count, before - sector_count).await;
            *self.memory.lock().unwrap() = vec![(sector_count, cut_off)];
        }
        self.inner.resize(sector_count).await?;
        if self.has(Fault::GrowingRevivesOldData) && sector_count > before {
            let old = std::mem::take(&mut *self.memory.lock().unwrap());
            for (sector, data) in old {
                let room = (self.sector_count() - sector) as usize * self.sector_size;
                self.store(sector, &data[..data.len().min(room)]).await?;
            }
        }
        Ok(())
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        match self.fault {
            Fault::NeverTellsOfResize => std::future::pending().await,
            Fault::TellsOfResizeTooSoon => self.sector_count(),
            _ => self.inner.wait_resize(sector_count).await,
        }
    }
}

impl Inspect for PlantedDisk {
    fn inspect(&self, req: inspect::Request<'_>) {
        self.inner.inspect(req);
    }
}
