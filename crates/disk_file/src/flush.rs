//! Flushing: one `fdatasync` at a time, each for everybody who asked before it began. Some of them are an `fsync`, which is all that
//! is said here of `fdatasync` as well.
//!
//! Invariants:
//! - **I1** A request to flush is answered by an `fdatasync` that began after the request came: never by one that was already
//!   running (C5). Requests that come while one runs share the next one.
//! - **I2** At most one `fdatasync` runs on the open file. The kernel reports a failure to write back once per open file, to whoever
//!   syncs next; of two at once, one would be told that all is well. For the same reason a FUA write is a write followed
//!   by a request to flush, and not a write with `RWF_DSYNC`, whose own error could not be told from a full disk's either.
//! - **I3** After a failure there is no further `fdatasync`, and no success: the kernel has dropped what it could not write, and
//!   would say so no more (C8).
//! - **I4** A flush is left out only if an earlier one began after every change that is complete by now.
//! - **I5** `is_running` exactly while a thread answers rounds, on the pool or because it need not wait: that needs nobody's
//!   polling (C4).
//! - **I6** Whoever has been answered, and drops the disk, has closed the file and unlocked it: the pool gives up its hold on the file
//!   before it answers.
//! - **I7** Until one of them has begun after a change, each is an `fsync`, and so is the last one before the disk is closed. The time of the last
//!   change stands for what is in the file when it is only read, and `fdatasync` does not write it. From the first flush after a change
//!   on, a power cut leaves none that was there before the disk was opened; and none comes back once the disk is closed.

use crate::pool;
use disk_backend::in_flight::{InFlight, OwnedCounted};
use event_listener::Event;
use parking_lot::Mutex;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// What makes the file durable; the kernel's call, unless a test says otherwise.
type Sync = dyn Fn(Reach) -> io::Result<()> + Send + std::marker::Sync;

/// What is made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// What is needed to read the data back: `fdatasync`.
    Data,
    /// The time of the last change as well: `fsync`.
    DataAndTime,
}

/// An `fdatasync` failed; what was written since the last good one may be lost.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "a flush failed ({reason}): what was written since the last good flush may be lost, so no more writes and flushes are taken; mend the cause, then reopen the disk"
)]
pub(crate) struct FlushFailed {
    reason: Arc<str>,
}

impl From<FlushFailed> for io::Error {
    /// Not the kind that the kernel reported: space that comes back, say, brings no lost data back.
    fn from(failed: FlushFailed) -> Self {
        Self::other(failed)
    }
}

/// Where `fdatasync` is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SyncPlace {
    /// By whoever asks, because it does not wait for anything.
    AtOnce,
    InPool,
}

pub(crate) struct Flusher {
    sync: Arc<Sync>,
    place: SyncPlace,
    ledger: Arc<Ledger>,
}

/// What a flusher knows. Does not hold the file (I6).
struct Ledger {
    state: Mutex<State>,
    /// Set together with `State::failed`, for those who only want to know.
    has_failed: AtomicBool,
    /// `fdatasync` is being called.
    is_syncing: AtomicBool,
    changes_completed: AtomicU64,
    syncs: AtomicU64,
    /// Rounds that were asked for and are not over; they go on when nobody waits for them any more.
    rounds: Arc<InFlight>,
}

#[derive(Default)]
struct State {
    is_running: bool,
    /// Answered by the next `fdatasync`.
    next: Option<Asked>,
    failed: Option<FlushFailed>,
    /// `changes_completed` as it was when the last good `fdatasync` began; none before the first one, because the file may
    /// have been changed before it was opened.
    changes_synced: Option<u64>,
    /// The same of the last one that reached the time.
    times_synced: Option<u64>,
}

/// A round that is to come, with all that it takes.
struct Asked {
    round: Arc<Round>,
    counted: OwnedCounted,
    sync: Arc<Sync>,
    /// As far as anybody has asked.
    reach: Reach,
}

/// One `fdatasync`, and those who wait for it.
#[derive(Default)]
struct Round {
    outcome: OnceLock<Result<(), FlushFailed>>,
    is_over: Event,
}

impl Flusher {
    pub(crate) fn new(
        place: SyncPlace,
        sync: impl Fn(Reach) -> io::Result<()> + Send + std::marker::Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            sync: Arc::new(sync),
            place,
            ledger: Arc::new(Ledger {
                state: Mutex::default(),
                has_failed: AtomicBool::new(false),
                is_syncing: AtomicBool::new(false),
                changes_completed: AtomicU64::new(0),
                syncs: AtomicU64::new(0),
                rounds: Arc::default(),
            }),
        })
    }

    /// Waits until each `fdatasync` is over that was asked for before this call.
    pub(crate) async fn drain(&self) {
        self.ledger.rounds.drain().await;
    }

    /// Notes that the file was, or may have been, changed. Called before the change is reported complete.
    pub(crate) fn note_change(&self) {
        self.ledger
            .changes_completed
            .fetch_add(1, Ordering::Release);
    }

    /// Fails if a flush has failed: then nothing may be written any more.
    pub(crate) fn check(&self) -> Result<(), FlushFailed> {
        self.ledger.check()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.ledger.has_failed.load(Ordering::Acquire)
    }

    /// Whether `fdatasync` runs, which others may have to wait for inside the kernel: a hint.
    pub(crate) fn is_syncing(&self) -> bool {
        self.ledger.is_syncing.load(Ordering::Relaxed)
    }

    /// How often `fdatasync` was called.
    pub(crate) fn syncs(&self) -> u64 {
        self.ledger.syncs.load(Ordering::Relaxed)
    }

    /// Makes durable what was completed before this call.
    pub(crate) async fn flush(&self) -> Result<(), FlushFailed> {
        self.flush_to(Reach::Data).await
    }

    /// The same for the last time: with the time of the last change.
    pub(crate) async fn flush_for_good(&self) -> Result<(), FlushFailed> {
        self.flush_to(Reach::DataAndTime).await
    }

    async fn flush_to(&self, reach: Reach) -> Result<(), FlushFailed> {
        let Some(round) = self.join(reach)? else {
            return Ok(());
        };
        loop {
            if let Some(outcome) = round.outcome.get() {
                return outcome.clone();
            }
            let over = round.is_over.listen();
            // It may have been answered before we listened.
            if round.outcome.get().is_none() {
                over.await;
            }
        }
    }

    /// The round that will answer a request that comes now; none if there is nothing to do.
    fn join(&self, reach: Reach) -> Result<Option<Arc<Round>>, FlushFailed> {
        let ledger = &self.ledger;
        let mut state = ledger.state.lock();
        if let Some(failed) = &state.failed {
            return Err(failed.clone());
        }
        let synced = match reach {
            Reach::Data => state.changes_synced,
            Reach::DataAndTime => state.times_synced,
        };
        if synced == Some(ledger.changes_completed.load(Ordering::Acquire)) {
            return Ok(None);
        }
        let asked = state.next.get_or_insert_with(|| Asked {
            round: Arc::default(),
            counted: ledger.rounds.begin_owned(),
            sync: Arc::clone(&self.sync),
            reach,
        });
        if reach == Reach::DataAndTime {
            asked.reach = reach;
        }
        let round = Arc::clone(&asked.round);
        if !state.is_running {
            state.is_running = true;
            drop(state);
            let ledger = Arc::clone(ledger);
            match self.place {
                SyncPlace::AtOnce => ledger.answer_rounds(),
                SyncPlace::InPool => pool::spawn(move || ledger.answer_rounds()).detach(),
            }
        }
        Ok(Some(round))
    }
}

impl Ledger {
    fn check(&self) -> Result<(), FlushFailed> {
        if !self.has_failed.load(Ordering::Acquire) {
            return Ok(());
        }
        self.state.lock().failed.clone().map_or(Ok(()), Err)
    }

    /// Answers round after round until nobody asks.
    fn answer_rounds(&self) {
        loop {
            let Asked {
                round,
                counted,
                sync,
                reach,
            } = {
                let mut state = self.state.lock();
                match state.next.take() {
                    Some(asked) => asked,
                    None => {
                        state.is_running = false;
                        return;
                    }
                }
            };
            let outcome = self.sync_once(&*sync, reach);
            drop(sync); // I6
            let is_first = round.outcome.set(outcome).is_ok();
            debug_assert!(is_first, "a round is answered once");
            round.is_over.notify(usize::MAX);
            drop(counted);
        }
    }

    fn sync_once(&self, sync: &Sync, asked: Reach) -> Result<(), FlushFailed> {
        self.check()?;
        let reach = match self.state.lock().times_synced {
            None | Some(0) => Reach::DataAndTime, // I7
            Some(_) => asked,
        };
        let changes = self.changes_completed.load(Ordering::Acquire);
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.is_syncing.store(true, Ordering::Relaxed);
        let result = sync(reach);
        self.is_syncing.store(false, Ordering::Relaxed);
        let mut state = self.state.lock();
        match result {
            Ok(()) => {
                state.changes_synced = Some(changes);
                if reach == Reach::DataAndTime {
                    state.times_synced = Some(changes);
                }
                Ok(())
            }
            Err(error) => {
                let failed = FlushFailed {
                    reason: error.to_string().into(),
                };
                state.failed = Some(failed.clone());
                self.has_failed.store(true, Ordering::Release);
                tracing::error!(%error, "a flush failed: no more writes are taken");
                Err(failed)
            }
        }
    }
}

#[cfg(test)]
mod tests;
