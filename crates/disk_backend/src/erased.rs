//! A backend without its type.
//!
//! The futures of the hot methods are kept in place (`StackFuture`), so erasing the type costs no heap allocation. A future
//! larger than the place is boxed: that happens to a disk nested in another, at each level.

use crate::pr::PersistentReservation;
use crate::{BlockStatus, DiskError, DiskIo};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;
use stackfuture::StackFuture;
use std::future::Future;
use std::pin::Pin;

/// The place for the future of one request, in bytes.
pub(crate) const REQUEST_FUTURE_BYTES: usize = 1536;

pub(crate) type RequestFuture<'a> =
    StackFuture<'a, Result<(), DiskError>, { REQUEST_FUTURE_BYTES }>;
type ColdFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The methods of [`DiskIo`] that return futures, object-safe. Metadata is cached by [`Disk`](crate::Disk).
pub(crate) trait DynDisk: Send + Sync + Inspect {
    fn sector_count(&self) -> u64;
    fn pr(&self) -> Option<&dyn PersistentReservation>;
    fn expect_read(&self, sector: u64, len: usize);
    fn try_read(&self, buffers: &RequestBuffers<'_>, sector: u64) -> bool;
    fn try_write(&self, buffers: &RequestBuffers<'_>, sector: u64, fua: bool) -> bool;
    fn read_vectored<'a>(
        &'a self,
        buffers: &'a RequestBuffers<'a>,
        sector: u64,
    ) -> RequestFuture<'a>;
    fn write_vectored<'a>(
        &'a self,
        buffers: &'a RequestBuffers<'a>,
        sector: u64,
        fua: bool,
    ) -> RequestFuture<'a>;
    fn unmap(&self, sector: u64, count: u64, block_level_only: bool) -> RequestFuture<'_>;
    fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        may_unmap: bool,
        no_fallback: bool,
    ) -> RequestFuture<'_>;
    fn sync_cache(&self) -> RequestFuture<'_>;
    fn block_status(
        &self,
        sector: u64,
        count: u64,
    ) -> ColdFuture<'_, Result<BlockStatus, DiskError>>;
    fn eject(&self) -> ColdFuture<'_, Result<(), DiskError>>;
    fn resize(&self, sector_count: u64) -> ColdFuture<'_, Result<(), DiskError>>;
    fn wait_resize(&self, sector_count: u64) -> ColdFuture<'_, u64>;
    fn close(&self) -> ColdFuture<'_, Result<(), DiskError>>;
    fn drain(&self) -> ColdFuture<'_, ()>;
}

impl<T: DiskIo> DynDisk for T {
    fn sector_count(&self) -> u64 {
        DiskIo::sector_count(self)
    }

    fn pr(&self) -> Option<&dyn PersistentReservation> {
        DiskIo::pr(self)
    }

    fn expect_read(&self, sector: u64, len: usize) {
        DiskIo::expect_read(self, sector, len);
    }

    fn try_read(&self, buffers: &RequestBuffers<'_>, sector: u64) -> bool {
        DiskIo::try_read(self, buffers, sector)
    }

    fn try_write(&self, buffers: &RequestBuffers<'_>, sector: u64, fua: bool) -> bool {
        DiskIo::try_write(self, buffers, sector, fua)
    }

    fn read_vectored<'a>(
        &'a self,
        buffers: &'a RequestBuffers<'a>,
        sector: u64,
    ) -> RequestFuture<'a> {
        StackFuture::from_or_box(DiskIo::read_vectored(self, buffers, sector))
    }

    fn write_vectored<'a>(
        &'a self,
        buffers: &'a RequestBuffers<'a>,
        sector: u64,
        fua: bool,
    ) -> RequestFuture<'a> {
        StackFuture::from_or_box(DiskIo::write_vectored(self, buffers, sector, fua))
    }

    fn unmap(&self, sector: u64, count: u64, block_level_only: bool) -> RequestFuture<'_> {
        StackFuture::from_or_box(DiskIo::unmap(self, sector, count, block_level_only))
    }

    fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        may_unmap: bool,
        no_fallback: bool,
    ) -> RequestFuture<'_> {
        StackFuture::from_or_box(DiskIo::write_zeroes(
            self,
            sector,
            count,
            fua,
            may_unmap,
            no_fallback,
        ))
    }

    fn sync_cache(&self) -> RequestFuture<'_> {
        StackFuture::from_or_box(DiskIo::sync_cache(self))
    }

    fn block_status(
        &self,
        sector: u64,
        count: u64,
    ) -> ColdFuture<'_, Result<BlockStatus, DiskError>> {
        Box::pin(DiskIo::block_status(self, sector, count))
    }

    fn eject(&self) -> ColdFuture<'_, Result<(), DiskError>> {
        Box::pin(DiskIo::eject(self))
    }

    fn resize(&self, sector_count: u64) -> ColdFuture<'_, Result<(), DiskError>> {
        Box::pin(DiskIo::resize(self, sector_count))
    }

    fn wait_resize(&self, sector_count: u64) -> ColdFuture<'_, u64> {
        Box::pin(DiskIo::wait_resize(self, sector_count))
    }

    fn close(&self) -> ColdFuture<'_, Result<(), DiskError>> {
        Box::pin(DiskIo::close(self))
    }

    fn drain(&self) -> ColdFuture<'_, ()> {
        Box::pin(DiskIo::drain(self))
    }
}
