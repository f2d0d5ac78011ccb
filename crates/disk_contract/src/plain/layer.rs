//! A layer with as few methods of its own as there may be.

use crate::ReferenceLayer;
use disk_backend::{DiskError, Persistence, UnmapBehavior};
use disk_layered::{LayerIo, LayerStatus, SectorMarker};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;

/// A [`ReferenceLayer`] that leaves to the trait whatever the trait offers: zeros are written as data, it cannot be filled as a
/// cache, its size is fixed.
#[derive(Debug, Inspect)]
#[inspect(transparent)]
pub struct PlainLayer(ReferenceLayer);

impl PlainLayer {
    /// Hides the optional methods of a layer.
    pub fn new(inner: ReferenceLayer) -> Self {
        Self(inner)
    }
}

impl LayerIo for PlainLayer {
    fn layer_type(&self) -> &str {
        "plain"
    }

    fn sector_count(&self) -> u64 {
        self.0.sector_count()
    }

    fn sector_size(&self) -> u32 {
        self.0.sector_size()
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        None
    }

    fn physical_sector_size(&self) -> u32 {
        self.0.physical_sector_size()
    }

    fn is_fua_respected(&self) -> bool {
        false
    }

    fn is_logically_read_only(&self) -> bool {
        self.0.is_logically_read_only()
    }

    fn persistence(&self) -> Persistence {
        Persistence::Volatile
    }

    async fn read(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        marker: SectorMarker<'_>,
    ) -> Result<(), DiskError> {
        self.0.read(buffers, sector, marker).await
    }

    async fn write(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        self.0.write(buffers, sector, fua).await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        self.0.sync_cache().await
    }

    async fn unmap(
        &self,
        sector: u64,
        count: u64,
        hint: bool,
        next_is_zero: bool,
    ) -> Result<(), DiskError> {
        self.0.unmap(sector, count, hint, next_is_zero).await
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        self.0.unmap_behavior()
    }

    async fn layer_status(&self, sector: u64, count: u64) -> Result<LayerStatus, DiskError> {
        self.0.layer_status(sector, count).await
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.0.wait_resize(sector_count).await
    }
}
