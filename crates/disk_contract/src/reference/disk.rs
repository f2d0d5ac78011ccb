//! A disk that anybody can see to be right.

use super::size::Resized;
use crate::DiskSpec;
use crate::spec::is_zero;
use disk_backend::check::{Intent, Limits};
use disk_backend::pr::PersistentReservation;
use disk_backend::{
    BlockExtent, BlockState, BlockStatus, ContentStamp, DiskError, DiskIo, Persistence,
    UnmapBehavior,
};
use guestmem::{MemoryRead, MemoryWrite};
use inspect::Inspect;
use parking_lot::Mutex;
use scsi_buffers::RequestBuffers;
use std::ops::Range;

/// A disk in an array behind one lock: slow, volatile, and as plain as the contract allows. It checks requests by itself too.
///
/// It is what the kit puts beside a layer under test, and a model to compare an implementation with.
#[derive(Debug)]
pub struct ReferenceDisk {
    sector_shift: u32,
    is_read_only: bool,
    bytes: Mutex<Vec<u8>>,
    resized: Resized,
    unmap_behavior: UnmapBehavior,
}

impl ReferenceDisk {
    /// The disk that a specification asks for, with its content.
    pub fn new(spec: DiskSpec) -> Self {
        Self {
            sector_shift: spec.sector_size.trailing_zeros(),
            is_read_only: spec.is_read_only,
            bytes: Mutex::new(spec.content),
            resized: Resized::default(),
            unmap_behavior: UnmapBehavior::Zeroes,
        }
    }

    /// With another behaviour than `Zeroes`. `Unspecified`: odd sectors become zero, even ones keep what they hold.
    #[must_use]
    pub fn with_unmap_behavior(mut self, unmap_behavior: UnmapBehavior) -> Self {
        self.unmap_behavior = unmap_behavior;
        self
    }

    /// The whole disk belongs to the request while it lasts, so everything in it happens at one instant (C2).
    fn limits(&self, bytes: &[u8]) -> Limits {
        Limits {
            sector_shift: self.sector_shift,
            sector_count: (bytes.len() >> self.sector_shift) as u64,
            is_read_only: self.is_read_only,
        }
    }

    fn zero(&self, sector: u64, count: u64) -> Result<(), DiskError> {
        let mut bytes = self.bytes.lock();
        self.limits(&bytes)
            .check_range(Intent::Write, sector, count)?;
        bytes[self.byte_range(sector, count)].fill(0);
        Ok(())
    }

    fn read_now(&self, buffers: &RequestBuffers<'_>, sector: u64) -> Result<(), DiskError> {
        let bytes = self.bytes.lock();
        let limits = self.limits(&bytes);
        let count = limits.check_buffers(Intent::Read, buffers, sector)?;
        let range = self.byte_range(sector, count);
        Ok(buffers.writer().write(&bytes[range])?)
    }

    fn write_now(&self, buffers: &RequestBuffers<'_>, sector: u64) -> Result<(), DiskError> {
        let mut bytes = self.bytes.lock();
        let limits = self.limits(&bytes);
        let count = limits.check_buffers(Intent::Write, buffers, sector)?;
        let range = self.byte_range(sector, count);
        Ok(buffers.reader().read(&mut bytes[range])?)
    }

    /// Whether an unmap makes a sector zero.
    fn unmaps(&self, sector: u64) -> bool {
        match self.unmap_behavior {
            UnmapBehavior::Zeroes => true,
            UnmapBehavior::Unspecified => sector % 2 == 1,
            UnmapBehavior::Ignored => false,
        }
    }

    /// Only for ranges that were found to be inside.
    fn byte_range(&self, sector: u64, count: u64) -> Range<usize> {
        (sector as usize) << self.sector_shift..((sector + count) as usize) << self.sector_shift
    }
}

#[deny(clippy::missing_trait_methods)]
impl DiskIo for ReferenceDisk {
    fn disk_type(&self) -> &str {
        "reference"
    }

    fn sector_count(&self) -> u64 {
        (self.bytes.lock().len() >> self.sector_shift) as u64
    }

    fn sector_size(&self) -> u32 {
        1 << self.sector_shift
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        None
    }

    fn content_stamp(&self) -> Option<ContentStamp> {
        None
    }

    fn physical_sector_size(&self) -> u32 {
        self.sector_size()
    }

    fn is_fua_respected(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    fn persistence(&self) -> Persistence {
        Persistence::Volatile
    }

    fn atomic_write_sectors(&self) -> u32 {
        1
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        self.unmap_behavior
    }

    fn optimal_unmap_sectors(&self) -> u32 {
        1
    }

    fn pr(&self) -> Option<&dyn PersistentReservation> {
        None
    }

    async fn eject(&self) -> Result<(), DiskError> {
        Err(DiskError::UnsupportedEject)
    }

    fn expect_read(&self, _: u64, _: usize) {}

    fn try_read(&self, buffers: &RequestBuffers<'_>, sector: u64) -> bool {
        self.read_now(buffers, sector).is_ok()
    }

    fn try_write(&self, buffers: &RequestBuffers<'_>, sector: u64, _fua: bool) -> bool {
        self.write_now(buffers, sector).is_ok()
    }

    async fn read_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        self.read_now(buffers, sector)
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        _fua: bool,
    ) -> Result<(), DiskError> {
        self.write_now(buffers, sector)
    }

    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        _fua: bool,
        _may_unmap: bool,
        _no_fallback: bool,
    ) -> Result<(), DiskError> {
        self.zero(sector, count)
    }

    async fn unmap(
        &self,
        sector: u64,
        count: u64,
        _block_level_only: bool,
    ) -> Result<(), DiskError> {
        let mut bytes = self.bytes.lock();
        self.limits(&bytes)
            .check_range(Intent::Write, sector, count)?;
        for sector in (sector..sector + count).filter(|sector| self.unmaps(*sector)) {
            bytes[self.byte_range(sector, 1)].fill(0);
        }
        Ok(())
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        Ok(())
    }

    async fn close(&self) -> Result<(), DiskError> {
        self.sync_cache().await
    }

    async fn block_status(&self, sector: u64, count: u64) -> Result<BlockStatus, DiskError> {
        let bytes = self.bytes.lock();
        self.limits(&bytes)
            .check_range(Intent::Read, sector, count)?;
        let mut status = BlockStatus::default();
        for bytes in bytes[self.byte_range(sector, count)].chunks_exact(1 << self.sector_shift) {
            let extent = BlockExtent {
                sector_count: 1,
                state: match is_zero(bytes) {
                    true => BlockState::Hole,
                    false => BlockState::Data,
                },
                layer: None,
            };
            if !status.push(extent) {
                break;
            }
        }
        Ok(status)
    }

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        if self.is_read_only {
            return Err(DiskError::ReadOnly);
        }
        let len = usize::try_from(sector_count)
            .ok()
            .and_then(|count| count.checked_mul(1 << self.sector_shift))
            .ok_or(DiskError::NoSpace)?;
        self.bytes.lock().resize(len, 0);
        self.resized.notify();
        Ok(())
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.resized
            .wait(sector_count, || self.sector_count())
            .await
    }

    /// Nothing here goes on without its future.
    async fn drain(&self) {}
}

impl Inspect for ReferenceDisk {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond().field("bytes", &self.bytes.lock().len());
    }
}
