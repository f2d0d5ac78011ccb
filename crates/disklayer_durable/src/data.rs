//! What is on its way to the store.

use crate::change::WORK_BYTES_MAX;
use disk_backend::DiskError;
use scsi_buffers::{BounceBuffer, BouncePool, PinnedBuffers, RequestBuffers};
use std::sync::LazyLock;

/// Memory for copies of what is written, which is used again: what exceeds it is mapped for each.
static POOL: LazyLock<BouncePool> = LazyLock::new(|| BouncePool::new(4 * WORK_BYTES_MAX));

/// What is written by work, which owns it (C9).
pub(crate) enum Data {
    Callers(PinnedBuffers),
    Copy(BounceBuffer),
    /// A copy that is needed afterwards as well (K1).
    Kept(BounceBuffer),
}

impl Data {
    pub(crate) fn of(memory: &RequestBuffers<'_>) -> Result<Self, DiskError> {
        if let Some(pinned) = memory.pin() {
            return Ok(Self::Callers(pinned));
        }
        Self::copy_of(memory)
    }

    pub(crate) fn copy_of(memory: &RequestBuffers<'_>) -> Result<Self, DiskError> {
        let copy = match POOL.try_allocate(memory.len()) {
            Ok(Some(copy)) => Ok(copy),
            _ => BounceBuffer::unpooled(memory.len()),
        };
        let copy = copy.map_err(|_| DiskError::NoSpace)?;
        copy.buffers(true).copy_from(memory)?;
        Ok(Self::Copy(copy))
    }

    pub(crate) fn buffers(&self) -> RequestBuffers<'_> {
        match self {
            Self::Callers(memory) => memory.buffers(),
            Self::Copy(copy) | Self::Kept(copy) => copy.buffers(false),
        }
    }

    /// What is needed afterwards.
    pub(crate) fn into_kept(self) -> Option<BounceBuffer> {
        match self {
            Self::Kept(copy) => Some(copy),
            Self::Callers(_) | Self::Copy(_) => None,
        }
    }
}
