//! A disk's handle as something to test.

use disk_backend::pr::PersistentReservation;
use disk_backend::{
    BlockStatus, ContentStamp, Disk, DiskError, DiskIo, Persistence, UnmapBehavior,
};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;

/// [`Disk`] behind the trait by which the kit reaches what it tests: each method is the handle's.
#[derive(Debug, Inspect)]
#[inspect(transparent)]
pub(crate) struct Handle(pub(crate) Disk);

#[deny(clippy::missing_trait_methods)]
impl DiskIo for Handle {
    fn disk_type(&self) -> &str {
        self.0.disk_type()
    }

    fn sector_count(&self) -> u64 {
        self.0.sector_count()
    }

    fn sector_size(&self) -> u32 {
        self.0.sector_size()
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        self.0.disk_id()
    }

    fn content_stamp(&self) -> Option<ContentStamp> {
        self.0.content_stamp()
    }

    fn physical_sector_size(&self) -> u32 {
        self.0.physical_sector_size()
    }

    fn is_fua_respected(&self) -> bool {
        self.0.is_fua_respected()
    }

    fn is_read_only(&self) -> bool {
        self.0.is_read_only()
    }

    fn persistence(&self) -> Persistence {
        self.0.persistence()
    }

    fn atomic_write_sectors(&self) -> u32 {
        self.0.atomic_write_sectors()
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        self.0.unmap_behavior()
    }

    fn optimal_unmap_sectors(&self) -> u32 {
        self.0.optimal_unmap_sectors()
    }

    fn pr(&self) -> Option<&dyn PersistentReservation> {
        self.0.pr()
    }

    async fn eject(&self) -> Result<(), DiskError> {
        self.0.eject().await
    }

    fn expect_read(&self, sector: u64, len: usize) {
        self.0.expect_read(sector, len);
    }

    fn try_read(&self, buffers: &RequestBuffers<'_>, sector: u64) -> bool {
        self.0.try_read(buffers, sector)
    }

    fn try_write(&self, buffers: &RequestBuffers<'_>, sector: u64, fua: bool) -> bool {
        self.0.try_write(buffers, sector, fua)
    }

    async fn read_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        self.0.read_vectored(buffers, sector).await
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        self.0.write_vectored(buffers, sector, fua).await
    }

    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        may_unmap: bool,
        no_fallback: bool,
    ) -> Result<(), DiskError> {
        self.0
            .write_zeroes(sector, count, fua, may_unmap, no_fallback)
            .await
    }

    async fn unmap(
        &self,
        sector: u64,
        count: u64,
        block_level_only: bool,
    ) -> Result<(), DiskError> {
        self.0.unmap(sector, count, block_level_only).await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        self.0.sync_cache().await
    }

    async fn close(&self) -> Result<(), DiskError> {
        self.0.close().await
    }

    async fn block_status(&self, sector: u64, count: u64) -> Result<BlockStatus, DiskError> {
        self.0.block_status(sector, count).await
    }

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        self.0.resize(sector_count).await
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.0.wait_resize(sector_count).await
    }

    async fn drain(&self) {
        self.0.drain().await;
    }
}
