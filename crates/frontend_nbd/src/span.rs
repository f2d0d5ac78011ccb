//! A range of bytes, and the sectors that it touches.

use std::ops::Range;

/// A range of bytes that is not empty, on a disk with sectors of `1 << shift` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    offset: u64,
    len: u64,
    shift: u32,
}

impl Span {
    /// The range must lie inside a disk, whose size is at most 2^63 - 1 bytes.
    pub(crate) fn new(offset: u64, len: u64, shift: u32) -> Self {
        debug_assert!(len > 0 && len <= i64::MAX as u64 && offset <= i64::MAX as u64 - len);
        Self { offset, len, shift }
    }

    /// In bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn sector_size(&self) -> usize {
        1 << self.shift
    }

    fn end(&self) -> u64 {
        self.offset + self.len
    }

    /// The bytes of the first sector before the range.
    pub(crate) fn head_len(&self) -> usize {
        (self.offset & self.mask()) as usize
    }

    /// The bytes of the last sector behind the range.
    pub(crate) fn tail_len(&self) -> usize {
        (self.end().wrapping_neg() & self.mask()) as usize
    }

    pub(crate) fn is_aligned(&self) -> bool {
        (self.offset | self.len) & self.mask() == 0
    }

    pub(crate) fn first_sector(&self) -> u64 {
        self.offset >> self.shift
    }

    pub(crate) fn last_sector(&self) -> u64 {
        (self.end() - 1) >> self.shift
    }

    /// How many sectors the range touches.
    pub(crate) fn covering_sectors(&self) -> u64 {
        self.last_sector() - self.first_sector() + 1
    }

    /// The length of all sectors that the range touches, in bytes.
    pub(crate) fn covering_len(&self) -> usize {
        self.head_len() + self.len as usize + self.tail_len()
    }

    /// All sectors that the range touches, as a range of bytes.
    pub(crate) fn covering_bytes(&self) -> Range<u64> {
        self.first_sector() << self.shift..(self.last_sector() + 1) << self.shift
    }

    /// The whole sectors inside the range.
    pub(crate) fn inside(&self) -> Option<Self> {
        let start = self.offset.next_multiple_of(1 << self.shift);
        let end = self.end() & !self.mask();
        (start < end).then(|| Self::new(start, end - start, self.shift))
    }

    /// The parts of the range that are not whole sectors: before those inside, and behind them.
    pub(crate) fn edges(&self) -> [Option<Self>; 2] {
        if self.is_aligned() {
            return [None, None];
        }
        if self.first_sector() == self.last_sector() {
            return [Some(*self), None];
        }
        let part =
            |start: u64, end: u64| (start < end).then(|| Self::new(start, end - start, self.shift));
        let head_end = match self.head_len() {
            0 => self.offset,
            _ => (self.first_sector() + 1) << self.shift,
        };
        let tail_start = match self.tail_len() {
            0 => self.end(),
            _ => self.last_sector() << self.shift,
        };
        [part(self.offset, head_end), part(tail_start, self.end())]
    }

    /// The range in pieces of at most `len_max` bytes, which is at least a sector's, cut between sectors.
    pub(crate) fn pieces(&self, len_max: u64) -> impl Iterator<Item = Self> {
        let (end, mask, shift) = (self.end(), self.mask(), self.shift);
        let mut next = self.offset;
        std::iter::from_fn(move || {
            let start = next;
            if start == end {
                return None;
            }
            next = match end - start <= len_max {
                true => end,
                false => (start + len_max) & !mask,
            };
            Some(Self::new(start, next - start, shift))
        })
    }

    /// The part of the range that lies in `count` sectors from `sector` on, in bytes.
    pub(crate) fn len_within(&self, sector: u64, count: u64) -> u64 {
        let start = (sector << self.shift).max(self.offset);
        let end = ((sector + count) << self.shift).min(self.end());
        end.saturating_sub(start)
    }

    fn mask(&self) -> u64 {
        (1 << self.shift) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(offset: u64, len: u64) -> Span {
        Span::new(offset, len, 9)
    }

    #[test]
    fn whole_sectors_have_no_edges() {
        let whole = span(1024, 512);
        assert!(whole.is_aligned());
        assert_eq!((whole.head_len(), whole.tail_len()), (0, 0));
        assert_eq!(whole.inside(), Some(whole));
        assert_eq!(whole.edges(), [None, None]);
    }

    #[test]
    fn a_part_of_one_sector_is_one_edge() {
        let part = span(700, 3);
        assert_eq!((part.first_sector(), part.last_sector()), (1, 1));
        assert_eq!((part.head_len(), part.tail_len()), (188, 321));
        assert_eq!(part.inside(), None);
        assert_eq!(part.edges(), [Some(part), None]);
        assert_eq!(part.covering_bytes(), 512..1024);
    }

    #[test]
    fn a_range_across_sectors_has_an_edge_at_each_end() {
        let range = span(511, 514);
        assert_eq!(range.edges(), [Some(span(511, 1)), Some(span(1024, 1))]);
        assert_eq!(range.inside(), Some(span(512, 512)));
        assert_eq!(span(512, 513).edges(), [None, Some(span(1024, 1))]);
        assert_eq!(span(511, 513).edges(), [Some(span(511, 1)), None]);
    }

    #[test]
    fn the_last_byte_of_the_largest_disk_is_a_range() {
        let last = Span::new(i64::MAX as u64 - 1, 1, 9);
        assert_eq!(last.covering_sectors(), 1);
        assert_eq!(last.covering_bytes().end, 1 << 63);
    }

    proptest! {
        #[test]
        fn edges_and_inside_make_up_the_range(offset in 0_u64..5000, len in 1_u64..5000, shift in 9_u32..12) {
            let range = Span::new(offset, len, shift);
            let [head, tail] = range.edges();
            let parts = [head, range.inside(), tail];
            let mut at = offset;
            for part in parts.into_iter().flatten() {
                prop_assert_eq!(part.offset, at);
                at += part.len;
            }
            prop_assert_eq!(at, range.end());
            prop_assert!(parts[1].is_none_or(|inside| inside.is_aligned()));
            for edge in [head, tail].into_iter().flatten() {
                prop_assert_eq!(edge.covering_sectors(), 1);
                prop_assert!(!edge.is_aligned());
            }
        }

        #[test]
        fn pieces_make_up_the_range_and_meet_between_sectors(offset in 0_u64..5000, len in 1_u64..9000, len_max in 512_u64..3000) {
            let range = span(offset, len);
            let mut at = offset;
            for piece in range.pieces(len_max) {
                prop_assert_eq!(piece.offset, at);
                prop_assert!(piece.len <= len_max);
                at = piece.end();
                prop_assert!(at == range.end() || at & 511 == 0);
            }
            prop_assert_eq!(at, range.end());
        }

        #[test]
        fn the_covering_sectors_are_the_range_and_its_surroundings(offset in 0_u64..5000, len in 1_u64..5000) {
            let range = span(offset, len);
            let covering = range.covering_bytes();
            prop_assert_eq!(covering.end - covering.start, range.covering_len() as u64);
            prop_assert_eq!(covering.start + range.head_len() as u64, offset);
            prop_assert_eq!(range.covering_sectors() << 9, range.covering_len() as u64);
            let lens = (0..20).map(|sector| range.len_within(sector, 1)).sum::<u64>();
            prop_assert_eq!(lens, len);
        }
    }
}
