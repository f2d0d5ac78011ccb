//! Positioned file I/O straight from and to the memory of a request.
//!
//! Row 6, an engine for the disks of row 7: one call moves one request between a file and its scatter list, without a copy in
//! between, and completes whatever the kernel returns short.
//!
//! ```
//! use posio::{Durability, Mode, Outcome};
//! use scsi_buffers::HostBuffers;
//! # let file = tempfile::tempfile()?;
//! posio::write_at(&file, &HostBuffers::from_ref(b"sector").buffers(), 512, Mode::Wait, Durability::Cached)?;
//! let mut bytes = [0; 6];
//! let outcome = posio::read_at(&file, &HostBuffers::from_mut(&mut bytes).buffers(), 512, Mode::Wait)?;
//! assert_eq!((outcome, &bytes), (Outcome::Complete, b"sector"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Guarantees.** [`Outcome::Complete`] means every byte: interrupted and short calls are continued, lists longer than the
//! kernel takes are split. A file that ends before the request does is an error, never zeros. Memory that may only be read is
//! never handed to a read. With [`Mode::NoWait`] a call returns what it could do without waiting, and how much that was.
//!
//! **What it does not do.** It does not know sectors, locks or disks (`disk_file`), owns no threads, and gives no atomicity:
//! a reader beside a writer of the same bytes sees a mixture. Flushes, holes and sizes need no unsafe code: use `rustix`.
//! The memory must outlive the call, which borrows guarantee; what must outlive a dropped future is pinned by the caller.
//!
//! **Failure.** [`TransferError::Memory`]: nothing was transferred. [`TransferError::Io`]: any part may have been.
//!
//! # Why unsafe
//!
//! The kernel takes raw vectors, and no safe wrapper takes memory that changes under the call. The four system calls in
//! `kernel`, two each way, are all the unsafe code there is.
#![allow(unsafe_code)]

mod kernel;
mod transfer;

#[cfg(test)]
mod tests;

use guestmem::AccessError;
use kernel::Linux;
use scsi_buffers::RequestBuffers;
use std::io;
use std::os::fd::AsFd;
use transfer::{Direction, transfer};

/// Whether a call may wait for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Until the request is complete or failed.
    Wait,
    /// Never: only what is in memory already is moved.
    NoWait,
}

/// What a completed write promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The data is in the page cache, or wherever the file puts it.
    Cached,
    /// The data, and the metadata needed to read it back, survive a crash, as after `fdatasync`.
    ///
    /// The kernel reports an error of writing back once per open file, to whoever syncs first. With several such writes at
    /// once on one open file, a failure that concerns them all may reach only one of them.
    Durable,
}

/// How far a call got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every byte was transferred.
    Complete,
    /// The first `done` bytes were transferred; the next one would have made the call wait. Only with [`Mode::NoWait`].
    WouldBlock {
        /// How many bytes, less than were asked for.
        done: usize,
    },
    /// Nothing was transferred, because this file, or its file system, only knows how to wait. Only with [`Mode::NoWait`].
    NoWaitUnsupported,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The request's memory may not be used as the request needs. Nothing was transferred.
    #[error("the memory of the request cannot be used")]
    Memory(#[from] AccessError),
    /// The kernel refused, or the file ended ([`io::ErrorKind::UnexpectedEof`]). Any part may have been transferred.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads `buffers.len()` bytes at byte `offset` of `file` into `buffers`. An empty request is complete.
///
/// # Errors
/// [`TransferError::Memory`] if `buffers` may not be written; [`io::ErrorKind::UnexpectedEof`] if the file ends before the
/// request does (not noticed with [`Mode::NoWait`], which then would block); [`io::ErrorKind::InvalidInput`] if the request ends
/// beyond byte 2^63 - 1; what the kernel reports.
pub fn read_at(
    file: impl AsFd,
    buffers: &RequestBuffers<'_>,
    offset: u64,
    mode: Mode,
) -> Result<Outcome, TransferError> {
    let mut kernel = Linux {
        file: file.as_fd(),
        mode,
        durability: Durability::Cached,
    };
    transfer(&mut kernel, Direction::Read, buffers, offset, mode)
}

/// Writes `buffers` at byte `offset` of `file`, which grows if it must. An empty request is complete.
///
/// # Errors
/// As [`read_at`], without the end of the file; [`io::ErrorKind::WriteZero`] if the kernel takes nothing and does not say why.
pub fn write_at(
    file: impl AsFd,
    buffers: &RequestBuffers<'_>,
    offset: u64,
    mode: Mode,
    durability: Durability,
) -> Result<Outcome, TransferError> {
    let mut kernel = Linux {
        file: file.as_fd(),
        mode,
        durability,
    };
    transfer(&mut kernel, Direction::Write, buffers, offset, mode)
}
