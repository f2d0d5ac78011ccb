//! Reads and writes that have to wait: by the ring where there is one, else on the pool.
//!
//! Both own what they need, the range and the memory, and go on to their end without being polled (C4, C9).

use crate::disk::FileDisk;
use crate::pool;
use crate::shared::Shared;
use crate::transfer::{Claim, Intent, byte_range};
use async_task::Task;
use disk_backend::DiskError;
use disk_backend::in_flight::OwnedCounted;
use posio::{Outcome, TransferError};
use range_lock::RangeGuard;
use scsi_buffers::PinnedBuffers;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use uring::{Operation, Ring, SharedFile};

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
    InRing(Operation<Done>),
    /// It was refused before it began.
    Refused(Option<DiskError>),
}

impl Work {
    /// Lets it go on to its end, whether it has begun or not.
    fn detach(self) {
        match self {
            Self::Task(task) => task.detach(),
            Self::InRing(operation) => operation.detach(),
            Self::Refused(_) => {}
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
        match &mut *self {
            Self::Task(task) => Pin::new(task).poll(cx),
            Self::InRing(operation) => Pin::new(operation).poll(cx),
            Self::Refused(error) => Poll::Ready(Err(error.take().expect("polled once"))),
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
            Claim::Held(guard) => match shared.begin_in_ring(transfer, guard, counted) {
                Ok(operation) => Work::InRing(operation),
                Err(error) => Work::Refused(Some(error)),
            },
            Claim::Wanted(range, intent) => Work::Task(pool::spawn_here(async move {
                let guard = match intent {
                    Intent::Read => shared.locks.read(range).await,
                    Intent::Change => shared.locks.write(range).await,
                };
                shared.begin_in_ring(transfer, guard, counted)?.await
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
        self.may_use_ring && !may_reserve
    }

    fn begin_in_ring(
        self: Arc<Self>,
        transfer: Transfer,
        guard: RangeGuard,
        counted: OwnedCounted,
    ) -> Result<Operation<Done>, DiskError> {
        let Transfer {
            intent,
            memory,
            offset,
        } = transfer;
        let len = memory.buffers().len();
        let range = byte_range(offset, &memory.buffers());
        self.check_inside(&range)?;
        // There is one for each thread or for none, and this may be another thread than the one that asked first.
        let ring = Ring::of_this_thread().map_err(|error| io::Error::from(error.kind()))?;
        let file: SharedFile = self.image.clone();
        let then = move |outcome: io::Result<()>| {
            let done = match outcome {
                // It was dropped before it began.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error.into()),
                outcome => {
                    let outcome = outcome.map(|()| Outcome::Complete);
                    let outcome = outcome.map_err(TransferError::Io);
                    match intent {
                        Intent::Read => self.after_read(&range, outcome),
                        Intent::Change => self.after_write(len, outcome),
                    }
                }
            };
            // Before the result is handed over: it may lie there until somebody polls.
            drop((guard, counted, self));
            done
        };
        let begun = match intent {
            Intent::Read => ring.read(file, memory, offset, then),
            Intent::Change => ring.write(file, memory, offset, then),
        };
        Ok(begun?)
    }
}
