//! What a disk has done since it was connected.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts only ever grow, and are read one by one. Requests are those of the protocol: a long read or write is several.
#[derive(Debug, Default, inspect::Inspect)]
pub(crate) struct Counters {
    pub(crate) reads: Counter,
    pub(crate) read_bytes: Counter,
    pub(crate) writes: Counter,
    pub(crate) written_bytes: Counter,
    pub(crate) zeroings: Counter,
    pub(crate) trims: Counter,
    pub(crate) flushes: Counter,
    pub(crate) status_queries: Counter,
    /// Requests that waited for an earlier one on the same sectors.
    pub(crate) waits_for_sectors: Counter,
    /// How often a request found no room, because too many were in flight.
    pub(crate) waits_for_room: Counter,
    /// Requests that the server answered with an error.
    pub(crate) errors: Counter,
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
