//! The future of an operation, and the slot through which the result comes to it.

use crate::entry::Finish;
use crate::ring::{Core, Key};
use parking_lot::Mutex;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// An operation that goes on by itself; see [`Ring::read`](crate::Ring::read). The future is what its closure returned.
///
/// Polling also looks what else the ring has completed, so that a thread with much to do rarely needs anybody to tell it.
#[must_use = "whoever drops it may have nothing done"]
pub struct Operation<T> {
    core: &'static Core,
    /// None once the operation is let go.
    key: Option<Key>,
    slot: Arc<Slot<T>>,
}

pub(crate) struct Slot<T>(Mutex<State<T>>);

enum State<T> {
    Running(Option<Waker>),
    Ended(Result<T, Box<dyn Any + Send>>),
    Taken,
}

/// What the ring is to do at the end of an operation, and where its future finds the result of that.
pub(crate) fn connect<T: Send + 'static>(
    then: impl FnOnce(io::Result<()>) -> T + Send + 'static,
) -> (Finish, Arc<Slot<T>>) {
    let slot = Arc::new(Slot(Mutex::new(State::Running(None))));
    let to = Arc::clone(&slot);
    let finish = move |outcome| {
        // A panic is for whoever waits, and not for the thread that this happens to be.
        let result = catch_unwind(AssertUnwindSafe(|| then(outcome)));
        let before = std::mem::replace(&mut *to.0.lock(), State::Ended(result));
        // With the slot unlocked: a waker is foreign code.
        match before {
            State::Running(Some(waker)) => waker.wake(),
            State::Running(None) => {}
            State::Ended(_) | State::Taken => unreachable!("an operation ends once"),
        }
    };
    (Box::new(finish), slot)
}

impl<T> Operation<T> {
    pub(crate) fn new(core: &'static Core, key: Key, slot: Arc<Slot<T>>) -> Self {
        Self {
            core,
            key: Some(key),
            slot,
        }
    }

    /// Lets the operation go on to its end without anybody waiting for it.
    pub fn detach(mut self) {
        self.key = None;
    }

    /// The result if it is there.
    fn take_result(&self) -> Option<T> {
        let mut state = self.slot.0.lock();
        let result = match std::mem::replace(&mut *state, State::Taken) {
            State::Ended(result) => result,
            State::Taken => panic!("a finished operation was polled again"),
            running => {
                *state = running;
                return None;
            }
        };
        drop(state);
        Some(result.unwrap_or_else(|panic| resume_unwind(panic)))
    }

    /// The same, and leaves `waker` to be woken if it is not.
    fn poll_slot(&self, waker: &Waker) -> Poll<T> {
        let mut copy = None;
        loop {
            let mut state = self.slot.0.lock();
            match &mut *state {
                State::Running(Some(old)) if old.will_wake(waker) => return Poll::Pending,
                State::Running(place) => {
                    // With the slot unlocked: copying and dropping a waker are foreign code, too.
                    let Some(copy) = copy.take() else {
                        drop(state);
                        copy = Some(waker.clone());
                        continue;
                    };
                    let old = place.replace(copy);
                    drop(state);
                    drop(old);
                    return Poll::Pending;
                }
                State::Ended(_) | State::Taken => {
                    drop(state);
                    let result = self.take_result();
                    return Poll::Ready(result.expect("it was just looked at"));
                }
            }
        }
    }
}

impl<T> Future for Operation<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Who is woken because it has ended is woken by somebody who has just looked what else there is.
        if let Some(result) = self.take_result() {
            return Poll::Ready(result);
        }
        self.core.reap_if_free();
        self.poll_slot(cx.waker())
    }
}

impl<T> Drop for Operation<T> {
    fn drop(&mut self) {
        let is_running = matches!(*self.slot.0.lock(), State::Running(_));
        if let (Some(key), true) = (self.key, is_running) {
            self.core.let_go(key);
        }
    }
}

impl<T> fmt::Debug for Operation<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
