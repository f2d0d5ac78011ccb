//! What each sector of a disk may hold after the daemon was killed, by what it had acknowledged.
//!
//! - K1: a sector holds what was durable, or what a later change brings; never anything older.
//! - K2: durable is what a change brought that was acknowledged before a flush was sent that succeeded, and a write that asked for
//!   that itself; with it all that was earlier is gone.
//! - K3: what was seen after a kill is durable: recovery picks one content, and keeps it.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::soak::content::{Content, Place, SECTOR_LEN, describe};

/// What every message begins with that is about a sector with what it may not have after a kill.
pub(super) const LOST: &str = "after the kill sector";

/// The sectors of one disk.
#[derive(Debug)]
pub(super) struct Model {
    sectors: Vec<Sector>,
    /// Those of which more than one content is allowed.
    open: BTreeSet<u64>,
    /// Counts what was sent and acknowledged.
    now: u64,
    next_change: u64,
}

#[derive(Debug, Clone)]
struct Sector {
    durable: Content,
    /// In the order in which they were sent; a client never has two in flight of one sector.
    later: Vec<Change>,
}

#[derive(Debug, Clone, Copy)]
struct Change {
    number: u64,
    content: Content,
    /// When it was acknowledged, if it was.
    acknowledged: Option<u64>,
}

/// What was found after a kill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Sectors that could have held more than one thing.
    pub(super) open_count: u64,
    /// Those of them that held what was durable.
    pub(super) old_count: u64,
}

impl Model {
    pub(super) fn new(sector_count: u64, content: Content) -> Self {
        let sector = Sector {
            durable: content,
            later: Vec::new(),
        };
        let count = usize::try_from(sector_count).expect("a disk is small");
        Self {
            sectors: vec![sector; count],
            open: BTreeSet::new(),
            now: 0,
            next_change: 0,
        }
    }

    pub(super) fn sector_count(&self) -> u64 {
        self.sectors.len() as u64
    }

    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn at(&mut self, sector: u64) -> &mut Sector {
        &mut self.sectors[usize::try_from(sector).expect("a disk is small")]
    }

    /// A change is about to be sent; its number.
    pub(super) fn sent(&mut self, sectors: &Range<u64>, content: Content) -> u64 {
        self.next_change += 1;
        let number = self.next_change;
        for sector in sectors.clone() {
            self.open.insert(sector);
            self.at(sector).later.push(Change {
                number,
                content,
                acknowledged: None,
            });
        }
        number
    }

    /// A change was acknowledged; one that is `durable` by itself, or not.
    pub(super) fn acknowledged(&mut self, sectors: &Range<u64>, number: u64, durable: bool) {
        let now = self.tick();
        for at in sectors.clone() {
            let sector = self.at(at);
            let index = sector
                .later
                .iter()
                .position(|change| change.number == number);
            let index =
                index.expect("what is acknowledged was sent, and nothing later replaced it");
            sector.later[index].acknowledged = Some(now);
            if durable {
                self.settle(at, index);
            }
        }
    }

    /// A flush is about to be sent; what [`flushed`](Self::flushed) needs when it succeeds.
    pub(super) fn flush_sent(&mut self) -> u64 {
        self.tick()
    }

    /// The flush that was sent then has succeeded (K2).
    pub(super) fn flushed(&mut self, sent: u64) {
        for at in self.open.clone() {
            let later = &self.at(at).later;
            let covered = |change: &Change| change.acknowledged.is_some_and(|at| at < sent);
            if let Some(index) = later.iter().rposition(covered) {
                self.settle(at, index);
            }
        }
    }

    /// The change with this index is durable.
    fn settle(&mut self, at: u64, index: usize) {
        let sector = self.at(at);
        sector.durable = sector.later[index].content;
        sector.later.drain(..=index);
        if sector.later.is_empty() {
            self.open.remove(&at);
        }
    }

    /// What a client reads that nothing else is done to: the last change, which was acknowledged, or what was durable.
    pub(super) fn check_now(&mut self, place: Place, bytes: &[u8]) -> Result<(), String> {
        let sector = self.at(place.sector);
        let newest = sector
            .later
            .last()
            .map_or(sector.durable, |change| change.content);
        match newest.is(place, bytes) {
            true => Ok(()),
            false => Err(format!(
                "sector {} was read while the daemon lived: it should hold {newest}, and holds {}",
                place.sector,
                describe(bytes)
            )),
        }
    }

    /// The whole disk after a kill (K1, K3).
    pub(super) fn after_kill(&mut self, export: usize, bytes: &[u8]) -> Result<Found, String> {
        let mut found = Found::default();
        for (at, bytes) in (0..).zip(bytes.chunks_exact(SECTOR_LEN)) {
            let place = Place { export, sector: at };
            let sector = self.at(at);
            if sector.later.is_empty() && sector.durable.is(place, bytes) {
                continue;
            }
            let is_old = sector.durable.is(place, bytes);
            let newer = sector.later.iter().map(|change| change.content);
            let newer = newer.rev().find(|content| content.is(place, bytes));
            let content = match (newer, is_old) {
                (Some(newer), _) => newer,
                (None, true) => sector.durable,
                (None, false) => return Err(difference(at, sector, bytes)),
            };
            found.open_count += 1;
            found.old_count += u64::from(newer.is_none());
            *sector = Sector {
                durable: content,
                later: Vec::new(),
            };
        }
        self.open.clear();
        Ok(found)
    }
}

fn difference(at: u64, sector: &Sector, bytes: &[u8]) -> String {
    let later = sector.later.iter().map(|change| {
        let state = match change.acknowledged {
            Some(_) => "acknowledged",
            None => "not answered",
        };
        format!(", or later {} ({state})", change.content)
    });
    let later: String = later.collect();
    format!(
        "{LOST} {at} should hold {}{later}; it holds {}",
        sector.durable,
        describe(bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Content = Content::Stamp(1);
    const NEW: Content = Content::Stamp(2);
    const NEWER: Content = Content::Stamp(3);

    fn bytes(contents: [Content; 4]) -> Vec<u8> {
        let mut bytes = vec![0; 4 * SECTOR_LEN];
        for (sector, (content, bytes)) in
            (0..).zip(contents.iter().zip(bytes.chunks_exact_mut(SECTOR_LEN)))
        {
            content.put(Place { export: 0, sector }, bytes);
        }
        bytes
    }

    fn model() -> Model {
        Model::new(4, OLD)
    }

    fn write(model: &mut Model, sectors: Range<u64>, content: Content) {
        let number = model.sent(&sectors, content);
        model.acknowledged(&sectors, number, false);
    }

    #[test]
    fn what_was_not_flushed_may_be_gone_or_there() {
        let mut model = model();
        write(&mut model, 1..3, NEW);
        let found = model.after_kill(0, &bytes([OLD, NEW, OLD, OLD]));
        let expected = Found {
            open_count: 2,
            old_count: 1,
        };
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn what_was_flushed_has_to_be_there() {
        let mut model = model();
        write(&mut model, 1..3, NEW);
        let sent = model.flush_sent();
        model.flushed(sent);
        let error = model.after_kill(0, &bytes([OLD, NEW, OLD, OLD]));
        let error = error.unwrap_err();
        assert!(
            error.contains("sector 2 should hold the stamp 2; "),
            "{error}"
        );
    }

    #[test]
    fn a_flush_covers_what_was_acknowledged_before_it_was_sent_and_nothing_else() {
        let mut model = model();
        write(&mut model, 0..1, NEW);
        let pending = model.sent(&(1..2), NEW);
        let sent = model.flush_sent();
        write(&mut model, 2..3, NEW);
        write(&mut model, 0..1, NEWER);
        model.acknowledged(&(1..2), pending, false);
        model.flushed(sent);
        assert!(model.after_kill(0, &bytes([OLD, OLD, OLD, OLD])).is_err());
        let found = model.after_kill(0, &bytes([NEW, OLD, OLD, OLD]));
        assert_eq!(found.map(|found| found.old_count), Ok(3));
    }

    #[test]
    fn a_write_that_asks_for_it_is_durable_by_itself() {
        let mut model = model();
        write(&mut model, 0..2, NEW);
        let number = model.sent(&(0..1), NEWER);
        model.acknowledged(&(0..1), number, true);
        assert!(model.after_kill(0, &bytes([NEW, NEW, OLD, OLD])).is_err());
        assert!(model.after_kill(0, &bytes([NEWER, OLD, OLD, OLD])).is_ok());
    }

    #[test]
    fn what_was_seen_after_a_kill_stays() {
        let mut model = model();
        write(&mut model, 0..1, NEW);
        let seen = [NEW, OLD, OLD, OLD];
        assert!(model.after_kill(0, &bytes(seen)).is_ok());
        assert!(model.after_kill(0, &bytes([OLD; 4])).is_err());
        let mut model = self::model();
        write(&mut model, 0..1, NEW);
        assert!(model.after_kill(0, &bytes([OLD; 4])).is_ok());
        assert!(model.after_kill(0, &bytes(seen)).is_err());
    }

    #[test]
    fn a_planted_wrong_byte_is_found_wherever_it_is() {
        for at in [0, 511, 512, 700, 2047] {
            let mut model = model();
            write(&mut model, 1..2, NEW);
            let mut bytes = bytes([OLD, NEW, OLD, OLD]);
            bytes[at] ^= 1;
            assert!(model.after_kill(0, &bytes).is_err(), "byte {at}");
        }
    }
}
