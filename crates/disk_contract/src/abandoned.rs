//! Requests that are left alone in the middle: dropped, forgotten, or not polled for a while (C4, C9).
//!
//! Whatever has become of one request, each other one completes when only it is polled; and what they all saw makes sense.

use crate::Clause;
use crate::alone::{complete_alone, poll_times};
use crate::concurrency::{hot_sectors, range_inside};
use crate::ledger::{Arena, Call, Fault, Kind, Ledger};
use crate::subject::{Checked, Subject};
use disk_backend::{DiskError, DiskIo, UnmapBehavior};
use fastrand::Rng;
use std::pin::pin;
use std::time::Duration;

/// A request is left alone after one poll, after two, and so on up to this.
const POLLS_MAX: u32 = 12;

/// How often all this is done.
const ROUNDS: usize = 3;

/// What becomes of a request that was polled a few times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Its future is dropped.
    Dropped,
    /// Its future is neither polled nor dropped, ever.
    Forgotten,
    /// Its future is polled again when all others are done.
    Parked,
}

impl Fate {
    const ALL: [Self; 3] = [Self::Dropped, Self::Parked, Self::Forgotten];
}

/// Leaves requests of each kind alone on a disk that holds what [`stamp_content`](crate::ledger::stamp_content) says.
pub(crate) fn check<T: DiskIo>(subject: &mut Subject<'_, T>, stall_limit: Duration) -> Checked {
    let arena = Arena::new(subject.disk(), hot_sectors(subject));
    let mut check = Check {
        arena: &arena,
        ledger: Ledger::new(&arena, 0, 1),
        rng: Rng::with_seed(subject.rng().u64(..)),
        kinds: kinds(subject.disk().unmap_behavior()),
        stall_limit,
    };
    check
        .run()
        .map_err(|(clause, what)| subject.violation(clause, what))
}

/// Nobody can say what an unmap did that is unspecified.
fn kinds(unmap_behavior: UnmapBehavior) -> Vec<Kind> {
    let is_known = unmap_behavior != UnmapBehavior::Unspecified;
    let kinds = Kind::ALL.into_iter();
    kinds
        .filter(|kind| is_known || *kind != Kind::Unmap)
        .collect()
}

struct Check<'a, T> {
    arena: &'a Arena<'a, T>,
    ledger: Ledger<'a, T>,
    rng: Rng,
    kinds: Vec<Kind>,
    stall_limit: Duration,
}

impl<T: DiskIo> Check<'_, T> {
    fn run(&mut self) -> Result<(), Fault> {
        // Those that are forgotten stay in flight for ever, so they come last.
        for fate in Fate::ALL {
            for kind in self.kinds.repeat(ROUNDS) {
                for poll_count in 1..=POLLS_MAX {
                    if !self.leave_alone(kind, poll_count, fate)? {
                        // It was complete by then.
                        break;
                    }
                }
            }
            let what = format!("beside requests that were {fate:?}: ").to_lowercase();
            let judged = self.arena.check(self.ledger.log());
            judged.map_err(|(clause, why)| match fate {
                Fate::Parked => (clause, what + &why),
                Fate::Dropped | Fate::Forgotten => (Clause::C9, what + &why),
            })?;
        }
        Ok(())
    }

    /// Polls one request that often and leaves it alone, while all others run. Returns whether there was something to leave.
    fn leave_alone(&mut self, kind: Kind, poll_count: u32, fate: Fate) -> Result<bool, Fault> {
        let arena = self.arena;
        let range = range_inside(&mut self.rng, &arena.hot());
        let call = self.ledger.call(kind, range);
        let moved = call.clone();
        let mut request = Box::pin(async move { arena.perform(&moved, false).await });
        if let Some(result) = poll_times(request.as_mut(), poll_count) {
            self.ledger.returned(&call, result)?;
            return Ok(false);
        }
        let left = format!(
            "a {} of sectors {:?}, polled {poll_count} times and then {fate:?}",
            kind.title(),
            call.range
        );
        match fate {
            Fate::Dropped => {
                // What others see of it cannot be undone.
                match self.rng.u8(0..3) {
                    0 => self.others(&left)?,
                    1 => self.complete(Kind::Read, arena.hot(), &left)?,
                    _ => {}
                }
                drop(request);
                self.ledger.gave_up(&call);
                self.others(&left)?;
                self.drain(&left)?;
            }
            Fate::Forgotten => {
                std::mem::forget(request);
                self.ledger.forgot(&call);
                self.others(&left)?;
            }
            Fate::Parked => {
                self.others(&left)?;
                let result = complete_alone(request.as_mut(), self.stall_limit);
                let result = result.ok_or_else(|| {
                    let what = format!("{left}, is stuck when it is polled again");
                    (Clause::C4, what)
                })?;
                self.ledger.returned(&call, result)?;
                self.drain(&left)?;
            }
        }
        Ok(true)
    }

    /// Nothing is in flight but what was left alone, so a drain ends, and nothing changes any more.
    fn drain(&mut self, left: &str) -> Result<(), Fault> {
        let drained = complete_alone(pin!(self.arena.disk().drain()), self.stall_limit);
        drained.ok_or_else(|| {
            let what = format!("a drain is stuck after {left}");
            (Clause::C9, what)
        })?;
        self.complete(Kind::Read, self.arena.hot(), left)
    }

    /// One request of each kind, in any order, each polled alone; at the end a look at everything, twice.
    fn others(&mut self, left: &str) -> Result<(), Fault> {
        let mut kinds = self.kinds.clone();
        self.rng.shuffle(&mut kinds);
        for kind in kinds {
            let range = range_inside(&mut self.rng, &self.arena.hot());
            self.complete(kind, range, left)?;
        }
        for _ in 0..2 {
            self.complete(Kind::Read, self.arena.hot(), left)?;
        }
        Ok(())
    }

    fn complete(
        &mut self,
        kind: Kind,
        range: std::ops::Range<u64>,
        left: &str,
    ) -> Result<(), Fault> {
        let call = self.ledger.call(kind, range);
        let result = self.alone(&call).ok_or_else(|| {
            let title = kind.title();
            let what = format!(
                "a {title} of sectors {:?} is stuck beside {left}",
                call.range
            );
            (Clause::C4, what)
        })?;
        self.ledger.returned(&call, result)
    }

    fn alone(&self, call: &Call) -> Option<Result<crate::ledger::Sight, DiskError>> {
        let request = pin!(self.arena.perform(call, false));
        complete_alone(request, self.stall_limit)
    }
}
