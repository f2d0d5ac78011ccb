//! What a disk has done since it was opened.

use inspect::{Inspect, Request};
use posio::{Outcome, TransferError};

/// What is counted. Counts only ever grow, and are read one by one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Count {
    /// Reads that were complete at once, without another thread, each by one call. They are counted here alone.
    ReadsAtOnce,
    ReadAtOnceBytes,
    /// As for reads.
    WritesAtOnce,
    WrittenAtOnceBytes,
    /// All others.
    OtherReads,
    OtherReadBytes,
    OtherWrites,
    OtherWrittenBytes,
    Unmaps,
    Zeroings,
    Flushes,
    /// Flushes, and writes that had to be durable, that failed or were refused after one that did.
    FlushFailures,
    /// Calls on the open file for all others, from here on: a request may take several, or none. The flusher counts `fdatasync` itself.
    OtherFileReads,
    /// What they returned.
    OtherFileReadBytes,
    FileReadFailures,
    OtherFileWrites,
    /// What they took.
    OtherFileWrittenBytes,
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

    pub(crate) fn get(&self, count: Count) -> u64 {
        self.0.get(count as usize)
    }

    fn sum(&self, counts: [Count; 2]) -> u64 {
        counts.map(|count| self.get(count)).iter().sum()
    }

    /// A read of `len` bytes that was complete at once.
    pub(crate) fn add_read_at_once(&self, len: usize) {
        self.0.add_all([
            (Count::ReadsAtOnce as usize, 1),
            (Count::ReadAtOnceBytes as usize, len as u64),
        ]);
    }

    /// Any other read of `len` bytes.
    pub(crate) fn add_other_read(&self, len: usize) {
        self.add(Count::OtherReads, 1);
        self.add(Count::OtherReadBytes, len as u64);
    }

    /// A write of `len` bytes that was complete at once.
    pub(crate) fn add_write_at_once(&self, len: usize) {
        self.0.add_all([
            (Count::WritesAtOnce as usize, 1),
            (Count::WrittenAtOnceBytes as usize, len as u64),
        ]);
    }

    /// Any other write of `len` bytes.
    pub(crate) fn add_other_write(&self, len: usize) {
        self.add(Count::OtherWrites, 1);
        self.add(Count::OtherWrittenBytes, len as u64);
    }

    /// A call that was to read `len` bytes.
    pub(crate) fn add_file_read(&self, outcome: &Result<Outcome, TransferError>, len: usize) {
        self.add(Count::OtherFileReads, 1);
        match bytes_done(outcome, len) {
            Some(bytes) => self.add(Count::OtherFileReadBytes, bytes),
            None => self.add(Count::FileReadFailures, 1),
        }
    }

    /// A call that was to write `len` bytes, if it was made.
    pub(crate) fn add_file_write(&self, outcome: &Result<Outcome, TransferError>, len: usize) {
        if matches!(outcome, Err(TransferError::Memory(_))) {
            return;
        }
        self.add(Count::OtherFileWrites, 1);
        match bytes_done(outcome, len) {
            Some(bytes) => self.add(Count::OtherFileWrittenBytes, bytes),
            None => self.add(Count::FileWriteFailures, 1),
        }
    }

    fn inspect_file(&self, request: Request<'_>) {
        request
            .respond()
            .counter(
                "reads",
                self.sum([Count::ReadsAtOnce, Count::OtherFileReads]),
            )
            .counter(
                "read_bytes",
                self.sum([Count::ReadAtOnceBytes, Count::OtherFileReadBytes]),
            )
            .counter("read_failures", self.get(Count::FileReadFailures))
            .counter(
                "writes",
                self.sum([Count::WritesAtOnce, Count::OtherFileWrites]),
            )
            .counter(
                "written_bytes",
                self.sum([Count::WrittenAtOnceBytes, Count::OtherFileWrittenBytes]),
            )
            .counter("write_failures", self.get(Count::FileWriteFailures))
            .counter("allocations", self.get(Count::FileAllocations));
    }
}

impl Inspect for Counters {
    fn inspect(&self, request: Request<'_>) {
        request
            .respond()
            .counter("reads", self.sum([Count::ReadsAtOnce, Count::OtherReads]))
            .counter("reads_at_once", self.get(Count::ReadsAtOnce))
            .counter(
                "read_bytes",
                self.sum([Count::ReadAtOnceBytes, Count::OtherReadBytes]),
            )
            .counter(
                "writes",
                self.sum([Count::WritesAtOnce, Count::OtherWrites]),
            )
            .counter("writes_at_once", self.get(Count::WritesAtOnce))
            .counter(
                "written_bytes",
                self.sum([Count::WrittenAtOnceBytes, Count::OtherWrittenBytes]),
            )
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
