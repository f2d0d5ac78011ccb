//! How clients are let work, held up between two steps, and told that the daemon is about to end.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::TIME_MAX;
use crate::Fallible;

#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_open: bool,
    /// The daemon was asked to end: connections may break from here on.
    is_ending: bool,
    is_over: bool,
    working_count: usize,
    /// The first thing that went wrong.
    failure: Option<String>,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Lets clients work.
    pub(crate) fn open(&self) {
        self.change(|state| (state.is_open, state.is_ending) = (true, false));
    }

    /// The daemon is about to be asked to end: whatever fails from now on may.
    pub(crate) fn announce_end(&self) {
        self.change(|state| (state.is_open, state.is_ending) = (false, true));
    }

    /// Lets nobody begin another step.
    pub(crate) fn close(&self) {
        self.change(|state| state.is_open = false);
    }

    /// Waits until every client has done its step. Something has to be done meanwhile: `tend` is called again and again.
    pub(crate) fn wait_until_idle(&self, mut tend: impl FnMut() -> Fallible) -> Fallible {
        let begun = Instant::now();
        while self.lock().working_count > 0 {
            if begun.elapsed() > TIME_MAX {
                return Err(format!(
                    "a client did not finish its step within {TIME_MAX:?}"
                ));
            }
            tend()?;
        }
        Ok(())
    }

    /// Everybody goes home.
    pub(crate) fn end(&self) {
        self.change(|state| state.is_over = true);
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.lock().is_ending
    }

    /// Waits to be let in; false if there is no more work.
    pub(crate) fn enter(&self) -> bool {
        let mut state = self.lock();
        while !state.is_open && !state.is_over {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_over {
            return false;
        }
        state.working_count += 1;
        true
    }

    pub(crate) fn leave(&self) {
        self.change(|state| state.working_count -= 1);
    }

    /// Something is wrong, and nothing else matters any more.
    pub(crate) fn fail(&self, what: String) {
        self.change(|state| {
            state.failure.get_or_insert(what);
            state.is_over = true;
        });
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_begins_a_step_behind_a_closed_gate() {
        let gate = Gate::default();
        gate.open();
        assert!(gate.enter());
        gate.close();
        let mut looks = 0;
        gate.wait_until_idle(|| {
            looks += 1;
            gate.leave();
            Ok(())
        })
        .unwrap();
        assert_eq!(looks, 1);
        gate.end();
        assert!(!gate.enter());
    }

    #[test]
    fn the_first_failure_is_kept_and_ends_the_work() {
        let gate = Gate::default();
        gate.open();
        gate.fail("first".into());
        gate.fail("second".into());
        assert_eq!(gate.failure().as_deref(), Some("first"));
        assert!(!gate.enter());
    }

    #[test]
    fn an_end_that_was_announced_is_over_when_the_gate_opens_again() {
        let gate = Gate::default();
        gate.announce_end();
        assert!(gate.is_ending());
        gate.open();
        assert!(!gate.is_ending());
    }
}
