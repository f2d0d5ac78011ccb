//! An operation that anyone who waits for it can finish.
//!
//! Row 2: it knows nothing of disks. Exclusive work of several steps is what others wait for: a change of two layers, a cache fill, a
//! merged flush. A lock held by the future that began it would make them wait for that future's caller. An [`Operation`] owns its work
//! instead, and whoever waits for it does it.
//!
//! ```
//! use operation::Operation;
//! let first = Operation::new(Vec::new(), Box::pin(async { 1 }));
//! let second = Operation::new(vec![first.clone()], Box::pin(async { 2 }));
//! // Nobody polled the first one: the second does it, because it comes later.
//! assert_eq!(futures_lite::future::block_on(second.run()), Some(2));
//! assert!(first.is_done());
//! ```
//!
//! **Guarantees.**
//! - O1: an operation waits only for operations that are older than itself, so they never wait in a circle.
//! - O2: whoever waits for an operation polls it, and what it waits for: its progress needs no other caller (C4).
//! - O3: it owns everything it touches, so it goes on, or is dropped, without the future that began it (C9).
//! - O4: a wake-up reaches everyone who has polled it since the last one; so it is never lost with a caller that went away.
//!
//! **Not here.** Which operations wait for which: that is `earlier`, and whoever begins them keeps the order.
//!
//! **Failure.** An operation that panics in one of its callers has ended, without a result.

use planted::Bug;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use sync::Mutex;
use sync::atomic::{AtomicBool, Ordering};

/// What an operation does.
pub type Body<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// See the [crate documentation](crate).
pub struct Operation<T> {
    /// The older operations that must end before this one begins (O1).
    earlier: Mutex<Vec<Arc<Operation<T>>>>,
    /// None once it has ended.
    body: Mutex<Option<Body<T>>>,
    /// For the one who began it.
    result: Mutex<Option<T>>,
    is_done: AtomicBool,
    waiters: Arc<Waiters>,
}

impl<T> Operation<T> {
    /// One that begins when those of `earlier` have ended, all of them begun before it (O1).
    pub fn new(earlier: Vec<Arc<Self>>, body: Body<T>) -> Arc<Self> {
        Arc::new(Self {
            earlier: Mutex::new(earlier),
            body: Mutex::new(Some(body)),
            result: Mutex::new(None),
            is_done: AtomicBool::new(false),
            waiters: Arc::default(),
        })
    }

    /// Whether it has ended.
    pub fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }

    /// Whether polling it may get it further than the last time.
    pub fn is_woken(&self) -> bool {
        self.waiters.is_woken.load(Ordering::Acquire)
    }

    /// Gets the operation, and those before it, as far as they go now.
    pub fn poll(self: &Arc<Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Not a recursion: a chain of operations that nobody polled can be long.
        let mut path: Vec<Arc<Self>> = Vec::new();
        loop {
            let current = path.last().unwrap_or(self);
            if current.is_done() {
                match path.pop() {
                    Some(_) => continue,
                    None => return Poll::Ready(()),
                }
            }
            if let Some(earlier) = current.unfinished() {
                path.push(earlier);
            } else if current.poll_body(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Finishes it; whose it is does not matter.
    pub async fn finish(self: &Arc<Self>) {
        std::future::poll_fn(|cx| match planted::is_active(Bug::WaitsForAnotherCaller) {
            true => self.poll_end(cx),
            false => self.poll(cx),
        })
        .await;
    }

    /// Finishes it, for the one who began it. None if it panicked in another caller, or if somebody took its result before.
    pub async fn run(self: &Arc<Self>) -> Option<T> {
        let _given_up = planted::is_active(Bug::DivergenceAfterDrop).then(|| GivenUp(self));
        std::future::poll_fn(|cx| self.poll(cx)).await;
        self.result.lock().take()
    }

    /// Waits for the end without helping: a mistake ([`Bug::WaitsForAnotherCaller`]).
    fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waiters.add(cx.waker());
        match self.is_done() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// An older operation that has not ended; those that have are forgotten.
    fn unfinished(&self) -> Option<Arc<Self>> {
        let mut earlier = self.earlier.lock();
        while earlier.last()?.is_done() {
            earlier.pop();
        }
        earlier.last().cloned()
    }

    fn poll_body(&self, cx: &mut Context<'_>) -> Poll<()> {
        // O4: before the body is looked at, so that no end and no wake-up falls between the two.
        self.waiters.add(cx.waker());
        let Some(mut place) = self.body.try_lock() else {
            // Another thread polls it right now, and everyone hears how that ends; but for those who came after the last
            // wake-up and before the lock is free again, by when it is done.
            return match self.is_done() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            };
        };
        let Some(mut body) = place.take() else {
            return Poll::Ready(());
        };
        // Also if the body panics: it cannot be polled again, and nobody shall wait for it.
        let ending = Ending(self);
        self.waiters.is_woken.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&self.waiters));
        match body.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                std::mem::forget(ending);
                *place = Some(body);
                drop(place);
                // O4: whoever came while the body was busy may have come after this wake-up.
                if self.is_woken() {
                    self.waiters.wake_all();
                }
                Poll::Pending
            }
            Poll::Ready(result) => {
                *self.result.lock() = Some(result);
                Poll::Ready(())
            }
        }
    }
}

impl<T> fmt::Debug for Operation<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation")
            .field("is_done", &self.is_done())
            .finish_non_exhaustive()
    }
}

/// Marks an operation as done when dropped.
struct Ending<'a, T>(&'a Operation<T>);

impl<T> Drop for Ending<'_, T> {
    fn drop(&mut self) {
        self.0.is_done.store(true, Ordering::Release);
        self.0.earlier.lock().clear();
        self.0.waiters.wake_all();
    }
}

/// Drops an operation with the future of the one who began it: a mistake ([`Bug::DivergenceAfterDrop`]).
struct GivenUp<'a, T>(&'a Operation<T>);

impl<T> Drop for GivenUp<'_, T> {
    fn drop(&mut self) {
        if let Some(body) = self.0.body.lock().take() {
            drop(body);
            drop(Ending(self.0));
        }
    }
}

/// Those who have polled an operation (O4).
#[derive(Default)]
struct Waiters {
    wakers: Mutex<Vec<Waker>>,
    is_woken: AtomicBool,
}

impl Waiters {
    fn add(&self, waker: &Waker) {
        let mut wakers = self.wakers.lock();
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    fn wake_all(&self) {
        self.is_woken.store(true, Ordering::Release);
        // Woken outside the lock: a waker may poll at once.
        for waker in std::mem::take(&mut *self.wakers.lock()) {
            waker.wake();
        }
    }
}

impl Wake for Waiters {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}

#[cfg(test)]
mod tests;
