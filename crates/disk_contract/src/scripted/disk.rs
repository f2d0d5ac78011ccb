//! A disk under a script.

use super::{Operation, Script};
use crate::ReferenceDisk;
use disk_backend::pr::PersistentReservation;
use disk_backend::{BlockStatus, ContentStamp, DiskError, DiskIo, Persistence, UnmapBehavior};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;
use std::sync::Arc;

/// A disk whose requests wait, fail or stutter as its [`Script`] says; what they do is up to the disk inside. Clones are the
/// same disk.
#[derive(Debug)]
pub struct ScriptedDisk<D = ReferenceDisk> {
    inner: Arc<D>,
    script: Script,
}

impl<D> ScriptedDisk<D> {
    /// A disk under a script without rules.
    pub fn new(inner: D) -> Self {
        Self {
            inner: Arc::new(inner),
            script: Script::new(),
        }
    }

    /// The disk without its script.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// What happens to its requests.
    pub fn script(&self) -> &Script {
        &self.script
    }
}

impl<D> Clone for ScriptedDisk<D> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            script: self.script.clone(),
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<D: DiskIo> DiskIo for ScriptedDisk<D> {
    fn disk_type(&self) -> &str {
        self.inner.disk_type()
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

    fn pr(&self) -> Option<&dyn PersistentReservation> {
        self.inner.pr()
    }

    async fn eject(&self) -> Result<(), DiskError> {
        self.inner.eject().await
    }

    fn expect_read(&self, _: u64, _: usize) {}

    /// Every request is a step of the script.
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
        let request = self.inner.read_vectored(buffers, sector);
        self.script.play(Operation::Read, request).await
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        let request = self.inner.write_vectored(buffers, sector, fua);
        self.script.play(Operation::Write, request).await
    }

    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        may_unmap: bool,
        no_fallback: bool,
    ) -> Result<(), DiskError> {
        let request = self
            .inner
            .write_zeroes(sector, count, fua, may_unmap, no_fallback);
        self.script.play(Operation::WriteZeroes, request).await
    }

    async fn unmap(
        &self,
        sector: u64,
        count: u64,
        block_level_only: bool,
    ) -> Result<(), DiskError> {
        let request = self.inner.unmap(sector, count, block_level_only);
        self.script.play(Operation::Unmap, request).await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        let request = self.inner.sync_cache();
        self.script.play(Operation::Flush, request).await
    }

    async fn close(&self) -> Result<(), DiskError> {
        let request = self.inner.close();
        self.script.play(Operation::Flush, request).await
    }

    async fn block_status(&self, sector: u64, count: u64) -> Result<BlockStatus, DiskError> {
        let request = self.inner.block_status(sector, count);
        self.script.play(Operation::Status, request).await
    }

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        let request = self.inner.resize(sector_count);
        self.script.play(Operation::Resize, request).await
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.inner.wait_resize(sector_count).await
    }

    async fn drain(&self) {
        self.inner.drain().await;
    }
}

impl<D: DiskIo> Inspect for ScriptedDisk<D> {
    fn inspect(&self, req: inspect::Request<'_>) {
        self.inner.inspect(req);
    }
}
