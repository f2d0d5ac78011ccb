//! Which bytes of a read have come: chunks come in any order, and each byte once.

use smallvec::SmallVec;
use std::ops::Range;

/// How many separate runs may be there at a time. Servers send a few; one that sends crumbs is not waited for.
const RUNS_MAX: usize = 1024;

/// Runs of bytes, apart from each other, in order.
#[derive(Debug, Default)]
pub(super) struct Coverage(SmallVec<[Range<u32>; 2]>);

impl Coverage {
    /// Adds a run, which is not empty.
    pub(super) fn add(&mut self, run: Range<u32>) -> Result<(), &'static str> {
        let runs = &mut self.0;
        let at = runs.partition_point(|one| one.end < run.start);
        // Those that touch the new one, or overlap it.
        let behind = at + runs[at..].partition_point(|one| one.start <= run.end);
        let overlaps = |one: &Range<u32>| one.start < run.end && run.start < one.end;
        if runs[at..behind].iter().any(overlaps) {
            return Err("it sends the same bytes of a read twice");
        }
        if at == behind {
            if runs.len() == RUNS_MAX {
                return Err("it sends the data of a read in too many pieces without order");
            }
            runs.insert(at, run);
            return Ok(());
        }
        // One run that ends where the new one begins, one that begins where it ends, or both.
        let joined = runs[at].start.min(run.start)..runs[behind - 1].end.max(run.end);
        runs[at] = joined;
        runs.drain(at + 1..behind);
        Ok(())
    }

    /// Whether all of `len` bytes have come.
    pub(super) fn is_complete(&self, len: u32) -> bool {
        matches!(&self.0[..], [only] if *only == (0..len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_read_is_complete_when_its_last_gap_is_closed() {
        let mut coverage = Coverage::default();
        for run in [10..20, 30..40, 0..5, 5..10] {
            coverage.add(run).unwrap();
            assert!(!coverage.is_complete(40));
        }
        coverage.add(20..30).unwrap();
        assert!(coverage.is_complete(40) && !coverage.is_complete(41));
        assert_eq!(coverage.0.len(), 1);
    }

    #[test]
    fn crumbs_are_refused() {
        let mut coverage = Coverage::default();
        let added = (0..).map(|i| coverage.add(i * 2..i * 2 + 1));
        assert_eq!(added.take_while(Result::is_ok).count(), RUNS_MAX);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_map_of_bytes(runs in prop::collection::vec((0_u32..60, 1_u32..12), 1..40)) {
            let mut coverage = Coverage::default();
            let mut map = [false; 80];
            for (start, len) in runs {
                let bytes = &mut map[start as usize..(start + len) as usize];
                let is_new = bytes.iter().all(|taken| !taken);
                prop_assert_eq!(coverage.add(start..start + len).is_ok(), is_new);
                if is_new {
                    bytes.fill(true);
                }
                for pair in coverage.0.windows(2) {
                    prop_assert!(pair[0].end < pair[1].start);
                }
                let covered: u32 = coverage.0.iter().map(|run| run.end - run.start).sum();
                prop_assert_eq!(covered as usize, map.iter().filter(|taken| **taken).count());
            }
        }
    }
}
