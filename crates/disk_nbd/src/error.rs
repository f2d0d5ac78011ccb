//! Why an export cannot be a disk.

use crate::NbdUri;
use std::io;
use std::time::Duration;

/// Why there is no disk at a URI. The message is one line, begins with the URI, and says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{uri}: {reason}")]
pub struct ConnectError {
    uri: NbdUri,
    #[source]
    reason: ConnectReason,
}

/// What stood in the way of a connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectReason {
    /// Nobody answers there.
    #[error("cannot connect: {0}: is the server running, and is this its address?")]
    Unreachable(io::Error),
    /// The connection broke before the disk was there.
    #[error("the connection broke during the handshake: {0}")]
    Broken(io::Error),
    /// The server closed the connection before the disk was there.
    #[error(
        "the server closed the connection during the handshake: its log says why (too many clients, or an export that it refuses)"
    )]
    Closed,
    /// It took too long.
    #[error("the server did not complete the handshake within {} seconds", .0.as_secs_f32())]
    TimedOut(Duration),
    /// Something else than an NBD server of today is listening there.
    #[error("{0}")]
    NotSpoken(&'static str),
    /// The server wants TLS.
    #[error(
        "the server demands TLS, which this client does not speak: offer the export without, on a Unix socket or through a tunnel"
    )]
    TlsRequired,
    /// The server has no export of that name.
    #[error("the server has no such export{}: `nbdinfo --list` shows what it has", said(.0))]
    UnknownExport(String),
    /// The server refused.
    #[error("the server refused the export{}", said(.0))]
    Refused(String),
    /// The server broke the protocol.
    #[error("the server broke the protocol during the handshake: {0}")]
    Violation(String),
    /// The export is empty, so there is no disk.
    #[error("the export has no bytes: a disk needs some")]
    Empty,
    /// The export does not end at the end of a sector.
    #[error(
        "its {size_bytes} bytes are no multiple of its sectors of {sector_size} bytes: round its size up at the server (nbdkit: --filter=truncate round-up={sector_size})"
    )]
    SizeNotSectorMultiple {
        /// The size of the export.
        size_bytes: u64,
        /// The size that its sectors have to have, in bytes.
        sector_size: u32,
    },
    /// The block sizes that the server announced cannot be served.
    #[error(
        "the server announced block sizes of {minimum} at least, {preferred} at best and {maximum} at most: {problem}"
    )]
    BlockSizes {
        /// The smallest request, in bytes.
        minimum: u32,
        /// The best request, in bytes.
        preferred: u32,
        /// The largest request, in bytes.
        maximum: u32,
        /// What is wrong with them.
        problem: &'static str,
    },
    /// The system has no thread or descriptor for the connection.
    #[error("the system has nothing left for a connection: {0}")]
    NoResources(io::Error),
}

impl ConnectError {
    pub(crate) fn new(uri: &NbdUri, reason: ConnectReason) -> Self {
        Self {
            uri: uri.clone(),
            reason,
        }
    }

    /// The export that was wanted.
    pub fn uri(&self) -> &NbdUri {
        &self.uri
    }

    /// What stood in the way.
    pub fn reason(&self) -> &ConnectReason {
        &self.reason
    }
}

/// The server's own words, if it had any.
fn said(words: &str) -> String {
    match words {
        "" => String::new(),
        words => format!(" ({words})"),
    }
}

/// What a server said, made fit to be shown: one line, without control characters, not too long.
pub(crate) fn presentable(words: &[u8]) -> String {
    const CHARS_MAX: usize = 300;
    let text = String::from_utf8_lossy(words);
    let mut chars = text.trim().chars();
    let mut shown: String = chars
        .by_ref()
        .take(CHARS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if chars.next().is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_words_stay_one_bounded_line() {
        assert_eq!(presentable(b" no\nsuch\x1b[2Jdisk\n"), "no such [2Jdisk");
        assert_eq!(presentable(b"\xff"), "\u{fffd}");
        let long = presentable(&vec![b'x'; 5000]);
        assert!(long.len() < 310 && long.ends_with("..."));
    }

    #[test]
    fn an_error_is_one_line_that_begins_with_the_uri() {
        let uri: NbdUri = "nbd://h/vm1".parse().unwrap();
        let reason = ConnectReason::UnknownExport("no vm1 here".to_owned());
        let error = ConnectError::new(&uri, reason).to_string();
        assert!(
            error.starts_with("nbd://h/vm1: the server has no such export (no vm1 here): "),
            "{error}"
        );
    }
}
