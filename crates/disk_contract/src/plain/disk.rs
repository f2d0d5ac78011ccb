//! A disk with as few methods of its own as there may be.

use crate::ReferenceDisk;
use disk_backend::{DiskError, DiskIo, Persistence, UnmapBehavior};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;

/// A [`ReferenceDisk`] that leaves to the trait whatever the trait offers: zeros are written as data, all is data, the size is
/// fixed, FUA is a flush.
#[derive(Debug, Inspect)]
#[inspect(transparent)]
pub struct PlainDisk(ReferenceDisk);

impl PlainDisk {
    /// Hides the optional methods of a disk.
    pub fn new(inner: ReferenceDisk) -> Self {
        Self(inner)
    }
}

impl DiskIo for PlainDisk {
    fn disk_type(&self) -> &str {
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

    fn is_read_only(&self) -> bool {
        self.0.is_read_only()
    }

    fn persistence(&self) -> Persistence {
        Persistence::Volatile
    }

    async fn unmap(&self, sector: u64, count: u64, hint: bool) -> Result<(), DiskError> {
        self.0.unmap(sector, count, hint).await
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        self.0.unmap_behavior()
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

    async fn sync_cache(&self) -> Result<(), DiskError> {
        self.0.sync_cache().await
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.0.wait_resize(sector_count).await
    }
}
