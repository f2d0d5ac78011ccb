//! What holds no data any more, and may be given back to the store: a hint, in bounded memory.

use std::collections::BTreeMap;
use std::ops::Range;

/// So many ranges of a stripe are kept apart; more become one.
const RANGES_MAX: usize = 16;

/// Of so many stripes is it known. What is forgotten costs space, until the layer is compacted.
const STRIPES_MAX: usize = 4096;

/// Ranges of sectors of one stripe, apart from each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<Range<u32>>);

/// Those of all stripes.
#[derive(Debug, Default)]
pub(crate) struct Emptied {
    stripes: BTreeMap<u64, Ranges>,
    /// Whose turn it is: each comes to it, however much is added before it.
    next: u64,
}

impl Ranges {
    pub(crate) fn add(&mut self, range: Range<u32>) {
        let mut all = range;
        self.0.retain(|other| {
            let touches = other.start <= all.end && all.start <= other.end;
            if touches {
                all = all.start.min(other.start)..all.end.max(other.end);
            }
            !touches
        });
        self.0.push(all);
        if self.0.len() > RANGES_MAX {
            let start = self.0.iter().map(|range| range.start).min();
            let end = self.0.iter().map(|range| range.end).max();
            self.0.clear();
            self.0.extend(start.zip(end).map(|(start, end)| start..end));
        }
    }

    pub(crate) fn add_all(&mut self, others: Self) {
        others.0.into_iter().for_each(|range| self.add(range));
    }

    pub(crate) fn into_iter(self) -> impl Iterator<Item = Range<u32>> {
        self.0.into_iter()
    }
}

impl Emptied {
    pub(crate) fn add(&mut self, stripe: u64, ranges: Ranges) {
        let has_room = self.stripes.len() < STRIPES_MAX || self.stripes.contains_key(&stripe);
        if has_room && !ranges.0.is_empty() {
            self.stripes.entry(stripe).or_default().add_all(ranges);
        }
    }

    /// Of how many stripes there is something.
    pub(crate) fn len(&self) -> usize {
        self.stripes.len()
    }

    pub(crate) fn clear(&mut self) {
        self.stripes.clear();
    }

    /// Takes all of one stripe, and of another the next time.
    pub(crate) fn take(&mut self) -> Option<(u64, Ranges)> {
        let next = self.stripes.range(self.next..).next();
        let stripe = *next.or_else(|| self.stripes.iter().next())?.0;
        self.next = stripe + 1;
        self.stripes.remove_entry(&stripe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one_and_there_are_never_many() {
        let mut ranges = Ranges::default();
        for range in [0..2, 4..6, 8..9, 2..4] {
            ranges.add(range);
        }
        assert_eq!(ranges.0, [8..9, 0..6]);
        for at in 0..1000 {
            ranges.add(2 * at + 20..2 * at + 21);
            assert!(ranges.0.len() <= RANGES_MAX);
        }
        for sector in [0, 5, 8, 20, 2018] {
            assert!(ranges.0.iter().any(|range| range.contains(&sector)));
        }
    }

    #[test]
    fn each_stripe_comes_to_its_turn_and_there_are_never_too_many() {
        let one = || {
            let mut ranges = Ranges::default();
            ranges.add(0..1);
            ranges
        };
        let mut emptied = Emptied::default();
        for stripe in 0..2 * STRIPES_MAX as u64 {
            emptied.add(stripe, one());
            emptied.add(stripe, one());
        }
        assert_eq!(emptied.len(), STRIPES_MAX);
        for stripe in 0..STRIPES_MAX as u64 {
            assert_eq!(emptied.take(), Some((stripe, one())));
            emptied.add(0, one());
        }
        assert_eq!(emptied.take(), Some((0, one())));
        assert_eq!(emptied.take(), None);
    }
}
