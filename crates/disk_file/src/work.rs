//! Reads and writes that have to wait: by the ring where there is one, else on the pool.
//!
//! Both own what they need, the range and the memory, and go on to their end without being polled (C4, C9).

use crate::disk::FileDisk;
use crate::pool;
use crate::shared::Shared;
use crate::transfer::{Claim, Intent, byte_range, may_have_ended};
use async_task::Task;
use disk_backend::DiskError;
use disk_backend::in_flight::OwnedCounted;
use posio::{Outcome, TransferError};
use range_lock::RangeGuard;
use scsi_buffers::PinnedBuffers;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use uring::{Operation, Refused, Ring, SharedFile};

/// What is to be moved, between the file and memory of its own.
pub(crate) struct Transfer {
    pub(crate) intent: Intent,
    pub(crate) memory: PinnedBuffers,
    /// Of the file, in bytes.
    pub(crate) offset: u64,
}

type Done = Result<(), DiskError>;

/// A transfer that goes on by itself. If it is dropped, what has not begun is not done, and what has begun is completed.
#[must_use = "whoever drops it may have nothing done"]
pub(crate) enum Work {
    /// In the pool, or waiting for its range.
    Task(Task<Done>),
    InRing(Operation<End>),
    /// It was in the ring, and what was left to do had to wait.
    GoesOn(GoesOn),
    /// It was refused before it began.
    Refused(Option<DiskError>),
}

impl Work {
    /// Lets it go on to its end, whether it has begun or not.
    fn detach(self) {
        match self {
            Self::Task(task) => task.detach(),
            Self::InRing(operation) => operation.detach(),
            Self::GoesOn(_) | Self::Refused(_) => {}
        }
    }

    /// Waits for it; if it `must_end`, it does so also if nobody waits for it any more.
    pub(crate) async fn wait(self, must_end: bool) -> Done {
        struct LetGo(Option<Work>);
        impl Drop for LetGo {
            fn drop(&mut self) {
                if let Some(work) = self.0.take() {
                    work.detach();
                }
            }
        }
        if !must_end {
            return self.await;
        }
        let mut work = LetGo(Some(self));
        work.0.as_mut().expect("it was just put there").await
    }
}

impl Future for Work {
    type Output = Done;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Done> {
        if let Self::InRing(operation) = &mut *self {
            match ready!(Pin::new(operation).poll(cx)) {
                End::Here(done) => return Poll::Ready(done),
                End::InPool(goes_on) => *self = Self::GoesOn(goes_on),
            }
        }
        match &mut *self {
            Self::Task(task) => Pin::new(task).poll(cx),
            Self::InRing(_) => unreachable!("it has just left the ring"),
            Self::GoesOn(GoesOn(task)) => {
                Pin::new(task.as_mut().expect("until it is dropped")).poll(cx)
            }
            Self::Refused(error) => Poll::Ready(Err(error.take().expect("polled once"))),
        }
    }
}

/// How a transfer leaves the ring.
pub(crate) enum End {
    Here(Done),
    InPool(GoesOn),
}

/// What goes on to its end on the pool, whoever drops this.
pub(crate) struct GoesOn(Option<Task<Done>>);

impl Drop for GoesOn {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}

impl FileDisk {
    /// Begins to do it, or to wait for its range.
    pub(crate) fn begin(&self, claim: Claim, transfer: Transfer) -> Work {
        if !self.shared.goes_by_ring(transfer.intent) {
            return Work::Task(self.in_pool(claim, move |shared| transfer.run(shared)));
        }
        let shared = Arc::clone(&self.shared);
        let counted = shared.in_pool.begin_owned();
        match claim {
            Claim::Held(guard) => match Held::new(shared, guard, counted).begin_in_ring(transfer) {
                Ok(operation) => Work::InRing(operation),
                Err(error) => Work::Refused(Some(error)),
            },
            Claim::Wanted(range, intent) => Work::Task(pool::spawn_here(async move {
                let guard = match intent {
                    Intent::Read => shared.locks.read(range).await,
                    Intent::Change => shared.locks.write(range).await,
                };
                let goes_by_ring = shared.goes_by_ring(intent);
                let held = Held::new(shared, guard, counted);
                // What a thread has asked a ring may wait for that thread, and those of the pool are away for long.
                if !goes_by_ring || pool::is_this_thread() {
                    return held.in_pool(|shared| transfer.run(shared)).await;
                }
                Work::InRing(held.begin_in_ring(transfer)?).await
            })),
        }
    }
}

impl Transfer {
    /// All of it, here and now.
    fn run(self, shared: &Shared) -> Done {
        match self.intent {
            Intent::Read => shared.read(&self.memory.buffers(), self.offset),
            Intent::Change => shared.write(&self.memory.buffers(), self.offset),
        }
    }
}

impl Shared {
    fn goes_by_ring(&self, intent: Intent) -> bool {
        // Space is reserved before, which may wait.
        let may_reserve = intent == Intent::Change && self.has_divided_sectors();
        self.may_use_ring
            && !may_reserve
            && Ring::of_this_thread().is_ok_and(|ring| !ring.is_refused())
    }
}

/// What a transfer holds until its end.
pub(crate) struct Held {
    shared: Arc<Shared>,
    guard: RangeGuard,
    counted: OwnedCounted,
}

impl Held {
    pub(crate) fn new(shared: Arc<Shared>, guard: RangeGuard, counted: OwnedCounted) -> Self {
        Self {
            shared,
            guard,
            counted,
        }
    }

    /// Lets go of it all.
    fn end(self, done: Done) -> Done {
        let Self {
            shared,
            guard,
            counted,
        } = self;
        // Before the result is handed over: it may lie there until somebody polls.
        drop((guard, counted));
        if let Some(last) = Arc::into_inner(shared)
            && !pool::is_this_thread()
        {
            // Nobody else has the file any more, and closing it may wait.
            pool::spawn(move || drop(last)).detach();
        }
        done
    }

    fn in_pool(self, work: impl FnOnce(&Shared) -> Done + Send + 'static) -> Task<Done> {
        pool::spawn(move || {
            let done = work(&self.shared);
            self.end(done)
        })
    }

    fn begin_in_ring(self, transfer: Transfer) -> Result<Operation<End>, DiskError> {
        let Transfer {
            intent,
            memory,
            offset,
        } = transfer;
        let range = byte_range(offset, &memory.buffers());
        self.shared.check_inside(&range)?;
        // There is one for each thread or for none, and this may be another thread than the one that asked first.
        let ring = Ring::of_this_thread().map_err(|error| io::Error::from(error.kind()))?;
        let file: SharedFile = self.shared.image.clone();
        let then = move |outcome| self.leave_ring(intent, range, outcome);
        let begun = match intent {
            Intent::Read => ring.read(file, memory, offset, then),
            Intent::Change => ring.write(file, memory, offset, then),
        };
        Ok(begun?)
    }

    /// What is to be done with the ring's outcome. Here and now only what never waits: the thread may be anybody's.
    pub(crate) fn leave_ring(
        self,
        intent: Intent,
        range: Range<u64>,
        outcome: io::Result<()>,
    ) -> End {
        let goes_on = |task| End::InPool(GoesOn(Some(task)));
        let outcome = match outcome.map_err(Refused::of) {
            Ok(()) => Ok(Outcome::Complete),
            Err(Ok(Refused { memory })) => {
                let transfer = Transfer {
                    intent,
                    memory,
                    offset: range.start,
                };
                return goes_on(self.in_pool(|shared| transfer.run(shared)));
            }
            // It was dropped before it began.
            Err(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {
                return End::Here(self.end(Err(error.into())));
            }
            Err(Err(error)) => Err(TransferError::Io(error)),
        };
        if intent == Intent::Read && may_have_ended(&outcome) {
            return goes_on(self.in_pool(move |shared| shared.after_read(&range, outcome)));
        }
        let done = match intent {
            Intent::Read => self.shared.after_read(&range, outcome),
            // A request fits into memory.
            Intent::Change => self
                .shared
                .after_write((range.end - range.start) as usize, outcome),
        };
        End::Here(self.end(done))
    }
}
