//! Those who sleep, in the order in which they are to be woken.
//!
//! Invariants: I1, a sleeper is in the map from when it began to sleep until it is woken or goes; not being there is how it knows
//! that its time has come. I2, no waker is called, cloned or dropped while the map is locked: those are calls to code of others,
//! which may come back here.

use crate::Moment;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::task::Waker;

/// Who it is: when it is to be woken, then how many began to sleep before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sleeper {
    pub(crate) moment: Moment,
    number: u64,
}

#[derive(Default)]
pub(crate) struct Sleepers(Mutex<State>);

#[derive(Default)]
struct State {
    /// Without a waker, it has not been polled.
    by_order: BTreeMap<Sleeper, Option<Waker>>,
    begun_count: u64,
}

impl Sleepers {
    /// Adds a sleeper, and says whether its time comes before that of all others.
    pub(crate) fn add(&self, moment: Moment) -> (Sleeper, bool) {
        let mut state = self.0.lock();
        let number = state.begun_count;
        state.begun_count += 1;
        let sleeper = Sleeper { moment, number };
        state.by_order.insert(sleeper, None);
        let is_first = state.by_order.first_key_value().map(|(first, _)| *first) == Some(sleeper);
        (sleeper, is_first)
    }

    /// Takes a sleeper out.
    pub(crate) fn remove(&self, sleeper: Sleeper) {
        let waker = self.0.lock().by_order.remove(&sleeper);
        drop(waker); // I2
    }

    /// Whether the sleeper's time has come; if not, `waker` is called when it has.
    pub(crate) fn is_woken(&self, sleeper: Sleeper, waker: &Waker) -> bool {
        let mut new = Some(waker.clone());
        let mut state = self.0.lock();
        match state.by_order.get_mut(&sleeper) {
            Some(waker) => std::mem::swap(waker, &mut new),
            None => return true,
        }
        drop(state);
        drop(new); // I2
        false
    }

    /// The first one's time.
    pub(crate) fn first(&self) -> Option<Moment> {
        let state = self.0.lock();
        let first = state.by_order.first_key_value();
        first.map(|(sleeper, _)| sleeper.moment)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().by_order.len()
    }

    /// Wakes the first sleeper if its time is `now` or before, and says whether there was one.
    pub(crate) fn wake_first(&self, now: Moment) -> bool {
        let mut state = self.0.lock();
        let entry = state.by_order.first_entry();
        let Some(due) = entry.filter(|entry| entry.key().moment <= now) else {
            return false;
        };
        let waker = due.remove();
        drop(state);
        if let Some(waker) = waker {
            waker.wake(); // I2
        }
        true
    }
}
