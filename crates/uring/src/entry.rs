//! One operation, as the ring holds it: all that the kernel may still use, how far it got, and what happens at its end.
//!
//! Invariants:
//! - **I1** `vectors` are memory of `memory` from byte `done` of it on, and are not changed while the kernel has them.
//! - **I2** An entry stays in its box, in the ring's slab, from before the kernel is told of it until after the kernel has answered.

use crate::{Refused, SharedFile};
use guestmem::{AccessError, Segment};
use io_uring::{opcode, squeue, types};
use scsi_buffers::{IOVEC_BYTES_MAX, PinnedBuffers};
use std::io;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How often the kernel may say that it cannot do something just now, or has given it up, before that is an error.
const REFUSALS_MAX: u32 = 1000;
/// How often it is asked again at once; after that, only after a pause.
const REFUSALS_AT_ONCE_MAX: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the file into memory.
    Read,
    /// From memory into the file.
    Write,
}

/// What happens at the end of an operation, wherever that is noticed.
pub(crate) type Finish = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What an answer of the kernel means for an operation.
pub(crate) enum Step {
    /// The kernel is to be asked again.
    Again,
    /// The same, but not at once.
    AgainLater,
    Finished(io::Result<()>),
}

/// Runs code of others, wakers and owners of memory, whose panics are nobody's here: the ring has others to serve.
fn hold_panics(code: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(code)) {
        tracing::error!("a waker, or an owner of memory, panicked at the end of an operation");
        // Dropping it is code of others, too.
        std::mem::forget(panic);
    }
}

pub(crate) struct Entry {
    direction: Direction,
    file: SharedFile,
    memory: PinnedBuffers,
    vectors: Vectors,
    /// Where in the file the first byte of `memory` belongs.
    offset: u64,
    /// How many bytes are transferred.
    done: usize,
    refusals: u32,
    /// It is to be done on a thread of the kernel, which can wait for whatever it was that could not be.
    needs_thread: bool,
    /// Nobody waits for it any more: it need not be done if it has not begun.
    pub(crate) is_unwanted: bool,
    finish: Finish,
}

/// What the kernel is given next. Most requests are one piece of memory, which needs no list.
enum Vectors {
    One(libc::iovec),
    List {
        list: Vec<libc::iovec>,
        len_bytes: usize,
    },
}

// SAFETY: the addresses in it are memory of the entry's `memory` (I1), which any thread may use: segments are `Send`.
unsafe impl Send for Vectors {}

impl Vectors {
    /// The memory from byte `done` on, or as much of it as the kernel takes at once; and all of the rest was found to be there, and fit
    /// for the direction.
    fn next(
        direction: Direction,
        memory: &PinnedBuffers,
        done: usize,
    ) -> Result<Self, AccessError> {
        let buffers = memory.buffers();
        let rest = buffers.subrange(done, buffers.len() - done);
        let is_to_be_written = direction == Direction::Read;
        let one = rest.one_segment(is_to_be_written)?;
        if let Some(one) = one.filter(|one| one.len() <= IOVEC_BYTES_MAX) {
            return Ok(Self::One(vector(&one)));
        }
        match is_to_be_written {
            true => rest.check_writable()?,
            false => rest.check_readable()?,
        }
        let batch = rest.iovecs(0)?;
        Ok(Self::List {
            list: batch.iter().map(vector).collect(),
            len_bytes: batch.len_bytes(),
        })
    }

    fn len_bytes(&self) -> usize {
        match self {
            Self::One(one) => one.iov_len,
            Self::List { len_bytes, .. } => *len_bytes,
        }
    }
}

fn vector(segment: &Segment<'_>) -> libc::iovec {
    libc::iovec {
        iov_base: segment.as_ptr().cast_mut().cast(),
        iov_len: segment.len(),
    }
}

impl Entry {
    /// # Errors
    /// The memory is none, or not fit for the direction.
    pub(crate) fn new(
        direction: Direction,
        file: SharedFile,
        memory: PinnedBuffers,
        offset: u64,
        finish: Finish,
    ) -> Result<Box<Self>, AccessError> {
        let vectors = Vectors::next(direction, &memory, 0)?;
        Ok(Box::new(Self {
            direction,
            file,
            memory,
            vectors,
            offset,
            done: 0,
            refusals: 0,
            needs_thread: false,
            is_unwanted: false,
            finish,
        }))
    }

    /// How it ends without the kernel's being asked, if it does: because there is nothing to be done, or no place for it.
    pub(crate) fn end_at_once(&self) -> Option<io::Result<()>> {
        let len = self.memory.buffers().len();
        if len == 0 {
            return Some(Ok(()));
        }
        let end = self.offset.checked_add(len as u64);
        if end.is_none_or(|end| i64::try_from(end).is_err()) {
            let offset = self.offset;
            return Some(Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "{len} bytes at byte {offset} reach beyond the largest file there can be: check the request"
                ),
            )));
        }
        None
    }

    /// What the kernel is to be asked. What it points to stays good as long as the entry stays where it is (I2).
    pub(crate) fn question(&self, user_data: u64) -> squeue::Entry {
        let file = types::Fd(self.file.as_fd().as_raw_fd());
        let offset = self.offset + self.done as u64;
        // A batch has at most IOV_MAX vectors of at most 2^31 bytes.
        let question = match (self.direction, &self.vectors) {
            (Direction::Read, Vectors::One(one)) => {
                opcode::Read::new(file, one.iov_base.cast(), one.iov_len as u32)
                    .offset(offset)
                    .build()
            }
            (Direction::Write, Vectors::One(one)) => {
                opcode::Write::new(file, one.iov_base.cast_const().cast(), one.iov_len as u32)
                    .offset(offset)
                    .build()
            }
            (Direction::Read, Vectors::List { list, .. }) => {
                opcode::Readv::new(file, list.as_ptr(), list.len() as u32)
                    .offset(offset)
                    .build()
            }
            (Direction::Write, Vectors::List { list, .. }) => {
                opcode::Writev::new(file, list.as_ptr(), list.len() as u32)
                    .offset(offset)
                    .build()
            }
        };
        let question = question.user_data(user_data);
        if self.needs_thread {
            question.flags(squeue::Flags::ASYNC)
        } else {
            question
        }
    }

    /// Ends it. What it owns is let go first, so that whoever hears of the end finds nobody in possession.
    pub(crate) fn end(self: Box<Self>, outcome: io::Result<()>) {
        let Self {
            file,
            memory,
            finish,
            ..
        } = *self;
        hold_panics(|| drop((file, memory)));
        hold_panics(|| finish(outcome));
    }

    /// Ends it where the system refuses to be asked, with its memory for whoever does it another way.
    pub(crate) fn end_refused(self: Box<Self>) {
        if self.is_unwanted && !self.has_begun() {
            return self.end(Err(io::ErrorKind::Interrupted.into()));
        }
        let Self {
            file,
            memory,
            finish,
            ..
        } = *self;
        hold_panics(|| drop(file));
        hold_panics(|| finish(Err(io::Error::other(Refused { memory }))));
    }

    /// Whether some of it is done.
    pub(crate) fn has_begun(&self) -> bool {
        self.done > 0
    }

    /// Takes in the kernel's answer, a number of bytes or a negated `errno`.
    pub(crate) fn take_answer(&mut self, answer: i32) -> Step {
        let may_be_given_up = self.is_unwanted && self.done == 0;
        match answer {
            0 => Step::Finished(Err(self.nothing_moved())),
            1.. => {
                let moved = answer as usize;
                assert!(
                    moved <= self.vectors.len_bytes(),
                    "a kernel moves no more than it is given"
                );
                self.done += moved;
                self.refusals = 0;
                if self.done == self.memory.buffers().len() {
                    return Step::Finished(Ok(()));
                }
                match Vectors::next(self.direction, &self.memory, self.done) {
                    Ok(vectors) => {
                        self.vectors = vectors;
                        Step::Again
                    }
                    Err(error) => Step::Finished(Err(io::Error::other(error))),
                }
            }
            _ => {
                let error = io::Error::from_raw_os_error(-answer);
                match error.raw_os_error() {
                    Some(libc::ECANCELED | libc::EINTR) if may_be_given_up => {
                        Step::Finished(Err(io::ErrorKind::Interrupted.into()))
                    }
                    // Also because the thread ended that had asked: the kernel gives up what it has not begun then.
                    Some(errno @ (libc::ECANCELED | libc::EINTR | libc::EAGAIN))
                        if self.refusals < REFUSALS_MAX =>
                    {
                        self.refusals += 1;
                        self.needs_thread |= errno == libc::EAGAIN;
                        match self.refusals <= REFUSALS_AT_ONCE_MAX {
                            true => Step::Again,
                            false => Step::AgainLater,
                        }
                    }
                    _ => Step::Finished(Err(error)),
                }
            }
        }
    }

    fn nothing_moved(&self) -> io::Error {
        let (kind, what) = match self.direction {
            Direction::Read => (
                io::ErrorKind::UnexpectedEof,
                "the file ends there; was it cut short?",
            ),
            Direction::Write => (
                io::ErrorKind::WriteZero,
                "the kernel takes no more and reports no error",
            ),
        };
        let (offset, len) = (self.offset, self.memory.buffers().len());
        let stopped_at = offset + self.done as u64;
        io::Error::new(
            kind,
            format!("{len} bytes at byte {offset} stop at byte {stopped_at}: {what}"),
        )
    }
}
