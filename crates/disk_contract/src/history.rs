//! Whether what several threads saw of one sector can have happened one thing after another (C2).
//!
//! Each value but zero is written once, so no search is needed: all that touched a value (its write, and the reads that saw it)
//! must fit into one stretch of time in which it was there. Between the first return and the last call of these the value was
//! there for certain; nothing else may have been there in between. Zero is written many times: who reads it needs just one
//! zeroing that can have been the last change.

use std::collections::{BTreeMap, BTreeSet};

/// What a sector holds, as far as the test cares. Zero is [`ZERO`].
pub(crate) type Value = u64;

/// The one value that is written more than once.
pub(crate) const ZERO: Value = 0;

/// One request's effect on one sector. No two events have an instant in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    is_write: bool,
    /// Whether it may also never have happened: a write that failed, or whose future was dropped or forgotten.
    is_optional: bool,
    /// What was written, or read.
    value: Value,
    called: u64,
    returned: u64,
}

impl Event {
    pub(crate) fn write(value: Value, called: u64, returned: u64) -> Self {
        Self {
            is_write: true,
            ..Self::read(value, called, returned)
        }
    }

    pub(crate) fn read(value: Value, called: u64, returned: u64) -> Self {
        Self {
            is_write: false,
            is_optional: false,
            value,
            called,
            returned,
        }
    }

    pub(crate) fn is_write(&self) -> bool {
        self.is_write
    }

    pub(crate) fn is_optional(&self) -> bool {
        self.is_optional
    }

    pub(crate) fn value(&self) -> Value {
        self.value
    }

    pub(crate) fn called(&self) -> u64 {
        self.called
    }

    pub(crate) fn returned(&self) -> u64 {
        self.returned
    }

    /// The same, if it could still happen whenever it likes.
    pub(crate) fn at_any_time(self) -> Self {
        Self {
            returned: u64::MAX,
            ..self
        }
    }

    pub(crate) fn if_it_happened(self) -> Self {
        Self {
            is_optional: true,
            ..self
        }
    }
}

/// The time in which a value was there for certain, `from < to`, or, if `to < from`, a time that contains an instant at
/// which it was there.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    value: Value,
    from: u64,
    to: u64,
}

/// Looks for a contradiction. The first event is the write of what was there before.
pub(crate) fn check(events: &[Event]) -> Result<(), String> {
    let events = &without_what_nobody_saw(events);
    let stretches = stretches(events)?;
    let certain: Vec<_> = stretches.iter().filter(|s| s.from < s.to).collect();
    for value in &certain {
        let others = stretches.iter().filter(|other| other.value != value.value);
        for other in others.copied().chain(zero_instants(events)) {
            if contradicts(value, &other) {
                return Err(format!(
                    "value {:#x} was there from {} to {}, but so was {:#x} at an instant between {} and {}",
                    value.value,
                    value.from,
                    value.to,
                    other.value,
                    other.from.min(other.to),
                    other.from.max(other.to)
                ));
            }
        }
    }
    check_zeros(events)
}

/// The same, if what was given up could still happen at any time. It cannot (C9), so whatever makes sense only then is late.
pub(crate) fn if_given_up_were_not_over(events: &[Event]) -> Vec<Event> {
    let relaxed = events.iter().map(|event| match event.is_optional {
        true => event.at_any_time(),
        false => *event,
    });
    relaxed.collect()
}

/// Leaves out the writes that may not have happened and were seen by nobody: then they need not be explained. Those of zero stay;
/// they explain what was seen, and demand nothing.
fn without_what_nobody_saw(events: &[Event]) -> Vec<Event> {
    let reads = events.iter().filter(|event| !event.is_write);
    let seen: BTreeSet<Value> = reads.map(|read| read.value).collect();
    let counts =
        |event: &&Event| !event.is_optional || seen.contains(&event.value) || event.value == ZERO;
    events.iter().filter(counts).copied().collect()
}

/// The stretch of each value but zero.
fn stretches(events: &[Event]) -> Result<Vec<Stretch>, String> {
    let mut written = BTreeMap::new();
    for event in events.iter().filter(|event| event.is_write) {
        written.insert(event.value, event.called);
    }
    let mut by_value = BTreeMap::new();
    for event in events.iter().filter(|event| event.value != ZERO) {
        match written.get(&event.value) {
            Some(called) if event.is_write || *called < event.returned => {}
            Some(_) => return Err(format!("{event:?} saw a value before its write was called")),
            None => {
                return Err(format!(
                    "{event:?} saw a value that was never written there"
                ));
            }
        }
        let stretch = by_value.entry(event.value).or_insert(Stretch {
            value: event.value,
            from: u64::MAX,
            to: 0,
        });
        stretch.from = stretch.from.min(event.returned);
        stretch.to = stretch.to.max(event.called);
    }
    Ok(by_value.into_values().collect())
}

/// Each event that had to do with zero contains an instant at which zero was there.
fn zero_instants(events: &[Event]) -> impl Iterator<Item = Stretch> {
    let zeros = events
        .iter()
        .filter(|event| event.value == ZERO && !event.is_optional);
    zeros.map(|event| Stretch {
        value: ZERO,
        from: event.returned,
        to: event.called,
    })
}

/// Whether `other` was there at some instant at which `certain` was.
fn contradicts(certain: &Stretch, other: &Stretch) -> bool {
    if other.from < other.to {
        certain.from < other.to && other.from < certain.to
    } else {
        certain.from < other.to && other.from < certain.to && other.to < other.from
    }
}

/// Each read of zero has a zeroing after which nothing else need have been there.
fn check_zeros(events: &[Event]) -> Result<(), String> {
    let is_zeroing = |event: &&Event| event.is_write && event.value == ZERO;
    let zeroings: Vec<_> = events.iter().filter(is_zeroing).collect();
    let others: Vec<_> = events.iter().filter(|event| event.value != ZERO).collect();
    for read in events
        .iter()
        .filter(|event| !event.is_write && event.value == ZERO)
    {
        let is_explained = zeroings.iter().any(|zeroing| {
            let is_between =
                |other: &&&Event| zeroing.returned < other.called && other.returned < read.called;
            zeroing.called < read.returned && !others.iter().any(|other| is_between(&other))
        });
        if !is_explained {
            return Err(format!(
                "{read:?} saw zeros, but the last zeroing was overwritten before"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
