//! What a disk has done since it was opened.

use posio::{Outcome, TransferError};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts only ever grow, and are read one by one.
#[derive(Debug, Default, inspect::Inspect)]
pub(crate) struct Counters {
    pub(crate) reads: Counter,
    /// Reads that were complete at once, without another thread.
    pub(crate) reads_at_once: Counter,
    pub(crate) read_bytes: Counter,
    pub(crate) writes: Counter,
    /// Writes that were complete at once, without another thread.
    pub(crate) writes_at_once: Counter,
    pub(crate) written_bytes: Counter,
    pub(crate) unmaps: Counter,
    pub(crate) zeroings: Counter,
    pub(crate) flushes: Counter,
    /// Flushes, and writes that had to be durable, that failed or were refused after one that did.
    pub(crate) flush_failures: Counter,
    pub(crate) file: FileCounters,
}

/// What was done to the open file; a request may take several calls, or none. `fdatasync` is counted by who calls it.
#[derive(Debug, Default, inspect::Inspect)]
pub(crate) struct FileCounters {
    reads: Counter,
    /// What they returned, in bytes.
    read_bytes: Counter,
    read_failures: Counter,
    writes: Counter,
    /// What they took, in bytes.
    written_bytes: Counter,
    write_failures: Counter,
    /// Calls of `fallocate`: punching, zeroing, reserving.
    pub(crate) allocations: Counter,
}

impl FileCounters {
    pub(crate) fn note_read(&self, outcome: &Result<Outcome, TransferError>, len: usize) {
        self.reads.add(1);
        match bytes_done(outcome, len) {
            Some(bytes) => self.read_bytes.add(bytes),
            None => self.read_failures.add(1),
        }
    }

    pub(crate) fn note_write(&self, outcome: &Result<Outcome, TransferError>, len: usize) {
        self.writes.add(1);
        match bytes_done(outcome, len) {
            Some(bytes) => self.written_bytes.add(bytes),
            None => self.write_failures.add(1),
        }
    }
}

/// None for a failure.
fn bytes_done(outcome: &Result<Outcome, TransferError>, len: usize) -> Option<u64> {
    match outcome {
        Ok(Outcome::Complete) => Some(len as u64),
        Ok(Outcome::WouldBlock { done }) => Some(*done as u64),
        Ok(Outcome::NoWaitUnsupported) => Some(0),
        Err(_) => None,
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}

impl inspect::Inspect for Counter {
    fn inspect(&self, request: inspect::Request<'_>) {
        request.value(self.0.load(Ordering::Relaxed));
    }
}
