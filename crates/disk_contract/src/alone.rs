//! Polling one future, and nothing else, until it completes or is stuck (C4).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Who wakes itself so often without an end will never end.
const POLLS_MAX: u32 = 1_000_000;

/// Wakes the thread that polls.
struct Signal {
    is_woken: AtomicBool,
    thread: Thread,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// What the future gives; none if it is stuck: nothing has woken it for as long as `stall_limit`, which only a hang reaches.
pub(crate) fn complete_alone<R>(
    mut future: Pin<&mut (impl Future<Output = R> + ?Sized)>,
    stall_limit: Duration,
) -> Option<R> {
    let signal = Arc::new(Signal {
        is_woken: AtomicBool::new(false),
        thread: thread::current(),
    });
    let waker = Waker::from(Arc::clone(&signal));
    for _ in 0..POLLS_MAX {
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(result);
        }
        let deadline = Instant::now() + stall_limit;
        while !signal.is_woken.swap(false, Ordering::SeqCst) {
            let left = deadline.checked_duration_since(Instant::now())?;
            thread::park_timeout(left);
        }
    }
    None
}

/// Polls a future so often, unless it completes before that.
pub(crate) fn poll_times<R>(
    mut future: Pin<&mut (impl Future<Output = R> + ?Sized)>,
    poll_count: u32,
) -> Option<R> {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..poll_count {
        if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return Some(result);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    const SHORT: Duration = Duration::from_millis(1);

    #[test]
    fn a_future_that_nobody_wakes_is_stuck() {
        let stuck = pin!(std::future::pending::<()>());
        assert_eq!(complete_alone(stuck, SHORT), None);
    }

    #[test]
    fn a_future_that_wakes_itself_for_ever_is_stuck() {
        let busy = pin!(std::future::poll_fn(|context| {
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        assert_eq!(complete_alone(busy, Duration::MAX / 4), None);
    }

    #[test]
    fn a_future_that_another_thread_wakes_completes() {
        let event = event_listener::Event::new();
        let listener = event.listen();
        thread::scope(|scope| {
            scope.spawn(|| event.notify(1));
            assert_eq!(complete_alone(pin!(listener), Duration::MAX / 4), Some(()));
        });
    }
}
