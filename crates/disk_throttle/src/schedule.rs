//! Who may begin when: the arithmetic of a group, without waiting.
//!
//! A request passes one [`Gate`] after another, that of operations and then that of bytes, and takes what it costs at each. Then it begins.
//!
//! Invariants:
//! - S1: a request that waits is in the line of its disk until its moment comes or it goes. Not being there any more is how it knows that
//!   it may begin.
//! - S2: each line that is not empty has its first request at one gate, and only the first of each gate has a moment. Nothing but
//!   buckets, limits and order decides it, so it needs nobody's polling (C4).
//! - S3: a line is left in the order of arrival. Between lines each gate has an order of its own (T1), so a request waits for the buckets
//!   of which it takes something, and never for another disk's turn at, or debt of, one of which it takes nothing.
//! - S4: nobody waits for ever. Who waits at a gate passes it (T2), and has what he took there while he waits at the next one: nobody can
//!   take it meanwhile, and no two wait for each other, because all pass the gates in the same order.
//! - S5: so what a bucket has given may begin later. Of bytes, which are taken last, nothing does; of operations at most one for each disk.
//!   That is why operations come first.
//! - S6: what a request has taken that goes without beginning is given back, and its line ends where it did before it.

use crate::gate::{Gate, Head};
use crate::limits::Limits;
use clock::Moment;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::task::Waker;

/// What a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) bytes: u64,
    pub(crate) operations: u64,
}

impl Cost {
    /// At each of the gates.
    fn units(self) -> [u64; GATES] {
        [self.operations, self.bytes]
    }
}

/// How many gates there are: of operations, then of bytes.
const GATES: usize = 2;

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
#[derive(Debug)]
struct Line {
    tickets: BTreeMap<TicketNumber, Ticket>,
    /// The gate at which the first one waits, if there is one. It has passed those before.
    head: Option<(usize, Head)>,
    /// Where the request ended that passed each gate last.
    ends: [u128; GATES],
    /// The same before the first one passed any (S6).
    ends_before: [u128; GATES],
    /// When it was left last.
    left: Moment,
}

impl Line {
    fn new() -> Self {
        Self {
            tickets: BTreeMap::new(),
            head: None,
            ends: [0; GATES],
            ends_before: [0; GATES],
            left: Moment::ORIGIN,
        }
    }

    /// Forgets where all requests ended: at these places others are now.
    fn end_at(&mut self, places: [u128; GATES]) {
        self.ends = places;
        self.ends_before = places;
    }
}

#[derive(Debug)]
pub(crate) struct Schedule {
    limits: Limits,
    gates: [Gate; GATES],
    lines: BTreeMap<Member, Line>,
    tickets_made: u64,
    members_made: u64,
}

impl Schedule {
    /// The limits were checked.
    pub(crate) fn new(limits: Limits, now: Moment) -> Self {
        let gates = [limits.operations(), limits.bytes()];
        Self {
            limits,
            gates: gates.map(|limit| Gate::new(limit, now)),
            lines: BTreeMap::new(),
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
        self.lines.insert(member, Line::new());
        member
    }

    /// Takes a disk out. What waits in its line has been forgotten, or it would have the disk.
    pub(crate) fn leave(&mut self, member: Member, now: Moment, wakers: &mut Wakers) {
        self.step_back(member, now);
        if let Some(line) = self.lines.remove(&member) {
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
        let [operations, bytes] = &self.gates;
        [bytes, operations].map(|gate| gate.available(now))
    }

    /// Admits a request at once, or gives it a ticket. All that was due before has been admitted.
    pub(crate) fn enter(
        &mut self,
        member: Member,
        cost: Cost,
        now: Moment,
    ) -> Option<TicketNumber> {
        let line = self.lines.entry(member).or_insert_with(Line::new);
        let is_first = line.tickets.is_empty();
        let mut passed_count = 0;
        if is_first {
            line.ends_before = line.ends;
            let gates = self.gates.iter_mut().zip(&mut line.ends);
            let mut gates = gates.zip(cost.units());
            passed_count = gates
                .position(|((gate, end), units)| !gate.pass_at_once(units, end, now))
                .unwrap_or(GATES);
        }
        if passed_count == GATES {
            return None;
        }
        let number = self.tickets_made;
        self.tickets_made += 1;
        let ticket = Ticket {
            cost,
            arrived: now,
            waker: None,
        };
        line.tickets.insert(number, ticket);
        if is_first {
            self.wait_at(passed_count, member, now);
        }
        Some(number)
    }

    /// Admits all those whose moment has come, and says when that of the next one does.
    pub(crate) fn settle(&mut self, now: Moment, wakers: &mut Wakers) -> Option<Moment> {
        debug_assert!(self.are_heads_those_of_lines(), "S2");
        loop {
            let (gate, moment, head) = self.next()?;
            if moment > now {
                return Some(moment);
            }
            // At its moment, and not now: time that passed before somebody looked is not lost.
            self.pass(gate, &head, moment, wakers);
        }
    }

    /// Takes a request out of its line. Whoever is behind it comes sooner.
    pub(crate) fn give_up(
        &mut self,
        member: Member,
        number: TicketNumber,
        now: Moment,
    ) -> Option<Waker> {
        let line = self.lines.get(&member)?;
        let (&first, _) = line.tickets.first_key_value()?;
        if first == number {
            self.step_back(member, now);
        }
        let line = self.lines.get_mut(&member)?;
        let ticket = line.tickets.remove(&number)?;
        if first == number {
            line.left = now;
            self.begin_line(member);
        }
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

    /// Other limits, for those who wait too.
    pub(crate) fn change(&mut self, limits: Limits, now: Moment) {
        let was_limited = self.gates.each_ref().map(Gate::is_limited);
        let [operations, bytes] = &mut self.gates;
        let places = [
            operations.change(limits.operations(), now),
            bytes.change(limits.bytes(), now),
        ];
        self.limits = limits;
        let members: Vec<Member> = self.lines.keys().copied().collect();
        for member in members {
            let Some(line) = self.lines.get_mut(&member) else {
                continue;
            };
            line.end_at(places);
            if let Some((gate, head)) = line.head.take() {
                self.gates[gate].remove(&head, now);
                // Who went through a gate without a bucket has nothing of the one that is there now.
                let first_new = was_limited.iter().position(|was_limited| !was_limited);
                self.wait_at(gate.min(first_new.unwrap_or(gate)), member, head.since);
            }
        }
    }

    /// S2.
    fn are_heads_those_of_lines(&self) -> bool {
        let count: usize = self.gates.iter().map(Gate::waiting_count).sum();
        let heads = self.lines.values().filter_map(|line| line.head.as_ref());
        let is_right = |line: &Line| match (&line.head, line.tickets.first_key_value()) {
            (Some((gate, head)), Some((&number, _))) => self.gates[*gate].has(head, number),
            (head, first) => head.is_none() && first.is_none(),
        };
        count == heads.count() && self.lines.values().all(is_right)
    }

    /// The next to pass a gate, which one, and when. At the same moment, the first gate: who passes it is in the order of the next in time.
    fn next(&self) -> Option<(usize, Moment, Head)> {
        let gates = self.gates.iter().enumerate();
        let nexts = gates.filter_map(|(index, gate)| {
            let (moment, head) = gate.next()?;
            Some((index, moment, head))
        });
        nexts.min_by_key(|&(index, moment, _)| (moment, index))
    }

    /// Lets the first request of a line pass a gate. Behind the last one it begins.
    fn pass(&mut self, gate: usize, head: &Head, moment: Moment, wakers: &mut Wakers) {
        let Some(line) = self.lines.get_mut(&head.member) else {
            return;
        };
        self.gates[gate].pass(head, &mut line.ends[gate], moment);
        if gate + 1 < GATES {
            self.wait_at(gate + 1, head.member, moment);
            return;
        }
        line.head = None;
        line.left = moment;
        let begun = line.tickets.pop_first();
        wakers.extend(begun.and_then(|(_, ticket)| ticket.waker));
        self.begin_line(head.member);
    }

    /// Puts the first request of a line, if there is one, at the first gate (S2).
    fn begin_line(&mut self, member: Member) {
        let Some(line) = self.lines.get_mut(&member) else {
            return;
        };
        line.ends_before = line.ends;
        if let Some((_, ticket)) = line.tickets.first_key_value() {
            let since = ticket.arrived.max(line.left);
            self.wait_at(0, member, since);
        }
    }

    /// Puts the first request of a line at a gate.
    fn wait_at(&mut self, gate: usize, member: Member, since: Moment) {
        let Some(line) = self.lines.get_mut(&member) else {
            return;
        };
        let Some((&number, ticket)) = line.tickets.first_key_value() else {
            return;
        };
        let units = ticket.cost.units()[gate];
        let head = self.gates[gate].wait(member, number, units, line.ends[gate], since);
        line.head = Some((gate, head));
    }

    /// Takes the first request of a line away from its gate, and gives back what it took at others (S6).
    fn step_back(&mut self, member: Member, now: Moment) {
        let Some(line) = self.lines.get_mut(&member) else {
            return;
        };
        let Some((waits_at, head)) = line.head.take() else {
            return;
        };
        self.gates[waits_at].remove(&head, now);
        line.ends = line.ends_before;
        if let Some((_, ticket)) = line.tickets.first_key_value() {
            let passed = self.gates.iter_mut().zip(ticket.cost.units());
            for (gate, units) in passed.take(waits_at) {
                gate.give_back(units, now);
            }
        }
    }
}
