//! How a connection's thread learns that something happened elsewhere: a disk finished, or the server stops.
//!
//! - W1: a bit of `ready` is set before the state becomes `NOTIFIED`, and taken only after the state was reset to `RUNNING`:
//!   no wake-up is lost, at worst one round is made for nothing.
//! - W2: the event is written only by who finds the thread `SLEEPING`, so at most once per sleep.

use rustix::event::{EventfdFlags, eventfd};
use rustix::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Wake, Waker};

const RUNNING: u8 = 0;
const NOTIFIED: u8 = 1;
const SLEEPING: u8 = 2;

const WORDS: usize = 3;

/// How many operations of one connection can be told apart.
pub(crate) const SOURCES_MAX: usize = WORDS * u64::BITS as usize;

/// The meeting point of one connection's thread and whoever wakes it.
#[derive(Debug)]
pub(crate) struct Wakeup {
    state: AtomicU8,
    ready: [AtomicU64; WORDS],
    event: OwnedFd,
    is_stopping: AtomicBool,
}

/// The operations that were woken, taken all at once.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Ready([u64; WORDS]);

impl Wakeup {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            state: AtomicU8::new(RUNNING),
            ready: Default::default(),
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            is_stopping: AtomicBool::new(false),
        })
    }

    /// Tells the thread to finish what is in flight and to end.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.notify();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Makes the thread's next sleep end at once, or the present one end now.
    pub(crate) fn notify(&self) {
        if self.state.swap(NOTIFIED, Ordering::AcqRel) == SLEEPING {
            // It can only fail because the counter is full, and then the event is readable anyway.
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }

    /// Which operations were woken since the last call.
    pub(crate) fn take_ready(&self) -> Ready {
        self.state.swap(RUNNING, Ordering::AcqRel);
        Ready(std::array::from_fn(|word| {
            // A plain look first: most rounds have nothing to take.
            match self.ready[word].load(Ordering::Acquire) {
                0 => 0,
                _ => self.ready[word].swap(0, Ordering::AcqRel),
            }
        }))
    }

    /// Announces a sleep on [`event`](Self::event). False if there is something to do first.
    pub(crate) fn begin_sleep(&self) -> bool {
        self.state
            .compare_exchange(RUNNING, SLEEPING, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Ends a sleep; the reason of a wake-up is kept for [`take_ready`](Self::take_ready).
    pub(crate) fn end_sleep(&self, event_is_readable: bool) {
        let asleep =
            self.state
                .compare_exchange(SLEEPING, RUNNING, Ordering::AcqRel, Ordering::Acquire);
        if event_is_readable || asleep.is_err() {
            // Whoever found us asleep may be about to write; what it writes later costs one round.
            let _ = rustix::io::read(&self.event, &mut [0; 8]);
        }
    }

    /// Readable once [`notify`](Self::notify) met a sleeping thread.
    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// A waker for the operation numbered `source`, below [`SOURCES_MAX`].
    pub(crate) fn waker(self: &Arc<Self>, source: usize) -> Waker {
        assert!(source < SOURCES_MAX, "operation {source} has no bit");
        Waker::from(Arc::new(SourceWaker {
            wakeup: Arc::clone(self),
            source,
        }))
    }
}

impl Ready {
    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(word, bits)| {
            let bits = std::iter::successors(Some(bits), |bits| Some(bits & bits.wrapping_sub(1)));
            bits.take_while(|bits| *bits != 0)
                .map(move |bits| word * u64::BITS as usize + bits.trailing_zeros() as usize)
        })
    }
}

struct SourceWaker {
    wakeup: Arc<Wakeup>,
    source: usize,
}

impl Wake for SourceWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let bits = u64::BITS as usize;
        self.wakeup.ready[self.source / bits].fetch_or(1 << (self.source % bits), Ordering::AcqRel);
        self.wakeup.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn event_is_readable(wakeup: &Wakeup) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(wakeup.event(), PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
    }

    #[test]
    fn woken_operations_are_taken_once() {
        let wakeup = Arc::new(Wakeup::new().unwrap());
        for source in [0, 63, 64, 127] {
            wakeup.waker(source).wake();
        }
        wakeup.waker(63).wake();
        let ready: Vec<_> = wakeup.take_ready().iter().collect();
        assert_eq!(ready, [0, 63, 64, 127]);
        assert_eq!(wakeup.take_ready().iter().count(), 0);
        assert!(!event_is_readable(&wakeup), "nobody slept");
    }

    #[test]
    fn a_wake_up_before_the_sleep_prevents_it() {
        let wakeup = Arc::new(Wakeup::new().unwrap());
        wakeup.take_ready();
        wakeup.waker(5).wake();
        assert!(!wakeup.begin_sleep());
        assert_eq!(wakeup.take_ready().iter().collect::<Vec<_>>(), [5]);
        assert!(wakeup.begin_sleep());
    }

    #[test]
    fn a_wake_up_during_the_sleep_ends_it_once() {
        let wakeup = Arc::new(Wakeup::new().unwrap());
        assert!(wakeup.begin_sleep());
        assert!(!event_is_readable(&wakeup));
        wakeup.notify();
        wakeup.notify();
        assert!(event_is_readable(&wakeup));
        wakeup.end_sleep(true);
        assert!(!event_is_readable(&wakeup), "the event was consumed");
        wakeup.take_ready();
        assert!(wakeup.begin_sleep());
        wakeup.end_sleep(false);
        assert!(
            wakeup.begin_sleep(),
            "a sleep that nobody ended leaves no trace"
        );
    }

    #[test]
    fn a_sleeper_in_another_thread_is_never_left_asleep() {
        let wakeup = Arc::new(Wakeup::new().unwrap());
        let waker = wakeup.waker(1);
        let rounds = 10_000;
        let (done_tx, done_rx) = std::sync::mpsc::sync_channel(0);
        let sleeper = std::thread::spawn(move || {
            for _ in 0..rounds {
                while wakeup.take_ready().iter().count() == 0 {
                    if wakeup.begin_sleep() {
                        let mut fds = [PollFd::from_borrowed_fd(wakeup.event(), PollFlags::IN)];
                        poll(&mut fds, None).unwrap();
                        wakeup.end_sleep(true);
                    }
                }
                done_tx.send(()).unwrap();
            }
        });
        for _ in 0..rounds {
            waker.wake_by_ref();
            done_rx.recv().unwrap();
        }
        sleeper.join().unwrap();
    }
}
