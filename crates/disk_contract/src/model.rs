//! What a disk must read, as an array of bytes and a little knowledge about each sector.
//!
//! Invariants: I1, a sector may read what `bytes` says, or one of its `alternatives`, and nothing else; I2, no alternative of a
//! sector equals what `bytes` says of it; I3, the alternatives are of sectors inside the disk.

use crate::Clause;
use crate::spec::is_zero;
use disk_backend::UnmapBehavior;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// See the head of this module.
#[derive(Debug)]
pub(crate) struct Model {
    sector_size: usize,
    bytes: Vec<u8>,
    /// What a sector may hold as well, until a read tells.
    alternatives: BTreeMap<u64, Vec<Box<[u8]>>>,
    /// What dropped futures would have written, ever.
    dropped: BTreeMap<u64, Vec<Box<[u8]>>>,
    /// What an unmapped sector held before.
    given_up: BTreeMap<u64, Box<[u8]>>,
    origins: Vec<Origin>,
    /// Whether the whole disk has been found to hold its initial content.
    is_initial_verified: bool,
}

/// Why a sector holds what it holds; with the step that made it so.
#[derive(Debug, Clone, Copy)]
enum Origin {
    Initial,
    Written(u32),
    Zeroed(u32),
    Unmapped(u32),
    UnmapIgnored(u32),
    Dropped(u32),
    Added(u32),
}

/// What was found where something else had to be.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) clause: Clause,
    sector: u64,
    /// Counted from the beginning of the sector.
    byte: usize,
    expected: u8,
    found: u8,
    origin: Origin,
    alternative_count: usize,
}

impl Model {
    pub(crate) fn new(sector_size: u32, content: Vec<u8>) -> Self {
        let sector_size = sector_size as usize;
        Self {
            origins: vec![Origin::Initial; content.len() / sector_size],
            sector_size,
            bytes: content,
            alternatives: BTreeMap::new(),
            dropped: BTreeMap::new(),
            given_up: BTreeMap::new(),
            is_initial_verified: false,
        }
    }

    pub(crate) fn sector_count(&self) -> u64 {
        self.origins.len() as u64
    }

    /// Every sector read as it had to: from now on a difference in a sector that no request named is not the fault of
    /// whoever made the disk.
    pub(crate) fn set_initial_verified(&mut self) {
        self.is_initial_verified = true;
    }

    pub(crate) fn write(&mut self, step: u32, sector: u64, data: &[u8]) {
        let range = self.range(sector, data.len());
        let at = self.at(sector);
        self.bytes[at..at + data.len()].copy_from_slice(data);
        self.settle(range, Origin::Written(step));
    }

    pub(crate) fn zero(&mut self, step: u32, range: Range<u64>) {
        let bytes = self.byte_range(&range);
        self.bytes[bytes].fill(0);
        self.settle(range, Origin::Zeroed(step));
    }

    pub(crate) fn unmap(&mut self, step: u32, range: Range<u64>, behavior: UnmapBehavior) {
        match behavior {
            UnmapBehavior::Zeroes => {
                let before: Vec<_> = range.clone().map(|s| self.sector(s).into()).collect();
                self.zero(step, range.clone());
                self.set_origin(range.clone(), Origin::Unmapped(step));
                self.given_up.extend(range.zip(before));
            }
            UnmapBehavior::Ignored => self.set_origin(range, Origin::UnmapIgnored(step)),
            UnmapBehavior::Unspecified => {
                self.may_zero(range.clone());
                self.set_origin(range, Origin::Unmapped(step));
            }
        }
    }

    /// Each sector may have become zero.
    pub(crate) fn may_zero(&mut self, range: Range<u64>) {
        let zero = vec![0; self.sector_size];
        for sector in range {
            self.add_alternative(sector, &zero);
        }
    }

    /// A future that would have written `data`, or zeros, was dropped: it happened, will happen, or will not.
    pub(crate) fn may_write(&mut self, step: u32, sector: u64, data: &[u8]) {
        let range = self.range(sector, data.len());
        for (sector, data) in range.clone().zip(data.chunks_exact(self.sector_size)) {
            self.add_alternative(sector, data);
            if !is_zero(data) {
                self.dropped.entry(sector).or_default().push(data.into());
            }
        }
        self.set_origin(range, Origin::Dropped(step));
    }

    /// The disk has another size now.
    pub(crate) fn resize(&mut self, step: u32, sector_count: u64) {
        self.origins
            .resize(sector_count as usize, Origin::Added(step));
        self.bytes
            .resize(sector_count as usize * self.sector_size, 0);
        drop(self.alternatives.split_off(&sector_count));
        drop(self.given_up.split_off(&sector_count));
    }

    /// `found` was read from `sector` on.
    pub(crate) fn observe(&mut self, sector: u64, found: &[u8]) -> Result<(), Difference> {
        let range = self.range(sector, found.len());
        let is_settled = self.alternatives.range(range.clone()).next().is_none();
        if is_settled && self.bytes[self.byte_range(&range)] == *found {
            return Ok(());
        }
        for (sector, found) in range.zip(found.chunks_exact(self.sector_size)) {
            self.observe_sector(sector, found)?;
        }
        Ok(())
    }

    /// A sector was said to read zero.
    pub(crate) fn observe_zero(&mut self, sector: u64) -> Result<(), Difference> {
        let zero = vec![0; self.sector_size];
        self.observe_sector(sector, &zero)
            .map_err(|difference| Difference {
                clause: Clause::C12,
                ..difference
            })
    }

    fn observe_sector(&mut self, sector: u64, found: &[u8]) -> Result<(), Difference> {
        let alternatives = self.alternatives.remove(&sector).unwrap_or_default();
        if self.sector(sector) == found {
            return Ok(());
        }
        if alternatives.iter().any(|other| **other == *found) {
            let at = self.at(sector);
            self.bytes[at..at + found.len()].copy_from_slice(found);
            return Ok(());
        }
        Err(self.difference(sector, found, alternatives.len()))
    }

    fn difference(&self, sector: u64, found: &[u8], alternative_count: usize) -> Difference {
        let expected = self.sector(sector);
        let byte = (0..found.len())
            .find(|at| found[*at] != expected[*at])
            .expect("only called for what differs");
        Difference {
            clause: self.broken_clause(sector, found),
            sector,
            byte,
            expected: expected[byte],
            found: found[byte],
            origin: self.origins[sector as usize],
            alternative_count,
        }
    }

    fn broken_clause(&self, sector: u64, found: &[u8]) -> Clause {
        let dropped = self.dropped.get(&sector);
        if dropped.is_some_and(|all| all.iter().any(|data| **data == *found)) {
            // It was undone by something later, or found not to have happened.
            return Clause::C9;
        }
        match self.origins[sector as usize] {
            Origin::Initial if !self.is_initial_verified => Clause::L1,
            Origin::Initial | Origin::Written(_) | Origin::Zeroed(_) => Clause::C2,
            // Neither zero nor what the sector held: it comes from somewhere below.
            Origin::Unmapped(_) if self.given_up.get(&sector).is_some_and(|b| **b != *found) => {
                Clause::L3
            }
            Origin::Unmapped(_) | Origin::UnmapIgnored(_) => Clause::C7,
            Origin::Dropped(_) => Clause::C9,
            Origin::Added(_) => Clause::C10,
        }
    }

    /// The content of the sectors is what `bytes` says, and nothing else.
    fn settle(&mut self, range: Range<u64>, origin: Origin) {
        self.set_origin(range.clone(), origin);
        remove_range(&mut self.alternatives, range.clone());
        remove_range(&mut self.given_up, range);
    }

    fn set_origin(&mut self, range: Range<u64>, origin: Origin) {
        self.origins[range.start as usize..range.end as usize].fill(origin);
    }

    fn add_alternative(&mut self, sector: u64, data: &[u8]) {
        if self.sector(sector) != data {
            let others = self.alternatives.entry(sector).or_default();
            if !others.iter().any(|other| **other == *data) {
                others.push(data.into());
            }
        }
    }

    fn sector(&self, sector: u64) -> &[u8] {
        &self.bytes[self.byte_range(&(sector..sector + 1))]
    }

    fn range(&self, sector: u64, len: usize) -> Range<u64> {
        sector..sector + (len / self.sector_size) as u64
    }

    fn at(&self, sector: u64) -> usize {
        sector as usize * self.sector_size
    }

    fn byte_range(&self, range: &Range<u64>) -> Range<usize> {
        self.at(range.start)..self.at(range.end)
    }
}

fn remove_range<T>(map: &mut BTreeMap<u64, T>, range: Range<u64>) {
    let keys: Vec<_> = map.range(range).map(|(key, _)| *key).collect();
    for key in keys {
        map.remove(&key);
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sector,
            byte,
            expected,
            found,
            ..
        } = self;
        write!(
            f,
            "sector {sector}, byte {byte} is {found:#04x}, expected {expected:#04x}"
        )?;
        if self.alternative_count > 0 {
            write!(f, " (or one of {} others)", self.alternative_count)?;
        }
        match self.origin {
            Origin::Initial => write!(f, ": the disk began with this content"),
            Origin::Written(step) => write!(f, ": written in step {step}"),
            Origin::Zeroed(step) => write!(f, ": zeroed in step {step}"),
            Origin::Unmapped(step) => write!(f, ": unmapped in step {step}"),
            Origin::UnmapIgnored(step) => write!(f, ": unmapped in step {step}, to no effect"),
            Origin::Dropped(step) => write!(f, ": a request for it was dropped in step {step}"),
            Origin::Added(step) => write!(f, ": added by the resize in step {step}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        Model::new(512, [[1; 512], [2; 512], [3; 512]].concat())
    }

    #[test]
    fn a_read_settles_what_an_unspecified_unmap_left_open() {
        for kept in [[2; 512], [0; 512]] {
            let mut model = model();
            model.unmap(1, 0..3, UnmapBehavior::Unspecified);
            model.observe(1, &kept).unwrap();
            model.observe(1, &kept).unwrap();
            let other = [2 - kept[0]; 512];
            assert_eq!(model.observe(1, &other).unwrap_err().clause, Clause::C7);
        }
    }

    #[test]
    fn a_difference_names_the_first_sector_and_byte_that_differ() {
        let mut model = model();
        model.write(9, 1, &[7; 512]);
        let mut found = [[1; 512], [7; 512], [3; 512]].concat();
        found[512 + 17] = 8;
        let difference = model.observe(0, &found).unwrap_err();
        assert_eq!(
            difference.to_string(),
            "sector 1, byte 17 is 0x08, expected 0x07: written in step 9"
        );
        assert_eq!(difference.clause, Clause::C2);
    }

    #[test]
    fn a_completed_write_ends_what_a_dropped_one_left_open() {
        let mut model = model();
        model.may_write(1, 0, &[9; 1024]);
        model.write(2, 0, &[8; 512]);
        assert_eq!(model.observe(0, &[9; 512]).unwrap_err().clause, Clause::C9);
        model.observe(1, &[9; 512]).unwrap();
        assert!(model.observe(1, &[2; 512]).is_err());
    }

    #[test]
    fn what_shows_through_an_unmapped_sector_is_told_from_what_it_held() {
        let mut model = model();
        model.unmap(1, 0..2, UnmapBehavior::Zeroes);
        assert_eq!(model.observe(0, &[1; 512]).unwrap_err().clause, Clause::C7);
        assert_eq!(model.observe(1, &[5; 512]).unwrap_err().clause, Clause::L3);
    }

    #[test]
    fn a_claim_of_zero_settles_a_sector_too() {
        let mut model = model();
        assert_eq!(model.observe_zero(2).unwrap_err().clause, Clause::C12);
        model.unmap(1, 1..2, UnmapBehavior::Unspecified);
        model.observe_zero(1).unwrap();
        assert!(model.observe(1, &[2; 512]).is_err());
    }

    #[test]
    fn sectors_that_are_cut_off_come_back_as_zeros() {
        let mut model = model();
        model.may_write(1, 2, &[9; 512]);
        model.resize(2, 1);
        model.resize(3, 3);
        model
            .observe(0, &[[1; 512], [0; 512], [0; 512]].concat())
            .unwrap();
        assert_eq!(model.observe(2, &[3; 512]).unwrap_err().clause, Clause::C10);
    }
}
