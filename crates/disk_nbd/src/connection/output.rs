//! Requests on their way to the server: many small ones leave with one call, a large one in pieces.

use nbd_protocol::{Framing, Head, Request};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use scsi_buffers::PinnedBuffers;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

/// How much is copied together before it is sent, in bytes.
const STAGE_BYTES: usize = 256 * 1024;

/// A request that may be sent.
pub(super) struct Message {
    pub(super) request: Request,
    /// The data of a write.
    pub(super) payload: Option<PinnedBuffers>,
}

/// The queue. What it holds is bounded by what may be in flight.
#[derive(Default)]
pub(super) struct Output {
    queue: VecDeque<(Head, Option<PinnedBuffers>)>,
    /// The data of the write that is being sent, and how much of it is staged.
    payload: Option<(PinnedBuffers, usize)>,
    staged: Vec<u8>,
    /// How much of `staged` has left.
    sent: usize,
}

impl Output {
    pub(super) fn push(&mut self, message: Message, framing: Framing) {
        let Message { request, payload } = message;
        self.queue.push_back((request.encode(framing), payload));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.staged.len() && self.payload.is_none() && self.queue.is_empty()
    }

    /// Sends as much as goes without waiting.
    pub(super) fn send(&mut self, socket: &OwnedFd) -> io::Result<()> {
        while !self.is_empty() {
            if self.sent == self.staged.len() {
                self.stage();
            }
            let rest = &self.staged[self.sent..];
            match send(socket, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(len) => self.sent += len,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Copies together what goes into the next call.
    fn stage(&mut self) {
        use guestmem::MemoryRead;
        self.staged.clear();
        self.sent = 0;
        while self.staged.len() < STAGE_BYTES {
            if let Some((memory, done)) = &mut self.payload {
                let buffers = memory.buffers();
                let start = self.staged.len();
                let len = (buffers.len() - *done).min(STAGE_BYTES - start);
                self.staged.resize(start + len, 0);
                let part = buffers.subrange(*done, len);
                let copied = part.reader().read(&mut self.staged[start..]);
                copied.expect("the memory of a write was checked when it was submitted");
                *done += len;
                if *done == buffers.len() {
                    self.payload = None;
                }
            } else if let Some((head, payload)) = self.queue.pop_front() {
                self.staged.extend_from_slice(&head);
                self.payload = payload.map(|memory| (memory, 0));
            } else {
                return;
            }
        }
    }
}
