//! One daemon follows another, and no client is refused: the listening sockets go from the old one to the new one, who opens the
//! disks when the old one has let go of them.
//!
//! The sockets travel over the control socket, as descriptors beside the reply to `handover`. A second reply says that everything
//! is flushed and let go.

use crate::control::{Connection, descriptors};
use crate::exit::Failure;
use frontend_nbd::ListenAddress;
use local_socket::SocketFile;
use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A listening socket on its way, as the reply describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PassedSocket {
    /// Where it listens: paths are absolute.
    pub(crate) address: String,
    /// Whether whoever has it is to remove its file in the end.
    pub(crate) owns_file: bool,
}

/// The reply to `handover`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Passed {
    /// In the order of the descriptors.
    pub(crate) listeners: Vec<PassedSocket>,
}

/// A socket that was passed to us.
pub(crate) struct TakenSocket {
    pub(crate) socket: OwnedFd,
    pub(crate) address: ListenAddress,
    /// The charge of its file, if that is ours now.
    pub(crate) file: Option<SocketFile>,
}

/// Asks the daemon behind a control socket for its listening sockets, and waits until it has let go of its disks.
///
/// # Errors
/// If it refuses, or cannot be asked. Then nothing has changed for it.
pub(crate) fn take_over(control: &Path) -> Result<Vec<TakenSocket>, Failure> {
    let mut old = Connection::connect(control)?;
    // Before it is asked to end, so that its number is surely still its own.
    let process = OldProcess::behind(old.socket());
    let (reply, sockets) = descriptors::ask(&mut old, "handover")?;
    let strange = |why: &dyn std::fmt::Display| {
        Failure::running(format!(
            "the daemon at {} hands over strangely: {why}",
            control.display()
        ))
    };
    let passed = Passed::deserialize(&reply).map_err(|error| strange(&error))?;
    if passed.listeners.len() != sockets.len() {
        return Err(strange(&"the sockets are not those it describes"));
    }
    let taken = passed
        .listeners
        .into_iter()
        .zip(sockets)
        .map(|(passed, socket)| {
            let address = passed.address.parse().map_err(|error| strange(&error))?;
            Ok(TakenSocket {
                socket,
                file: file_of(&address, passed.owns_file),
                address,
            })
        });
    let taken = taken.collect::<Result<Vec<_>, Failure>>()?;
    tracing::info!(
        "taking over from {}: waiting until it has finished",
        control.display()
    );
    // It has stopped letting clients in: whatever it says now, somebody has to go on.
    if let Err(failure) = old.hear() {
        tracing::error!("going on, but {failure}");
    }
    process.wait_for_end();
    Ok(taken)
}

/// The process whose place is taken. What it has let go of may be held for a moment longer by a thread that is just ending; when
/// the process has ended, nothing is.
struct OldProcess(Option<OwnedFd>);

/// How long it may take to end when it has nothing left to do.
const ENDING_MAX: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

impl OldProcess {
    /// Nothing, where it cannot be seen from here.
    fn behind(socket: &UnixStream) -> Self {
        let credentials = socket_peercred(socket);
        let process = credentials.and_then(|peer| pidfd_open(peer.pid, PidfdFlags::empty()));
        Self(process.ok())
    }

    fn wait_for_end(&self) {
        let Some(process) = &self.0 else {
            return;
        };
        let mut fds = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Some(&ENDING_MAX)) {
            Ok(1) => {}
            Ok(_) => tracing::warn!("going on, but the other daemon does not end"),
            Err(error) => tracing::warn!("going on, but cannot wait for the other daemon: {error}"),
        }
    }
}

/// The charge of a passed socket's file, if that is ours now.
fn file_of(address: &ListenAddress, owns_file: bool) -> Option<SocketFile> {
    let ListenAddress::Unix(path) = address else {
        return None;
    };
    match SocketFile::new(path) {
        Ok(file) if owns_file => Some(file),
        Ok(file) => {
            file.leave();
            None
        }
        Err(error) => {
            tracing::warn!("{}: clients cannot find it: {error}", path.display());
            None
        }
    }
}

/// How far a daemon is with giving its place away.
#[derive(Debug, Default)]
pub(crate) struct Farewell {
    phase: Mutex<Phase>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone)]
enum Phase {
    #[default]
    Staying,
    /// Somebody has the sockets, and waits for the rest.
    Leaving,
    /// Everything is let go, or this is why it is not in order.
    Gone(Result<(), String>),
    /// Whoever waited knows.
    Told,
}

/// How long the end of the process waits for the other one to hear of it.
const TELLING_MAX: Duration = Duration::from_secs(10);

impl Farewell {
    /// Whether the caller is the first to be given the daemon's place.
    pub(crate) fn begin(&self) -> bool {
        let mut phase = self.phase.lock();
        let is_first = matches!(*phase, Phase::Staying);
        if is_first {
            *phase = Phase::Leaving;
        }
        is_first
    }

    /// Takes [`begin`](Self::begin) back.
    pub(crate) fn cancel(&self) {
        *self.phase.lock() = Phase::Staying;
        // The daemon may be ending for another reason.
        self.changed.notify_all();
    }

    /// Waits until everything is let go.
    pub(crate) fn wait(&self) -> Result<(), String> {
        let mut phase = self.phase.lock();
        loop {
            if let Phase::Gone(result) = &*phase {
                return result.clone();
            }
            self.changed.wait(&mut phase);
        }
    }

    /// The other one has been told.
    pub(crate) fn told(&self) {
        *self.phase.lock() = Phase::Told;
        self.changed.notify_all();
    }

    /// Everything is let go. Waits until the other one, if there is one, knows.
    pub(crate) fn finish(&self, result: Result<(), String>) {
        let mut phase = self.phase.lock();
        if !matches!(*phase, Phase::Leaving) {
            return;
        }
        *phase = Phase::Gone(result);
        self.changed.notify_all();
        let is_untold = |phase: &mut Phase| matches!(phase, Phase::Gone(_));
        let waited = self
            .changed
            .wait_while_for(&mut phase, is_untold, TELLING_MAX);
        if waited.timed_out() {
            tracing::warn!("the daemon that takes over does not listen");
        }
    }
}
