//! One client's session from greeting to farewell: how it can end, and what is counted meanwhile.

use inspect::Inspect;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a session ends in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The client said goodbye.
    Disconnected,
    /// The client closed the connection between two messages.
    HungUp,
    /// The client came and never said a word.
    Silent,
    /// As many connections as may are using the export.
    Refused,
    /// The client said nothing for as long as it may.
    Idle,
    /// The server stops, or the export was removed.
    Stopped,
}

/// How a session ends otherwise. What the disk had begun is finished in any case.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("the connection failed: {0}")]
    Transport(#[from] io::Error),
    #[error("the client closed the connection in the middle of {0}")]
    ClosedEarly(&'static str),
    #[error("protocol error: {0}")]
    Violation(String),
    #[error("there is no export named {0:?}")]
    UnknownExport(String),
    #[error(
        "a read failed after its reply had begun, so the connection was closed: {0}; \
         clients that use structured replies are told instead"
    )]
    BrokenReply(String),
    #[error("the client did not choose an export in time (limits/handshake_timeout_s)")]
    TooLate,
    #[error("the client did not take its replies in time")]
    Unresponsive,
    #[error("no memory for a reply: {0}")]
    Memory(#[from] scsi_buffers::BounceError),
}

/// What one connection did. Written by its own thread only, read by anyone.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: Counter,
    pub(crate) errors: Counter,
    pub(crate) bytes_read: Counter,
    pub(crate) bytes_written: Counter,
    pub(crate) requests_in_flight: Counter,
}

/// A number with one writer.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Not a read-modify-write: there is only one writer, and no lock on the bus is needed.
    pub(crate) fn add(&self, count: u64) {
        self.set(self.get().wrapping_add(count));
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Inspect for Counters {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond()
            .field("requests_in_flight", &self.requests_in_flight.get())
            .counter("requests", self.requests.get())
            .counter("errors", self.errors.get())
            .counter("bytes_read", self.bytes_read.get())
            .counter("bytes_written", self.bytes_written.get());
    }
}
