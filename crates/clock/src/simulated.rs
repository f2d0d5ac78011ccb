//! Time that somebody else moves.
//!
//! Invariants: I1, time moves only under `movement`, and only forwards; so movements of several threads come one after the other.
//! I2, whoever begins to sleep looks at the time again when it can be seen, and whoever moves time looks for sleepers again when
//! it has: so a sleep that begins meanwhile is not overlooked.

use crate::sleepers::Sleepers;
use crate::{Moment, Time};
use parking_lot::{Mutex, ReentrantMutex};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The other half of a simulated [`Clock`](crate::Clock): makes time pass. Clones move the same clock.
///
/// Time stops at each sleeper whose moment comes, and [`Clock::now`](crate::Clock::now) is that moment while its waker is
/// called. Where the waker only notes that its task can go on, as executors do, the task sees the time at which it is run: to
/// let each run in its own time, advance with [`advance_to_next`](Self::advance_to_next), and run the tasks in between.
#[derive(Clone)]
pub struct SimulatedTime(Arc<Shared>);

struct Shared {
    now: Mutex<Moment>,
    sleepers: Sleepers,
    /// Reentrant, because a waker that is called may run a task that advances time.
    movement: ReentrantMutex<()>,
}

impl SimulatedTime {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            now: Mutex::new(Moment::ORIGIN),
            sleepers: Sleepers::default(),
            movement: ReentrantMutex::new(()),
        }))
    }

    pub(crate) fn shared(&self) -> Arc<dyn Time> {
        Arc::clone(&self.0) as Arc<dyn Time>
    }

    /// Lets time pass by `by`, and wakes whoever's moment comes meanwhile, in order; also those who begin to sleep in it.
    pub fn advance(&self, by: Duration) {
        let _moving = self.0.movement.lock();
        let end = self.0.now() + by;
        self.wake_until(end);
        self.0.move_to(end);
        self.wake_until(end); // I2
    }

    fn wake_until(&self, end: Moment) {
        while let Some(next) = self.next().filter(|next| *next <= end) {
            self.0.wake_all_of(next);
        }
    }

    /// Lets time pass until the first sleeper's moment comes, wakes all those of that moment, and returns it. If nobody sleeps,
    /// nothing happens.
    pub fn advance_to_next(&self) -> Option<Moment> {
        let _moving = self.0.movement.lock();
        let next = self.next()?;
        self.0.wake_all_of(next);
        Some(next)
    }

    /// When the first sleeper's moment comes.
    pub fn next(&self) -> Option<Moment> {
        self.0.sleepers.first()
    }

    /// How many sleep.
    pub fn sleeper_count(&self) -> usize {
        self.0.sleepers.count()
    }
}

impl Shared {
    fn wake_all_of(&self, moment: Moment) {
        self.move_to(moment);
        while self.sleepers.wake_first(moment) {}
    }

    /// Never backwards: a waker may have moved time further.
    fn move_to(&self, moment: Moment) {
        let mut now = self.now.lock();
        *now = moment.max(*now);
    }
}

impl Time for Shared {
    fn now(&self) -> Moment {
        *self.now.lock()
    }

    fn sleepers(&self) -> &Sleepers {
        &self.sleepers
    }

    fn reconsider(&self) {}

    fn name(&self) -> &'static str {
        "simulated"
    }
}

impl fmt::Debug for SimulatedTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedTime")
            .field("now", &self.0.now())
            .field("next", &self.next())
            .field("sleeper_count", &self.sleeper_count())
            .finish()
    }
}
