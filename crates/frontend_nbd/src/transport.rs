//! The byte stream to a client, and how a connection waits for it.

mod channel;
mod tls;

pub(crate) use channel::Channel;

use crate::wakeup::Wakeup;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A byte stream in both directions: sockets, TLS and tests stand behind the same few calls.
pub(crate) trait Transport {
    /// Receives at least one byte into `into`, which is not empty, or 0 at the end of the stream.
    ///
    /// With `may_wait` it sleeps for about [`NAP`], which only the client or the server's stop can end earlier: call it so only
    /// while nothing else could need attention. Without, or after that, it fails with `WouldBlock`.
    fn receive(&mut self, into: &mut [u8], may_wait: bool) -> io::Result<usize>;

    /// Sends the beginning of `parts`, at least one byte, without waiting; `WouldBlock` if not even that is possible. The next call
    /// must begin with the same bytes then: they may be encrypted already.
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

impl Interest {
    pub(crate) const READABLE: Self = Self {
        readable: true,
        writable: false,
    };
    pub(crate) const WRITABLE: Self = Self {
        readable: false,
        writable: true,
    };
}

/// How long [`Transport::receive`] may wait.
pub(crate) const NAP: Duration = Duration::from_secs(1);

/// A stream socket in blocking mode.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: Arc<OwnedFd>,
    wakeup: Arc<Wakeup>,
    patience: Patience,
}

impl Socket {
    /// `socket` is shared with whoever stops the connection, by shutting the socket's reading end.
    pub(crate) fn new(socket: Arc<OwnedFd>, wakeup: Arc<Wakeup>) -> Self {
        // A socket that refuses it only learns late that it is idle.
        let _ = sockopt::set_socket_timeout(&*socket, Timeout::Recv, Some(NAP));
        Self {
            socket,
            wakeup,
            patience: Patience::default(),
        }
    }

    fn receive_now(&self, into: &mut [u8], flags: RecvFlags) -> Result<usize, Errno> {
        loop {
            match recv(&*self.socket, &mut *into, flags) {
                Ok((_, len)) => return Ok(len),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Transport for Socket {
    fn receive(&mut self, into: &mut [u8], may_wait: bool) -> io::Result<usize> {
        if !may_wait {
            return Ok(self.receive_now(into, RecvFlags::DONTWAIT)?);
        }
        let attempts = self.patience.attempts();
        if attempts > 0 {
            pause(FIRST_PAUSE);
        }
        for attempt in 0..attempts {
            match self.receive_now(into, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => pause(PAUSE),
                other => {
                    self.patience.succeeded_at(attempt);
                    return Ok(other?);
                }
            }
        }
        Ok(self.receive_now(into, RecvFlags::empty())?)
    }

    fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            let mut no_control = SendAncillaryBuffer::default();
            match sendmsg(&*self.socket, parts, &mut no_control, flags) {
                Ok(len) => return Ok(len),
                Err(Errno::INTR) => {}
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
            Timespec::try_from(left).unwrap_or(FOREVER)
        });
        let outcome = poll(&mut fds[..count], timeout.as_ref());
        let notified = !fds[0].revents().is_empty();
        self.wakeup.end_sleep(notified);
        match outcome {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Long enough that nobody notices that it ends.
const FOREVER: Timespec = Timespec {
    tv_sec: 365 * 24 * 3600,
    tv_nsec: 0,
};

/// How often a connection looks for the next request before it sleeps: with a busy client on another processor, falling
/// asleep and being woken costs both sides more than the few microseconds that this takes.
///
/// Where it does not help - a slow client, or one that needs this very processor - it is soon given up, and tried again ever
/// more rarely. (Yielding the processor between the looks helps even there, but costs a thread nearly all of its share as soon as
/// anything else wants to run.)
#[derive(Debug, Default)]
struct Patience {
    /// How often in a row it was for nothing.
    failures: u32,
    /// How many times to sleep at once before it is tried again.
    rest: u32,
}

/// About 5 us together with their pauses.
const ATTEMPTS: u32 = 10;
const PAUSE: u32 = 20;
/// A client that is busy sending has more to give after a microsecond, and is not disturbed by looks meanwhile: each takes the
/// socket's locks. 4 KiB writes at depth 32 gain 7 per cent.
const FIRST_PAUSE: u32 = 50;
/// It is tried at least every 2^8 times.
const FAILURES_MAX: u32 = 8;

impl Patience {
    /// How many looks there are to be this time; until [`succeeded_at`](Self::succeeded_at) says otherwise, for nothing.
    fn attempts(&mut self) -> u32 {
        if self.rest > 0 {
            self.rest -= 1;
            return 0;
        }
        self.failures = (self.failures + 1).min(FAILURES_MAX);
        self.rest = (1 << self.failures) - 2;
        ATTEMPTS
    }

    /// What was there at once would have been there without waiting, and says nothing about it.
    fn succeeded_at(&mut self, attempt: u32) {
        self.failures = match attempt {
            0 => self.failures - 1,
            _ => 0,
        };
        self.rest = 0;
    }
}

fn pause(rounds: u32) {
    for _ in 0..rounds {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_nothing_becomes_rare() {
        let mut patience = Patience::default();
        let looks: u32 = (0..10_000).map(|_| patience.attempts()).sum();
        assert!(looks <= ATTEMPTS * 50, "{looks} looks");
        assert!(looks >= ATTEMPTS * 10_000 / 256, "{looks} looks");
    }

    #[test]
    fn waiting_that_helps_goes_on() {
        let mut patience = Patience::default();
        (0..10_000).for_each(|_| {
            patience.attempts();
        });
        while patience.attempts() == 0 {}
        patience.succeeded_at(3);
        assert_eq!(patience.attempts(), ATTEMPTS);
        // What comes without waiting changes nothing.
        patience.succeeded_at(0);
        assert_eq!(patience.attempts(), ATTEMPTS);
    }
}
