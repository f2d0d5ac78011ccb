//! Side doors: sockets besides those of the disks, for a few clients with small wishes.
//!
//! Each client has a thread of its own, so one that is slow or dead holds up only itself. Waiting costs nothing.
//!
//! - D1: there are at most `clients_max` clients; one more is told so, and closed.
//! - D2: once [`Door::close`] has returned, nobody is let in, and no client can say or hear any more; the file of a Unix socket is gone.

use local_socket::LocalListener;
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Where the clients of a door come from.
#[derive(Debug)]
pub(crate) enum Threshold {
    Local(LocalListener),
    Tcp(TcpListener),
}

/// What a door is like.
pub(crate) struct Kind {
    /// For threads and the log.
    pub(crate) name: &'static str,
    pub(crate) clients_max: usize,
    /// What a client hears for which there is no room.
    pub(crate) full: &'static [u8],
    /// How long a client may take for each of its messages and for each of its replies; for ever, if there is no limit.
    pub(crate) patience: Option<Duration>,
}

/// A client at a door. Reading and writing block, for as long as the door is patient.
#[derive(Debug, Clone)]
pub(crate) struct Client(Arc<OwnedFd>);

/// A door that is open. Closed when dropped.
pub(crate) struct Door {
    shared: Arc<Shared>,
    accepting: Option<thread::JoinHandle<()>>,
}

struct Shared {
    kind: Kind,
    stop: OwnedFd,
    clients: Mutex<Clients>,
}

#[derive(Default)]
struct Clients {
    is_closed: bool,
    next_number: u64,
    by_number: BTreeMap<u64, Client>,
}

/// How long a failure to accept is let rest.
const ACCEPT_PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

impl Door {
    /// Lets clients in from now on; `serve` is called for each, in its own thread.
    ///
    /// # Errors
    /// If the system has no descriptor or no thread for it.
    pub(crate) fn open(
        kind: Kind,
        threshold: Threshold,
        serve: impl Fn(Client) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            kind,
            stop: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            clients: Mutex::default(),
        });
        let inside = Arc::clone(&shared);
        let serve = Arc::new(serve);
        let accepting = thread::Builder::new()
            .name(shared.kind.name.to_owned())
            .spawn(move || inside.let_in(&threshold, &serve))?;
        Ok(Self {
            shared,
            accepting: Some(accepting),
        })
    }

    /// Lets nobody in any more; those who are inside stay. The file of a Unix socket is gone afterwards.
    pub(crate) fn lock(&mut self) {
        let Some(accepting) = self.accepting.take() else {
            return;
        };
        // It can only fail because it was written before.
        let _ = rustix::io::write(&self.shared.stop, &1_u64.to_ne_bytes());
        accepting.join().expect("letting clients in does not panic");
    }

    /// Lets nobody in any more, and cuts off whoever is inside (D2). What they have begun goes on in their threads.
    pub(crate) fn close(mut self) {
        self.shut();
    }

    fn shut(&mut self) {
        self.lock();
        let mut clients = self.shared.clients.lock();
        clients.is_closed = true;
        clients.by_number.values().for_each(Client::cut_off);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.shut();
    }
}

impl Shared {
    fn let_in<F: Fn(Client) + Send + Sync + 'static>(
        self: Arc<Self>,
        threshold: &Threshold,
        serve: &Arc<F>,
    ) {
        let mut is_failing = false;
        loop {
            let stop = PollFd::from_borrowed_fd(self.stop.as_fd(), PollFlags::IN);
            let knock = PollFd::from_borrowed_fd(threshold.as_fd(), PollFlags::IN);
            let mut fds = [stop, knock];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!("the {} socket is closed: {error}", self.kind.name);
                    return;
                }
            }
            if !fds[0].revents().is_empty() {
                return;
            }
            match threshold.accept() {
                Ok(Some(client)) => {
                    is_failing = false;
                    self.admit(Client(Arc::new(client)), serve);
                }
                Ok(None) => {}
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::error!("the {} socket lets nobody in: {error}", self.kind.name);
                    }
                    // Mostly for want of descriptors: at once it would only fail again.
                    let stop = PollFd::from_borrowed_fd(self.stop.as_fd(), PollFlags::IN);
                    let _ = poll(&mut [stop], Some(&ACCEPT_PAUSE));
                }
            }
        }
    }

    fn admit<F: Fn(Client) + Send + Sync + 'static>(
        self: &Arc<Self>,
        client: Client,
        serve: &Arc<F>,
    ) {
        if let Err(error) = client.set_patience(self.kind.patience) {
            tracing::debug!("a {} client is closed: {error}", self.kind.name);
            return;
        }
        let Some(number) = self.register(&client) else {
            // It may have gone, or not listen: then it learns nothing.
            let _ = client.send(self.kind.full, SendFlags::DONTWAIT);
            return;
        };
        let registered = Registered {
            shared: Arc::clone(self),
            number,
        };
        let serve = Arc::clone(serve);
        let spawned = thread::Builder::new()
            .name(format!("{}-{number}", self.kind.name))
            .spawn(move || {
                serve(client);
                drop(registered);
            });
        if let Err(error) = spawned {
            tracing::warn!(
                "a {} client is closed: no thread for it: {error}",
                self.kind.name
            );
        }
    }

    /// A number for a client, if there is room (D1).
    fn register(&self, client: &Client) -> Option<u64> {
        let mut clients = self.clients.lock();
        if clients.is_closed || clients.by_number.len() >= self.kind.clients_max {
            return None;
        }
        let number = clients.next_number;
        clients.next_number += 1;
        clients.by_number.insert(number, client.clone());
        Some(number)
    }
}

/// A client's place among the others, given back however its thread ends.
struct Registered {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.clients.lock().by_number.remove(&self.number);
    }
}

impl Threshold {
    fn accept(&self) -> io::Result<Option<OwnedFd>> {
        match self {
            Self::Local(listener) => listener.accept(),
            Self::Tcp(listener) => match listener.accept() {
                Ok((stream, _)) => Ok(Some(stream.into())),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock
                    | io::ErrorKind::Interrupted
                    | io::ErrorKind::ConnectionAborted => Ok(None),
                    _ => Err(error),
                },
            },
        }
    }
}

impl AsFd for Threshold {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Local(listener) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

impl Client {
    /// One that came in some other way than through a door.
    pub(crate) fn new(socket: Arc<OwnedFd>) -> Self {
        Self(socket)
    }

    fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        set_socket_timeout(&self.0, Timeout::Recv, patience)?;
        set_socket_timeout(&self.0, Timeout::Send, patience)?;
        Ok(())
    }

    /// Ends every wait for it. It fails only if the client is gone, and then there is no wait.
    fn cut_off(&self) {
        let _ = rustix::net::shutdown(&*self.0, Shutdown::Both);
    }

    fn send(&self, bytes: &[u8], flags: SendFlags) -> io::Result<usize> {
        Ok(rustix::net::send(
            &*self.0,
            bytes,
            flags | SendFlags::NOSIGNAL,
        )?)
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Read for Client {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (read, _) = rustix::net::recv(&*self.0, buffer, RecvFlags::empty())?;
        Ok(read)
    }
}

impl Write for Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes, SendFlags::empty())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
