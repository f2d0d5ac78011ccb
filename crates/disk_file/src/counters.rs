//! What a disk has done since it was opened.

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
