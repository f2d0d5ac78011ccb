//! What a disk has done since it was opened.

use inspect::{Inspect, Request};
use posio::{Outcome, TransferError};

/// What is counted. Counts only ever grow, and are read one by one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Count {
    Reads,
    /// Reads that were complete at once, without another thread.
    ReadsAtOnce,
    ReadBytes,
    Writes,
    /// Writes that were complete at once, without another thread.
    WritesAtOnce,
    WrittenBytes,
    Unmaps,
    Zeroings,
    Flushes,
    /// Flushes, and writes that had to be durable, that failed or were refused after one that did.
    FlushFailures,
    /// Calls on the open file, from here on: a request may take several, or none. The flusher counts `fdatasync` itself.
    FileReads,
    /// What they returned.
    FileReadBytes,
    FileReadFailures,
    FileWrites,
    /// What they took.
    FileWrittenBytes,
    FileWriteFailures,
    /// `fallocate`: punching, zeroing, reserving.
    FileAllocations,
}

const COUNT_OF_COUNTS: usize = Count::FileAllocations as usize + 1;

#[derive(Debug, Default)]
pub(crate) struct Counters(inspect::Counters<COUNT_OF_COUNTS>);

impl Counters {
    pub(crate) fn add(&self, count: Count, by: u64) {
        self.0.add(count as usize, by);
    }

    fn get(&self, count: Count) -> u64 {
        self.0.get(count as usize)
    }

    /// A call that was to read `len` bytes.
    pub(crate) fn add_file_read(&self, outcome: &Result<Outcome, TransferError>, len: usize) {
        self.add(Count::FileReads, 1);
        match bytes_done(outcome, len) {
            Some(bytes) => self.add(Count::FileReadBytes, bytes),
            None => self.add(Count::FileReadFailures, 1),
        }
    }

    /// A call that was to write `len` bytes.
    pub(crate) fn add_file_write(&self, outcome: &Result<Outcome, TransferError>, len: usize) {
        self.add(Count::FileWrites, 1);
        match bytes_done(outcome, len) {
            Some(bytes) => self.add(Count::FileWrittenBytes, bytes),
            None => self.add(Count::FileWriteFailures, 1),
        }
    }

    fn inspect_file(&self, request: Request<'_>) {
        request
            .respond()
            .counter("reads", self.get(Count::FileReads))
            .counter("read_bytes", self.get(Count::FileReadBytes))
            .counter("read_failures", self.get(Count::FileReadFailures))
            .counter("writes", self.get(Count::FileWrites))
            .counter("written_bytes", self.get(Count::FileWrittenBytes))
            .counter("write_failures", self.get(Count::FileWriteFailures))
            .counter("allocations", self.get(Count::FileAllocations));
    }
}

impl Inspect for Counters {
    fn inspect(&self, request: Request<'_>) {
        request
            .respond()
            .counter("reads", self.get(Count::Reads))
            .counter("reads_at_once", self.get(Count::ReadsAtOnce))
            .counter("read_bytes", self.get(Count::ReadBytes))
            .counter("writes", self.get(Count::Writes))
            .counter("writes_at_once", self.get(Count::WritesAtOnce))
            .counter("written_bytes", self.get(Count::WrittenBytes))
            .counter("unmaps", self.get(Count::Unmaps))
            .counter("zeroings", self.get(Count::Zeroings))
            .counter("flushes", self.get(Count::Flushes))
            .counter("flush_failures", self.get(Count::FlushFailures))
            .field_with("file", |request| self.inspect_file(request));
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
