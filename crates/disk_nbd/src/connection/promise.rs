//! One request between whoever waits for it and the thread that works on it.

use super::room::Admission;
use disk_backend::DiskError;
use nbd_protocol::Extent;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// What a request gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was done; what was read is in its memory.
    Done,
    /// The beginning of a status.
    Extents(Extents),
}

/// Extents in order, without a gap. There are more on the wire than are of use.
pub(crate) type Extents = SmallVec<[Extent; 4]>;

/// The end that keeps its word: either [`fulfil`](Self::fulfil), or, dropped, the news that the connection is lost.
pub(super) struct Promise {
    ticket: Arc<Ticket>,
    /// Until it is fulfilled.
    admission: Option<Admission>,
}

/// The end that waits. It may be dropped or forgotten; the request goes on.
pub(crate) struct Pending(Arc<Ticket>);

#[derive(Default)]
struct Ticket(Mutex<TicketState>);

#[derive(Default)]
struct TicketState {
    result: Option<Result<Answer, DiskError>>,
    waker: Option<Waker>,
}

impl Promise {
    pub(super) fn new(admission: Admission) -> (Self, Pending) {
        let ticket = Arc::new(Ticket::default());
        let promise = Self {
            ticket: Arc::clone(&ticket),
            admission: Some(admission),
        };
        (promise, Pending(ticket))
    }

    pub(super) fn fulfil(mut self, result: Result<Answer, DiskError>) {
        // Room first: whoever is woken may have more.
        self.admission = None;
        self.ticket.settle(result);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if let Some(admission) = self.admission.take() {
            let lost = admission.lost();
            drop(admission);
            self.ticket.settle(Err(lost));
        }
    }
}

impl Ticket {
    fn settle(&self, result: Result<Answer, DiskError>) {
        let mut state = self.0.lock();
        state.result = Some(result);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for Pending {
    type Output = Result<Answer, DiskError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.0.lock();
        match state.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                match &mut state.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
        }
    }
}
