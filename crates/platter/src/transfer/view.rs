//! A disk in bytes, with zeros beyond its end.

use super::fault::{Attempt, Fault, Side};
use disk_backend::{BlockStatus, Disk, DiskError};
use guestmem::MemoryWrite;
use scsi_buffers::{BounceBuffer, RequestBuffers};
use std::ops::Range;

/// A disk of the size that it had when the run began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    disk: &'a Disk,
    side: Side,
    size_bytes: u64,
}

impl<'a> View<'a> {
    /// The largest disk that there is a view of, in bytes: no sum of an offset and a length overflows.
    pub(crate) const SIZE_BYTES_MAX: u64 = 1 << 62;

    /// # Panics
    /// If the disk is larger than [`SIZE_BYTES_MAX`](Self::SIZE_BYTES_MAX).
    pub(crate) fn new(disk: &'a Disk, side: Side) -> Self {
        let sector_size = u64::from(disk.sector_size());
        let size_bytes = disk
            .sector_count()
            .checked_mul(sector_size)
            .filter(|size| *size <= Self::SIZE_BYTES_MAX);
        Self {
            disk,
            side,
            size_bytes: size_bytes.expect("disks that are too large were refused"),
        }
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(crate) fn sector_size(&self) -> u64 {
        u64::from(self.disk.sector_size())
    }

    /// Fills `buffers` from `offset` on, with zeros for what lies beyond the end of the disk, and returns how many bytes the
    /// disk was read. Both ends are multiples of the sector size.
    pub(crate) async fn read(
        &self,
        buffers: &RequestBuffers<'_>,
        offset: u64,
    ) -> Result<u64, Fault> {
        let inside = self
            .size_bytes
            .saturating_sub(offset)
            .min(buffers.len() as u64);
        // At most the length of buffers, which is a usize.
        let inside_len = inside as usize;
        let part = buffers.subrange(0, inside_len);
        // Where nothing is inside, the offset need not be either.
        if inside_len > 0
            && let Err(error) = self.disk.read_vectored(&part, self.sector(offset)).await
        {
            return Err(self.fault(Attempt::Read(offset..offset + inside), error));
        }
        let beyond = buffers.subrange(inside_len, buffers.len() - inside_len);
        beyond
            .writer()
            .zero(beyond.len())
            .map_err(|error| self.fault(Attempt::Read(offset..offset), error.into()))?;
        Ok(inside)
    }

    /// Writes `buffers` at `offset`; whole sectors, inside the disk.
    pub(crate) async fn write(
        &self,
        buffers: &RequestBuffers<'_>,
        offset: u64,
    ) -> Result<(), Fault> {
        let written = self
            .disk
            .write_vectored(buffers, self.sector(offset), false);
        written.await.map_err(|error| {
            let range = offset..offset + buffers.len() as u64;
            self.fault(Attempt::Write(range), error)
        })
    }

    /// Makes `range` zero, and gives its space back where the disk can; whole sectors, inside the disk.
    pub(crate) async fn zero(&self, range: Range<u64>) -> Result<(), Fault> {
        let (sector, count) = (
            self.sector(range.start),
            self.sector(range.end - range.start),
        );
        let zeroed = self.disk.write_zeroes(sector, count, false, true, false);
        zeroed
            .await
            .map_err(|error| self.fault(Attempt::Zero(range), error))
    }

    /// What is known of the sectors from `offset` on, which lies inside the disk.
    pub(crate) async fn status(&self, offset: u64) -> Result<BlockStatus, Fault> {
        let (sector, count) = (self.sector(offset), self.sector(self.size_bytes - offset));
        let status = self.disk.block_status(sector, count);
        status
            .await
            .map_err(|error| self.fault(Attempt::Status(offset), error))
    }

    /// Makes all that was written durable, and leaves the disk as after a clean stop.
    pub(crate) async fn close(&self) -> Result<(), Fault> {
        let closed = self.disk.close().await;
        closed.map_err(|error| self.fault(Attempt::Flush, error))
    }

    /// The fault of a read that failed, with the first sector that cannot be read: they are tried one by one. A fault of
    /// another kind, or of the other disk, is returned as it is, and so is one that does not show again.
    pub(crate) async fn pinpoint(&self, fault: Fault) -> Fault {
        let Attempt::Read(range) = &fault.attempt else {
            return fault;
        };
        let step = self.sector_size();
        // Without memory for a single sector there is nothing to try with.
        let Ok(buffer) = BounceBuffer::unpooled(step as usize) else {
            return fault;
        };
        if fault.side != self.side {
            return fault;
        }
        for place in range.clone().step_by(step as usize) {
            let sector = self.sector(place);
            if let Err(error) = self.disk.read_vectored(&buffer.buffers(true), sector).await {
                return self.fault(Attempt::Read(place..place + step), error);
            }
        }
        fault
    }

    /// What went wrong with this disk.
    pub(crate) fn fault(&self, attempt: Attempt, source: DiskError) -> Fault {
        Fault {
            side: self.side,
            attempt,
            source,
        }
    }

    fn sector(&self, offset: u64) -> u64 {
        offset >> self.disk.sector_shift()
    }
}
