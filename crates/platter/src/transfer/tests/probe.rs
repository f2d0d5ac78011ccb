//! A disk that remembers what it was asked to change, and fails where it is told to.

use disk_backend::{
    BlockExtent, BlockState, BlockStatus, ContentStamp, Disk, DiskError, DiskIo,
    MediumErrorDetails, Persistence, UnmapBehavior,
};
use futures_lite::future::yield_now;
use inspect::Inspect;
use parking_lot::Mutex;
use scsi_buffers::RequestBuffers;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// How a probe differs from the disk below it.
#[derive(Debug, Clone, Default)]
pub(super) struct Traits {
    /// It knows nothing of holes.
    pub(super) says_all_is_data: bool,
    /// Reading, writing or zeroing this sector fails.
    pub(super) bad_sector: Option<u64>,
    pub(super) flush_fails: bool,
    /// Reading this sector takes longer than reading several others.
    pub(super) slow_sector: Option<u64>,
    /// It tells of so many sectors at once, at most.
    pub(super) status_sectors_max: Option<u64>,
}

/// What was done to a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Log {
    /// In bytes, in the order of the calls.
    pub(super) written: Vec<Range<u64>>,
    pub(super) zeroed: Vec<Range<u64>>,
    pub(super) read_bytes: u64,
    pub(super) flush_count: usize,
    /// Of reads and writes, at most, at once.
    pub(super) in_flight_max: usize,
    in_flight: usize,
}

/// The disk, and the test's look at it.
pub(super) struct Probe {
    inner: Disk,
    disk: Disk,
    log: Arc<Mutex<Log>>,
}

struct Recorder {
    inner: Disk,
    traits: Traits,
    log: Arc<Mutex<Log>>,
}

impl Probe {
    pub(super) fn new(inner: Disk, traits: Traits) -> Self {
        let log = Arc::default();
        let recorder = Recorder {
            inner: inner.clone(),
            traits,
            log: Arc::clone(&log),
        };
        let disk = Disk::new(recorder).unwrap();
        Self { inner, disk, log }
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The disk below, where nothing is recorded.
    pub(super) fn inner(&self) -> &Disk {
        &self.inner
    }

    /// What was done since the last call.
    pub(super) fn take_log(&self) -> Log {
        std::mem::take(&mut self.log.lock())
    }
}

impl Recorder {
    fn check(&self, sector: u64, count: u64) -> Result<(), DiskError> {
        match self.traits.bad_sector {
            Some(bad) if (sector..sector + count).contains(&bad) => Err(DiskError::MediumError(
                io::Error::other("planted"),
                MediumErrorDetails::UnrecoveredReadError,
            )),
            _ => Ok(()),
        }
    }

    fn count(&self, buffers: &RequestBuffers<'_>) -> u64 {
        (buffers.len() >> self.inner.sector_shift()) as u64
    }

    fn bytes(&self, sector: u64, count: u64) -> Range<u64> {
        let shift = self.inner.sector_shift();
        sector << shift..(sector + count) << shift
    }

    /// Lets others go first, so that whatever may run at once does.
    async fn begin(&self) {
        {
            let mut log = self.log.lock();
            log.in_flight += 1;
            log.in_flight_max = log.in_flight_max.max(log.in_flight);
        }
        yield_now().await;
    }

    fn end(&self) {
        self.log.lock().in_flight -= 1;
    }
}

#[deny(clippy::missing_trait_methods)]
impl DiskIo for Recorder {
    fn disk_type(&self) -> &str {
        "probe"
    }

    fn sector_count(&self) -> u64 {
        self.inner.sector_count()
    }

    fn sector_size(&self) -> u32 {
        self.inner.sector_size()
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        self.inner.disk_id()
    }

    fn content_stamp(&self) -> Option<ContentStamp> {
        self.inner.content_stamp()
    }

    fn physical_sector_size(&self) -> u32 {
        self.inner.physical_sector_size()
    }

    fn is_fua_respected(&self) -> bool {
        self.inner.is_fua_respected()
    }

    fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }

    fn persistence(&self) -> Persistence {
        self.inner.persistence()
    }

    fn atomic_write_sectors(&self) -> u32 {
        self.inner.atomic_write_sectors()
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        self.inner.unmap_behavior()
    }

    fn optimal_unmap_sectors(&self) -> u32 {
        self.inner.optimal_unmap_sectors()
    }

    async fn unmap(&self, sector: u64, count: u64, block_only: bool) -> Result<(), DiskError> {
        self.inner.unmap(sector, count, block_only).await
    }

    async fn eject(&self) -> Result<(), DiskError> {
        self.inner.eject().await
    }

    fn expect_read(&self, _: u64, _: usize) {}

    /// What is asked for is noted in the other way.
    fn try_read(&self, _: &RequestBuffers<'_>, _: u64) -> bool {
        false
    }

    fn try_write(&self, _: &RequestBuffers<'_>, _: u64, _: bool) -> bool {
        false
    }

    async fn read_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        self.begin().await;
        let count = self.count(buffers);
        let is_slow = |slow| (sector..sector + count).contains(&slow);
        if self.traits.slow_sector.is_some_and(is_slow) {
            for _ in 0..100 {
                yield_now().await;
            }
        }
        let result = match self.check(sector, count) {
            Ok(()) => self.inner.read_vectored(buffers, sector).await,
            failed => failed,
        };
        self.end();
        self.log.lock().read_bytes += buffers.len() as u64;
        result
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        self.begin().await;
        let count = self.count(buffers);
        let result = match self.check(sector, count) {
            Ok(()) => self.inner.write_vectored(buffers, sector, fua).await,
            failed => failed,
        };
        self.end();
        self.log.lock().written.push(self.bytes(sector, count));
        result
    }

    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        may_unmap: bool,
        no_fallback: bool,
    ) -> Result<(), DiskError> {
        self.check(sector, count)?;
        self.log.lock().zeroed.push(self.bytes(sector, count));
        let zeroed = self
            .inner
            .write_zeroes(sector, count, fua, may_unmap, no_fallback);
        zeroed.await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        self.log.lock().flush_count += 1;
        match self.traits.flush_fails {
            true => Err(io::Error::other("planted").into()),
            false => self.inner.sync_cache().await,
        }
    }

    async fn close(&self) -> Result<(), DiskError> {
        self.sync_cache().await
    }

    async fn block_status(&self, sector: u64, count: u64) -> Result<BlockStatus, DiskError> {
        let count = count.min(self.traits.status_sectors_max.unwrap_or(count));
        match self.traits.says_all_is_data {
            true => Ok(BlockStatus::one(BlockExtent {
                sector_count: count,
                state: BlockState::Data,
                layer: None,
            })),
            false => self.inner.block_status(sector, count).await,
        }
    }

    fn pr(&self) -> Option<&dyn disk_backend::pr::PersistentReservation> {
        self.inner.pr()
    }

    async fn drain(&self) {
        self.inner.drain().await;
    }

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        self.inner.resize(sector_count).await
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.inner.wait_resize(sector_count).await
    }
}

impl Inspect for Recorder {
    fn inspect(&self, req: inspect::Request<'_>) {
        self.inner.inspect(req);
    }
}
