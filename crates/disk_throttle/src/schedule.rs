//! Who may begin when: the arithmetic of a group, without waiting.
//!
//! Invariants:
//! - S1: a request that waits is in the line of its disk until its moment comes or it goes. Not being there any more is how it knows that
//!   it may begin.
//! - S2: each line that is not empty has its first request in `heads`, and only the first of the heads has a moment. Nothing but buckets,
//!   limits and order decides it, so it needs nobody's polling (C4).
//! - S3: a line is left in the order of arrival. Between lines, start-time fair queueing: a head's place is where the request that was
//!   admitted before it from the same line ended, but not before the place of the last one that was admitted at all; a request is
//!   as long as the time of the group that it takes. Heads are admitted in the order of their places.
//! - S4: a request that takes nothing of any limited bucket is free: it waits for what came before it in its own line, never for the debt
//!   of another. It has no place in the order and changes none, so it costs its disk no turn.

use crate::bucket::{Bucket, time_ns};
use crate::limits::{Limit, Limits};
use clock::Moment;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;

/// What a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) bytes: u64,
    pub(crate) operations: u64,
}

/// The number of a request that waits.
pub(crate) type TicketNumber = u64;

/// The number of a disk in its group.
pub(crate) type Member = u64;

/// Those to be woken once nothing is locked any more: calls to code of others, which may come back here.
pub(crate) type Wakers = SmallVec<[Waker; 4]>;

#[derive(Debug)]
struct Ticket {
    cost: Cost,
    arrived: Moment,
    /// Without one, it has not been polled.
    waker: Option<Waker>,
}

/// The requests of one disk that wait.
#[derive(Debug, Default)]
struct Line {
    tickets: BTreeMap<TicketNumber, Ticket>,
    /// Where the request ended that was admitted last.
    end: u128,
    /// Where the first one is in the order of heads, if there is one.
    head: Option<Head>,
}

impl Line {
    fn first(&self) -> Option<(TicketNumber, Cost)> {
        let (&number, ticket) = self.tickets.first_key_value()?;
        Some((number, ticket.cost))
    }
}

/// The first request of a line: free ones before all others (S4), those by their places, and then by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    takes_something: bool,
    place: u128,
    number: TicketNumber,
    member: Member,
}

#[derive(Debug)]
pub(crate) struct Schedule {
    limits: Limits,
    bytes: Option<Bucket>,
    operations: Option<Bucket>,
    lines: BTreeMap<Member, Line>,
    heads: BTreeSet<Head>,
    /// The place of the request that was admitted last.
    place: u128,
    tickets_made: u64,
    members_made: u64,
}

impl Schedule {
    /// The limits were checked.
    pub(crate) fn new(limits: Limits, now: Moment) -> Self {
        let full = |limit: Limit| Bucket::new(limit, now);
        Self {
            limits,
            bytes: limits.bytes().map(full),
            operations: limits.operations().map(full),
            lines: BTreeMap::new(),
            heads: BTreeSet::new(),
            place: 0,
            tickets_made: 0,
            members_made: 0,
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) fn join(&mut self) -> Member {
        let member = self.members_made;
        self.members_made += 1;
        self.lines.insert(member, Line::default());
        member
    }

    /// Takes a disk out. What waits in its line has been forgotten, or it would have the disk.
    pub(crate) fn leave(&mut self, member: Member, wakers: &mut Wakers) {
        if let Some(line) = self.lines.remove(&member) {
            if let Some(head) = line.head {
                self.heads.remove(&head);
            }
            let tickets = line.tickets.into_values();
            wakers.extend(tickets.filter_map(|ticket| ticket.waker));
        }
    }

    pub(crate) fn member_count(&self) -> usize {
        self.lines.len()
    }

    pub(crate) fn waiting_count(&self) -> usize {
        self.lines.values().map(|line| line.tickets.len()).sum()
    }

    /// What the buckets hold, of bytes and of operations.
    pub(crate) fn available(&self, now: Moment) -> [Option<i128>; 2] {
        [self.bytes, self.operations].map(|bucket| Some(bucket?.units_at(now)))
    }

    /// Admits a request at once, or gives it a ticket. All that was due before has been admitted.
    pub(crate) fn enter(
        &mut self,
        member: Member,
        cost: Cost,
        now: Moment,
    ) -> Option<TicketNumber> {
        let is_first = match self.is_free(cost) {
            true => self.is_line_empty(member),
            false => self.heads.is_empty(),
        };
        if is_first && self.ready_at(cost, now) <= now {
            let place = self.place_in(member);
            self.admit(member, place, cost, now);
            return None;
        }
        let number = self.tickets_made;
        self.tickets_made += 1;
        let line = self.lines.entry(member).or_default();
        let ticket = Ticket {
            cost,
            arrived: now,
            waker: None,
        };
        line.tickets.insert(number, ticket);
        if line.tickets.len() == 1 {
            self.choose_head(member);
        }
        Some(number)
    }

    /// Admits all those whose moment has come, and says when that of the next one does.
    pub(crate) fn settle(&mut self, now: Moment, wakers: &mut Wakers) -> Option<Moment> {
        loop {
            let &Head {
                place,
                number,
                member,
                ..
            } = self.heads.first()?;
            let Ticket { cost, arrived, .. } = self.lines[&member].tickets[&number];
            let moment = self.ready_at(cost, arrived);
            if moment > now {
                return Some(moment);
            }
            wakers.extend(self.give_up(member, number));
            // At its moment, and not now: time that passed before somebody looked is not lost.
            self.admit(member, place, cost, moment);
            self.choose_head(member);
        }
    }

    /// Takes a request out of its line. Whoever is behind it comes sooner.
    pub(crate) fn give_up(&mut self, member: Member, number: TicketNumber) -> Option<Waker> {
        let line = self.lines.get_mut(&member)?;
        let ticket = line.tickets.remove(&number)?;
        self.choose_head(member);
        ticket.waker
    }

    /// The waker of a request that waits, to be exchanged; none if it may begin.
    pub(crate) fn waker_of(
        &mut self,
        member: Member,
        number: TicketNumber,
    ) -> Option<&mut Option<Waker>> {
        let line = self.lines.get_mut(&member)?;
        line.tickets
            .get_mut(&number)
            .map(|ticket| &mut ticket.waker)
    }

    /// Other limits, for those who wait too. Debts stay; a bucket that was not there before is full.
    pub(crate) fn change(&mut self, limits: Limits, now: Moment) {
        let change = |bucket: Option<Bucket>, limit: Option<Limit>| match (bucket, limit) {
            (Some(bucket), Some(limit)) => Some(bucket.with_limit(limit, now)),
            (_, limit) => limit.map(|limit| Bucket::new(limit, now)),
        };
        self.bytes = change(self.bytes, limits.bytes());
        self.operations = change(self.operations, limits.operations());
        self.limits = limits;
        // Places were times under the old limits: those of the lines that wait begin anew, side by side.
        let members: Vec<Member> = self.lines.keys().copied().collect();
        for member in members {
            self.lines
                .entry(member)
                .and_modify(|line| line.end = self.place);
            self.choose_head(member);
        }
    }

    /// Whether a request takes nothing that is limited now (S4).
    fn is_free(&self, cost: Cost) -> bool {
        let buckets = [
            (&self.bytes, cost.bytes),
            (&self.operations, cost.operations),
        ];
        buckets
            .into_iter()
            .all(|(bucket, units)| bucket.is_none() || units == 0)
    }

    fn is_line_empty(&self, member: Member) -> bool {
        let line = self.lines.get(&member);
        line.is_none_or(|line| line.tickets.is_empty())
    }

    /// Where the next request of a line is in the order.
    fn place_in(&self, member: Member) -> u128 {
        let end = self.lines.get(&member).map_or(0, |line| line.end);
        end.max(self.place)
    }

    /// Puts the first request of a line among the heads, in place of the one that is there (S2).
    fn choose_head(&mut self, member: Member) {
        let place = self.place_in(member);
        let first = self.lines.get(&member).and_then(Line::first);
        let takes_something = first.is_some_and(|(_, cost)| !self.is_free(cost));
        let Some(line) = self.lines.get_mut(&member) else {
            return;
        };
        if let Some(head) = line.head.take() {
            self.heads.remove(&head);
        }
        if let Some((number, _)) = first {
            let head = Head {
                takes_something,
                place,
                number,
                member,
            };
            line.head = Some(head);
            self.heads.insert(head);
        }
    }

    /// How much time of the group a request takes, in nanoseconds: that of the limit that takes longer.
    fn length(&self, cost: Cost) -> u128 {
        let bytes_ns = self.limits.bytes().map(|limit| time_ns(limit, cost.bytes));
        let operations = self.limits.operations();
        let operations_ns = operations.map(|limit| time_ns(limit, cost.operations));
        bytes_ns.max(operations_ns).unwrap_or(0)
    }

    /// When a request may begin that is the first, and not before `earliest`.
    fn ready_at(&self, cost: Cost, earliest: Moment) -> Moment {
        let mut moment = earliest;
        for (bucket, units) in [(self.bytes, cost.bytes), (self.operations, cost.operations)] {
            // What takes nothing of a bucket need not wait until its debt is repaid.
            if let Some(bucket) = bucket.filter(|_| units > 0) {
                moment = moment.max(bucket.ready_at(units));
            }
        }
        moment
    }

    fn admit(&mut self, member: Member, place: u128, cost: Cost, moment: Moment) {
        if self.is_free(cost) {
            return;
        }
        self.place = self.place.max(place);
        let end = place.saturating_add(self.length(cost));
        let line = self.lines.entry(member);
        line.and_modify(|line| line.end = end);
        for (bucket, units) in [
            (&mut self.bytes, cost.bytes),
            (&mut self.operations, cost.operations),
        ] {
            if let Some(bucket) = bucket.as_mut().filter(|_| units > 0) {
                bucket.take(units, moment);
            }
        }
    }
}
