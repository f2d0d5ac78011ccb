//! A layer without its type; see `disk_backend`'s handle, which does the same for disks.
//!
//! The place for a layer's future is smaller than that for a disk's, so that the future of a flat stack, which holds one
//! layer's at a time, fits into the disk's place without a heap allocation.

use crate::{LayerIo, LayerStatus, LayerWatch, SectorMarker, TryRead, WriteNoOverwrite};
use disk_backend::{ContentStamp, DiskError, Persistence, UnmapBehavior};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;
use stackfuture::StackFuture;
use std::future::Future;
use std::pin::Pin;

/// The place for the future of one layer's part of a request, in bytes.
pub(crate) const LAYER_FUTURE_BYTES: usize = 768;

pub(crate) type LayerFuture<'a> = StackFuture<'a, Result<(), DiskError>, { LAYER_FUTURE_BYTES }>;
type ColdFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The parameters of a zeroing, as [`LayerIo::write_zeroes`] names them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ZeroOptions {
    pub(crate) fua: bool,
    pub(crate) may_unmap: bool,
    pub(crate) no_fallback: bool,
}

/// [`LayerIo`], object-safe.
pub(crate) trait DynLayer: Send + Sync + Inspect {
    fn layer_type(&self) -> &str;
    fn sector_count(&self) -> u64;
    fn sector_size(&self) -> u32;
    fn disk_id(&self) -> Option<[u8; 16]>;
    fn content_stamp(&self) -> Option<ContentStamp>;
    fn physical_sector_size(&self) -> u32;
    fn is_fua_respected(&self) -> bool;
    fn is_logically_read_only(&self) -> bool;
    fn persistence(&self) -> Persistence;
    fn atomic_write_sectors(&self) -> u32;
    fn may_be_emptied(&self) -> bool;
    fn unmap_behavior(&self) -> UnmapBehavior;
    fn optimal_unmap_sectors(&self) -> u32;
    fn has_write_no_overwrite(&self) -> bool;
    fn expect_read(&self, sector: u64, len: usize);
    fn try_read(&self, buffers: &RequestBuffers<'_>, sector: u64) -> TryRead;
    fn try_write(&self, buffers: &RequestBuffers<'_>, sector: u64, fua: bool) -> bool;
    fn read<'a>(
        &'a self,
        buffers: &'a RequestBuffers<'a>,
        sector: u64,
        marker: SectorMarker<'a>,
    ) -> LayerFuture<'a>;
    fn write<'a>(
        &'a self,
        buffers: &'a RequestBuffers<'a>,
        sector: u64,
        fua: bool,
    ) -> LayerFuture<'a>;
    fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        options: ZeroOptions,
        next_is_zero: bool,
    ) -> LayerFuture<'_>;
    fn unmap(
        &self,
        sector: u64,
        count: u64,
        block_level_only: bool,
        next_is_zero: bool,
    ) -> LayerFuture<'_>;
    fn sync_cache(&self) -> LayerFuture<'_>;
    /// As [`WriteNoOverwrite::write_no_overwrite`]; `Unsupported` if the layer has none.
    fn write_no_overwrite<'a>(
        &'a self,
        buffers: &'a RequestBuffers<'a>,
        sector: u64,
    ) -> LayerFuture<'a>;
    /// As [`WriteNoOverwrite::try_write_no_overwrite`].
    fn try_write_no_overwrite(&self, buffers: &RequestBuffers<'_>, sector: u64) -> bool;
    fn evict(&self, sector: u64, count: u64) -> LayerFuture<'_>;
    fn watch(&self, watch: &LayerWatch) -> bool;
    fn lower_shrank(&self, sector_count: u64);
    fn close(&self) -> ColdFuture<'_, Result<(), DiskError>>;
    fn drain(&self) -> ColdFuture<'_, ()>;
    fn layer_status(
        &self,
        sector: u64,
        count: u64,
    ) -> ColdFuture<'_, Result<LayerStatus, DiskError>>;
    fn resize(&self, sector_count: u64) -> ColdFuture<'_, Result<(), DiskError>>;
    fn wait_resize(&self, sector_count: u64) -> ColdFuture<'_, u64>;
}

impl<T: LayerIo> DynLayer for T {
    fn layer_type(&self) -> &str {
        LayerIo::layer_type(self)
    }

    fn sector_count(&self) -> u64 {
        LayerIo::sector_count(self)
    }

    fn sector_size(&self) -> u32 {
        LayerIo::sector_size(self)
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        LayerIo::disk_id(self)
    }

    fn content_stamp(&self) -> Option<ContentStamp> {
        LayerIo::content_stamp(self)
    }

    fn physical_sector_size(&self) -> u32 {
        LayerIo::physical_sector_size(self)
    }

    fn is_fua_respected(&self) -> bool {
        LayerIo::is_fua_respected(self)
    }

    fn is_logically_read_only(&self) -> bool {
        LayerIo::is_logically_read_only(self)
    }

    fn persistence(&self) -> Persistence {
        LayerIo::persistence(self)
    }

    fn atomic_write_sectors(&self) -> u32 {
        LayerIo::atomic_write_sectors(self)
    }

    fn may_be_emptied(&self) -> bool {
        LayerIo::may_be_emptied(self)
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        LayerIo::unmap_behavior(self)
    }

    fn optimal_unmap_sectors(&self) -> u32 {
        LayerIo::optimal_unmap_sectors(self)
    }

    fn has_write_no_overwrite(&self) -> bool {
        self.write_no_overwrite().is_some()
    }

    fn expect_read(&self, sector: u64, len: usize) {
        LayerIo::expect_read(self, sector, len);
    }

    fn try_read(&self, buffers: &RequestBuffers<'_>, sector: u64) -> TryRead {
        LayerIo::try_read(self, buffers, sector)
    }

    fn try_write(&self, buffers: &RequestBuffers<'_>, sector: u64, fua: bool) -> bool {
        LayerIo::try_write(self, buffers, sector, fua)
    }

    fn read<'a>(
        &'a self,
        buffers: &'a RequestBuffers<'a>,
        sector: u64,
        marker: SectorMarker<'a>,
    ) -> LayerFuture<'a> {
        StackFuture::from_or_box(LayerIo::read(self, buffers, sector, marker))
    }

    fn write<'a>(
        &'a self,
        buffers: &'a RequestBuffers<'a>,
        sector: u64,
        fua: bool,
    ) -> LayerFuture<'a> {
        StackFuture::from_or_box(LayerIo::write(self, buffers, sector, fua))
    }

    fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        options: ZeroOptions,
        next_is_zero: bool,
    ) -> LayerFuture<'_> {
        let ZeroOptions {
            fua,
            may_unmap,
            no_fallback,
        } = options;
        StackFuture::from_or_box(LayerIo::write_zeroes(
            self,
            sector,
            count,
            fua,
            may_unmap,
            no_fallback,
            next_is_zero,
        ))
    }

    fn unmap(
        &self,
        sector: u64,
        count: u64,
        block_level_only: bool,
        next_is_zero: bool,
    ) -> LayerFuture<'_> {
        StackFuture::from_or_box(LayerIo::unmap(
            self,
            sector,
            count,
            block_level_only,
            next_is_zero,
        ))
    }

    fn sync_cache(&self) -> LayerFuture<'_> {
        StackFuture::from_or_box(LayerIo::sync_cache(self))
    }

    fn write_no_overwrite<'a>(
        &'a self,
        buffers: &'a RequestBuffers<'a>,
        sector: u64,
    ) -> LayerFuture<'a> {
        StackFuture::from_or_box(async move {
            match LayerIo::write_no_overwrite(self) {
                Some(cache) => cache.write_no_overwrite(buffers, sector).await,
                None => Err(DiskError::Unsupported),
            }
        })
    }

    fn try_write_no_overwrite(&self, buffers: &RequestBuffers<'_>, sector: u64) -> bool {
        LayerIo::write_no_overwrite(self)
            .is_some_and(|cache| cache.try_write_no_overwrite(buffers, sector))
    }

    fn evict(&self, sector: u64, count: u64) -> LayerFuture<'_> {
        StackFuture::from_or_box(LayerIo::evict(self, sector, count))
    }

    fn watch(&self, watch: &LayerWatch) -> bool {
        LayerIo::watch(self, watch)
    }

    fn lower_shrank(&self, sector_count: u64) {
        LayerIo::lower_shrank(self, sector_count);
    }

    fn close(&self) -> ColdFuture<'_, Result<(), DiskError>> {
        Box::pin(LayerIo::close(self))
    }

    fn drain(&self) -> ColdFuture<'_, ()> {
        Box::pin(LayerIo::drain(self))
    }

    fn layer_status(
        &self,
        sector: u64,
        count: u64,
    ) -> ColdFuture<'_, Result<LayerStatus, DiskError>> {
        Box::pin(LayerIo::layer_status(self, sector, count))
    }

    fn resize(&self, sector_count: u64) -> ColdFuture<'_, Result<(), DiskError>> {
        Box::pin(LayerIo::resize(self, sector_count))
    }

    fn wait_resize(&self, sector_count: u64) -> ColdFuture<'_, u64> {
        Box::pin(LayerIo::wait_resize(self, sector_count))
    }
}
