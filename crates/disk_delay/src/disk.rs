//! The disk.

use crate::control::DelayControl;
use crate::delay::InvalidDelay;
use clock::Clock;
use disk_backend::pr::PersistentReservation;
use disk_backend::{
    BlockStatus, ContentStamp, Disk, DiskError, DiskIo, Persistence, UnmapBehavior,
};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;
use std::time::Duration;

/// A disk that is another one, but that reads, writes, zeroes, unmaps and flushes begin after a delay.
#[derive(Debug)]
pub struct DelayDisk {
    below: Disk,
    control: DelayControl,
    clock: Clock,
}

impl DelayDisk {
    /// Delays the requests to `disk`, but not those that reach it by other clones of the handle.
    ///
    /// # Errors
    /// If `delay` is longer than [`DELAY_SECONDS_MAX`](crate::DELAY_SECONDS_MAX).
    pub fn new(
        disk: Disk,
        delay: Duration,
        clock: Clock,
    ) -> Result<(Self, DelayControl), InvalidDelay> {
        let control = DelayControl::new(delay)?;
        let below = disk;
        let delayed = Self {
            below,
            control: control.clone(),
            clock,
        };
        Ok((delayed, control))
    }

    /// Holds nothing meanwhile that another request could need (C4).
    async fn wait(&self) {
        let delay = self.control.delay();
        if !delay.is_zero() {
            let _waiting = self.control.wait();
            self.clock.sleep(delay).await;
        }
    }

    /// Whether the disk below is to make a write durable. Where it does not do that by itself, the handle above this disk flushes,
    /// after a delay as for any flush; the handle below must not do it too.
    fn fua_below(&self, fua: bool) -> bool {
        fua && self.below.is_fua_respected()
    }
}

#[deny(clippy::missing_trait_methods)]
impl DiskIo for DelayDisk {
    fn disk_type(&self) -> &str {
        "delay"
    }

    fn sector_count(&self) -> u64 {
        self.below.sector_count()
    }

    fn sector_size(&self) -> u32 {
        self.below.sector_size()
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        self.below.disk_id()
    }

    fn content_stamp(&self) -> Option<ContentStamp> {
        self.below.content_stamp()
    }

    fn physical_sector_size(&self) -> u32 {
        self.below.physical_sector_size()
    }

    fn is_fua_respected(&self) -> bool {
        self.below.is_fua_respected()
    }

    fn is_read_only(&self) -> bool {
        self.below.is_read_only()
    }

    fn persistence(&self) -> Persistence {
        self.below.persistence()
    }

    fn atomic_write_sectors(&self) -> u32 {
        self.below.atomic_write_sectors()
    }

    async fn unmap(
        &self,
        sector: u64,
        count: u64,
        block_level_only: bool,
    ) -> Result<(), DiskError> {
        self.wait().await;
        self.below.unmap(sector, count, block_level_only).await
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        self.below.unmap_behavior()
    }

    fn optimal_unmap_sectors(&self) -> u32 {
        self.below.optimal_unmap_sectors()
    }

    /// Commands of reservations are not delayed.
    fn pr(&self) -> Option<&dyn PersistentReservation> {
        self.below.pr()
    }

    async fn eject(&self) -> Result<(), DiskError> {
        self.below.eject().await
    }

    fn expect_read(&self, _: u64, _: usize) {}

    /// Every request waits.
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
        self.wait().await;
        self.below.read_vectored(buffers, sector).await
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        self.wait().await;
        let fua = self.fua_below(fua);
        self.below.write_vectored(buffers, sector, fua).await
    }

    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        may_unmap: bool,
        no_fallback: bool,
    ) -> Result<(), DiskError> {
        self.wait().await;
        let fua = self.fua_below(fua);
        self.below
            .write_zeroes(sector, count, fua, may_unmap, no_fallback)
            .await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        self.wait().await;
        self.below.sync_cache().await
    }

    async fn close(&self) -> Result<(), DiskError> {
        self.below.close().await
    }

    async fn block_status(&self, sector: u64, count: u64) -> Result<BlockStatus, DiskError> {
        self.below.block_status(sector, count).await
    }

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        self.below.resize(sector_count).await
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.below.wait_resize(sector_count).await
    }

    /// A request that waits has not begun below, and ends with its future.
    async fn drain(&self) {
        self.below.drain().await;
    }
}

impl Inspect for DelayDisk {
    fn inspect(&self, request: inspect::Request<'_>) {
        request
            .respond()
            .merge(&self.control)
            .field("disk", &self.below);
    }
}
