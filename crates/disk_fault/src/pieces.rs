//! Writes that are kept back, by sector.
//!
//! Invariant K1: pieces do not overlap, and none is empty; each holds the newest data of its sectors. That they do not overlap, and
//! have data for all of their sectors, is checked after each change in debug builds.

use scsi_buffers::{BounceBuffer, RequestBuffers};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// What is left of a write that is kept back: later ones may have replaced some of it.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) sectors: Range<u64>,
    /// Which write it is of.
    pub(crate) write: u64,
    /// Changes when what was written of it below does not count any more.
    pub(crate) version: u64,
    data: Arc<BounceBuffer>,
    /// Where the data begins.
    origin: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Pieces {
    /// By the first sector.
    by_start: BTreeMap<u64, Piece>,
}

impl Piece {
    pub(crate) fn new(sectors: Range<u64>, data: BounceBuffer, write: u64) -> Self {
        Self {
            origin: sectors.start,
            sectors,
            write,
            version: write,
            data: Arc::new(data),
        }
    }

    /// The part of it inside of `range`, which overlaps it.
    pub(crate) fn within(&self, range: &Range<u64>) -> Self {
        let start = self.sectors.start.max(range.start);
        Self {
            sectors: start..self.sectors.end.min(range.end),
            ..self.clone()
        }
    }

    /// Its data.
    pub(crate) fn buffers(&self, sector_shift: u32) -> RequestBuffers<'_> {
        // In memory, so these are numbers of bytes in memory.
        let bytes = |sectors: u64| (sectors << sector_shift) as usize;
        let len = bytes(self.sectors.end - self.sectors.start);
        let all = self.data.buffers(false);
        all.subrange(bytes(self.sectors.start - self.origin), len)
    }
}

impl Pieces {
    pub(crate) fn len(&self) -> usize {
        self.by_start.len()
    }

    pub(crate) fn sector_count(&self) -> u64 {
        let pieces = self.by_start.values();
        pieces
            .map(|piece| piece.sectors.end - piece.sectors.start)
            .sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Piece> {
        self.by_start.values()
    }

    /// Those that overlap a range, in ascending order.
    pub(crate) fn overlapping(&self, range: &Range<u64>) -> Vec<Piece> {
        // Since they do not overlap, they end in the order in which they begin.
        let before_end = self.by_start.range(..range.end).rev();
        let hit = before_end.take_while(|(_, piece)| piece.sectors.end > range.start);
        let mut hit: Vec<Piece> = hit.map(|(_, piece)| piece.clone()).collect();
        hit.reverse();
        hit
    }

    /// Puts a piece in the place of what there was of its sectors.
    pub(crate) fn insert(&mut self, piece: Piece) {
        self.remove(&piece.sectors);
        self.by_start.insert(piece.sectors.start, piece);
        self.check_invariants();
    }

    /// Lets go of whatever there is of these sectors.
    pub(crate) fn remove(&mut self, range: &Range<u64>) {
        for piece in self.overlapping(range) {
            self.by_start.remove(&piece.sectors.start);
            let rest = [0..range.start, range.end..u64::MAX];
            for rest in rest.map(|rest| piece.within(&rest)) {
                if !rest.sectors.is_empty() {
                    self.by_start.insert(rest.sectors.start, rest);
                }
            }
        }
        self.check_invariants();
    }

    /// Lets go of what is left of one version inside of `range`.
    pub(crate) fn remove_version(&mut self, range: &Range<u64>, version: u64) {
        for piece in self.overlapping(range) {
            if piece.version == version {
                self.by_start.remove(&piece.sectors.start);
            }
        }
        self.check_invariants();
    }

    /// Gives new versions to those that overlap a range.
    pub(crate) fn renew(&mut self, range: &Range<u64>, mut next_version: impl FnMut() -> u64) {
        for piece in self.overlapping(range) {
            if let Some(piece) = self.by_start.get_mut(&piece.sectors.start) {
                piece.version = next_version();
            }
        }
        self.check_invariants();
    }

    /// K1, but for what is newest: only a model knows that. There are thousands of pieces at most, so all are looked at.
    fn check_invariants(&self) {
        if std::thread::panicking() {
            // A second panic, where a change is dropped, would abort, and hide which test it was.
            return;
        }
        debug_assert!(self.by_start.iter().all(is_sound), "K1: {self:?}");
        let ends = self.iter().map(|piece| piece.sectors.end);
        let next_starts = self.by_start.keys().skip(1);
        debug_assert!(
            ends.zip(next_starts).all(|(end, next)| end <= *next),
            "K1: {self:?}"
        );
    }
}

/// Whether a piece is where it says, is not empty, and begins where it has data.
fn is_sound((start, piece): (&u64, &Piece)) -> bool {
    let sectors = &piece.sectors;
    sectors.start == *start && !sectors.is_empty() && piece.origin <= sectors.start
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIFT: u32 = 9;

    fn piece(sectors: Range<u64>, version: u64) -> Piece {
        let len = ((sectors.end - sectors.start) << SHIFT) as usize;
        let mut data = BounceBuffer::unpooled(len).unwrap();
        let bytes = data.as_mut_slice().unwrap();
        for (sector, bytes) in bytes.chunks_mut(1 << SHIFT).enumerate() {
            bytes.fill(10 * version as u8 + sector as u8);
        }
        Piece::new(sectors, data, version)
    }

    /// Each sector's first byte, or 0.
    fn stamps(pieces: &Pieces) -> [u8; 10] {
        use guestmem::MemoryRead;
        let mut stamps = [0; 10];
        for piece in pieces.iter() {
            let buffers = piece.buffers(SHIFT);
            for (index, sector) in piece.sectors.clone().enumerate() {
                let first = buffers.subrange(index << SHIFT, 1);
                let stamp = &mut stamps[sector as usize..][..1];
                first.reader().read(stamp).unwrap();
            }
        }
        stamps
    }

    #[test]
    fn a_newer_piece_replaces_the_sectors_that_it_shares_with_others() {
        let mut pieces = Pieces::default();
        pieces.insert(piece(1..7, 1));
        pieces.insert(piece(3..5, 2));
        assert_eq!(stamps(&pieces), [0, 10, 11, 20, 21, 14, 15, 0, 0, 0]);
        pieces.insert(piece(6..9, 3));
        assert_eq!(stamps(&pieces), [0, 10, 11, 20, 21, 14, 30, 31, 32, 0]);
        assert_eq!((pieces.len(), pieces.sector_count()), (4, 8));
        pieces.remove(&(0..4));
        assert_eq!(stamps(&pieces), [0, 0, 0, 0, 21, 14, 30, 31, 32, 0]);
        pieces.remove_version(&(0..10), 1);
        assert_eq!(stamps(&pieces), [0, 0, 0, 0, 21, 0, 30, 31, 32, 0]);
        pieces.renew(&(4..5), || 9);
        pieces.remove_version(&(0..10), 2);
        assert_eq!(stamps(&pieces)[4], 21, "it has another version now");
    }
}
