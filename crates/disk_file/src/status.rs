//! Where the file has holes.

use crate::shared::Shared;
use disk_backend::{BlockExtent, BlockState, BlockStatus, DiskError};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::ops::Range;

impl Shared {
    /// The first extents of `range`, which is in bytes and not empty.
    ///
    /// It needs no lock: a sector counts as a hole if it was one at the instant that the kernel looked (C12). But what was in flight
    /// before the call must have ended, also if its future was dropped (C9): the caller has had the range, if only for a moment.
    /// A range that was reserved but never written is a hole to the kernel, and here.
    pub(crate) fn status(&self, range: Range<u64>) -> Result<BlockStatus, DiskError> {
        let sector_size = u64::from(self.image.sector_size);
        let mut status = BlockStatus::default();
        let mut at = range.start;
        while at < range.end {
            let Some(data) = self.seek(SeekFrom::Data(at), range.end)? else {
                push(&mut status, range.end - at, BlockState::Data, sector_size);
                break;
            };
            // A hole counts by whole sectors: what shares a sector with data is data.
            let data = data - data % sector_size;
            if data > at && !push(&mut status, data - at, BlockState::Hole, sector_size) {
                break;
            }
            at = at.max(data);
            if at == range.end {
                break;
            }
            let hole = self
                .seek(SeekFrom::Hole(at), range.end)?
                .unwrap_or(range.end);
            // If the data has just gone, this one sector may still be called data.
            let hole = hole.max(at + 1).next_multiple_of(sector_size);
            if !push(&mut status, hole - at, BlockState::Data, sector_size) {
                break;
            }
            at = hole;
        }
        Ok(status)
    }

    /// Where data or a hole begins, at most `end`; none if this file does not know.
    fn seek(&self, what: SeekFrom, end: u64) -> Result<Option<u64>, DiskError> {
        match rustix::fs::seek(self.image.file(), what) {
            Ok(found) => Ok(Some(found.min(end))),
            // A hole up to the end of the file, unless that was cut short: of what is gone no read returns zeros (C12).
            Err(Errno::NXIO) => {
                self.size.look().map_err(|error| self.named(error))?;
                self.check_inside(&(0..end))?;
                Ok(Some(end))
            }
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(None),
            Err(error) => Err(self.named(error.into())),
        }
    }
}

fn push(status: &mut BlockStatus, len: u64, state: BlockState, sector_size: u64) -> bool {
    status.push(BlockExtent {
        sector_count: len / sector_size,
        state,
        layer: None,
    })
}
