//! What clients ask for, and what becomes of it, by operation.
//!
//! - A1: a connection's activity is written by its own thread only, so that counting takes neither a lock nor an instruction that
//!   other processors have to wait for.
//! - A2: what a connection does is in its export's totals from the first request on, and stays there when it has gone: never
//!   twice, and never missing.

use inspect::{Histogram, HistogramSnapshot, Inspect};
use nbd_protocol::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Reads data.
    Read,
    /// Writes data.
    Write,
    /// Writes zeros.
    WriteZeroes,
    /// Forgets data.
    Trim,
    /// Makes durable what was answered before.
    Flush,
    /// Asks where there is data.
    BlockStatus,
    /// Prepares for reading.
    Cache,
    /// Anything that is not known here, and refused.
    Other,
}

const COUNT: usize = Operation::ALL.len();

impl Operation {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Read,
        Self::Write,
        Self::WriteZeroes,
        Self::Trim,
        Self::Flush,
        Self::BlockStatus,
        Self::Cache,
        Self::Other,
    ];

    /// Its name, as in the inspection tree: `write_zeroes`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::WriteZeroes => "write_zeroes",
            Self::Trim => "trim",
            Self::Flush => "flush",
            Self::BlockStatus => "block_status",
            Self::Cache => "cache",
            Self::Other => "other",
        }
    }

    fn of(command: Command) -> Self {
        match command {
            Command::Read => Self::Read,
            Command::Write => Self::Write,
            Command::WriteZeroes => Self::WriteZeroes,
            Command::Trim => Self::Trim,
            Command::Flush => Self::Flush,
            Command::BlockStatus => Self::BlockStatus,
            Command::Cache => Self::Cache,
            Command::Disconnect | Command::Unknown(_) => Self::Other,
        }
    }
}

/// What has been done of one operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OperationStats {
    /// How many requests were received, those that are still worked on included.
    pub requests: u64,
    /// How many of them failed.
    pub errors: u64,
    /// How many bytes were read, written, zeroed, trimmed or cached.
    pub bytes: u64,
    /// How long requests took, in nanoseconds: from when the header was understood until the reply was ready. The time in which a
    /// write's data arrives is a part of it; the time in which the client takes the reply is not.
    pub latency_ns: HistogramSnapshot,
}

/// What has been done, by operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Totals([OperationStats; COUNT]);

/// What one connection did and does. Written by its own thread only (A1), read by anyone.
#[derive(Debug)]
pub(crate) struct Activity {
    began: Instant,
    operations: [OperationActivity; COUNT],
    requests_in_flight: Counter,
    /// In nanoseconds since `began`.
    last_request_ns: Counter,
}

#[derive(Debug, Default)]
struct OperationActivity {
    requests: Counter,
    errors: Counter,
    bytes: Counter,
    latency_ns: Histogram,
}

/// A number with one writer (A1).
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    /// Not a read-modify-write: there is only one writer.
    fn add(&self, count: u64) {
        self.set(self.get().wrapping_add(count));
    }

    fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            operations: Default::default(),
            requests_in_flight: Counter::default(),
            last_request_ns: Counter::default(),
        }
    }

    /// A request was understood at `now`.
    pub(crate) fn begin(&self, command: Command, now: Instant) {
        self.of(command).requests.add(1);
        self.last_request_ns.set(nanoseconds(self.began, now));
    }

    /// The reply to a request that was understood at `began` is ready at `now`.
    pub(crate) fn end(&self, command: Command, began: Instant, now: Instant, has_failed: bool) {
        let operation = self.of(command);
        operation.latency_ns.record_alone(nanoseconds(began, now));
        if has_failed {
            operation.errors.add(1);
        }
    }

    /// So many bytes were read, written or changed otherwise.
    pub(crate) fn add_bytes(&self, command: Command, count: u64) {
        self.of(command).bytes.add(count);
    }

    pub(crate) fn set_requests_in_flight(&self, count: usize) {
        self.requests_in_flight.set(count as u64);
    }

    pub(crate) fn requests_in_flight(&self) -> u64 {
        self.requests_in_flight.get()
    }

    pub(crate) fn requests(&self) -> u64 {
        self.operations.iter().map(|one| one.requests.get()).sum()
    }

    pub(crate) fn errors(&self) -> u64 {
        self.operations.iter().map(|one| one.errors.get()).sum()
    }

    fn of(&self, command: Command) -> &OperationActivity {
        &self.operations[Operation::of(command) as usize]
    }
}

fn nanoseconds(from: Instant, to: Instant) -> u64 {
    let time_ns = to.saturating_duration_since(from).as_nanos();
    u64::try_from(time_ns).unwrap_or(u64::MAX)
}

impl Totals {
    pub(crate) fn add(&mut self, activity: &Activity) {
        for (total, one) in self.0.iter_mut().zip(&activity.operations) {
            total.requests = total.requests.wrapping_add(one.requests.get());
            total.errors = total.errors.wrapping_add(one.errors.get());
            total.bytes = total.bytes.wrapping_add(one.bytes.get());
            total.latency_ns.add(&one.latency_ns.snapshot());
        }
    }

    pub(crate) fn into_operations(self) -> impl Iterator<Item = (Operation, OperationStats)> {
        Operation::ALL.into_iter().zip(self.0)
    }
}

impl Inspect for OperationStats {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond()
            .counter("requests", self.requests)
            .counter("errors", self.errors)
            .counter("bytes", self.bytes)
            .field("latency_ns", &self.latency_ns);
    }
}

impl Inspect for Totals {
    fn inspect(&self, req: inspect::Request<'_>) {
        let names = Operation::ALL.iter().map(|operation| operation.name());
        req.entries(names.zip(&self.0));
    }
}

/// Without latencies: those of a single client are a matter of its export.
impl Inspect for Activity {
    fn inspect(&self, req: inspect::Request<'_>) {
        let bytes = |operation| self.operations[operation as usize].bytes.get();
        let age = self.began.elapsed();
        let idle = age.as_nanos() as u64 - self.last_request_ns.get().min(age.as_nanos() as u64);
        req.respond()
            .field("age_s", &age)
            .field("idle_s", &(idle as f64 / 1e9))
            .field("requests_in_flight", &self.requests_in_flight.get())
            .counter("requests", self.requests())
            .counter("errors", self.errors())
            .counter("bytes_read", bytes(Operation::Read))
            .counter("bytes_written", bytes(Operation::Write))
            .field_with("operations", |req| {
                let names = Operation::ALL.iter().map(|operation| operation.name());
                req.entries(names.zip(&self.operations));
            });
    }
}

impl Inspect for OperationActivity {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond()
            .counter("requests", self.requests.get())
            .counter("errors", self.errors.get())
            .counter("bytes", self.bytes.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_operation_has_its_place() {
        for (index, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, index, "{}", operation.name());
        }
    }

    #[test]
    fn totals_are_the_sum_of_connections() {
        let start = Instant::now();
        let mut totals = Totals::default();
        for latency_ns in [1000, 3000] {
            let activity = Activity::new();
            activity.begin(Command::Write, start);
            activity.add_bytes(Command::Write, 512);
            let now = start + Duration::from_nanos(latency_ns);
            activity.end(Command::Write, start, now, latency_ns > 2000);
            totals.add(&activity);
        }
        let (operation, write) = totals.into_operations().nth(1).expect("eight of them");
        assert_eq!(operation, Operation::Write);
        assert_eq!((write.requests, write.errors, write.bytes), (2, 1, 1024));
        assert_eq!(
            (write.latency_ns.count(), write.latency_ns.sum()),
            (2, 4000)
        );
    }
}
