//! The pool: a bound on all bounce buffers together, served in the order of asking.

use super::BounceBuffer;
use super::BounceError;
use super::state::Aftermath;
use super::state::State;
use super::state::Ticket;
use guestmem::PAGE_SIZE_BYTES;
use guestmem::Pages;
use parking_lot::Mutex;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

/// A bound on the memory of all bounce buffers taken from it. Cheap to clone; the clones are one pool.
///
/// Memory is counted in whole pages and in sizes a quarter of a power of two apart, so a buffer may count for up to a
/// quarter more than its length.
#[derive(Clone)]
pub struct BouncePool {
    shared: Arc<Shared>,
}

struct Shared {
    bytes_max: usize,
    state: Mutex<State>,
}

/// Bytes in use. Dropped, they are free for the next.
pub(super) struct Lease {
    shared: Arc<Shared>,
    bytes: usize,
}

impl BouncePool {
    /// A pool of at most `bytes_max` bytes, rounded up to whole pages. Nothing is mapped yet.
    pub fn new(bytes_max: usize) -> Self {
        let state = State::new(bytes_max);
        BouncePool {
            shared: Arc::new(Shared {
                bytes_max: state.bytes_max,
                state: Mutex::new(state),
            }),
        }
    }

    /// The bound, in bytes.
    pub fn bytes_max(&self) -> usize {
        self.shared.bytes_max
    }

    /// A buffer of `len` bytes. Waits while others hold too much, behind those who asked before.
    ///
    /// A buffer counts until it and all pins of it are dropped. A future dropped while it waits leaves nothing behind; one that is
    /// kept but not polled holds the bytes it was served.
    ///
    /// # Errors
    /// [`BounceError::TooLarge`], at once, above the bound; [`BounceError::OutOfMemory`].
    pub async fn allocate(&self, len: usize) -> Result<BounceBuffer, BounceError> {
        let bytes = self.bytes_for(len)?;
        let lease = Wait {
            shared: &self.shared,
            bytes,
            ticket: None,
        }
        .await;
        lease.buffer(len)
    }

    /// A buffer of `len` bytes; `None` where [`allocate`](Self::allocate) would wait.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate).
    pub fn try_allocate(&self, len: usize) -> Result<Option<BounceBuffer>, BounceError> {
        let bytes = self.bytes_for(len)?;
        self.shared
            .try_lease(bytes)
            .map(|lease| lease.buffer(len))
            .transpose()
    }

    /// How many bytes a buffer of `len` bytes counts for.
    fn bytes_for(&self, len: usize) -> Result<usize, BounceError> {
        let bytes_max = self.shared.bytes_max;
        if len > bytes_max {
            self.shared.state.lock().refused_count += 1;
            return Err(BounceError::TooLarge { len, bytes_max });
        }
        Ok(size_class(len).min(bytes_max))
    }
}

/// `len` rounded up to whole pages of which at most the three highest bits of their number are set.
fn size_class(len: usize) -> usize {
    let pages = len.div_ceil(PAGE_SIZE_BYTES);
    let step = 1 << (usize::BITS - pages.leading_zeros()).saturating_sub(3);
    pages.next_multiple_of(step).saturating_mul(PAGE_SIZE_BYTES)
}

impl Shared {
    /// Runs `change` on the books, then what it left to do.
    fn with_state<R>(&self, change: impl FnOnce(&mut State, &mut Aftermath) -> R) -> R {
        let mut aftermath = Aftermath::default();
        let result = change(&mut self.state.lock(), &mut aftermath);
        aftermath.run();
        result
    }

    fn try_lease(self: &Arc<Self>, bytes: usize) -> Option<Lease> {
        self.with_state(|state, aftermath| state.try_reserve(bytes, aftermath))
            .then(|| self.lease(bytes))
    }

    fn lease(self: &Arc<Self>, bytes: usize) -> Lease {
        Lease {
            shared: Arc::clone(self),
            bytes,
        }
    }
}

impl Lease {
    /// Turns the leased bytes into memory, old or new.
    fn buffer(self, len: usize) -> Result<BounceBuffer, BounceError> {
        let idle = self.shared.state.lock().take_idle(self.bytes);
        let pages = match idle {
            Some(pages) => pages,
            None => Pages::new(self.bytes).map_err(|_| BounceError::OutOfMemory { len })?,
        };
        Ok(BounceBuffer::new(len, pages, Some(self)))
    }

    /// Ends the lease and leaves the memory for the next.
    pub(super) fn give_back(mut self, pages: Pages) {
        self.release(Some(pages));
    }

    fn release(&mut self, pages: Option<Pages>) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes > 0 {
            self.shared
                .with_state(|state, aftermath| state.release(bytes, pages, aftermath));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.release(None);
    }
}

/// Resolves to a lease of `bytes`.
struct Wait<'a> {
    shared: &'a Arc<Shared>,
    bytes: usize,
    /// Our place in the queue, while we are in it.
    ticket: Option<Ticket>,
}

impl Future for Wait<'_> {
    type Output = Lease;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Lease> {
        let bytes = self.bytes;
        let ticket = self.ticket;
        let waits = self.shared.with_state(|state, aftermath| match ticket {
            Some(ticket) if state.take_grant(ticket, cx.waker()) => None,
            Some(ticket) => Some(ticket),
            None if state.try_reserve(bytes, aftermath) => None,
            None => Some(state.enqueue(bytes, cx.waker().clone())),
        });
        self.ticket = waits;
        match waits {
            None => Poll::Ready(self.shared.lease(bytes)),
            Some(_) => Poll::Pending,
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared
                .with_state(|state, aftermath| state.cancel(ticket, self.bytes, aftermath));
        }
    }
}

impl fmt::Debug for BouncePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        f.debug_struct("BouncePool")
            .field("bytes_max", &state.bytes_max)
            .field("bytes_in_use", &state.bytes_in_use)
            .field("waiters", &state.waiter_count())
            .finish_non_exhaustive()
    }
}
