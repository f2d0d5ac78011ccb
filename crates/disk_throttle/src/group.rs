//! A group: its schedule, and the alarm that lets requests begin.
//!
//! Invariants:
//! - G1: while somebody waits, one sleep of the clock has the alarm as its waker, until the first moment of those who are next (S2). The clock
//!   rings it whatever the users of the disks poll, drop or forget; who is due is let go by the ring (C4).
//! - G2: no waker of a user is called, cloned or dropped while the schedule is locked: those are calls to code of others.

use crate::limits::{InvalidLimits, Limits};
use crate::schedule::{Cost, Member, Schedule, TicketNumber, Wakers};
use clock::{Clock, Moment, Sleep};
use parking_lot::{Mutex, MutexGuard};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

/// What disks share that are limited together. Cheap to clone: clones are the same group.
///
/// Other limits are in force at once, also for requests that wait: those begin when the new limits allow it. What a request took that was
/// larger than its bucket stays owed, in bytes or operations, and is repaid at the new rate.
#[derive(Clone)]
pub struct ThrottleGroup(pub(crate) Arc<Core>);

/// How a group is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStatus {
    /// How many bytes may begin at once; negative: how many are owed. None without a limit.
    pub available_bytes: Option<i128>,
    /// How many operations may begin at once, without those that wait for their bytes. None without a limit.
    pub available_operations: Option<i128>,
    /// How many requests wait.
    pub waiting: usize,
    /// How many disks there are.
    pub disks: usize,
}

pub(crate) struct Core {
    pub(crate) name: Option<String>,
    clock: Clock,
    /// Without limits, requests look at nothing else.
    has_limits: AtomicBool,
    state: Mutex<State>,
    alarm: Waker,
}

struct State {
    schedule: Schedule,
    /// G1.
    ringing: Option<Sleep>,
}

/// Rings a group that is still there.
struct Alarm(Weak<Core>);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        if let Some(core) = self.0.upgrade() {
            core.change(|_, _| ());
        }
    }
}

impl ThrottleGroup {
    /// A group without disks.
    ///
    /// # Errors
    /// Limits that make no sense.
    pub fn new(limits: Limits, clock: Clock) -> Result<Self, InvalidLimits> {
        Self::with_name(None, limits, clock)
    }

    /// A group that its disks show by this name.
    ///
    /// # Errors
    /// Limits that make no sense.
    pub fn named(
        name: impl Into<String>,
        limits: Limits,
        clock: Clock,
    ) -> Result<Self, InvalidLimits> {
        Self::with_name(Some(name.into()), limits, clock)
    }

    fn with_name(
        name: Option<String>,
        limits: Limits,
        clock: Clock,
    ) -> Result<Self, InvalidLimits> {
        limits.check()?;
        let state = State {
            schedule: Schedule::new(limits, clock.now()),
            ringing: None,
        };
        Ok(Self(Arc::new_cyclic(|core| Core {
            name,
            clock,
            has_limits: AtomicBool::new(!limits.are_none()),
            state: Mutex::new(state),
            alarm: Arc::new(Alarm(Weak::clone(core))).into(),
        })))
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        self.0.state.lock().schedule.limits()
    }

    /// Changes the limits of all disks of the group.
    ///
    /// # Errors
    /// Limits that make no sense; the old ones stay.
    pub fn set_limits(&self, limits: Limits) -> Result<(), InvalidLimits> {
        self.update_limits(|old| *old = limits).map(drop)
    }

    /// Changes some of the limits, as one step, and returns all.
    ///
    /// # Errors
    /// As [`set_limits`](Self::set_limits).
    pub fn update_limits(&self, update: impl FnOnce(&mut Limits)) -> Result<Limits, InvalidLimits> {
        self.0.change(|schedule, now| {
            let mut limits = schedule.limits();
            update(&mut limits);
            limits.check()?;
            schedule.change(limits, now);
            self.0.has_limits.store(!limits.are_none(), SeqCst);
            Ok(limits)
        })
    }

    /// How it is doing.
    pub fn status(&self) -> GroupStatus {
        let state = self.0.state.lock();
        let [available_bytes, available_operations] = state.schedule.available(self.0.clock.now());
        GroupStatus {
            available_bytes,
            available_operations,
            waiting: state.schedule.waiting_count(),
            disks: state.schedule.member_count(),
        }
    }
}

impl Core {
    /// Lets a request begin that costs `cost`, now or later.
    pub(crate) async fn admit(&self, member: Member, cost: Cost) {
        if !self.has_limits.load(SeqCst) {
            return;
        }
        let ticket = self.change(|schedule, now| schedule.enter(member, cost, now));
        if let Some(number) = ticket {
            let core = self;
            Admission {
                core,
                member,
                number,
            }
            .await;
        }
    }

    pub(crate) fn join(&self) -> Member {
        self.state.lock().schedule.join()
    }

    pub(crate) fn leave(&self, member: Member) {
        let mut forgotten = Wakers::new();
        self.change(|schedule, now| schedule.leave(member, now, &mut forgotten));
        drop(forgotten); // G2
    }

    /// Changes the schedule, after all that is due now, and sees to what follows (G1).
    fn change<R>(&self, change: impl FnOnce(&mut Schedule, Moment) -> R) -> R {
        let mut wakers = Wakers::new();
        let mut state = self.state.lock();
        let now = self.clock.now();
        state.schedule.settle(now, &mut wakers);
        let result = change(&mut state.schedule, now);
        self.set_alarm(state, &mut wakers);
        wakers.into_iter().for_each(Waker::wake); // G2
        result
    }

    fn set_alarm(&self, mut state: MutexGuard<'_, State>, wakers: &mut Wakers) {
        loop {
            let Some(next) = state.schedule.settle(self.clock.now(), wakers) else {
                state.ringing = None;
                return;
            };
            if state.ringing.as_ref().map(Sleep::until) == Some(next) {
                return;
            }
            let mut sleep = self.clock.sleep_until(next);
            let mut context = Context::from_waker(&self.alarm);
            if Pin::new(&mut sleep).poll(&mut context).is_pending() {
                state.ringing = Some(sleep);
                return;
            }
        }
    }
}

/// A request that waits for its admission.
struct Admission<'a> {
    core: &'a Core,
    member: Member,
    number: TicketNumber,
}

impl Future for Admission<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut waker = Some(context.waker().clone()); // G2
        let mut state = self.core.state.lock();
        let poll = match state.schedule.waker_of(self.member, self.number) {
            Some(place) => {
                std::mem::swap(place, &mut waker);
                Poll::Pending
            }
            None => Poll::Ready(()),
        };
        drop(state);
        drop(waker); // G2
        poll
    }
}

impl Drop for Admission<'_> {
    /// Gives its ticket back, if it still has one.
    fn drop(&mut self) {
        let (member, number) = (self.member, self.number);
        let is_waiting = {
            let mut state = self.core.state.lock();
            state.schedule.waker_of(member, number).is_some()
        };
        if is_waiting {
            let change = |schedule: &mut Schedule, now| schedule.give_up(member, number, now);
            drop(self.core.change(change)); // G2
        }
    }
}

impl fmt::Debug for ThrottleGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThrottleGroup")
            .field("name", &self.0.name)
            .field("limits", &self.limits())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
