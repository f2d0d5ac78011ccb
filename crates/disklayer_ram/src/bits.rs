//! A row of bits of fixed length.

use std::ops::Range;

const WORD_BITS: usize = u64::BITS as usize;

/// Bits, all clear at first.
#[derive(Debug)]
pub(crate) struct Bits(Box<[u64]>);

impl Bits {
    /// `len` bits.
    pub(crate) fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(WORD_BITS)].into())
    }

    #[inline]
    pub(crate) fn get(&self, bit: usize) -> bool {
        self.0[bit / WORD_BITS] & (1 << (bit % WORD_BITS)) != 0
    }

    /// The bits from `64 * index` on.
    pub(crate) fn word(&self, index: usize) -> u64 {
        self.0[index]
    }

    /// Makes all bits of a range equal to `value`; returns how many changed.
    pub(crate) fn assign(&mut self, range: Range<usize>, value: bool) -> usize {
        let mut changed = 0;
        let mut at = range.start;
        while at < range.end {
            let low = at % WORD_BITS;
            let high = (range.end - at + low).min(WORD_BITS);
            let mask = (u64::MAX >> (WORD_BITS - (high - low))) << low;
            let word = &mut self.0[at / WORD_BITS];
            let old = *word;
            *word = if value { old | mask } else { old & !mask };
            changed += (*word ^ old).count_ones() as usize;
            at += high - low;
        }
        changed
    }

    /// Where the run of equal bits that begins at `from` ends, at most at `end`.
    #[inline]
    pub(crate) fn run_end(&self, from: usize, end: usize) -> usize {
        let differs = if self.get(from) { u64::MAX } else { 0 };
        let mut at = from;
        while at < end {
            let rest = (self.0[at / WORD_BITS] ^ differs) >> (at % WORD_BITS);
            if rest != 0 {
                return (at + rest.trailing_zeros() as usize).min(end);
            }
            at = (at / WORD_BITS + 1) * WORD_BITS;
        }
        end
    }

    /// Whether all bits of a range are clear.
    #[inline]
    pub(crate) fn is_clear(&self, range: Range<usize>) -> bool {
        range.is_empty()
            || (!self.get(range.start) && self.run_end(range.start, range.end) == range.end)
    }

    /// Whether all bits of a range are set.
    #[inline]
    pub(crate) fn is_set(&self, range: Range<usize>) -> bool {
        range.is_empty()
            || (self.get(range.start) && self.run_end(range.start, range.end) == range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_agree_with_a_list_of_bools(
            changes in prop::collection::vec((0usize..300, 0usize..300, any::<bool>()), 0..12),
        ) {
            let mut bits = Bits::new(300);
            let mut model = vec![false; 300];
            for (a, b, value) in changes {
                let range = a.min(b)..a.max(b);
                let expected = model[range.clone()].iter().filter(|bit| **bit != value).count();
                prop_assert_eq!(bits.assign(range.clone(), value), expected);
                model[range.clone()].fill(value);
                let whole = if value { bits.is_set(range) } else { bits.is_clear(range) };
                prop_assert!(whole);
                let mut at = 0;
                while at < 300 {
                    let end = bits.run_end(at, 300);
                    prop_assert!(end > at);
                    prop_assert!(model[at..end].iter().all(|bit| *bit == bits.get(at)));
                    prop_assert!(end == 300 || model[end] != model[at]);
                    at = end;
                }
            }
        }
    }
}
