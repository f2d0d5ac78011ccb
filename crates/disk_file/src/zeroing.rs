//! Unmapping and zeroing, long ranges piece by piece.

use crate::counters::Count;
use crate::disk::FileDisk;
use crate::pool;
use crate::shared::{AT_ONCE_BYTES_MAX, Shared};
use crate::transfer::Intent;
use disk_backend::DiskError;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use scsi_buffers::RequestBuffers;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// How much of a file changes under one lock when no data is written: milliseconds where the file is dense, and 4096 steps
/// for 1 TiB.
const PIECE_BYTES: u64 = 256 << 20;
/// How many zeros are written under one lock.
const WRITTEN_PIECE_BYTES: u64 = 4 << 20;

/// What to do to a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zeroing {
    /// Give the space back.
    Unmap,
    /// Make it read zero.
    Zero {
        /// The space may be given back.
        may_unmap: bool,
        /// Fail rather than write zeros as data.
        no_fallback: bool,
    },
}

impl FileDisk {
    /// Does it to all of `range`, which is in bytes and not empty.
    pub(crate) async fn zero(&self, range: Range<u64>, zeroing: Zeroing) -> Result<(), DiskError> {
        self.shared.check_writable()?;
        let is_short = range.end - range.start <= AT_ONCE_BYTES_MAX as u64;
        if self.shared.is_in_memory()
            && is_short
            && let Some(_guard) = self.shared.locks.try_write(range.clone())
        {
            return self.shared.zero_all(range, zeroing);
        }
        let shared = Arc::clone(&self.shared);
        let counted = shared.in_pool.begin_owned();
        let work = pool::spawn_staged(|stage| async move {
            let _counted = counted;
            let mut at = range.start;
            while at < range.end {
                let piece = at..range.end.min(at + PIECE_BYTES);
                let _guard = shared.claim(&stage, piece.clone(), Intent::Change).await;
                at += shared.zero_piece(piece, zeroing)?;
            }
            Ok(())
        });
        work.await
    }
}

impl Shared {
    /// All of a short range; the caller holds it.
    fn zero_all(&self, range: Range<u64>, zeroing: Zeroing) -> Result<(), DiskError> {
        let mut at = range.start;
        while at < range.end {
            at += self.zero_piece(at..range.end, zeroing)?;
        }
        Ok(())
    }

    /// Changes a first part of `piece`, which the caller holds, and returns its length in bytes.
    fn zero_piece(&self, piece: Range<u64>, zeroing: Zeroing) -> Result<u64, DiskError> {
        self.check_inside(&piece)?;
        let result = match zeroing {
            Zeroing::Unmap => self
                .punch(&piece)
                .map(|()| piece.end - piece.start)
                .map_err(|error| self.named(error)),
            Zeroing::Zero {
                may_unmap,
                no_fallback,
            } => self.zero_somehow(&piece, may_unmap, no_fallback),
        };
        self.flusher.note_change();
        result
    }

    fn zero_somehow(
        &self,
        piece: &Range<u64>,
        may_unmap: bool,
        no_fallback: bool,
    ) -> Result<u64, DiskError> {
        let len = piece.end - piece.start;
        if may_unmap && self.image.properties.can_punch {
            match self.punch(piece) {
                Ok(()) => return Ok(len),
                Err(error) if is_unsupported(&error) => {}
                Err(error) => return Err(self.named(error)),
            }
        }
        if self.may_zero_range.is_alive() {
            match self.fallocate(FallocateFlags::ZERO_RANGE, piece) {
                Ok(()) => return Ok(len),
                Err(error) if is_unsupported(&error) => self.may_zero_range.give_up(),
                Err(error) => return Err(self.named(error)),
            }
        }
        if no_fallback {
            return Err(DiskError::Unsupported);
        }
        self.write_zeros(piece)
    }

    /// Writes zeros to a first part of `piece` and returns its length.
    fn write_zeros(&self, piece: &Range<u64>) -> Result<u64, DiskError> {
        let len_max = WRITTEN_PIECE_BYTES.min(RequestBuffers::zeros_max_len() as u64);
        let len = len_max.min(piece.end - piece.start);
        // At most `len_max`, which fits.
        let zeros = RequestBuffers::zeros(len as usize).expect("within the length there is");
        self.write(&zeros, piece.start)?;
        Ok(len)
    }

    /// Takes the space for a write of sectors that the kernel would write by parts, so that it runs out before the first of
    /// them, and not inside a sector (C8).
    pub(crate) fn reserve(&self, range: &Range<u64>) -> Result<(), DiskError> {
        if !self.has_divided_sectors() || range.is_empty() || !self.may_reserve.is_alive() {
            return Ok(());
        }
        match self.fallocate(FallocateFlags::empty(), range) {
            Err(error) if is_unsupported(&error) => {
                self.may_reserve.give_up();
                Ok(())
            }
            reserved => reserved.map_err(|error| self.named(error)),
        }
    }

    fn punch(&self, range: &Range<u64>) -> io::Result<()> {
        self.fallocate(FallocateFlags::PUNCH_HOLE, range)
    }

    /// Never changes the size of the file.
    fn fallocate(&self, flags: FallocateFlags, range: &Range<u64>) -> io::Result<()> {
        let flags = flags | FallocateFlags::KEEP_SIZE;
        self.counters.add(Count::FileAllocations, 1);
        loop {
            match rustix::fs::fallocate(
                self.image.file(),
                flags,
                range.start,
                range.end - range.start,
            ) {
                Err(Errno::INTR) => {}
                done => return Ok(done?),
            }
        }
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    let unsupported = [Errno::OPNOTSUPP, Errno::NOSYS, Errno::NODEV];
    error
        .raw_os_error()
        .is_some_and(|errno| unsupported.contains(&Errno::from_raw_os_error(errno)))
}
