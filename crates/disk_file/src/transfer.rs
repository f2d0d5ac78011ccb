//! Reads and writes: at once where nothing waits, else on the pool.
//!
//! A request that is not complete at its first poll is driven by the pool alone from then on: also while it waits for its
//! range, because otherwise a caller that stops polling could hold up everybody behind it (C4).

use crate::counters::Count;
use crate::disk::FileDisk;
use crate::pool::{self, Stage};
use crate::shared::{AT_ONCE_BYTES_MAX, Shared};
use async_task::Task;
use disk_backend::DiskError;
use posio::{Durability, Mode, Outcome, TransferError};
use range_lock::RangeGuard;
use scsi_buffers::RequestBuffers;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    Read,
    Change,
}

/// A range that work on the pool needs.
#[derive(Debug)]
pub(crate) enum Claim {
    /// It is ours already.
    Held(RangeGuard),
    /// Somebody else has it; the work will wait for it.
    Wanted(Range<u64>, Intent),
}

impl Claim {
    pub(crate) fn is_held(&self) -> bool {
        matches!(self, Self::Held(_))
    }
}

impl Shared {
    pub(crate) fn try_claim(&self, range: Range<u64>, intent: Intent) -> Claim {
        let guard = match intent {
            Intent::Read => self.locks.try_read(range.clone()),
            Intent::Change => self.locks.try_write(range.clone()),
        };
        guard.map_or(Claim::Wanted(range, intent), Claim::Held)
    }

    /// Waits for the range, and comes back on a pool thread.
    pub(crate) async fn claim(
        &self,
        stage: &Stage,
        range: Range<u64>,
        intent: Intent,
    ) -> RangeGuard {
        let guard = match intent {
            Intent::Read => self.locks.read(range).await,
            Intent::Change => self.locks.write(range).await,
        };
        stage.enter_pool().await;
        guard
    }

    /// Reads what can be read without waiting, and returns how many bytes that was.
    fn read_at_once(&self, buffers: &RequestBuffers<'_>, offset: u64) -> Result<usize, DiskError> {
        if self.is_in_memory() {
            return self.read(buffers, offset).map(|()| buffers.len());
        }
        if !self.may_read_without_waiting.is_alive() {
            return Ok(0);
        }
        self.check_inside(&byte_range(offset, buffers))?;
        let outcome = posio::read_at(self.image.file(), buffers, offset, Mode::NoWait);
        self.counters.add_file_read(&outcome, buffers.len());
        Ok(match outcome.map_err(|error| self.transfer_error(error))? {
            Outcome::Complete => buffers.len(),
            Outcome::WouldBlock { done } => done,
            Outcome::NoWaitUnsupported => {
                self.may_read_without_waiting.give_up();
                0
            }
        })
    }

    /// Reads all of it, and waits as long as that takes. The caller holds the range.
    pub(crate) fn read(&self, buffers: &RequestBuffers<'_>, offset: u64) -> Result<(), DiskError> {
        let range = byte_range(offset, buffers);
        self.check_inside(&range)?;
        let outcome = posio::read_at(self.image.file(), buffers, offset, Mode::Wait);
        self.counters.add_file_read(&outcome, buffers.len());
        if has_ended(&outcome) {
            // Somebody has cut the file; it may be long enough again by now.
            self.size.look().map_err(|error| self.named(error))?;
            self.check_inside(&range)?;
        }
        self.expect_complete(outcome)
    }

    /// Checks that the range lies in the disk, whose size may have changed since the request came. The caller holds the range, so
    /// nobody of ours changes it now.
    pub(crate) fn check_inside(&self, range: &Range<u64>) -> Result<(), DiskError> {
        match range.end <= self.size.end_of_sectors() {
            true => Ok(()),
            false => Err(DiskError::IllegalBlock),
        }
    }

    /// As [`read_at_once`](Self::read_at_once).
    fn write_at_once(&self, buffers: &RequestBuffers<'_>, offset: u64) -> Result<usize, DiskError> {
        if self.is_in_memory() {
            return self.write(buffers, offset).map(|()| buffers.len());
        }
        // Reserving space may wait.
        if !self.may_write_without_waiting.is_alive() || self.has_divided_sectors() {
            return Ok(0);
        }
        self.check_inside(&byte_range(offset, buffers))?;
        let outcome = posio::write_at(
            self.image.file(),
            buffers,
            offset,
            Mode::NoWait,
            Durability::Cached,
        );
        self.counters.add_file_write(&outcome, buffers.len());
        self.flusher.note_change();
        Ok(match outcome.map_err(|error| self.transfer_error(error))? {
            Outcome::Complete => buffers.len(),
            Outcome::WouldBlock { done } => done,
            Outcome::NoWaitUnsupported => {
                self.may_write_without_waiting.give_up();
                0
            }
        })
    }

    /// Writes all of it, and waits as long as that takes. The caller holds the range.
    pub(crate) fn write(&self, buffers: &RequestBuffers<'_>, offset: u64) -> Result<(), DiskError> {
        let range = byte_range(offset, buffers);
        self.check_inside(&range)?;
        self.reserve(&range)?;
        let outcome = posio::write_at(
            self.image.file(),
            buffers,
            offset,
            Mode::Wait,
            Durability::Cached,
        );
        self.counters.add_file_write(&outcome, buffers.len());
        self.flusher.note_change();
        self.expect_complete(outcome)
    }

    fn expect_complete(&self, outcome: Result<Outcome, TransferError>) -> Result<(), DiskError> {
        match outcome {
            Ok(Outcome::Complete) => Ok(()),
            Ok(other) => unreachable!("a call that waits completes: {other:?}"),
            Err(error) => Err(self.transfer_error(error)),
        }
    }

    fn transfer_error(&self, error: TransferError) -> DiskError {
        match error {
            TransferError::Memory(error) => error.into(),
            TransferError::Io(error) => self.named(error),
        }
    }
}

impl FileDisk {
    pub(crate) async fn read(
        &self,
        buffers: &RequestBuffers<'_>,
        offset: u64,
    ) -> Result<(), DiskError> {
        let counters = &self.shared.counters;
        counters.add(Count::Reads, 1);
        counters.add(Count::ReadBytes, buffers.len() as u64);
        let claim = self
            .shared
            .try_claim(byte_range(offset, buffers), Intent::Read);
        let mut done = 0;
        if claim.is_held() && buffers.len() <= AT_ONCE_BYTES_MAX {
            done = self.shared.read_at_once(buffers, offset)?;
            if done == buffers.len() {
                counters.add(Count::ReadsAtOnce, 1);
                return Ok(());
            }
        }
        let rest = buffers.subrange(done, buffers.len() - done);
        let offset = offset + done as u64;
        match rest.pin() {
            Some(pinned) => {
                self.in_pool(claim, move |shared| shared.read(&pinned.buffers(), offset))
                    .await
            }
            None => self.read_bounced(claim, &rest, offset).await,
        }
    }

    pub(crate) async fn write(
        &self,
        buffers: &RequestBuffers<'_>,
        offset: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        self.shared.check_writable()?;
        let counters = &self.shared.counters;
        counters.add(Count::Writes, 1);
        counters.add(Count::WrittenBytes, buffers.len() as u64);
        let claim = self
            .shared
            .try_claim(byte_range(offset, buffers), Intent::Change);
        let mut done = 0;
        if claim.is_held() && buffers.len() <= AT_ONCE_BYTES_MAX {
            done = self.shared.write_at_once(buffers, offset)?;
        }
        if done == buffers.len() {
            counters.add(Count::WritesAtOnce, 1);
            drop(claim);
        } else {
            let rest = buffers.subrange(done, buffers.len() - done);
            self.write_rest(claim, &rest, offset + done as u64, done > 0)
                .await?;
        }
        self.flush_if(fua).await
    }

    /// Writes in the pool. If the request `is_begun`, this may start inside a sector, and only together with what is written
    /// already the sector is whole: then it happens also if the future is dropped (C2).
    pub(crate) async fn write_rest(
        &self,
        claim: Claim,
        buffers: &RequestBuffers<'_>,
        offset: u64,
        is_begun: bool,
    ) -> Result<(), DiskError> {
        match buffers.pin() {
            Some(pinned) => {
                let work =
                    self.in_pool(claim, move |shared| shared.write(&pinned.buffers(), offset));
                pool::wait_for(work, is_begun).await
            }
            None => self.write_bounced(claim, buffers, offset, is_begun).await,
        }
    }

    /// Runs `work` on the pool while it holds what `claim` says.
    pub(crate) fn in_pool<T: Send + 'static>(
        &self,
        claim: Claim,
        work: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> Task<T> {
        let shared = Arc::clone(&self.shared);
        let counted = shared.in_pool.begin_owned();
        match claim {
            Claim::Held(guard) => pool::spawn(move || {
                let result = work(&shared);
                // Before the result is handed over: it may lie there until somebody polls.
                drop((guard, counted));
                result
            }),
            Claim::Wanted(range, intent) => pool::spawn_staged(|stage| async move {
                let guard = shared.claim(&stage, range, intent).await;
                let result = work(&shared);
                drop((guard, counted));
                result
            }),
        }
    }

    /// Runs `work`, which needs no range, on the pool.
    pub(crate) fn in_pool_unclaimed<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> Task<T> {
        let shared = Arc::clone(&self.shared);
        let counted = shared.in_pool.begin_owned();
        pool::spawn(move || {
            let result = work(&shared);
            drop(counted);
            result
        })
    }
}

fn has_ended(outcome: &Result<Outcome, TransferError>) -> bool {
    matches!(outcome, Err(TransferError::Io(error)) if error.kind() == ErrorKind::UnexpectedEof)
}

pub(crate) fn byte_range(offset: u64, buffers: &RequestBuffers<'_>) -> Range<u64> {
    offset..offset + buffers.len() as u64
}
