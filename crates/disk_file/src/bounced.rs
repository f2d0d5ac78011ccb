//! Requests whose memory is only borrowed: what has to wait works on copies, piece by piece.
//!
//! Copies of all file disks together are bounded. Whoever finds the bound reached does not wait, because whoever holds the
//! memory may never poll again (C4): it goes on in small pieces instead, one at a time, of about the memory that its caller
//! holds for it anyway.

use crate::disk::FileDisk;
use crate::properties::SECTOR_SIZE_MAX;
use crate::shared::AT_ONCE_BYTES_MAX;
use crate::transfer::{Claim, Intent, byte_range};
use crate::work::Transfer;
use disk_backend::DiskError;
use scsi_buffers::{BounceBuffer, BounceError, BouncePool, RequestBuffers};
use std::ops::Range;
use std::sync::LazyLock;

/// The most that all file disks of a process have in copies of [`PIECE_BYTES_MAX`].
const POOL_BYTES_MAX: usize = 16 << 20;
/// The most borrowed memory that is copied for one request at a time.
const PIECE_BYTES_MAX: usize = 1 << 20;
/// What a request has where the bound is reached: a sector at least.
const SMALL_PIECE_BYTES: u64 = SECTOR_SIZE_MAX as u64;

/// The pool of the process.
pub(crate) fn bounce_pool() -> BouncePool {
    static POOL: LazyLock<BouncePool> = LazyLock::new(|| BouncePool::new(POOL_BYTES_MAX));
    POOL.clone()
}

/// A part of a request, and room for it.
struct Piece {
    /// Within the request.
    bytes: Range<usize>,
    bounce: BounceBuffer,
}

impl FileDisk {
    /// Reads into borrowed memory: a copy is filled, and taken over when this future is polled.
    pub(crate) async fn read_bounced(
        &self,
        claim: Claim,
        buffers: &RequestBuffers<'_>,
        offset: u64,
    ) -> Result<(), DiskError> {
        let mut claim = Some(claim);
        let mut done = 0;
        while done < buffers.len() {
            let Piece { bytes, bounce } = self.piece(done, buffers.len(), offset)?;
            let target = buffers.subrange(bytes.start, bytes.len());
            let piece_offset = offset + bytes.start as u64;
            let claim = claim
                .take()
                .unwrap_or_else(|| Claim::Wanted(byte_range(piece_offset, &target), Intent::Read));
            let filling = bounce.buffers(true).pin();
            let transfer = Transfer {
                intent: Intent::Read,
                memory: filling.expect("bounce buffers can be pinned"),
                offset: piece_offset,
            };
            self.begin(claim, transfer).await?;
            target.copy_from(&bounce.buffers(false))?;
            done = bytes.end;
        }
        Ok(())
    }

    /// Writes from borrowed memory; `is_begun` as for [`write_rest`](Self::write_rest).
    pub(crate) async fn write_bounced(
        &self,
        claim: Claim,
        buffers: &RequestBuffers<'_>,
        offset: u64,
        is_begun: bool,
    ) -> Result<(), DiskError> {
        let mut claim = Some(claim);
        let mut done = 0;
        while done < buffers.len() {
            let Piece { bytes, bounce } = self.piece(done, buffers.len(), offset)?;
            let source = buffers.subrange(bytes.start, bytes.len());
            let piece_offset = offset + bytes.start as u64;
            bounce.buffers(true).copy_from(&source)?;
            let claim = claim.take().unwrap_or_else(|| {
                Claim::Wanted(byte_range(piece_offset, &source), Intent::Change)
            });
            let copied = bounce.buffers(false).pin();
            let transfer = Transfer {
                intent: Intent::Change,
                memory: copied.expect("bounce buffers can be pinned"),
                offset: piece_offset,
            };
            drop(bounce);
            self.begin(claim, transfer).wait(is_begun).await?;
            done = bytes.end;
        }
        Ok(())
    }

    /// The next piece of a request of `len` bytes at `offset` of the file, of which the first `done` are done.
    ///
    /// It ends where a sector does: the request may have begun inside one, and what is left of that is one change (C2).
    fn piece(&self, done: usize, len: usize, offset: u64) -> Result<Piece, DiskError> {
        const { assert!(AT_ONCE_BYTES_MAX <= PIECE_BYTES_MAX) };
        let large = PIECE_BYTES_MAX.min(len - done);
        if let Some(bounce) = self.shared.bounce.try_allocate(large).map_err(no_memory)? {
            let bytes = done..done + large;
            return Ok(Piece { bytes, bounce });
        }
        let small = small_piece_len(offset + done as u64, self.shared.image.sector_size);
        let small = small.min(len - done);
        let bounce = BounceBuffer::unpooled(small).map_err(no_memory)?;
        let bytes = done..done + small;
        Ok(Piece { bytes, bounce })
    }
}

/// How long a small piece may be that starts at byte `start` of the file.
fn small_piece_len(start: u64, sector_size: u32) -> usize {
    let sector_size = u64::from(sector_size);
    let end = (start + SMALL_PIECE_BYTES) / sector_size * sector_size;
    // At most SMALL_PIECE_BYTES.
    (end - start) as usize
}

fn no_memory(error: BounceError) -> DiskError {
    DiskError::Io(std::io::Error::new(std::io::ErrorKind::OutOfMemory, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_make_progress_and_end_where_a_sector_does() {
        for sector_size in [512, 4096, SECTOR_SIZE_MAX] {
            for start in [0, 1, 511, 512, 4095, 4096, 65535, 65536, 65537, 1 << 40] {
                let len = small_piece_len(start, sector_size) as u64;
                assert!((1..=SMALL_PIECE_BYTES).contains(&len));
                assert_eq!((start + len) % u64::from(sector_size), 0);
            }
        }
    }
}
