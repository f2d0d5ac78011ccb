//! The thread of a connection.

use super::input::Input;
use super::output::Output;
use super::table::Table;
use super::{Shared, Submission};
use nbd_protocol::{Command, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long what is still in flight is waited for once nobody can ask for more.
const CLOSE_GRACE: Duration = Duration::from_secs(10);

/// What the thread works with.
pub(super) struct Worker {
    shared: Arc<Shared>,
    table: Table,
    input: Input,
    output: Output,
    /// Since nobody will submit any more.
    closing_until: Option<Instant>,
}

/// Why the connection ended.
type End = String;

impl Worker {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            table: Table::new(Arc::clone(&shared)),
            input: Input::new(shared.framing),
            output: Output::default(),
            closing_until: None,
            shared,
        }
    }

    /// Works until the disk is dropped, or the connection breaks.
    pub(super) fn run(mut self) {
        let end = match self.work() {
            Ok(()) => "it was closed".to_owned(),
            Err(reason) => {
                tracing::warn!("{}: the connection is lost: {reason}", self.shared.uri);
                reason
            }
        };
        self.shared.end(&end);
    }

    fn work(&mut self) -> Result<(), End> {
        loop {
            for submission in self.submitted() {
                self.table.begin(submission, &mut self.output);
            }
            self.table.send_ready(&mut self.output);
            self.output.send(&self.shared.socket).map_err(broken)?;
            let has_received = self.receive()?;
            if let Some(deadline) = self.closing_until {
                if self.table.is_empty() && self.output.is_empty() {
                    self.say_goodbye();
                    return Ok(());
                }
                if Instant::now() >= deadline {
                    return Err("it was closed before the server answered".to_owned());
                }
            }
            // Whoever has something to say has not said all of it.
            if !has_received {
                self.sleep()?;
            }
        }
    }

    fn submitted(&mut self) -> VecDeque<Submission> {
        let mut state = self.shared.state.lock();
        if state.is_closing && self.closing_until.is_none() {
            self.closing_until = Some(Instant::now() + CLOSE_GRACE);
        }
        std::mem::take(&mut state.submitted)
    }

    /// Takes in what has come; returns whether that was anything.
    fn receive(&mut self) -> Result<bool, End> {
        let received = recv(&self.shared.socket, self.input.room(), RecvFlags::DONTWAIT);
        match received {
            Ok((_, 0)) if self.input.is_between_replies() => Err("the server closed it".to_owned()),
            Ok((_, 0)) => Err("the server closed it in the middle of a reply".to_owned()),
            Ok((_, len)) => match self.input.received(len, &mut self.table) {
                Ok(()) => Ok(true),
                Err(violation) => Err(format!("the server broke the protocol: {violation}")),
            },
            Err(Errno::AGAIN) => Ok(false),
            Err(Errno::INTR) => Ok(true),
            Err(error) => Err(broken(error.into())),
        }
    }

    /// Sleeps until the server or a caller has something.
    fn sleep(&mut self) -> Result<(), End> {
        {
            let mut state = self.shared.state.lock();
            let has_news =
                !state.submitted.is_empty() || state.is_closing && self.closing_until.is_none();
            if has_news {
                return Ok(());
            }
            state.is_asleep = true;
        }
        let mut events = PollFlags::IN;
        events.set(PollFlags::OUT, !self.output.is_empty());
        let mut fds = [
            PollFd::from_borrowed_fd(self.shared.wakeup.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.shared.socket.as_fd(), events),
        ];
        let timeout = self.closing_until.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec::try_from(left).expect("the grace is short")
        });
        let outcome = poll(&mut fds, timeout.as_ref());
        self.shared.state.lock().is_asleep = false;
        // Empty unless somebody woke us, and then it must be read.
        let _ = rustix::io::read(&self.shared.wakeup, &mut [0; 8]);
        match outcome {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(format!("the system cannot wait for it: {error}")),
        }
    }

    /// Best effort: the server may be gone already.
    fn say_goodbye(&self) {
        let goodbye = Request {
            command: Command::Disconnect,
            flags: 0,
            cookie: 0,
            offset: 0,
            len: 0,
        };
        let bytes = goodbye.encode(self.shared.framing);
        let _ = send(
            &self.shared.socket,
            &bytes,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        );
        let _ = shutdown(&self.shared.socket, Shutdown::Write);
    }
}

impl Drop for Worker {
    /// However the thread ends, what is in flight learns of it: after this the table goes, and with it the promises (N4).
    fn drop(&mut self) {
        self.shared
            .end("the thread that worked on it panicked: that is a mistake of this program");
    }
}

fn broken(error: io::Error) -> End {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "the server closed it".to_owned()
        }
        _ => error.to_string(),
    }
}
