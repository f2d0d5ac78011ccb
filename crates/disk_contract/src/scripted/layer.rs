//! A layer under a script.

use super::{Operation, Script};
use crate::ReferenceLayer;
use disk_backend::{ContentStamp, DiskError, Persistence, UnmapBehavior};
use disk_layered::{LayerIo, LayerStatus, LayerWatch, SectorMarker, TryRead, WriteNoOverwrite};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;
use std::sync::Arc;

/// A layer whose requests wait, fail or stutter as its [`Script`] says; what they do is up to the layer inside. Clones are the
/// same layer, so that a test can look at it while it stands in a stack.
#[derive(Debug)]
pub struct ScriptedLayer<L = ReferenceLayer> {
    inner: Arc<L>,
    script: Script,
}

impl<L> ScriptedLayer<L> {
    /// A layer under a script without rules.
    pub fn new(inner: L) -> Self {
        Self {
            inner: Arc::new(inner),
            script: Script::new(),
        }
    }

    /// The layer without its script.
    pub fn inner(&self) -> &L {
        &self.inner
    }

    /// What happens to its requests.
    pub fn script(&self) -> &Script {
        &self.script
    }
}

impl<L> Clone for ScriptedLayer<L> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            script: self.script.clone(),
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<L: LayerIo> LayerIo for ScriptedLayer<L> {
    fn layer_type(&self) -> &str {
        self.inner.layer_type()
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

    fn is_logically_read_only(&self) -> bool {
        self.inner.is_logically_read_only()
    }

    fn persistence(&self) -> Persistence {
        self.inner.persistence()
    }

    fn atomic_write_sectors(&self) -> u32 {
        self.inner.atomic_write_sectors()
    }

    fn may_be_emptied(&self) -> bool {
        self.inner.may_be_emptied()
    }

    fn expect_read(&self, _: u64, _: usize) {}

    /// Every request is a step of the script.
    fn try_read(&self, _: &RequestBuffers<'_>, _: u64) -> TryRead {
        TryRead::WouldBlock
    }

    fn try_write(&self, _: &RequestBuffers<'_>, _: u64, _: bool) -> bool {
        false
    }

    async fn read(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        marker: SectorMarker<'_>,
    ) -> Result<(), DiskError> {
        let request = self.inner.read(buffers, sector, marker);
        self.script.play(Operation::Read, request).await
    }

    async fn write(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        let request = self.inner.write(buffers, sector, fua);
        self.script.play(Operation::Write, request).await
    }

    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        may_unmap: bool,
        no_fallback: bool,
        next_is_zero: bool,
    ) -> Result<(), DiskError> {
        let request =
            self.inner
                .write_zeroes(sector, count, fua, may_unmap, no_fallback, next_is_zero);
        self.script.play(Operation::WriteZeroes, request).await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        let request = self.inner.sync_cache();
        self.script.play(Operation::Flush, request).await
    }

    async fn close(&self) -> Result<(), DiskError> {
        let request = self.inner.close();
        self.script.play(Operation::Flush, request).await
    }

    async fn unmap(
        &self,
        sector: u64,
        count: u64,
        block_level_only: bool,
        next_is_zero: bool,
    ) -> Result<(), DiskError> {
        let request = self
            .inner
            .unmap(sector, count, block_level_only, next_is_zero);
        self.script.play(Operation::Unmap, request).await
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        self.inner.unmap_behavior()
    }

    fn optimal_unmap_sectors(&self) -> u32 {
        self.inner.optimal_unmap_sectors()
    }

    async fn layer_status(&self, sector: u64, count: u64) -> Result<LayerStatus, DiskError> {
        let request = self.inner.layer_status(sector, count);
        self.script.play(Operation::Status, request).await
    }

    fn write_no_overwrite(&self) -> Option<impl WriteNoOverwrite> {
        let inner = self.inner.write_no_overwrite()?;
        let script = &self.script;
        Some(ScriptedFill { inner, script })
    }

    async fn evict(&self, sector: u64, count: u64) -> Result<(), DiskError> {
        let request = self.inner.evict(sector, count);
        self.script.play(Operation::Evict, request).await
    }

    /// Tests change the layer inside by handles of their own, and want to see each request.
    fn watch(&self, _watch: &LayerWatch) -> bool {
        false
    }

    fn lower_shrank(&self, sector_count: u64) {
        self.inner.lower_shrank(sector_count);
    }

    async fn drain(&self) {
        self.inner.drain().await;
    }

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        let request = self.inner.resize(sector_count);
        self.script.play(Operation::Resize, request).await
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.inner.wait_resize(sector_count).await
    }
}

/// The way to fill the layer inside, under the same script.
struct ScriptedFill<'a, F> {
    inner: F,
    script: &'a Script,
}

impl<F: WriteNoOverwrite> WriteNoOverwrite for ScriptedFill<'_, F> {
    async fn write_no_overwrite(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        let request = self.inner.write_no_overwrite(buffers, sector);
        self.script.play(Operation::Fill, request).await
    }
}

impl<L: LayerIo> Inspect for ScriptedLayer<L> {
    fn inspect(&self, req: inspect::Request<'_>) {
        self.inner.inspect(req);
    }
}
