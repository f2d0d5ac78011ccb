//! Reaping where nobody polls: the ring's descriptor is readable when there are answers, and the reactor of `async-io` watches it.
//!
//! That reactor is driven by whoever blocks on it, and else by a thread of its own, which sleeps in the kernel until something
//! is readable. The reaping happens right there, in the waker: a task would have to be run by somebody.

use crate::ring::Core;
use async_io::Async;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

struct Descriptor(&'static Core);

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

struct Driver {
    core: &'static Core,
    readiness: Async<Descriptor>,
    /// How often it was woken since nobody drives any more: whoever makes it more than zero drives.
    wakes: AtomicUsize,
}

/// Has the ring reaped from now on.
pub(crate) fn start(core: &'static Core) -> io::Result<()> {
    let driver = Driver {
        core,
        readiness: Async::new_nonblocking(Descriptor(core))?,
        wakes: AtomicUsize::new(0),
    };
    Arc::new(driver).wake();
    Ok(())
}

/// Has the next wake drive again, should this one end in a panic. Otherwise there is nothing left to do for it.
struct Rest<'a>(&'a AtomicUsize);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(0, Ordering::Release);
        }
    }
}

impl Wake for Driver {
    fn wake(self: Arc<Self>) {
        if self.wakes.fetch_add(1, Ordering::AcqRel) > 0 {
            return; // Whoever drives goes round again.
        }
        let _rest = Rest(&self.wakes);
        let mut seen = 1;
        let waker = Waker::from(Arc::clone(&self));
        loop {
            self.core.reap();
            // Asked before the answers came that are still there, the reactor wakes us; asked after, it is readable at once.
            match self
                .readiness
                .poll_readable(&mut Context::from_waker(&waker))
            {
                Poll::Ready(Ok(())) => continue,
                Poll::Ready(Err(error)) => {
                    tracing::error!(%error, "the reactor does not watch a ring: its requests go on only while others are made");
                }
                Poll::Pending => {}
            }
            let end = self
                .wakes
                .compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Acquire);
            match end {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }
}
