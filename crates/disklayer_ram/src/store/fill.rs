//! Filling absent sectors with what was read from below (L2).

use super::{Piece, Store};
use crate::chunk::{CHUNK_BYTES, SectorState};
use disk_backend::DiskError;
use disk_layered::WriteNoOverwrite;
use planted::Bug;
use scsi_buffers::RequestBuffers;
use sync::Race;

impl Store {
    /// Writes the absent sectors of a piece of a request that begins at `sector`.
    fn fill_from(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        piece: &Piece,
    ) -> Result<(), DiskError> {
        let offset = self.len_of(sector..piece.range.start);
        let part = buffers.subrange(offset, self.len_of(piece.range.clone()));
        self.fill_piece(&part, piece)
    }

    /// Writes the absent sectors of a piece from their places in `buffers`.
    fn fill_piece(&self, buffers: &RequestBuffers<'_>, piece: &Piece) -> Result<(), DiskError> {
        let place = self.place_to_change(piece.chunk);
        let nothing = (SectorState::Absent, piece.sectors.end);
        let was_absent = sync::is_planted(Race::FillLooksBeforeLock)
            && place.read().run(piece.sectors.start, piece.sectors.end) == nothing;
        let mut slot = place.write();
        self.check_end(piece.range.end)?;
        // I2: looked at after the slot, which whoever shrinks empties only when the mark is down.
        let filled = self.hidden_from().clamp(piece.range.start, piece.range.end);
        let end = piece.sectors.start + (filled - piece.range.start) as usize;
        let mut at = piece.sectors.start;
        while at < end {
            let (state, run_end) = slot.run(at, end);
            let is_absent = match planted::is_active(Bug::CacheFillAfterUnmap) {
                true => state != SectorState::Data,
                false => state == SectorState::Absent,
            };
            if is_absent || was_absent {
                let run = piece.absolute(at..run_end);
                let offset = self.len_of(piece.range.start..run.start);
                let mut reader = buffers.subrange(offset, self.len_of(run)).reader();
                self.store_sectors(place, &mut slot, at..run_end, &mut reader)?;
            }
            at = run_end;
        }
        Ok(())
    }
}

impl WriteNoOverwrite for &Store {
    /// Absent sectors that a resize added count as zeros of the disk's own (I2), so they are left alone.
    async fn write_no_overwrite(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        for piece in self.pieces(sector, buffers.len()) {
            self.yield_between_chunks(&piece, sector).await;
            self.fill_from(buffers, sector, &piece)?;
        }
        Ok(())
    }

    fn try_write_no_overwrite(&self, buffers: &RequestBuffers<'_>, sector: u64) -> bool {
        let is_short = buffers.len() <= CHUNK_BYTES;
        let mut pieces = self.pieces(sector, buffers.len());
        is_short && pieces.all(|piece| self.fill_from(buffers, sector, &piece).is_ok())
    }
}
