//! One client's session from greeting to farewell: how it can end.

use std::io;

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
    #[error("there is no export named {}", crate::export::shortened(.0))]
    UnknownExport(String),
    #[error(
        "a read failed after its reply had begun, so the connection was closed: {0}; \
         clients that use structured replies are told instead"
    )]
    BrokenReply(String),
    #[error("the client and the server did not agree on TLS: {0}")]
    Tls(#[source] io::Error),
    #[error("the client did not choose an export in time (limits/handshake_timeout_s)")]
    TooLate,
    #[error("the client did not take its replies in time")]
    Unresponsive,
    #[error("no memory for a reply: {0}")]
    Memory(#[from] scsi_buffers::BounceError),
}
