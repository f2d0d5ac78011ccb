//! The byte stream to a client, and how a connection waits for it.

use crate::wakeup::Wakeup;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

/// A byte stream in both directions. Sockets today; TLS and tests stand behind the same few calls.
pub(crate) trait Transport {
    /// Receives at least one byte into `into`, which is not empty, or 0 at the end of the stream.
    ///
    /// With `may_wait` it sleeps until there is something, which only the client or the server's stop can end: call it so
    /// only while nothing else could need attention. Without, it fails with `WouldBlock`.
    fn receive(&mut self, into: &mut [u8], may_wait: bool) -> io::Result<usize>;

    /// Sends the beginning of `parts`, at least one byte, without waiting; `WouldBlock` if not even that is possible.
    fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Sleeps until one of `interest` is possible, or the connection's [`Wakeup`] is notified, or `deadline` has passed.
    fn wait(&mut self, interest: Interest, deadline: Option<Instant>) -> io::Result<()>;
}

/// What a connection waits for, besides its [`Wakeup`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

/// A stream socket in blocking mode.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: Arc<OwnedFd>,
    wakeup: Arc<Wakeup>,
}

impl Socket {
    /// `socket` is shared with whoever stops the connection, by shutting the socket's reading end.
    pub(crate) fn new(socket: Arc<OwnedFd>, wakeup: Arc<Wakeup>) -> Self {
        Self { socket, wakeup }
    }
}

impl Transport for Socket {
    fn receive(&mut self, into: &mut [u8], may_wait: bool) -> io::Result<usize> {
        let flags = match may_wait {
            true => RecvFlags::empty(),
            false => RecvFlags::DONTWAIT,
        };
        loop {
            match recv(&*self.socket, &mut *into, flags) {
                Ok((_, len)) => return Ok(len),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            match sendmsg(&*self.socket, parts, &mut SendAncillaryBuffer::default(), flags) {
                Ok(len) => return Ok(len),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn wait(&mut self, interest: Interest, deadline: Option<Instant>) -> io::Result<()> {
        if !self.wakeup.begin_sleep() {
            return Ok(());
        }
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, interest.readable);
        events.set(PollFlags::OUT, interest.writable);
        let mut fds = [
            PollFd::from_borrowed_fd(self.wakeup.event(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.socket.as_fd(), events),
        ];
        // A socket that nobody is interested in would end every sleep once its client is gone.
        let count = if events.is_empty() { 1 } else { 2 };
        let timeout = deadline.map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 })
        });
        let outcome = poll(&mut fds[..count], timeout.as_ref());
        let notified = !fds[0].revents().is_empty();
        self.wakeup.end_sleep(notified);
        match outcome {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
