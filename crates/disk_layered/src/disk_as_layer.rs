//! A disk used as a layer.

use crate::{
    LayerIo, LayerStatus, LayerWatch, NoOverwriteUnsupported, SectorMarker, TryRead,
    WriteNoOverwrite,
};
use disk_backend::{ContentStamp, Disk, DiskError, Persistence, UnmapBehavior};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;

/// A layer that has every sector of a disk.
#[derive(Debug, Inspect)]
#[inspect(transparent)]
pub(crate) struct DiskAsLayer(pub(crate) Disk);

#[deny(clippy::missing_trait_methods)]
impl LayerIo for DiskAsLayer {
    fn layer_type(&self) -> &str {
        "disk"
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
        // `Disk` honours FUA whatever its backend does.
        true
    }

    fn is_logically_read_only(&self) -> bool {
        self.0.is_read_only()
    }

    fn persistence(&self) -> Persistence {
        self.0.persistence()
    }

    fn atomic_write_sectors(&self) -> u32 {
        self.0.atomic_write_sectors()
    }

    fn may_be_emptied(&self) -> bool {
        false
    }

    fn expect_read(&self, sector: u64, len: usize) {
        self.0.expect_read(sector, len);
    }

    fn try_read(&self, buffers: &RequestBuffers<'_>, sector: u64) -> TryRead {
        match self.0.try_read(buffers, sector) {
            true => TryRead::Done,
            false => TryRead::WouldBlock,
        }
    }

    fn try_write(&self, buffers: &RequestBuffers<'_>, sector: u64, fua: bool) -> bool {
        self.0.try_write(buffers, sector, fua)
    }

    async fn read(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        mut marker: SectorMarker<'_>,
    ) -> Result<(), DiskError> {
        self.0.read_vectored(buffers, sector).await?;
        marker.set_all();
        Ok(())
    }

    async fn write(
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
        _next_is_zero: bool,
    ) -> Result<(), DiskError> {
        self.0
            .write_zeroes(sector, count, fua, may_unmap, no_fallback)
            .await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        self.0.sync_cache().await
    }

    async fn close(&self) -> Result<(), DiskError> {
        self.0.close().await
    }

    /// A sector of a disk is never absent, so nothing below can show, whatever the disk makes of the unmap.
    async fn unmap(
        &self,
        sector: u64,
        count: u64,
        block_level_only: bool,
        _next_is_zero: bool,
    ) -> Result<(), DiskError> {
        self.0.unmap(sector, count, block_level_only).await
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        self.0.unmap_behavior()
    }

    fn optimal_unmap_sectors(&self) -> u32 {
        self.0.optimal_unmap_sectors()
    }

    async fn layer_status(&self, sector: u64, count: u64) -> Result<LayerStatus, DiskError> {
        self.0
            .block_status(sector, count)
            .await
            .map(LayerStatus::Present)
    }

    fn write_no_overwrite(&self) -> Option<impl WriteNoOverwrite> {
        // Nothing is absent, so there is nothing to fill.
        None::<NoOverwriteUnsupported>
    }

    /// No sector of a disk can be absent.
    async fn evict(&self, _sector: u64, _count: u64) -> Result<(), DiskError> {
        Err(DiskError::Unsupported)
    }

    /// A disk's size may change at the hands of others. It has every sector, so nothing would be gained either.
    fn watch(&self, _watch: &LayerWatch) -> bool {
        false
    }

    /// Nothing is absent.
    fn lower_shrank(&self, _sector_count: u64) {}

    async fn drain(&self) {
        self.0.drain().await;
    }

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        self.0.resize(sector_count).await
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.0.wait_resize(sector_count).await
    }
}
