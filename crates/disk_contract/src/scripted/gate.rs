//! A place where a request waits for the test.

use event_listener::Event;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A place in a request, where it waits until the test lets it on. Clones are the same place.
///
/// What waits is the request's own future, so it goes on when that is polled after [`open`](Self::open), and never if it is
/// dropped there.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_reached: AtomicBool,
    is_open: AtomicBool,
    opened: Event,
}

impl Gate {
    /// Whether a request has come here.
    pub fn is_reached(&self) -> bool {
        self.0.is_reached.load(Ordering::SeqCst)
    }

    /// Lets the request on: the one that waits here, or the one that will come.
    pub fn open(&self) {
        self.0.is_open.store(true, Ordering::SeqCst);
        self.0.opened.notify(usize::MAX);
    }

    pub(super) async fn pass(&self) {
        self.0.is_reached.store(true, Ordering::SeqCst);
        loop {
            // Listens first: an opening after the look is not missed.
            let listener = self.0.opened.listen();
            if self.0.is_open.load(Ordering::SeqCst) {
                return;
            }
            listener.await;
        }
    }
}
