//! The one place that decides whether a request is well formed (C1).

use crate::DiskError;
use planted::Bug;
use scsi_buffers::RequestBuffers;

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// It only looks.
    Read,
    /// It changes sectors.
    Write,
}

/// The facts about a disk that requests are held against.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The size of a sector as a power of two.
    pub sector_shift: u32,
    /// The size of the disk in sectors.
    pub sector_count: u64,
    /// Whether the disk refuses to be changed.
    pub is_read_only: bool,
}

impl Limits {
    /// Checks a request without data: read-only first, then the range.
    ///
    /// # Errors
    /// [`DiskError::ReadOnly`], [`DiskError::IllegalBlock`].
    #[inline]
    pub fn check_range(&self, intent: Intent, sector: u64, count: u64) -> Result<(), DiskError> {
        if intent == Intent::Write && self.is_read_only {
            return Err(DiskError::ReadOnly);
        }
        let end = match planted::is_active(Bug::RangeOverflow) {
            true => Some(sector.wrapping_add(count)),
            false => sector.checked_add(count),
        };
        match end {
            Some(end) if end <= self.sector_count => Ok(()),
            _ => Err(DiskError::IllegalBlock),
        }
    }

    /// Checks a request with data, and returns its length in sectors.
    ///
    /// # Errors
    /// In this order (C1): [`DiskError::InvalidInput`], [`DiskError::ReadOnly`], [`DiskError::IllegalBlock`],
    /// [`DiskError::MemoryAccess`].
    #[inline]
    pub fn check_buffers(
        &self,
        intent: Intent,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<u64, DiskError> {
        let len = buffers.len() as u64;
        if len & ((1 << self.sector_shift) - 1) != 0 {
            return Err(DiskError::InvalidInput);
        }
        let count = len >> self.sector_shift;
        self.check_range(intent, sector, count)?;
        match intent {
            Intent::Read => buffers.check_writable()?,
            Intent::Write => buffers.check_readable()?,
        }
        Ok(count)
    }
}
