//! Now and sleep, in real or in simulated time.
//!
//! Foundation (row 1): knows nothing of disks, and no executor. Whatever waits for time holds a [`Clock`] and does not know which
//! kind it is: throttles, idle timeouts, injected delays. Tests hold the [`SimulatedTime`] to it, and hours take no time.
//!
//! ```
//! use std::time::Duration;
//! let (clock, time) = clock::Clock::simulated();
//! let nap = clock.sleep(Duration::from_secs(3600));
//! time.advance(Duration::from_secs(3600));
//! futures_lite::future::block_on(nap);
//! assert_eq!(clock.now().since_origin(), Duration::from_secs(3600));
//! ```
//!
//! **Guarantees.** Time never goes back. A sleep is never over early, and is over at once where there is nothing to wait for.
//! Sleepers are woken in the order of their time, those of the same time in the order in which they began to sleep; so whoever
//! simulates sees the same order each time. Sleeping costs one entry of a map, and dropping the future takes it out again.
//!
//! Real time is one thread for the whole process, begun with the first real clock; it waits for the next sleeper, and while
//! nobody sleeps it waits for one without ever waking up. Real sleeps may last longer: by how long the system takes to run it.
//!
//! **What it does not do.** It is no calendar: a [`Moment`] says nothing about the time of day, and nothing outside this process.
//! Simulated time does not run by itself, and does not know whether the program has work left to do: whoever advances it runs
//! the program first until it waits.
//!
//! **Failure.** None while it runs. The first real clock of a process panics if the system gives no thread.

mod moment;
mod real;
mod simulated;
mod sleep;
mod sleepers;

pub use moment::Moment;
pub use simulated::SimulatedTime;
pub use sleep::Sleep;

use real::RealTime;
use sleepers::Sleepers;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Time, as the parts of a program see it. Cheap to clone: clones are the same clock.
#[derive(Clone)]
pub struct Clock(Arc<dyn Time>);

/// What keeps time: knows what time it is, and wakes those who sleep.
trait Time: Send + Sync {
    fn now(&self) -> Moment;
    fn sleepers(&self) -> &Sleepers;
    /// There may be a sleeper whose time comes sooner than that of all others.
    fn reconsider(&self);
    fn name(&self) -> &'static str;
}

impl Clock {
    /// The clock of the real, monotonic time. All real clocks of a process are one.
    ///
    /// # Panics
    /// If this is the first one, and the system gives no thread for it.
    pub fn real() -> Self {
        Self(RealTime::of_this_process())
    }

    /// A clock that stands still until whoever holds the other half advances it.
    pub fn simulated() -> (Self, SimulatedTime) {
        let time = SimulatedTime::new();
        (Self(time.shared()), time)
    }

    /// What time it is.
    pub fn now(&self) -> Moment {
        self.0.now()
    }

    /// Sleeps for `duration`, from this call on (not from the first poll).
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now() + duration)
    }

    /// Sleeps until `moment`; over at once if that has passed.
    pub fn sleep_until(&self, moment: Moment) -> Sleep {
        Sleep::begin(&self.0, moment)
    }
}

impl Default for Clock {
    /// The real one.
    fn default() -> Self {
        Self::real()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock")
            .field("time", &self.0.name())
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}
