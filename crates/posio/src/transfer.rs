//! The loop that completes a request, over a kernel that may be replaced by a worse one.

use crate::{Mode, Outcome, TransferError};
use guestmem::Segment;
use scsi_buffers::RequestBuffers;
use std::io;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the file into memory.
    Read,
    /// From memory into the file.
    Write,
}

/// One system call: moves up to all of `batch` at `offset`, returns how many bytes, or an `errno`.
pub(crate) trait Kernel {
    fn call(
        &mut self,
        direction: Direction,
        batch: &[Segment<'_>],
        offset: u64,
    ) -> io::Result<usize>;
}

/// Moves the whole request, in as many calls as it takes.
pub(crate) fn transfer(
    kernel: &mut impl Kernel,
    direction: Direction,
    buffers: &RequestBuffers<'_>,
    offset: u64,
    mode: Mode,
) -> Result<Outcome, TransferError> {
    let is_to_be_written = direction == Direction::Read;
    // Most requests are one segment, which needs no list, and is checked by being found.
    let one = buffers.one_segment(is_to_be_written)?;
    match is_to_be_written {
        _ if one.is_some() => {}
        // What the kernel's writing through the segments relies on.
        true => buffers.check_writable()?,
        false => buffers.check_readable()?,
    }
    check_end(offset, buffers.len())?;
    let mut done = 0;
    while done < buffers.len() {
        let (moved, len_bytes) = match one {
            Some(one) => {
                let rest = one.subsegment(done, one.len() - done);
                let moved = kernel.call(direction, &[rest], offset + done as u64);
                (moved, rest.len())
            }
            None => {
                let batch = buffers.iovecs(done)?;
                let moved = kernel.call(direction, &batch, offset + done as u64);
                (moved, batch.len_bytes())
            }
        };
        match moved {
            // A kernel that was told not to wait need not know that the file ends here: a call that waits finds out.
            Ok(0) if mode == Mode::NoWait => return Ok(Outcome::WouldBlock { done }),
            Ok(0) => return Err(nothing_moved(direction, offset, done, buffers.len()).into()),
            Ok(moved) => {
                assert!(
                    moved <= len_bytes,
                    "a kernel moves no more than it is given"
                );
                done += moved;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if mode == Mode::NoWait && error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Outcome::WouldBlock { done });
            }
            Err(error) if mode == Mode::NoWait && is_unsupported(&error) => {
                return Ok(if done == 0 {
                    Outcome::NoWaitUnsupported
                } else {
                    Outcome::WouldBlock { done }
                });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Outcome::Complete)
}

/// The kernel counts offsets in a signed number.
fn check_end(offset: u64, len: usize) -> io::Result<()> {
    match offset.checked_add(len as u64) {
        Some(end) if i64::try_from(end).is_ok() => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{len} bytes at byte {offset} reach beyond the largest file there can be: check the request"
            ),
        )),
    }
}

fn nothing_moved(direction: Direction, offset: u64, done: usize, len: usize) -> io::Error {
    let (kind, what) = match direction {
        Direction::Read => (
            io::ErrorKind::UnexpectedEof,
            "the file ends there; was it cut short?",
        ),
        Direction::Write => (
            io::ErrorKind::WriteZero,
            "the kernel takes no more and reports no error",
        ),
    };
    let stopped_at = offset + done as u64;
    io::Error::new(
        kind,
        format!("{len} bytes at byte {offset} stop at byte {stopped_at}: {what}"),
    )
}

/// `EOPNOTSUPP`, which also answers flags that the kernel does not know.
fn is_unsupported(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EOPNOTSUPP)
}
