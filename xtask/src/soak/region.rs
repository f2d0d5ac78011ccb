//! The model of a range of sectors that one client changes: what each of them may hold, by what was acknowledged.
//!
//! - R1: a sector whose last change was acknowledged holds that, and nothing else.
//! - R2: a sector whose change failed, or was never answered, holds what it held before or what the change brings, until somebody looks
//!   at it after the change has ended; from then on it holds what was seen.

use std::ops::Range;

use super::content::{Content, Place, SECTOR_LEN, describe};

#[derive(Debug, Clone)]
pub(crate) struct Region {
    /// The index of the export.
    export: usize,
    /// The first sector, in the export.
    start: u64,
    sectors: Vec<Sector>,
}

#[derive(Debug, Clone)]
struct Sector {
    last: Content,
    /// What else it may hold; mostly nothing.
    others: Vec<Content>,
}

impl Sector {
    fn known(content: Content) -> Self {
        Self {
            last: content,
            others: Vec::new(),
        }
    }
}

impl Region {
    /// A region whose sectors all hold the same.
    pub(crate) fn new(export: usize, sectors: Range<u64>, content: Content) -> Self {
        let count = usize::try_from(sectors.end - sectors.start).expect("a region is small");
        Self {
            export,
            start: sectors.start,
            sectors: vec![Sector::known(content); count],
        }
    }

    pub(crate) fn export(&self) -> usize {
        self.export
    }

    /// The sectors, in the export.
    pub(crate) fn range(&self) -> Range<u64> {
        self.start..self.start + self.sectors.len() as u64
    }

    fn at(&mut self, sectors: &Range<u64>) -> &mut [Sector] {
        let index = |sector: u64| usize::try_from(sector - self.start).expect("a region is small");
        let (first, end) = (index(sectors.start), index(sectors.end));
        &mut self.sectors[first..end]
    }

    /// A change was acknowledged.
    pub(crate) fn changed(&mut self, sectors: &Range<u64>, to: Content) {
        self.at(sectors).fill(Sector::known(to));
    }

    /// A change failed, or its client died before it was answered.
    pub(crate) fn perhaps_changed(&mut self, sectors: &Range<u64>, to: Content) {
        for sector in self.at(sectors) {
            if sector.last != to && !sector.others.contains(&to) {
                sector.others.push(to);
            }
        }
    }

    /// The bytes were read from the sectors that begin here, while nothing else was done to them.
    pub(crate) fn seen(&mut self, start: u64, bytes: &[u8]) -> Result<(), String> {
        let export = self.export;
        let count = (bytes.len() / SECTOR_LEN) as u64;
        for (index, (sector, bytes)) in self
            .at(&(start..start + count))
            .iter_mut()
            .zip(bytes.chunks(SECTOR_LEN))
            .enumerate()
        {
            let place = Place {
                export,
                sector: start + index as u64,
            };
            if sector.last.is(place, bytes) && sector.others.is_empty() {
                continue;
            }
            let mut allowed = std::iter::once(sector.last).chain(sector.others.iter().copied());
            match allowed.find(|content| content.is(place, bytes)) {
                Some(content) => *sector = Sector::known(content),
                None => return Err(difference(place.sector, sector, bytes)),
            }
        }
        Ok(())
    }

    /// Nothing of what was written is left.
    pub(crate) fn forget(&mut self, content: Content) {
        let all = self.range();
        self.changed(&all, content);
    }

    /// Another end: what is cut off is gone, and what is added is zero.
    pub(crate) fn resize(&mut self, end: u64) {
        let count = usize::try_from(end - self.start).expect("a region is small");
        self.sectors.resize(count, Sector::known(Content::Zero));
    }

    /// How many sectors are not known for certain.
    #[cfg(test)]
    fn uncertain_count(&self) -> usize {
        let uncertain = |sector: &&Sector| !sector.others.is_empty();
        self.sectors.iter().filter(uncertain).count()
    }
}

fn difference(at: u64, sector: &Sector, bytes: &[u8]) -> String {
    let others: String = sector
        .others
        .iter()
        .map(|content| format!(" or {content}"))
        .collect();
    format!(
        "sector {at} (offset {}) should hold {}{others}, and holds {}",
        at * SECTOR_LEN as u64,
        sector.last,
        describe(bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Content = Content::Stamp(1);
    const NEW: Content = Content::Stamp(2);

    fn bytes(first: u64, contents: &[Content]) -> Vec<u8> {
        let mut bytes = vec![0; contents.len() * SECTOR_LEN];
        for (index, (content, bytes)) in contents
            .iter()
            .zip(bytes.chunks_mut(SECTOR_LEN))
            .enumerate()
        {
            let place = Place {
                export: 0,
                sector: first + index as u64,
            };
            content.put(place, bytes);
        }
        bytes
    }

    fn region() -> Region {
        Region::new(0, 10..18, OLD)
    }

    #[test]
    fn what_was_acknowledged_has_to_be_there() {
        let mut region = region();
        region.changed(&(12..14), NEW);
        assert_eq!(region.seen(11, &bytes(11, &[OLD, NEW, NEW, OLD])), Ok(()));
        let error = region.seen(11, &bytes(11, &[OLD, NEW, OLD])).unwrap_err();
        assert!(
            error
                .contains("sector 13 (offset 6656) should hold the stamp 2, and holds the stamp 1"),
            "{error}"
        );
    }

    #[test]
    fn what_failed_is_old_or_new_until_it_is_seen() {
        let mut region = region();
        region.perhaps_changed(&(12..14), NEW);
        assert_eq!(region.uncertain_count(), 2);
        assert_eq!(region.seen(12, &bytes(12, &[NEW, OLD])), Ok(()));
        assert_eq!(region.uncertain_count(), 0);
        let turned = region.seen(12, &bytes(12, &[OLD])).unwrap_err();
        assert!(turned.contains("should hold the stamp 2"), "{turned}");
        assert!(region.seen(13, &bytes(13, &[NEW])).is_err());
    }

    #[test]
    fn a_planted_wrong_byte_is_found_also_where_two_contents_are_allowed() {
        let mut region = region();
        region.perhaps_changed(&(12..13), NEW);
        let mut torn = bytes(12, &[NEW]);
        torn[256..].copy_from_slice(&bytes(12, &[OLD])[256..]);
        let error = region.seen(12, &torn).unwrap_err();
        assert!(error.contains("the stamp 1 or the stamp 2"), "{error}");
        assert!(error.contains("torn"), "{error}");
    }

    #[test]
    fn another_sectors_data_is_not_ones_own() {
        let error = region().seen(12, &bytes(13, &[OLD])).unwrap_err();
        assert!(
            error.ends_with("the stamp 1 of export 0, sector 13"),
            "{error}"
        );
    }

    #[test]
    fn what_was_cut_off_and_added_again_is_zero() {
        let mut region = region();
        region.resize(12);
        region.resize(14);
        assert_eq!(region.range(), 10..14);
        let zeros = [OLD, OLD, Content::Zero, Content::Zero];
        assert_eq!(region.seen(10, &bytes(10, &zeros)), Ok(()));
        assert!(region.seen(12, &bytes(12, &[OLD])).is_err());
    }

    #[test]
    fn what_is_forgotten_is_no_more_allowed() {
        let mut region = region();
        region.perhaps_changed(&(10..18), NEW);
        region.forget(Content::Zero);
        assert!(region.seen(10, &bytes(10, &[NEW])).is_err());
        assert_eq!(region.seen(10, &bytes(10, &[Content::Zero])), Ok(()));
    }
}
