//! The time that passes by itself, and the thread that wakes those who sleep in it.
//!
//! Invariant I1: no first sleeper is overlooked. The thread holds `look` from before it asks who is first until it waits, and
//! whoever adds a first sleeper takes `look` afterwards to wake the thread: it has either been seen, or wakes the thread.

use crate::sleepers::Sleepers;
use crate::{Moment, Time};
use parking_lot::{Condvar, Mutex};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Instant;

pub(crate) struct RealTime {
    origin: Instant,
    sleepers: Sleepers,
    look: Mutex<()>,
    has_new_first: Condvar,
}

impl RealTime {
    /// The one of this process.
    pub(crate) fn of_this_process() -> Arc<Self> {
        static TIME: LazyLock<Arc<RealTime>> = LazyLock::new(|| {
            let time = Arc::new(RealTime {
                origin: Instant::now(),
                sleepers: Sleepers::default(),
                look: Mutex::new(()),
                has_new_first: Condvar::new(),
            });
            let waking = Arc::clone(&time);
            thread::Builder::new()
                .name("clock".into())
                .spawn(move || waking.wake_forever())
                .expect("the system has a thread to spare for the clock");
            time
        });
        Arc::clone(&TIME)
    }

    fn wake_forever(&self) {
        loop {
            while self.sleepers.wake_first(self.now()) {}
            let mut look = self.look.lock();
            match self.sleepers.first() {
                Some(first) => {
                    let left = first.since(self.now());
                    self.has_new_first.wait_for(&mut look, left);
                }
                None => self.has_new_first.wait(&mut look),
            }
        }
    }
}

impl Time for RealTime {
    fn now(&self) -> Moment {
        Moment::ORIGIN + self.origin.elapsed()
    }

    fn sleepers(&self) -> &Sleepers {
        &self.sleepers
    }

    fn reconsider(&self) {
        let _look = self.look.lock(); // I1
        self.has_new_first.notify_one();
    }

    fn name(&self) -> &'static str {
        "real"
    }
}
