//! Which sectors of a request have been answered.

use smallvec::SmallVec;
use std::ops::Range;

const WORD_BITS: usize = u64::BITS as usize;

/// One bit for each sector of a request, none set at first. Kept in place up to 256 sectors (128 KiB of 512-byte sectors).
///
/// Invariants: I1, bits at and beyond `len` are clear; I2, `set_count` is the number of set bits.
#[derive(Debug, Clone)]
pub struct SectorBitmap {
    words: SmallVec<[u64; 4]>,
    len: usize,
    set_count: usize,
}

impl SectorBitmap {
    /// A bitmap for `len` sectors.
    pub fn new(len: usize) -> Self {
        Self {
            words: smallvec::smallvec![0; len.div_ceil(WORD_BITS)],
            len,
            set_count: 0,
        }
    }

    /// How many sectors there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether every sector is set.
    pub fn is_full(&self) -> bool {
        self.set_count == self.len
    }

    /// How many sectors are set.
    pub(crate) fn set_count(&self) -> usize {
        self.set_count
    }

    /// Sets a range of sectors, those already set included.
    ///
    /// # Panics
    /// If the range reaches beyond the end.
    pub fn set_range(&mut self, range: Range<usize>) {
        assert!(
            range.end <= self.len,
            "sectors {range:?} of a bitmap of {}",
            self.len
        );
        for (word, mask) in masks(range) {
            self.set_count += (mask & !self.words[word]).count_ones() as usize;
            self.words[word] |= mask;
        }
    }

    /// The first run of sectors at or after `from` that are not set.
    pub fn next_clear_run(&self, from: usize) -> Option<Range<usize>> {
        let start = self.find(from, |word| !word)?;
        let end = self.find(start, |word| word).unwrap_or(self.len);
        Some(start..end)
    }

    /// The runs of sectors that are clear here and set in `later`, a bitmap of the same length.
    pub(crate) fn runs_until(&self, later: &Self) -> Vec<Range<usize>> {
        let mut runs = Vec::new();
        let mut from = 0;
        while let Some(clear) = self.next_clear_run(from) {
            from = clear.end;
            let mut start = clear.start;
            while start < clear.end {
                let gap = later.next_clear_run(start).unwrap_or(self.len..self.len);
                let end = gap.start.min(clear.end);
                if start < end {
                    runs.push(start..end);
                }
                start = gap.end;
            }
        }
        runs
    }

    /// The first sector at or after `from` whose bit is set in `of(word)`.
    fn find(&self, from: usize, of: impl Fn(u64) -> u64) -> Option<usize> {
        let first = from / WORD_BITS;
        let mut keep = u64::MAX << (from % WORD_BITS);
        for (index, word) in self.words.iter().enumerate().skip(first) {
            let found = of(*word) & keep;
            if found != 0 {
                let sector = index * WORD_BITS + found.trailing_zeros() as usize;
                return (sector < self.len).then_some(sector);
            }
            keep = u64::MAX;
        }
        None
    }
}

/// The words that a range of bits touches, each with the mask of the bits in it.
fn masks(range: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let words = range.start / WORD_BITS..range.end.div_ceil(WORD_BITS).max(range.start / WORD_BITS);
    words.filter_map(move |word| {
        let low = range.start.saturating_sub(word * WORD_BITS);
        let high = (range.end - word * WORD_BITS).min(WORD_BITS);
        (low < high).then(|| (word, (u64::MAX >> (WORD_BITS - (high - low))) << low))
    })
}

/// How a layer says which sectors of a read it answered, by their absolute numbers.
///
/// A sector that is not set is absent from the layer: the layers below are asked for it, and what the layer wrote into the
/// buffer for it is lost.
#[derive(Debug)]
pub struct SectorMarker<'a> {
    bitmap: &'a mut SectorBitmap,
    /// The absolute number of the bitmap's first sector.
    origin: u64,
    /// The sectors the layer was asked for.
    asked: Range<u64>,
}

impl<'a> SectorMarker<'a> {
    /// A marker for the sectors `asked`, within a bitmap whose first sector is `origin`.
    ///
    /// # Panics
    /// If `asked` is not inside the bitmap.
    pub fn new(bitmap: &'a mut SectorBitmap, origin: u64, asked: Range<u64>) -> Self {
        assert!(
            asked.start >= origin && asked.end - origin <= bitmap.len() as u64,
            "sectors {asked:?} of a bitmap of {} from {origin}",
            bitmap.len()
        );
        Self {
            bitmap,
            origin,
            asked,
        }
    }

    /// Marks one sector as answered.
    ///
    /// # Panics
    /// If the layer was not asked for it.
    pub fn set(&mut self, sector: u64) {
        self.set_range(sector..sector + 1);
    }

    /// Marks a range of sectors as answered.
    ///
    /// # Panics
    /// If the layer was not asked for all of them.
    pub fn set_range(&mut self, range: Range<u64>) {
        assert!(
            range.start >= self.asked.start && range.end <= self.asked.end,
            "sectors {range:?} marked, {:?} asked for",
            self.asked
        );
        // Both are inside the bitmap, whose length is a usize.
        self.bitmap
            .set_range((range.start - self.origin) as usize..(range.end - self.origin) as usize);
    }

    /// Marks every sector that the layer was asked for as answered.
    pub fn set_all(&mut self) {
        self.set_range(self.asked.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bitmap_agrees_with_a_list_of_bools(
            len in 1usize..400,
            ranges in prop::collection::vec((0usize..400, 0usize..400), 0..12),
        ) {
            let mut bitmap = SectorBitmap::new(len);
            let mut model = vec![false; len];
            for (a, b) in ranges {
                let range = a.min(b).min(len)..a.max(b).min(len);
                bitmap.set_range(range.clone());
                model[range].fill(true);
                prop_assert_eq!(bitmap.is_full(), model.iter().all(|set| *set));
                let mut clear = vec![true; len];
                let mut from = 0;
                while let Some(run) = bitmap.next_clear_run(from) {
                    prop_assert!(!run.is_empty());
                    clear[run.clone()].fill(false);
                    from = run.end;
                }
                prop_assert_eq!(&clear, &model);
            }
        }
    }

    proptest! {
        #[test]
        fn runs_between_two_bitmaps_agree_with_lists_of_bools(
            first in prop::collection::vec(any::<bool>(), 1..200),
            more in prop::collection::vec(any::<bool>(), 200),
        ) {
            let len = first.len();
            let bitmap = |set: &dyn Fn(usize) -> bool| {
                let mut bitmap = SectorBitmap::new(len);
                (0..len).filter(|sector| set(*sector)).for_each(|s| bitmap.set_range(s..s + 1));
                bitmap
            };
            let (before, after) = (bitmap(&|s| first[s]), bitmap(&|s| more[s]));
            let mut found = vec![false; len];
            for run in before.runs_until(&after) {
                prop_assert!(!run.is_empty());
                found[run].fill(true);
            }
            let expected: Vec<_> = (0..len).map(|s| !first[s] && more[s]).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn ordinary_requests_allocate_nothing() {
        assert!(!SectorBitmap::new(256).words.spilled());
    }

    #[test]
    #[should_panic(expected = "asked for")]
    fn a_marker_refuses_a_sector_that_was_not_asked_for() {
        let mut bitmap = SectorBitmap::new(8);
        SectorMarker::new(&mut bitmap, 100, 102..104).set(104);
    }

    #[test]
    fn a_marker_counts_from_its_origin() {
        let mut bitmap = SectorBitmap::new(8);
        SectorMarker::new(&mut bitmap, 100, 102..104).set_all();
        assert_eq!(bitmap.next_clear_run(0), Some(0..2));
        assert_eq!(bitmap.next_clear_run(2), Some(4..8));
    }
}
