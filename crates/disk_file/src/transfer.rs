//! Reads and writes: at once where nothing waits, else by the ring or on the pool.
//!
//! A request that is not complete at its first poll goes on without being polled from then on: also while it waits for its
//! range, because otherwise a caller that stops polling could hold up everybody behind it (C4).

use crate::counters::Count;
use crate::disk::FileDisk;
use crate::pool::{self, Stage};
use crate::shared::{AT_ONCE_BYTES_MAX, PAGE_BYTES, Shared};
use crate::tried::Tried;
use async_task::Task;
use disk_backend::DiskError;
use posio::{Durability, Mode, Outcome, TransferError};
use range_lock::RangeGuard;
use scsi_buffers::{HostBuffers, RequestBuffers};
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;

/// The longest read that is tried before anything else: what it has read by then is read again if the rest is not there.
const TRIED_BYTES_MAX: u64 = 128 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    Read,
    Change,
}

/// A range that work needs.
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

    /// Reads what can be read without waiting, and returns how many bytes that was. If it was all of it, it is counted. The caller holds
    /// the range.
    fn read_at_once(&self, buffers: &RequestBuffers<'_>, offset: u64) -> Result<usize, DiskError> {
        let range = byte_range(offset, buffers);
        let mode = match self.is_in_memory() {
            true => Mode::Wait,
            false if self.may_read_without_waiting.is_alive() => Mode::NoWait,
            false => return Ok(0),
        };
        self.check_inside(&range)?;
        let outcome = posio::read_at(self.image.file(), buffers, offset, mode);
        if matches!(outcome, Ok(Outcome::Complete)) {
            self.counters.add_read_at_once(buffers.len());
            return Ok(buffers.len());
        }
        if mode == Mode::Wait {
            return self.after_read(&range, outcome).map(|()| buffers.len());
        }
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
        self.after_read(&range, outcome)
    }

    /// What is to be done after `range` was read, or was not; it is still held.
    pub(crate) fn after_read(
        &self,
        range: &Range<u64>,
        outcome: Result<Outcome, TransferError>,
    ) -> Result<(), DiskError> {
        // A request fits into memory.
        let len = (range.end - range.start) as usize;
        self.counters.add_file_read(&outcome, len);
        if may_have_ended(&outcome) {
            // Somebody has cut the file; it may be long enough again by now.
            self.size.look().map_err(|error| self.named(error))?;
            self.check_inside(range)?;
        }
        self.expect_complete(outcome)
    }

    /// Where a request lies in the file, if it is whole sectors, `len_max` bytes at most, and there are such places at all.
    fn range_of_sectors(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        len_max: u64,
    ) -> Option<Range<u64>> {
        let sector_size = u64::from(self.image.sector_size);
        let len = buffers.len() as u64;
        if len == 0 || len > len_max || len & (sector_size - 1) != 0 {
            return None;
        }
        let start = sector.checked_mul(sector_size)?;
        Some(start..start.checked_add(len)?)
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
            return self.write_whole_at_once(buffers, offset);
        }
        // Reserving space may wait, and so does what is direct.
        if self.image.is_direct || self.has_divided_sectors() {
            return Ok(0);
        }
        if !self.may_write_without_waiting.is_alive() {
            return self.write_here(buffers, offset);
        }
        self.check_inside(&byte_range(offset, buffers))?;
        let outcome = self.call_write_without_waiting(buffers, offset);
        self.flusher.note_change();
        if matches!(outcome, Ok(Outcome::Complete)) {
            self.counters.add_write_at_once(buffers.len());
            return Ok(buffers.len());
        }
        self.counters.add_file_write(&outcome, buffers.len());
        match outcome.map_err(|error| self.transfer_error(error))? {
            Outcome::Complete => unreachable!("that was just looked at"),
            Outcome::WouldBlock { done } => Ok(done),
            Outcome::NoWaitUnsupported => {
                self.may_write_without_waiting.give_up();
                self.write_here(buffers, offset)
            }
        }
    }

    fn call_write_without_waiting(
        &self,
        buffers: &RequestBuffers<'_>,
        offset: u64,
    ) -> Result<Outcome, TransferError> {
        #[cfg(test)]
        if let Some(outcome) = self.obstacle.cut_short(self, buffers, offset) {
            return outcome;
        }
        posio::write_at(
            self.image.file(),
            buffers,
            offset,
            Mode::NoWait,
            Durability::Cached,
        )
    }

    /// Writes all of it, if that will hardly wait, and else nothing; returns how many bytes that was.
    fn write_here(&self, buffers: &RequestBuffers<'_>, offset: u64) -> Result<usize, DiskError> {
        let Some(began) = self.here.begin(buffers.len()) else {
            return Ok(0);
        };
        // What a flush holds in the kernel, it may hold for long.
        if self.flusher.is_syncing() || !self.is_cached_at_ends(&byte_range(offset, buffers)) {
            return Ok(0);
        }
        let written = self.write_whole_at_once(buffers, offset);
        self.here
            .end(began, || self.counters.get(Count::WritesAtOnce));
        written
    }

    /// All of it, by a call that could wait.
    fn write_whole_at_once(
        &self,
        buffers: &RequestBuffers<'_>,
        offset: u64,
    ) -> Result<usize, DiskError> {
        let outcome = self.call_write(buffers, offset)?;
        self.flusher.note_change();
        match outcome {
            Ok(Outcome::Complete) => self.counters.add_write_at_once(buffers.len()),
            _ => self.counters.add_file_write(&outcome, buffers.len()),
        }
        self.expect_complete(outcome).map(|()| buffers.len())
    }

    /// Whether a write is tried before it is asked for in earnest, by [`FileDisk::write_if_at_once`], unless it is to be durable.
    ///
    /// Only inside one page, which the kernel nearly always takes wholly or not at all. What it has taken cannot be taken back; should it
    /// not take the rest, that is written as well before anybody else gets the range (C2). That may wait, so it is not done where writes
    /// are handed over.
    fn is_tried_first(&self, range: &Range<u64>) -> bool {
        let pages = u64::from(PAGE_BYTES);
        let is_in_one_page = range.start / pages == (range.end - 1) / pages;
        // A write by `write_here` looks at the account itself.
        let may_wait = || match self.may_write_without_waiting.is_alive() {
            true => self.here.may_wait() && !self.flusher.is_syncing(),
            false => self.image.may_write_here,
        };
        is_in_one_page && (self.is_in_memory() || may_wait())
    }

    /// Writes the rest of what was to be made at once, however long that takes.
    fn write_rest_here(&self, rest: &RequestBuffers<'_>, offset: u64) -> Result<(), DiskError> {
        let began = self.here.begin_anyway();
        let outcome = self.write(rest, offset);
        self.here
            .end(began, || self.counters.get(Count::WritesAtOnce));
        outcome
    }

    /// Whether the pages are in the page cache that `range` covers only in part. Otherwise a write reads them first.
    fn is_cached_at_ends(&self, range: &Range<u64>) -> bool {
        self.here
            .partly_covered(range)
            .into_iter()
            .flatten()
            .all(|at| {
                let mut byte = [0];
                let byte = HostBuffers::from_mut(&mut byte);
                let read = posio::read_at(self.image.file(), &byte.buffers(), at, Mode::NoWait);
                matches!(read, Ok(Outcome::Complete))
            })
    }

    /// Writes all of it, and waits as long as that takes. The caller holds the range.
    pub(crate) fn write(&self, buffers: &RequestBuffers<'_>, offset: u64) -> Result<(), DiskError> {
        let outcome = self.call_write(buffers, offset)?;
        self.after_write(buffers.len(), outcome)
    }

    fn call_write(
        &self,
        buffers: &RequestBuffers<'_>,
        offset: u64,
    ) -> Result<Result<Outcome, TransferError>, DiskError> {
        let range = byte_range(offset, buffers);
        self.check_inside(&range)?;
        self.reserve(&range)?;
        #[cfg(test)]
        if let Some(outcome) = self.obstacle.wait() {
            return Ok(outcome);
        }
        Ok(posio::write_at(
            self.image.file(),
            buffers,
            offset,
            Mode::Wait,
            Durability::Cached,
        ))
    }

    /// What is to be done after `len` bytes were written, or were not; their range is still held.
    pub(crate) fn after_write(
        &self,
        len: usize,
        outcome: Result<Outcome, TransferError>,
    ) -> Result<(), DiskError> {
        self.counters.add_file_write(&outcome, len);
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
        let claim = self
            .shared
            .try_claim(byte_range(offset, buffers), Intent::Read);
        let tried = match claim.is_held() && buffers.len() <= AT_ONCE_BYTES_MAX {
            true => self.shared.read_at_once(buffers, offset),
            false => Ok(0),
        };
        if matches!(tried, Ok(done) if done == buffers.len()) {
            return Ok(());
        }
        self.shared.counters.add_other_read(buffers.len());
        let done = tried?;
        let rest = buffers.subrange(done, buffers.len() - done);
        let offset = offset + done as u64;
        self.read_rest(claim, &rest, offset).await
    }

    /// As [`DiskIo::try_read`](disk_backend::DiskIo::try_read): nothing is known of the request.
    pub(crate) fn read_if_at_once(&self, buffers: &RequestBuffers<'_>, sector: u64) -> bool {
        let shared = &self.shared;
        let may_be_at_once = shared.is_in_memory() || shared.may_read_without_waiting.is_alive();
        if !may_be_at_once {
            return false;
        }
        let Some(range) = shared.range_of_sectors(buffers, sector, TRIED_BYTES_MAX) else {
            return false;
        };
        let Some(_guard) = shared.locks.try_read(range.clone()) else {
            return false;
        };
        matches!(shared.read_at_once(buffers, range.start), Ok(done) if done == buffers.len())
    }

    /// As [`DiskIo::try_write`](disk_backend::DiskIo::try_write), for what is not to be durable: nothing is known of the request.
    pub(crate) fn write_if_at_once(&self, buffers: &RequestBuffers<'_>, sector: u64) -> bool {
        let shared = &self.shared;
        let Some(range) = shared.range_of_sectors(buffers, sector, u64::from(PAGE_BYTES)) else {
            return false;
        };
        if !shared.is_tried_first(&range)
            || shared.image.is_read_only
            || shared.flusher.has_failed()
            || Tried::has_failed(shared, &range, buffers)
        {
            return false;
        }
        let Some(_guard) = shared.locks.try_write(range.clone()) else {
            return false;
        };
        let error = match shared.write_at_once(buffers, range.start) {
            Ok(0) => None,
            Ok(done) if done == buffers.len() => return true,
            Ok(done) => {
                let rest = buffers.subrange(done, buffers.len() - done);
                match shared.write_rest_here(&rest, range.start + done as u64) {
                    Ok(()) => {
                        shared.counters.add_other_write(buffers.len());
                        return true;
                    }
                    // Whoever asks next is told that by the check of the request, and asks nobody else.
                    Err(DiskError::IllegalBlock | DiskError::MemoryAccess(_)) => return false,
                    Err(error) => Some(error),
                }
            }
            // It was not begun.
            Err(DiskError::IllegalBlock | DiskError::MemoryAccess(_)) => return false,
            Err(error) => Some(error),
        };
        Tried::note(shared, range, buffers, error);
        false
    }

    pub(crate) async fn write(
        &self,
        buffers: &RequestBuffers<'_>,
        offset: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        self.shared.check_writable()?;
        let range = byte_range(offset, buffers);
        // What is to be durable is not tried before.
        let before = Tried::take(&self.shared, &range, buffers).filter(|_| !fua);
        let claim = self.shared.try_claim(range, Intent::Change);
        let may_try = claim.is_held() && buffers.len() <= AT_ONCE_BYTES_MAX;
        let tried = match before {
            Some(before) => before.error.map_or(Ok(0), Err),
            None if may_try => self.shared.write_at_once(buffers, offset),
            None => Ok(0),
        };
        if matches!(tried, Ok(done) if done == buffers.len()) {
            drop(claim);
        } else {
            self.shared.counters.add_other_write(buffers.len());
            let done = tried?;
            let rest = buffers.subrange(done, buffers.len() - done);
            self.write_rest(claim, &rest, offset + done as u64, done > 0)
                .await?;
        }
        self.flush_if(fua).await
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

/// Whether a read may have failed because the file is shorter by now: one that goes by blocks would read on inside a block then,
/// which is refused.
pub(crate) fn may_have_ended(outcome: &Result<Outcome, TransferError>) -> bool {
    matches!(outcome, Err(TransferError::Io(error))
        if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidInput))
}

pub(crate) fn byte_range(offset: u64, buffers: &RequestBuffers<'_>) -> Range<u64> {
    offset..offset + buffers.len() as u64
}
