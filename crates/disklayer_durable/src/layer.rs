//! The layer.

use crate::core::Core;
use crate::format::{Binding, Layout, Role};
use crate::journal;
use crate::page::Clear;
use crate::resize::resize;
use disk_backend::{ContentStamp, DiskError, Persistence, UnmapBehavior};
use disk_layered::{LayerIo, LayerStatus, LayerWatch, SectorMarker, TryRead, WriteNoOverwrite};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// So many sectors are dealt with before others may run: the pages of 64 stripes.
pub(crate) const SECTORS_BETWEEN_YIELDS: u64 = 64 * Layout::STRIPE_SECTORS_MAX as u64;

/// A layer that keeps what it holds on a disk. See the [crate documentation](crate).
pub struct DurableLayer {
    core: Arc<Core>,
}

impl DurableLayer {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Records what it lies on, with the next superblock.
    pub(crate) fn bind(&self, binding: Binding) {
        self.core.journal.bind(binding);
    }

    /// Makes durable what completed, and leaves the store as after a clean stop, unless changes are under way. A change afterwards takes
    /// that back.
    ///
    /// # Errors
    /// Those of a flush.
    pub async fn close(&self) -> Result<(), DiskError> {
        match self.core.store.is_read_only() {
            true => Ok(()),
            false => journal::close(&self.core).await,
        }
    }

    async fn flush(&self) -> Result<(), DiskError> {
        if self.core.store.is_read_only() {
            return Ok(());
        }
        self.core.flush().await
    }
}

impl Drop for DurableLayer {
    fn drop(&mut self) {
        self.core.abandon();
    }
}

impl fmt::Debug for DurableLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableLayer")
            .field("sizes", &self.core.sizes())
            .field("layout", &self.core.layout)
            .finish_non_exhaustive()
    }
}

impl Inspect for DurableLayer {
    fn inspect(&self, req: inspect::Request<'_>) {
        let core = &self.core;
        let id = u128::from_be_bytes(core.layer_id);
        req.respond()
            .field("layer_id", &format!("{id:032x}"))
            .field("verify", core.layout.verify.name())
            .field("shown_below", &core.shown_below())
            .field("pages_in_memory", &core.cache.page_count())
            .field("pages_dirty", &core.journal.dirty_count())
            .field("stripes_open", &core.journal.open.lock().len())
            .field("checksum_errors", &core.mismatches.load(Ordering::Relaxed))
            .field("is_in_use", &core.journal.is_in_use())
            .field("store", &core.store);
    }
}

#[deny(clippy::missing_trait_methods)]
impl LayerIo for DurableLayer {
    fn layer_type(&self) -> &str {
        "durable"
    }

    fn sector_count(&self) -> u64 {
        self.core.sector_count()
    }

    fn sector_size(&self) -> u32 {
        self.core.layout.sector_size
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        Some(self.core.layer_id)
    }

    /// That of the store, which nobody writes then.
    fn content_stamp(&self) -> Option<ContentStamp> {
        self.core.store.content_stamp()
    }

    fn physical_sector_size(&self) -> u32 {
        self.core.store.physical_sector_size()
    }

    fn is_fua_respected(&self) -> bool {
        true
    }

    fn is_logically_read_only(&self) -> bool {
        self.core.store.is_read_only()
    }

    fn persistence(&self) -> Persistence {
        self.core.store.persistence()
    }

    fn atomic_write_sectors(&self) -> u32 {
        1
    }

    /// As a cache it is, when it was put above something else, is damaged, or was written through and not closed.
    fn may_be_emptied(&self) -> bool {
        self.core.role() != Role::Overlay
    }

    async fn read(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        marker: SectorMarker<'_>,
    ) -> Result<(), DiskError> {
        self.core.read(buffers, sector, marker).await
    }

    fn expect_read(&self, _: u64, _: usize) {}

    fn try_read(&self, buffers: &RequestBuffers<'_>, sector: u64) -> TryRead {
        self.core.try_read(buffers, sector)
    }

    fn try_write(&self, buffers: &RequestBuffers<'_>, sector: u64, fua: bool) -> bool {
        self.core.try_write(buffers, sector, fua)
    }

    async fn write(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        self.core.write(buffers, sector, fua).await
    }

    /// Zeros are a state: they are never stored as data.
    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        may_unmap: bool,
        _no_fallback: bool,
        next_is_zero: bool,
    ) -> Result<(), DiskError> {
        let clear = Clear::Zero { next_is_zero };
        let range = sector..sector + count;
        self.core.clear(range, clear, may_unmap).await?;
        match fua {
            true => self.core.flush().await,
            false => Ok(()),
        }
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        self.flush().await
    }

    async fn close(&self) -> Result<(), DiskError> {
        DurableLayer::close(self).await?;
        self.core.store.close().await
    }

    async fn unmap(
        &self,
        sector: u64,
        count: u64,
        _block_level_only: bool,
        next_is_zero: bool,
    ) -> Result<(), DiskError> {
        let clear = Clear::Zero { next_is_zero };
        self.core.clear(sector..sector + count, clear, true).await
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        UnmapBehavior::Zeroes
    }

    fn optimal_unmap_sectors(&self) -> u32 {
        self.core.store.optimal_unmap_sectors()
    }

    async fn layer_status(&self, sector: u64, count: u64) -> Result<LayerStatus, DiskError> {
        self.core.status(sector..sector + count).await
    }

    fn write_no_overwrite(&self) -> Option<impl WriteNoOverwrite> {
        Some(Fill(&self.core))
    }

    /// Sectors that a resize added stay: they are zeros of the layer's own, not a copy.
    async fn evict(&self, sector: u64, count: u64) -> Result<(), DiskError> {
        self.core.evict(sector..sector + count).await
    }

    /// Nothing changes but by requests.
    fn watch(&self, _watch: &LayerWatch) -> bool {
        true
    }

    fn lower_shrank(&self, sector_count: u64) {
        self.core.lower_mark(sector_count);
    }

    async fn drain(&self) {
        self.core.drain().await;
    }

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        resize(&self.core, sector_count).await
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        loop {
            // Listens first: a change after the look is not missed.
            let listener = self.core.resized.listen();
            let now = self.core.sector_count();
            if now != sector_count {
                return now;
            }
            listener.await;
        }
    }
}

/// How the layer is filled as a cache.
struct Fill<'a>(&'a Arc<Core>);

#[deny(clippy::missing_trait_methods)]
impl WriteNoOverwrite for Fill<'_> {
    async fn write_no_overwrite(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        self.0.fill(buffers, sector).await
    }

    /// Never: a file takes no write without waiting, since the kernel could not be made to give back a part that it has taken of one
    /// (`FileDisk::try_write`), and so there would be nothing to gain but for stores in memory. What it costs: where what lies below
    /// can be read at once, a miss reads it twice, beside a fill that goes through the kernel.
    fn try_write_no_overwrite(&self, _buffers: &RequestBuffers<'_>, _sector: u64) -> bool {
        false
    }
}
