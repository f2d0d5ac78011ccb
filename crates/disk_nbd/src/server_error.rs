//! What a server's error means to whoever uses the disk: the one place that decides.

use crate::NbdUri;
use crate::connection::Operation;
use crate::error::presentable;
use disk_backend::DiskError;
use nbd_protocol::{Command, Errno};
use std::io;

/// The error for what a server answered; `message` is its own explanation, often empty.
pub(crate) fn disk_error(
    uri: &NbdUri,
    operation: &Operation,
    code: u32,
    message: &str,
) -> DiskError {
    let errno = Errno::from_code(code);
    let command = operation.command;
    match errno {
        Errno::NoSpace => return DiskError::NoSpace,
        Errno::Perm if command.changes() => return DiskError::ReadOnly,
        Errno::NotSupported if command == Command::WriteZeroes => return DiskError::Unsupported,
        _ => {}
    }
    let (kind, words) = match errno {
        Errno::Perm => (io::ErrorKind::PermissionDenied, "not permitted"),
        Errno::NoMemory => (io::ErrorKind::OutOfMemory, "out of memory there"),
        Errno::Invalid => (io::ErrorKind::InvalidInput, "called invalid"),
        Errno::Overflow => (io::ErrorKind::InvalidInput, "too large"),
        Errno::NotSupported => (io::ErrorKind::Unsupported, "not supported"),
        Errno::Shutdown => (
            io::ErrorKind::ConnectionAborted,
            "the server is about to stop",
        ),
        Errno::Io | Errno::NoSpace => (io::ErrorKind::Other, "I/O error there"),
    };
    let Operation { offset, len, .. } = operation;
    let message = presentable(message.as_bytes());
    let colon = if message.is_empty() { "" } else { ": " };
    let name = command.name();
    let text = match command {
        Command::Flush => format!("{uri}: the {name} failed: {words}{colon}{message}"),
        _ => {
            format!("{uri}: the {name} of {len} bytes at {offset} failed: {words}{colon}{message}")
        }
    };
    DiskError::Io(io::Error::new(kind, text))
}
