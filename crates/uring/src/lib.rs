//! Positioned file I/O through io_uring, straight from and to the memory of a request.
//!
//! Row 6, an engine for the disks of row 7, beside `posio`: what `posio` can only do by waiting in a thread, a [`Ring`] has the
//! kernel do while nobody waits.
//!
//! ```
//! use scsi_buffers::BounceBuffer;
//! use std::sync::Arc;
//! # use std::{fs::File, io, os::unix::fs::FileExt};
//! # let file = Arc::new(tempfile::tempfile()?);
//! # file.write_all_at(b"sector", 512)?;
//! let Ok(ring) = uring::Ring::of_this_thread() else { return Ok(()) }; // refused here: use threads
//! let mut bytes = BounceBuffer::unpooled(6).expect("memory");
//! let memory = bytes.buffers(true).pin().expect("it can be pinned");
//! let reading = ring.read(file, memory, 512, |result: io::Result<()>| result.is_ok()).expect("writable memory");
//! assert!(futures_lite::future::block_on(reading));
//! assert_eq!(bytes.as_slice(), Some(&b"sector"[..]));
//! # Ok::<(), io::Error>(())
//! ```
//!
//! **Guarantees.** An operation goes on by itself from the call that starts it: short and interrupted transfers are continued,
//! lists longer than the kernel takes are split, and its last act, the closure, happens whether anybody polls or not (C4). It owns
//! its file and its memory until then, so that dropping or forgetting its future is sound (C9). What is reaped is reaped by
//! whoever polls, and else by the reactor of `async-io`; no thread waits for a ring, and none polls one. A queue that is full is
//! waited for, without anybody's help.
//!
//! **What it does not do.** It knows no sectors, locks or alignment (`disk_file`), and does not try what needs no waiting (`posio`,
//! which is cheaper for that). Flushes stay on threads: the kernel would give each one to a thread of its own as well.
//!
//! **Failure.** [`Ring::of_this_thread`] fails where the system has no io_uring, or allows none, and says so once. Where that
//! comes later, operations end with [`Refused`], which has their memory. An operation that fails may have transferred any part. The closures must not block: the thread they run on may be anybody's.
//!
//! # Why unsafe
//!
//! The kernel takes addresses and uses them after the call. `ring` is where they are handed over, `entry` what keeps them good.
#![allow(unsafe_code)]

mod driver;
mod entry;
mod operation;
mod questions;
mod refused;
mod ring;
mod rings;

#[cfg(test)]
mod tests;

pub use operation::Operation;
pub use refused::Refused;

use crate::entry::{Direction, Entry};
use crate::ring::Core;
use guestmem::AccessError;
use scsi_buffers::PinnedBuffers;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

/// A file that operations own together.
pub type SharedFile = Arc<dyn AsFd + Send + Sync>;

/// An io_uring, for as long as the process lives. Cheap to copy: copies are the same ring.
///
/// Any thread may use any ring. Threads that use different ones never wait for each other.
#[derive(Clone, Copy)]
pub struct Ring(&'static Core);

impl Ring {
    /// The ring that is best for the calling thread: the process has about as many as processors, made when the first is asked for.
    ///
    /// # Errors
    /// The system refuses, as container runtimes and old kernels do: then so it does for every ring, for ever, and a warning has
    /// been logged.
    pub fn of_this_thread() -> Result<Self, &'static io::Error> {
        rings::of_this_thread()
    }

    /// Whether the system has come to refuse what it allowed when the ring was made, as a sandbox does that is closed later: every
    /// operation ends with [`Refused`] from then on.
    pub fn is_refused(&self) -> bool {
        self.0.is_refused()
    }

    /// Begins to read `memory.buffers().len()` bytes at byte `offset` of `file`. When that has ended, file and memory are let go, and
    /// `then` is given the outcome: on whatever thread, before the future is ready with what `then` returns.
    ///
    /// Dropping the future lets the operation go: it is not done if it was not begun, and may be done if it was. `then` is called all
    /// the same, with an error of kind [`io::ErrorKind::Interrupted`] if it was not done.
    ///
    /// The outcome is [`io::ErrorKind::UnexpectedEof`] if the file ends before the request does, and what the kernel reports.
    ///
    /// # Errors
    /// The memory may not be written, or is none. Nothing was begun, and `then` is dropped.
    pub fn read<T: Send + 'static>(
        &self,
        file: SharedFile,
        memory: PinnedBuffers,
        offset: u64,
        then: impl FnOnce(io::Result<()>) -> T + Send + 'static,
    ) -> Result<Operation<T>, AccessError> {
        self.begin(Direction::Read, file, memory, offset, then)
    }

    /// Begins to write `memory` at byte `offset` of `file`; otherwise as [`read`](Self::read). The outcome is
    /// [`io::ErrorKind::WriteZero`] if the kernel takes nothing and does not say why.
    ///
    /// # Errors
    /// The memory is none. Nothing was begun, and `then` is dropped.
    pub fn write<T: Send + 'static>(
        &self,
        file: SharedFile,
        memory: PinnedBuffers,
        offset: u64,
        then: impl FnOnce(io::Result<()>) -> T + Send + 'static,
    ) -> Result<Operation<T>, AccessError> {
        self.begin(Direction::Write, file, memory, offset, then)
    }

    fn begin<T: Send + 'static>(
        &self,
        direction: Direction,
        file: SharedFile,
        memory: PinnedBuffers,
        offset: u64,
        then: impl FnOnce(io::Result<()>) -> T + Send + 'static,
    ) -> Result<Operation<T>, AccessError> {
        let (finish, slot) = operation::connect(then);
        let entry = Entry::new(direction, file, memory, offset, finish)?;
        let key = self.0.begin(entry);
        Ok(Operation::new(self.0, key, slot))
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ring").field(&self.0).finish()
    }
}
