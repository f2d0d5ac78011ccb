//! What happened in a world, sector by sector, and what a crash may leave of it.
//!
//! The time is a count of what happened: each call and each return has an instant of its own. A change is in the list from its call
//! on, first as one that may happen at any time.

use crate::Clause;
use crate::history::{self, Event, Value, ZERO};
use crate::ledger::{Fault, NEVER, value};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

/// Stamps below are those of the stores' first content.
const FIRST_STAMP: u64 = 1000;

#[derive(Debug)]
pub(super) struct Chronicle {
    now: u64,
    stamp_count: u64,
    /// By sector; as many as the disk ever had.
    sectors: Vec<Vec<Record>>,
    /// When the last good flush was called.
    flushed: u64,
    first_size: u64,
    resizes: Vec<Resize>,
    /// Whether what failed or was dropped is as durable as the rest, once it was seen.
    seen_is_kept: bool,
    /// Whether a layer may have another size than the disk, because it failed to follow. Then that of a volatile top is forgotten.
    sizes_may_differ: bool,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    event: Event,
    end: End,
    is_fua: bool,
    /// If a resize made it zero: when the last good flush before that was called.
    resized_after: Option<u64>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Completed,
    /// It completed, and this was one of the values that it may have written, because the caller's memory changed meanwhile.
    CompletedWithEither,
    Failed,
    Dropped,
    /// It is under way, or was forgotten.
    Open,
}

#[derive(Debug, Clone, Copy)]
struct Resize {
    returned: u64,
    sector_count: u64,
    end: End,
}

/// A change that was called.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) called: u64,
    /// Where its records are: sector, and index there.
    places: Vec<(u64, usize)>,
    resize: Option<usize>,
}

/// What a crash may leave of each sector, and which clause forbids the rest.
#[derive(Debug)]
pub(super) struct Recoverable {
    /// By sector, in order: what may be there, and the clause that the others break.
    values: Vec<(Vec<Value>, Clause)>,
    sizes: Vec<u64>,
}

/// The time in which a value was there: it came before `from`, and went after `to`.
#[derive(Debug, Clone, Copy)]
struct Span {
    value: Value,
    from: u64,
    to: u64,
    /// The same, by what had been seen when the last good flush was called.
    to_flushed: u64,
    /// Whether it may never have been there.
    is_optional: bool,
}

impl Chronicle {
    /// Begins with what the disk holds.
    pub(super) fn new(values: &[Value], seen_is_kept: bool, sizes_may_differ: bool) -> Self {
        let mut chronicle = Self {
            now: 1,
            stamp_count: FIRST_STAMP,
            sectors: Vec::new(),
            flushed: 0,
            first_size: values.len() as u64,
            resizes: Vec::new(),
            seen_is_kept,
            sizes_may_differ,
        };
        for value in values {
            chronicle.sectors.push(vec![Record::first(*value)]);
        }
        chronicle
    }

    /// Begins again with what the disk holds after a crash. What is written from here on is nothing that was written before.
    pub(super) fn after_crash(&self, values: &[Value]) -> Self {
        Self {
            stamp_count: self.stamp_count,
            ..Self::new(values, self.seen_is_kept, false)
        }
    }

    /// Another instant.
    pub(super) fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    pub(super) fn new_stamp(&mut self) -> u64 {
        self.stamp_count += 1;
        self.stamp_count
    }

    /// Requests change these sectors to what `stamps` say, each an alternative; without one, to zeros.
    pub(super) fn call_change(
        &mut self,
        range: Range<u64>,
        stamps: &[u64],
        is_fua: bool,
    ) -> Ticket {
        let called = self.tick();
        let mut places = Vec::new();
        for sector in range {
            let mut values: Vec<_> = stamps.iter().map(|stamp| value(*stamp, sector)).collect();
            if values.is_empty() {
                values.push(ZERO);
            }
            for value in values {
                let event = Event::write(value, called, NEVER).if_it_happened();
                let records = self.records(sector);
                places.push((sector, records.len()));
                records.push(Record {
                    event,
                    end: End::Open,
                    is_fua,
                    resized_after: None,
                });
            }
        }
        Ticket {
            called,
            places,
            resize: None,
        }
    }

    /// The disk is resized: what it loses, and what it gains, becomes zero.
    pub(super) fn call_resize(&mut self, old: u64, new: u64) -> Ticket {
        let mut ticket = self.call_change(old.min(new)..old.max(new), &[], false);
        for (sector, index) in &ticket.places {
            self.sectors[*sector as usize][*index].resized_after = Some(self.flushed);
        }
        ticket.resize = Some(self.resizes.len());
        self.resizes.push(Resize {
            returned: NEVER,
            sector_count: new,
            end: End::Open,
        });
        ticket
    }

    /// A change ended.
    pub(super) fn end(&mut self, ticket: &Ticket, end: End) {
        let returned = self.tick();
        for (sector, index) in &ticket.places {
            let record = &mut self.sectors[*sector as usize][*index];
            let event = Event::write(record.event.value(), ticket.called, returned);
            record.event = match end {
                End::Completed => event,
                _ => event.if_it_happened(),
            };
            record.end = end;
        }
        if let Some(index) = ticket.resize {
            self.resizes[index].returned = returned;
            self.resizes[index].end = end;
        }
    }

    /// A read that was called then saw this just now.
    pub(super) fn saw(&mut self, called: u64, sector: u64, value: Value) {
        let event = Event::read(value, called, self.now);
        self.records(sector).push(Record {
            event,
            end: End::Completed,
            is_fua: false,
            resized_after: None,
        });
    }

    /// A flush that was called then succeeded.
    pub(super) fn flushed(&mut self, called: u64) {
        self.flushed = self.flushed.max(called);
    }

    /// Whether the size may have changed since then.
    pub(super) fn was_resized_since(&self, instant: u64) -> bool {
        self.resizes.iter().any(|resize| resize.returned > instant)
    }

    fn records(&mut self, sector: u64) -> &mut Vec<Record> {
        let index = sector as usize;
        while self.sectors.len() <= index {
            // Before it was added it held nothing.
            self.sectors.push(vec![Record::first(ZERO)]);
        }
        &mut self.sectors[index]
    }

    /// Whether all that was seen can have happened one thing after another, sector by sector.
    pub(super) fn check(&self) -> Result<(), Fault> {
        for (sector, records) in self.sectors.iter().enumerate() {
            let events: Vec<_> = records.iter().map(|record| record.event).collect();
            history::check(&events).map_err(|what| {
                let clause = clause_of(records);
                let history = self.describe(sector as u64);
                (clause, format!("sector {sector}: {what}{history}"))
            })?;
        }
        Ok(())
    }

    /// All that is known of a sector, for people.
    pub(super) fn describe(&self, sector: u64) -> String {
        let Some(records) = self.sectors.get(sector as usize) else {
            return String::new();
        };
        let mut text = format!(
            "\n  flushed what completed before {}; sector {sector}:",
            self.flushed
        );
        for Record {
            event, end, is_fua, ..
        } in records
        {
            let until = match event.returned() {
                NEVER => "now".to_owned(),
                returned => returned.to_string(),
            };
            let what = match (event.is_write(), is_fua) {
                (false, _) => "saw",
                (true, false) => "write of",
                (true, true) => "FUA write of",
            };
            let (called, value) = (event.called(), event.value());
            // A string takes whatever is written to it.
            _ = write!(text, "\n    {called}-{until}: {what} {value:#x}, {end:?}");
        }
        text
    }

    /// What a crash now may leave.
    pub(super) fn recoverable(&self) -> Recoverable {
        Recoverable {
            values: self.sectors.iter().map(|s| self.values_of(s)).collect(),
            sizes: self.sizes(),
        }
    }

    /// A value may be left unless it was surely replaced by one that is promised to be durable.
    fn values_of(&self, records: &[Record]) -> (Vec<Value>, Clause) {
        let spans = spans(records, self.flushed);
        let mut clause = Clause::C11;
        let mut promises = Vec::new();
        for record in records.iter().filter(|record| record.event.is_write()) {
            if let Some(by) = self.promise(record, records) {
                promises.push(spans[&key(record)]);
                clause = by;
            }
        }
        let is_left = |span: &&Span| !promises.iter().any(|promise| span.is_replaced_by(promise));
        let mut values: Vec<_> = spans.values().filter(is_left).map(|s| s.value).collect();
        values.sort_unstable();
        values.dedup();
        (values, clause)
    }

    /// By which clause a write is durable, if it is. One that failed or was dropped had completed, to everybody who looked, once a
    /// read saw that it happened.
    fn promise(&self, write: &Record, records: &[Record]) -> Option<Clause> {
        let is_seen_before = |instant: u64| {
            write.event.value() != ZERO
                && records.iter().any(|record| {
                    !record.event.is_write()
                        && record.event.value() == write.event.value()
                        && record.event.returned() < instant
                })
        };
        let flushed = self.flushed_before_cut(write, records);
        let is_flushed = write.event.returned() < flushed;
        match write.end {
            _ if write.resized_after.is_some() && self.sizes_may_differ => None,
            End::Completed if write.is_fua => Some(Clause::C6),
            End::CompletedWithEither if write.is_fua && is_seen_before(NEVER) => Some(Clause::C6),
            End::Completed if is_flushed => Some(Clause::C5),
            End::Completed | End::Open => None,
            End::Failed | End::Dropped if !self.seen_is_kept => None,
            _ => (is_flushed && is_seen_before(flushed)).then_some(Clause::C5),
        }
    }

    /// When the last good flush was called that found the sector there. If the resize that cut it off may be forgotten, the sector
    /// comes back with what was flushed before: later flushes had nothing to do with it.
    fn flushed_before_cut(&self, write: &Record, records: &[Record]) -> u64 {
        let may_follow = |record: &&Record| record.event.returned() > write.event.called();
        let cuts = records.iter().filter(may_follow);
        match cuts.filter_map(|record| record.resized_after).min() {
            Some(flushed) if self.sizes_may_differ => flushed,
            _ => self.flushed,
        }
    }

    fn sizes(&self) -> Vec<u64> {
        let mut sizes = vec![self.first_size];
        for resize in &self.resizes {
            let is_promised = resize.end == End::Completed && resize.returned < self.flushed;
            if is_promised && !self.sizes_may_differ {
                sizes.clear();
            }
            sizes.push(resize.sector_count);
        }
        sizes
    }
}

impl Record {
    fn first(value: Value) -> Self {
        Self {
            event: Event::write(value, 0, 0),
            end: End::Completed,
            is_fua: true,
            resized_after: None,
        }
    }
}

impl Span {
    /// Whether it was surely there before the other, so that it cannot be left where the other is promised.
    fn is_replaced_by(&self, promise: &Span) -> bool {
        let until = match self.is_optional {
            // What failed, and was not seen, may happen by a crash, until a flush makes durable that it did not.
            true => promise.to_flushed,
            false => promise.to,
        };
        self.from < until && self.value_differs(promise)
    }

    /// Each zeroing is a span of its own, and so differs from itself only in its instants.
    fn value_differs(&self, other: &Span) -> bool {
        self.value != other.value
            || self.value == ZERO && (self.from, self.to) != (other.from, other.to)
    }
}

/// Values are written once, zeroings are told apart by their calls.
fn key(record: &Record) -> (Value, u64) {
    match record.event.value() {
        ZERO => (ZERO, record.event.called()),
        value => (value, 0),
    }
}

/// The spans of what was written. Who saw a zero saw some zeroing; nobody knows which.
fn spans(records: &[Record], flushed: u64) -> BTreeMap<(Value, u64), Span> {
    let mut spans = BTreeMap::new();
    for record in records {
        let event = &record.event;
        if !event.is_write() && event.value() == ZERO {
            continue;
        }
        let span = spans.entry(key(record)).or_insert(Span {
            value: event.value(),
            from: event.returned(),
            to: event.called(),
            to_flushed: 0,
            is_optional: true,
        });
        span.from = span.from.min(event.returned());
        span.to = span.to.max(event.called());
        span.is_optional &= event.is_optional();
        if event.is_write() || event.returned() < flushed {
            span.to_flushed = span.to_flushed.max(event.called());
        }
    }
    spans
}

/// Which clause a history breaks that makes no sense: one of those that say when what did not complete may happen, if it would
/// make sense without them.
fn clause_of(records: &[Record]) -> Clause {
    for (end, clause) in [(End::Dropped, Clause::C9), (End::Failed, Clause::C8)] {
        let relaxed = records.iter().map(|record| match record.end == end {
            true => record.event.at_any_time(),
            false => record.event,
        });
        if history::check(&relaxed.collect::<Vec<_>>()).is_ok() {
            return clause;
        }
    }
    Clause::C2
}

impl Recoverable {
    /// Whether a recovered disk may have this size.
    pub(super) fn check_size(&self, sector_count: u64) -> Result<(), Fault> {
        match self.sizes.contains(&sector_count) {
            true => Ok(()),
            false => Err((
                Clause::C11,
                format!(
                    "the disk has {sector_count} sectors after a crash, not one of {:?}",
                    self.sizes
                ),
            )),
        }
    }

    /// Whether a sector of a recovered disk may hold this.
    pub(super) fn check_value(&self, sector: u64, value: Value) -> Result<(), Fault> {
        let Some((values, clause)) = self.values.get(sector as usize) else {
            return match value {
                ZERO => Ok(()),
                _ => Err((
                    Clause::C11,
                    format!("sector {sector} was never there, and holds {value:#x} after a crash"),
                )),
            };
        };
        match values.binary_search(&value) {
            Ok(_) => Ok(()),
            Err(_) => Err((
                *clause,
                format!("sector {sector} holds {value:#x} after a crash, not one of {values:#x?}"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of two values, written one after the other, a crash may leave of a sector that a failed resize cut off. A flush follows; one
    /// may have come before the resize as well.
    fn left_of_cut(sizes_may_differ: bool, is_flushed_before: bool) -> [bool; 2] {
        let mut chronicle = Chronicle::new(&[ZERO], true, sizes_may_differ);
        let [older, newer] = [1, 2].map(|stamp| {
            let write = chronicle.call_change(0..1, &[stamp], false);
            chronicle.end(&write, End::Completed);
            value(stamp, 0)
        });
        if is_flushed_before {
            let called = chronicle.tick();
            chronicle.flushed(called);
        }
        let resize = chronicle.call_resize(1, 0);
        chronicle.end(&resize, End::Failed);
        let called = chronicle.tick();
        chronicle.flushed(called);
        let recoverable = chronicle.recoverable();
        [older, newer].map(|value| recoverable.check_value(0, value).is_ok())
    }

    #[test]
    fn a_flush_after_a_cut_that_may_be_forgotten_promises_nothing_of_what_was_cut_off() {
        assert_eq!(left_of_cut(true, false), [true, true]);
    }

    #[test]
    fn a_flush_before_the_cut_does() {
        assert_eq!(left_of_cut(true, true), [false, true]);
    }

    #[test]
    fn where_no_cut_is_forgotten_every_flush_does() {
        assert_eq!(left_of_cut(false, false), [false, true]);
    }
}
