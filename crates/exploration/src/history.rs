//! Whether what several threads saw of one sector can have happened one thing after another (C2): a search, for short histories.

use std::collections::HashSet;

/// The most events of one sector: they are bits of a word.
const EVENTS_MAX: usize = 64;

/// One request's effect on one sector. No two events have an instant in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    kind: Kind,
    value: u64,
    called: u64,
    returned: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    /// A write that failed: it happened or it did not (C8).
    FailedWrite,
}

impl Event {
    /// `value` was seen.
    pub fn read(value: u64, called: u64, returned: u64) -> Self {
        let kind = Kind::Read;
        Self {
            kind,
            value,
            called,
            returned,
        }
    }

    /// `value` was stored, by whatever request; a zeroing stores 0.
    pub fn write(value: u64, called: u64, returned: u64) -> Self {
        Self {
            kind: Kind::Write,
            ..Self::read(value, called, returned)
        }
    }

    /// `value` may have been stored, by a request that returned an error.
    pub fn failed_write(value: u64, called: u64, returned: u64) -> Self {
        Self {
            kind: Kind::FailedWrite,
            ..Self::read(value, called, returned)
        }
    }
}

/// Looks for an order of the events that explains them, in a sector that held `initial` at first.
///
/// # Errors
/// What was seen, if there is none.
///
/// # Panics
/// If there are more than 64 events.
pub fn check(initial: u64, events: &[Event]) -> Result<(), String> {
    assert!(events.len() <= EVENTS_MAX, "{} events", events.len());
    let all = events.iter().enumerate();
    let needed = all
        .filter(|(_, event)| event.kind != Kind::FailedWrite)
        .fold(0_u64, |bits, (index, _)| bits | 1 << index);
    // What was done in some order so far, and the value that it left.
    let mut pending = vec![(0_u64, initial)];
    let mut known = HashSet::new();
    while let Some((done, value)) = pending.pop() {
        if done & needed == needed {
            return Ok(());
        }
        if known.insert((done, value)) {
            pending.extend(next(events, done, value));
        }
    }
    let mut events = events.to_vec();
    events.sort_by_key(|event| event.called);
    let lines: Vec<_> = events.iter().map(|event| format!("\n  {event}")).collect();
    Err(format!(
        "no order explains what was seen of a sector that held {initial:#x}:{}",
        lines.concat()
    ))
}

/// What can have happened right after `done`: each event that had not begun only after another one, not yet done, was over.
fn next(events: &[Event], done: u64, value: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
    let rest = move |index: &usize| done & (1 << index) == 0;
    let is_owed = |event: &&Event| event.kind != Kind::FailedWrite;
    let owed = (0..events.len()).filter(rest).map(|index| &events[index]);
    let first_return = owed.filter(is_owed).map(|event| event.returned).min();
    (0..events.len()).filter(rest).filter_map(move |index| {
        let event = &events[index];
        if event.kind == Kind::Read && event.value != value {
            return None;
        }
        let is_early_enough = first_return.is_none_or(|first| event.called < first);
        // Only a failed write can be left behind, and then it never happened.
        let is_over = |at: usize| done & (1 << at) != 0 && event.returned < events[at].called;
        let is_late = event.kind == Kind::FailedWrite && (0..events.len()).any(is_over);
        (is_early_enough && !is_late).then_some((done | 1 << index, event.value))
    })
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            kind,
            value,
            called,
            returned,
        } = self;
        let what = match kind {
            Kind::Read => "read",
            Kind::Write => "wrote",
            Kind::FailedWrite => "failed to write",
        };
        write!(f, "{called:>3} to {returned:>3}: {what} {value:#x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_may_be_in_any_order() {
        let write = Event::write(1, 1, 9);
        for seen in [0, 1] {
            assert_eq!(check(0, &[write, Event::read(seen, 2, 3)]), Ok(()));
        }
        let back = [write, Event::read(1, 2, 3), Event::read(0, 4, 5)];
        assert!(check(0, &back).is_err());
    }

    #[test]
    fn zeros_that_were_written_twice_are_told_apart_by_their_time() {
        let seen = [
            Event::write(0, 1, 2),
            Event::write(5, 3, 4),
            Event::write(0, 5, 8),
            Event::read(5, 6, 7),
            Event::read(0, 9, 10),
        ];
        assert_eq!(check(3, &seen), Ok(()));
        assert!(check(3, &[seen[0], seen[1], seen[4]]).is_err());
    }

    #[test]
    fn a_failed_write_explains_what_was_seen_and_demands_nothing() {
        let failed = Event::failed_write(1, 1, 2);
        for seen in [0, 1] {
            assert_eq!(check(0, &[failed, Event::read(seen, 3, 4)]), Ok(()));
        }
        let message = check(0, &[failed, Event::read(2, 3, 4)]).unwrap_err();
        assert!(message.contains("failed to write 0x1"), "{message}");
    }

    #[test]
    fn a_failed_write_is_not_late() {
        let failed = Event::failed_write(1, 1, 2);
        let late = [failed, Event::read(0, 3, 4), Event::read(1, 5, 6)];
        // Nobody says when it ended; it may not come after a later read that did not see it.
        assert!(check(0, &late).is_err());
    }
}
