//! The pool: a bound on all bounce buffers together, served in the order of asking.

use super::BounceBuffer;
use super::BounceError;
use super::state::Aftermath;
use super::state::State;
use super::state::Ticket;
use guestmem::PAGE_SIZE_BYTES;
use guestmem::Pages;
use inspect::Inspect;
use parking_lot::Mutex;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

/// A bound on the memory of all bounce buffers taken from it. Cheap to clone; the clones are one pool.
///
/// Memory is counted in whole pages, and in four sizes for each doubling, so that it can be used again: a buffer may
/// count for up to a quarter more than its length. Memory given back is kept for the next, inside the same bound.
#[derive(Clone)]
pub struct BouncePool {
    shared: Arc<Shared>,
}

struct Shared {
    bytes_max: usize,
    state: Mutex<State>,
}

/// Bytes in use, and their memory once it is needed. Dropped, both are free for the next.
pub(super) struct Lease {
    shared: Arc<Shared>,
    bytes: usize,
    pages: Option<Pages>,
}

impl BouncePool {
    /// A pool of at most `bytes_max` bytes, rounded up to whole pages. Nothing is mapped yet.
    pub fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max
            .checked_next_multiple_of(PAGE_SIZE_BYTES)
            .unwrap_or(usize::MAX - (PAGE_SIZE_BYTES - 1));
        BouncePool {
            shared: Arc::new(Shared {
                bytes_max,
                state: Mutex::new(State::new(bytes_max)),
            }),
        }
    }

    /// The bound, in bytes.
    pub fn bytes_max(&self) -> usize {
        self.shared.bytes_max
    }

    /// A buffer of `len` bytes. Waits while others hold too much, behind those who asked before.
    ///
    /// A buffer counts until it and all pins of it are dropped. A future dropped while it waits leaves nothing behind. One that is
    /// kept but no longer polled is served in its turn like any other, and then holds what it was given.
    ///
    /// # Errors
    /// [`BounceError::TooLarge`], at once, above the bound; [`BounceError::OutOfMemory`].
    pub async fn allocate(&self, len: usize) -> Result<BounceBuffer, BounceError> {
        let bytes = self.bytes_for(len)?;
        if bytes == 0 {
            return BounceBuffer::unpooled(0);
        }
        let wait = Wait {
            shared: &self.shared,
            bytes,
            ticket: None,
        };
        BounceBuffer::leased(len, wait.await)
    }

    /// A buffer of `len` bytes; `None` where [`allocate`](Self::allocate) would wait.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate).
    pub fn try_allocate(&self, len: usize) -> Result<Option<BounceBuffer>, BounceError> {
        let bytes = self.bytes_for(len)?;
        if bytes == 0 {
            return BounceBuffer::unpooled(0).map(Some);
        }
        self.shared
            .with_state(|state, aftermath| state.try_reserve(bytes, aftermath))
            .map(|pages| BounceBuffer::leased(len, self.shared.lease(bytes, pages)))
            .transpose()
    }

    /// How many bytes a buffer of `len` bytes counts for.
    fn bytes_for(&self, len: usize) -> Result<usize, BounceError> {
        let bytes_max = self.shared.bytes_max;
        if len > bytes_max {
            self.shared.state.lock().counters.too_large_count += 1;
            return Err(BounceError::TooLarge { len, bytes_max });
        }
        // A size above the bound is cut to the bound, which is in whole pages too.
        Ok(size_class(len).min(bytes_max))
    }
}

/// `len` rounded up to a number of whole pages of which only the three highest bits may be set.
pub(super) fn size_class(len: usize) -> usize {
    let pages = len.div_ceil(PAGE_SIZE_BYTES);
    let step = 1 << (usize::BITS - pages.leading_zeros()).saturating_sub(3);
    pages.next_multiple_of(step).saturating_mul(PAGE_SIZE_BYTES)
}

impl Shared {
    /// Runs `change` on the books and then, unlocked, what it left to do.
    fn with_state<R>(&self, change: impl FnOnce(&mut State, &mut Aftermath) -> R) -> R {
        let mut aftermath = Aftermath::default();
        let mut state = self.state.lock();
        let result = change(&mut state, &mut aftermath);
        #[cfg(test)]
        state.check_invariants();
        drop(state);
        aftermath.run();
        result
    }

    fn lease(self: &Arc<Self>, bytes: usize, pages: Option<Pages>) -> Lease {
        Lease {
            shared: Arc::clone(self),
            bytes,
            pages,
        }
    }
}

impl Lease {
    /// The leased memory, mapped now if it was not yet.
    pub(super) fn map(&mut self) -> std::io::Result<()> {
        if self.pages.is_none() {
            self.pages = Some(Pages::new(self.bytes)?);
        }
        Ok(())
    }

    /// The leased memory, after [`map`](Self::map).
    pub(super) fn pages(&self) -> &Pages {
        self.pages.as_ref().expect("a buffer's lease is mapped")
    }

    /// As [`pages`](Self::pages), to change.
    pub(super) fn pages_mut(&mut self) -> &mut Pages {
        self.pages.as_mut().expect("a buffer's lease is mapped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let pages = self.pages.take();
        self.shared
            .with_state(|state, aftermath| state.release(self.bytes, pages, aftermath));
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
        let Wait {
            shared,
            bytes,
            ticket,
        } = *self;
        let waker = cx.waker();
        let outcome = shared.with_state(|state, aftermath| match ticket {
            Some(ticket) => state.take_grant(ticket, waker, aftermath).ok_or(ticket),
            None => state
                .try_reserve(bytes, aftermath)
                .ok_or_else(|| state.enqueue(bytes, waker.clone())),
        });
        self.ticket = outcome.as_ref().err().copied();
        match outcome {
            Ok(pages) => Poll::Ready(shared.lease(bytes, pages)),
            Err(_) => Poll::Pending,
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

impl Inspect for BouncePool {
    fn inspect(&self, req: inspect::Request<'_>) {
        let mut resp = req.respond();
        let state = self.shared.state.lock();
        let counters = state.counters;
        resp.field("bytes_max", &self.shared.bytes_max)
            .field("bytes_in_use", &state.bytes_in_use())
            .field("bytes_in_use_max", &counters.bytes_in_use_max)
            .field("bytes_idle", &state.bytes_idle())
            .field("waiters", &state.waiter_count())
            .counter("allocations", counters.allocation_count)
            .counter("reuses", counters.reuse_count)
            .counter("waits", counters.wait_count)
            .counter("too_large", counters.too_large_count);
    }
}

impl fmt::Debug for BouncePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        f.debug_struct("BouncePool")
            .field("bytes_max", &self.shared.bytes_max)
            .field("bytes_in_use", &state.bytes_in_use())
            .field("waiters", &state.waiter_count())
            .finish_non_exhaustive()
    }
}
