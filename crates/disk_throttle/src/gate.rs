//! A gate: one bucket, and the disks whose first request waits for it.
//!
//! Invariants:
//! - T1: disks take turns by start-time fair queueing: a request is as long as the time in which what it takes flows in, and its place is
//!   where the one before it of the same disk ended, but not before the place of the last one that passed at all. Requests pass in
//!   the order of their places, and of their numbers where those are the same.
//! - T2: nobody is passed over for ever: who passes moves his next place back by the length of what he took, and no new place is before
//!   that of the last one that passed; so others are before a given request only so often.
//! - T3: who takes nothing of the bucket, or where there is none, has no place in the order and changes none: he passes at once.

use crate::bucket::Bucket;
use crate::limits::Limit;
use crate::schedule::{Member, TicketNumber};
use clock::Moment;
use std::collections::BTreeSet;

/// The first request of a line: those that take nothing before all others (T3), those by their places, and then by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Head {
    takes_something: bool,
    place: u128,
    number: TicketNumber,
    pub(crate) member: Member,
    units: u64,
    /// When it came to this gate.
    pub(crate) since: Moment,
}

#[derive(Debug)]
pub(crate) struct Gate {
    /// Without one nothing is limited.
    bucket: Option<Bucket>,
    heads: BTreeSet<Head>,
    /// The last place at which a request passed.
    place: u128,
}

impl Gate {
    pub(crate) fn new(limit: Option<Limit>, now: Moment) -> Self {
        Self {
            bucket: limit.map(|limit| Bucket::new(limit, now)),
            heads: BTreeSet::new(),
            place: 0,
        }
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.bucket.is_some()
    }

    pub(crate) fn waiting_count(&self) -> usize {
        self.heads.len()
    }

    /// Whether this head waits here, for the request of this number.
    pub(crate) fn has(&self, head: &Head, number: TicketNumber) -> bool {
        head.number == number && self.heads.contains(head)
    }

    /// What the bucket holds, if there is one.
    pub(crate) fn available(&self, now: Moment) -> Option<i128> {
        Some(self.bucket?.units_at(now))
    }

    /// Another limit. A debt stays; a bucket that was not there before is full. Returns where all lines are to end that have waited so far:
    /// places were times under the old limit, so they begin anew, side by side.
    pub(crate) fn change(&mut self, limit: Option<Limit>, now: Moment) -> u128 {
        self.bucket = match (self.bucket, limit) {
            (Some(bucket), Some(limit)) => Some(bucket.with_limit(limit, now)),
            (_, limit) => limit.map(|limit| Bucket::new(limit, now)),
        };
        self.place
    }

    /// Puts the first request of a line here, whose last one ended at `end`.
    pub(crate) fn wait(
        &mut self,
        member: Member,
        number: TicketNumber,
        units: u64,
        end: u128,
        since: Moment,
    ) -> Head {
        let head = Head {
            takes_something: self.takes(units),
            place: end.max(self.place),
            number,
            member,
            units,
            since,
        };
        self.heads.insert(head);
        head
    }

    /// Takes a head away that does not pass. Those behind it may pass from now on, and not from when the bucket held enough for them.
    pub(crate) fn remove(&mut self, head: &Head, now: Moment) {
        self.heads.remove(head);
        if let Some(bucket) = &mut self.bucket {
            bucket.fill(now);
        }
    }

    /// Who passes next, and when. Nobody's polling decides it (C4).
    pub(crate) fn next(&self) -> Option<(Moment, Head)> {
        let head = *self.heads.first()?;
        Some((self.ready_at(head.units, head.since), head))
    }

    /// Lets the next one pass, at its moment, and moves the end of its line.
    pub(crate) fn pass(&mut self, head: &Head, end: &mut u128, moment: Moment) {
        self.heads.remove(head);
        self.take(head.units, head.place, end, moment);
    }

    /// Lets a request pass that need not wait, if it is one.
    pub(crate) fn pass_at_once(&mut self, units: u64, end: &mut u128, now: Moment) -> bool {
        let is_next = self.heads.is_empty() || !self.takes(units);
        let may_pass = is_next && self.ready_at(units, now) <= now;
        if may_pass {
            self.take(units, self.place.max(*end), end, now);
        }
        may_pass
    }

    /// What was taken by a request that did not begin.
    pub(crate) fn give_back(&mut self, units: u64, now: Moment) {
        if let Some(bucket) = &mut self.bucket {
            bucket.give_back(units, now);
        }
    }

    fn takes(&self, units: u64) -> bool {
        self.bucket.is_some() && units > 0
    }

    /// When the next one may pass, and not before `earliest`.
    fn ready_at(&self, units: u64, earliest: Moment) -> Moment {
        // What takes nothing need not wait until a debt is repaid.
        let bucket = self.bucket.filter(|_| units > 0);
        bucket.map_or(earliest, |bucket| bucket.ready_at(units).max(earliest))
    }

    fn take(&mut self, units: u64, place: u128, end: &mut u128, moment: Moment) {
        if let Some(bucket) = self.bucket.as_mut().filter(|_| units > 0) {
            bucket.take(units, moment);
            self.place = self.place.max(place);
            *end = place.saturating_add(bucket.time_ns(units));
        }
    }
}
