//! The layer, and the layer to be.

use crate::content::Content;
use disk_backend::{ContentStamp, DiskError, Persistence, UnmapBehavior};
use disk_layered::{
    DiskLayerMetadata, LayerAttach, LayerIo, LayerStatus, LayerWatch, SectorMarker, TryRead,
    WriteNoOverwrite,
};
use event_listener::Event;
use guestmem::MemoryRead;
use inspect::Inspect;
use parking_lot::RwLock;
use scsi_buffers::RequestBuffers;
use std::ops::Range;

/// A layer in memory, up to a limit. What was never written to it is absent.
#[derive(Debug)]
pub struct CappedLayer {
    sector_size: u32,
    content: RwLock<Content>,
    resized: Event,
}

impl CappedLayer {
    /// A layer of `sector_count` sectors of `sector_size` bytes, a power of two of at least 512, that holds at most `limit`
    /// bytes, what it takes to find them included.
    pub fn new(sector_count: u64, sector_size: u32, limit: u64) -> Self {
        Self {
            sector_size,
            content: RwLock::new(Content::new(sector_count, sector_size.into(), limit)),
            resized: Event::new(),
        }
    }

    /// How much of the limit is used, in bytes.
    pub fn held_bytes(&self) -> u64 {
        self.content.read().held_bytes()
    }

    /// The sectors of a request, and a private copy of its bytes. Taken before anything is locked: memory may be slow, or not there.
    fn take(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(Range<u64>, Vec<u8>), DiskError> {
        let mut bytes = vec![0; buffers.len()];
        buffers.reader().read(&mut bytes)?;
        Ok((self.range(buffers, sector), bytes))
    }

    fn range(&self, buffers: &RequestBuffers<'_>, sector: u64) -> Range<u64> {
        sector..sector + buffers.len() as u64 / u64::from(self.sector_size)
    }

    async fn clear(&self, range: Range<u64>, hide: bool) -> Result<(), DiskError> {
        let mut at = range.start;
        loop {
            at = self.content.write().clear_some(at..range.end, hide)?;
            if at == range.end {
                return Ok(());
            }
            futures_lite::future::yield_now().await;
        }
    }

    fn set_limit(&self, new: &str) -> Result<(), String> {
        let limit = new
            .parse()
            .map_err(|_| format!("`{new}` is not a number of bytes"))?;
        self.content.write().limit_bytes = limit;
        Ok(())
    }
}

#[deny(clippy::missing_trait_methods)]
impl LayerIo for CappedLayer {
    fn layer_type(&self) -> &str {
        "capped"
    }

    fn sector_count(&self) -> u64 {
        self.content.read().sector_count
    }

    fn sector_size(&self) -> u32 {
        self.sector_size
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        None
    }

    fn content_stamp(&self) -> Option<ContentStamp> {
        None
    }

    fn physical_sector_size(&self) -> u32 {
        self.sector_size
    }

    fn is_fua_respected(&self) -> bool {
        true
    }

    fn is_logically_read_only(&self) -> bool {
        false
    }

    fn persistence(&self) -> Persistence {
        Persistence::Volatile
    }

    fn atomic_write_sectors(&self) -> u32 {
        1
    }

    fn may_be_emptied(&self) -> bool {
        false
    }

    fn expect_read(&self, _: u64, _: usize) {}

    /// One way is enough for a layer that is not fast.
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
        mut marker: SectorMarker<'_>,
    ) -> Result<(), DiskError> {
        let range = self.range(buffers, sector);
        let content = self.content.read();
        content.read(range, &mut buffers.writer(), &mut marker)
    }

    async fn write(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        _fua: bool,
    ) -> Result<(), DiskError> {
        let (range, bytes) = self.take(buffers, sector)?;
        self.content.write().write(range, &bytes)
    }

    /// Never as data: a zero costs no memory, whatever the options say.
    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        _fua: bool,
        _may_unmap: bool,
        _no_fallback: bool,
        next_is_zero: bool,
    ) -> Result<(), DiskError> {
        self.clear(sector..sector + count, !next_is_zero).await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        Ok(())
    }

    async fn close(&self) -> Result<(), DiskError> {
        self.sync_cache().await
    }

    async fn unmap(
        &self,
        sector: u64,
        count: u64,
        _block_level_only: bool,
        next_is_zero: bool,
    ) -> Result<(), DiskError> {
        self.clear(sector..sector + count, !next_is_zero).await
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        UnmapBehavior::Zeroes
    }

    fn optimal_unmap_sectors(&self) -> u32 {
        1
    }

    async fn layer_status(&self, sector: u64, count: u64) -> Result<LayerStatus, DiskError> {
        self.content.read().status(sector..sector + count)
    }

    fn write_no_overwrite(&self) -> Option<impl WriteNoOverwrite> {
        Some(Fill(self))
    }

    async fn evict(&self, sector: u64, count: u64) -> Result<(), DiskError> {
        self.clear(sector..sector + count, false).await
    }

    /// A stack that has it is the only one who can change it, so there will be nothing to say.
    fn watch(&self, _watch: &LayerWatch) -> bool {
        true
    }

    /// It is gone with the stack, which remembers it.
    fn lower_shrank(&self, _sector_count: u64) {}

    /// Every operation ends with its future.
    async fn drain(&self) {}

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        self.content.write().resize(sector_count)?;
        self.resized.notify(usize::MAX);
        Ok(())
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        loop {
            // Listens first, and looks then: a change in between is not missed.
            let listener = self.resized.listen();
            let now = self.sector_count();
            if now != sector_count {
                return now;
            }
            listener.await;
        }
    }
}

/// The way to fill the layer as a cache.
struct Fill<'a>(&'a CappedLayer);

impl WriteNoOverwrite for Fill<'_> {
    async fn write_no_overwrite(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        let (range, bytes) = self.0.take(buffers, sector)?;
        self.0.content.write().fill(range, &bytes)
    }
}

impl Inspect for CappedLayer {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond()
            .field("held_bytes", &self.held_bytes())
            .field_mut_with("limit_bytes", |new| {
                new.map_or(Ok(()), |new| self.set_limit(new))
                    .map(|()| self.content.read().limit_bytes)
            });
    }
}

/// A [`CappedLayer`] to be: it takes its size and its sector size from the layer below.
#[derive(Debug, Clone, Copy)]
pub struct LazyCappedLayer {
    /// The most it may hold, in bytes.
    pub limit: u64,
}

/// There is no layer below to take a size from.
#[derive(Debug, thiserror::Error)]
#[error("a capped layer has the size of what lies below it, and there is nothing: add a layer")]
pub struct NothingBelow;

impl LayerAttach for LazyCappedLayer {
    type Error = NothingBelow;
    type Layer = CappedLayer;

    async fn attach(self, lower: Option<DiskLayerMetadata>) -> Result<CappedLayer, NothingBelow> {
        let lower = lower.ok_or(NothingBelow)?;
        Ok(CappedLayer::new(
            lower.sector_count,
            lower.sector_size,
            self.limit,
        ))
    }
}
