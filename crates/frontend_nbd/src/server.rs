//! The server: lets clients in, and sees all of them out.

use crate::address::ListenAddress;
use crate::connection::Connection;
use crate::export::{Export, InvalidExport};
use crate::exports::{Exports, RemoveExportError};
use crate::limits::Limits;
use crate::listener::{ListenError, Listener};
use disk_backend::{Disk, DiskError};
use inspect::Inspect;
use parking_lot::{Condvar, Mutex};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// An NBD server: exports, and the addresses where it offers them.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

/// Another thread's hold on a [`Server`]. Cheap to clone; inspecting it shows the exports, the connections and the limits.
#[derive(Debug, Clone)]
pub struct ServerHandle(Arc<Shared>);

/// Why a server cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// An export cannot be offered together with the others.
    #[error(transparent)]
    Export(#[from] InvalidExport),
    /// The system has no descriptor for it.
    #[error("cannot set up a server: {0}")]
    System(#[from] io::Error),
}

/// Why serving did not end well. All clients are gone in any case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Waiting for clients failed.
    #[error("cannot wait for clients: {0}")]
    Wait(#[source] io::Error),
    /// What clients wrote last may be lost: the final flush failed. Further failures of the kind are in the log.
    #[error("export {export:?}: the flush at the end failed")]
    Flush {
        /// The export's name.
        export: String,
        /// What the disk said.
        source: DiskError,
    },
}

#[derive(Debug)]
struct Shared {
    exports: Exports,
    limits: Limits,
    /// Locked while a client is accepted, so that none is once they have been given away.
    listeners: Mutex<Vec<Arc<Listener>>>,
    stop: AtomicBool,
    /// Written when `stop` or `listeners` have changed.
    changed_event: OwnedFd,
    connections: Mutex<BTreeMap<u64, Arc<Connection>>>,
    /// Notified whenever a connection leaves the map.
    gone: Condvar,
    accepted_count: AtomicU64,
    refused_count: AtomicU64,
}

impl Server {
    /// A server that offers `exports` and listens nowhere yet. Limits that are out of their range are brought into it.
    ///
    /// # Errors
    /// [`InvalidExport::DuplicateName`]; the system's.
    pub fn new(
        exports: impl IntoIterator<Item = Export>,
        limits: Limits,
    ) -> Result<Self, ServerError> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        Ok(Self {
            shared: Arc::new(Shared {
                exports: Exports::new(exports)?,
                limits: limits.clamped(),
                listeners: Mutex::default(),
                stop: AtomicBool::new(false),
                changed_event: event.map_err(io::Error::from)?,
                connections: Mutex::default(),
                gone: Condvar::new(),
                accepted_count: AtomicU64::new(0),
                refused_count: AtomicU64::new(0),
            }),
        })
    }

    /// Listens at one more address, from now on: clients that connect before [`serve`](Self::serve) wait for it.
    ///
    /// Returns the address with the port that the system chose, if it was asked to. The file of a Unix socket can be used by
    /// its owner only; a stale one is replaced, and it is removed when serving ends.
    ///
    /// # Errors
    /// [`ListenError`]; nothing was changed then.
    pub fn listen(&mut self, address: &ListenAddress) -> Result<ListenAddress, ListenError> {
        Ok(self.shared.listen(Listener::bind(address)?))
    }

    /// Listens at a socket that somebody else made and passed to this process: whoever starts services on demand, or the server
    /// that was here before. It must be a stream socket that listens, TCP or Unix with a path. Clients that are waiting in
    /// its queue are served.
    ///
    /// Returns its address. The file of a Unix socket, and who may use it, are the business of whoever made it: it is not removed
    /// when serving ends.
    ///
    /// # Errors
    /// [`ListenError::NotAdoptable`]; the descriptor is closed then.
    pub fn adopt(&mut self, socket: OwnedFd) -> Result<ListenAddress, ListenError> {
        Ok(self.shared.listen(Listener::adopt(socket)?))
    }

    /// A handle for other threads.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle(Arc::clone(&self.shared))
    }

    /// Serves until [`ServerHandle::stop`] is called, then sees everybody out: no client is let in any more, what clients have
    /// sent is done and answered, every writable export is flushed.
    ///
    /// Each connection has a thread of its own. Idle connections, and an idle server, cost no processor time. Clients that do
    /// not take their replies are waited for as long as [`Limits::stop_grace`] says; disks are waited for until they are done.
    ///
    /// # Errors
    /// [`ServeError`], after all of that.
    pub fn serve(self) -> Result<(), ServeError> {
        let waited = self.accept_until_stopped();
        self.shared.close_listeners();
        self.shared.see_everybody_out();
        self.shared.exports.wait_for_leaving();
        let flushed = self.shared.flush();
        waited.map_err(ServeError::Wait).and(flushed)
    }

    fn accept_until_stopped(&self) -> io::Result<()> {
        let shared = &self.shared;
        let mut is_failing = false;
        while !shared.stop.load(Ordering::Acquire) {
            let listeners = shared.listeners.lock().clone();
            let changed = PollFd::from_borrowed_fd(shared.changed_event.as_fd(), PollFlags::IN);
            let sockets = listeners.iter();
            let sockets =
                sockets.map(|listener| PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN));
            let mut fds: Vec<_> = std::iter::once(changed).chain(sockets).collect();
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            // Taken before the state is looked at again, so that no change is missed; most often there is nothing to take.
            let _ = rustix::io::read(&shared.changed_event, &mut [0; 8]);
            for (listener, fd) in listeners.iter().zip(&fds[1..]) {
                if !fd.revents().is_empty() {
                    shared.accept(listener, &mut is_failing);
                }
            }
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Handles may live on, and must not keep clients waiting for nobody.
        self.shared.close_listeners();
    }
}

/// How long a failure to accept is let rest.
const ACCEPT_PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

impl ServerHandle {
    /// Makes [`Server::serve`] see everybody out and return. Does not wait for it; more than once is as good as once.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Release);
        self.0.tell_of_change();
    }

    /// Lets nobody in any more, and gives the listening sockets away, with their addresses: as descriptors that are closed when
    /// another program is executed, unless you see to it that they are not. The files of Unix sockets stay where they are.
    ///
    /// The sockets go on listening as long as somebody holds one of their descriptors, so no client is refused: who connects from
    /// now on waits in the queue until another server, in this or another process, [adopts](Server::adopt) them. Those who
    /// were let in before are served on, until [`stop`](Self::stop). Once given away there are none left: a second call
    /// returns nothing.
    ///
    /// # Errors
    /// If the system has no descriptors left; nothing was changed then.
    pub fn release_listeners(&self) -> io::Result<Vec<(OwnedFd, ListenAddress)>> {
        let mut listeners = self.0.listeners.lock();
        let released = listeners
            .iter()
            .map(|listener| Ok((listener.duplicate()?, listener.address().clone())))
            .collect::<io::Result<Vec<_>>>()?;
        for listener in listeners.drain(..) {
            listener.leave_file();
        }
        drop(listeners);
        self.0.tell_of_change();
        Ok(released)
    }

    /// Offers one more export from now on.
    ///
    /// # Errors
    /// [`InvalidExport::DuplicateName`]; nothing was changed then.
    pub fn add_export(&self, export: Export) -> Result<(), InvalidExport> {
        self.0.exports.add(export)
    }

    /// Takes an export away: from now on nobody gets it, and a client that asks for it is told that there is none.
    ///
    /// Its clients are seen out as [`stop`](Self::stop) would: what they have sent is done and answered, those who do not take
    /// their replies are cut off after [`Limits::stop_grace`]. Then the export is flushed, if it could be written. When this
    /// returns, the server holds its [`Disk`] no longer; clones that others have made are theirs. Other exports and their
    /// clients notice nothing.
    ///
    /// **It blocks** until all of that is done. Its disk is waited for until it is done, so on a disk that hangs it never
    /// returns; the export is off the list all the same, and its name may be used again. Not to be called by a disk.
    ///
    /// # Errors
    /// [`RemoveExportError::Unknown`]; and [`RemoveExportError::Flush`], with the export gone.
    pub fn remove_export(&self, name: &str) -> Result<(), RemoveExportError> {
        self.0.exports.remove(name)
    }

    /// The names of all exports, in order.
    pub fn export_names(&self) -> Vec<String> {
        self.0.exports.names()
    }

    /// The disk of the export named exactly `name`, to look at or to resize. As long as a clone is kept, so is the disk,
    /// whatever becomes of the export.
    pub fn disk(&self, name: &str) -> Option<Disk> {
        self.0.exports.get(name).map(|offer| offer.disk().clone())
    }

    /// How many clients are connected.
    pub fn connection_count(&self) -> usize {
        self.0.connections.lock().len()
    }
}

impl Shared {
    fn listen(&self, listener: Listener) -> ListenAddress {
        let address = listener.address().clone();
        self.listeners.lock().push(Arc::new(listener));
        address
    }

    fn close_listeners(&self) {
        self.listeners.lock().clear();
    }

    fn tell_of_change(&self) {
        // It can only fail because the counter is full, and then the event is readable anyway.
        let _ = rustix::io::write(&self.changed_event, &1_u64.to_ne_bytes());
    }

    /// Lets one client in, if `listener` is still ours. `is_failing` says whether the last attempt failed, so that a lasting
    /// failure is logged once.
    fn accept(self: &Arc<Self>, listener: &Arc<Listener>, is_failing: &mut bool) {
        let accepted = {
            let listeners = self.listeners.lock();
            match listeners.iter().any(|ours| Arc::ptr_eq(ours, listener)) {
                true => listener.accept(),
                false => Ok(None),
            }
        };
        match accepted {
            Ok(Some((socket, peer))) => {
                *is_failing = false;
                self.admit(socket, peer);
            }
            Ok(None) => {}
            Err(error) => {
                if !std::mem::replace(is_failing, true) {
                    let address = listener.address();
                    tracing::error!(
                        "cannot accept connections at {address}: {error}; trying again"
                    );
                }
                // Mostly for want of descriptors: the client stays in the queue, and trying at once would only fail again.
                let changed = PollFd::from_borrowed_fd(self.changed_event.as_fd(), PollFlags::IN);
                let _ = poll(&mut [changed], Some(&ACCEPT_PAUSE));
            }
        }
    }

    /// Gives a client its thread, or closes the connection.
    fn admit(self: &Arc<Self>, socket: OwnedFd, peer: String) {
        if let Err(reason) = self.try_admit(socket, &peer) {
            self.refused_count.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(peer, "connection refused: {reason}");
        }
    }

    fn try_admit(self: &Arc<Self>, socket: OwnedFd, peer: &str) -> Result<(), String> {
        let connections_max = self.limits.connections_max;
        let number = self.accepted_count.load(Ordering::Relaxed);
        let connection = Connection::new(number, socket, peer.to_owned());
        let connection = Arc::new(connection.map_err(|error| error.to_string())?);
        {
            let mut connections = self.connections.lock();
            if connections.len() >= connections_max {
                return Err(format!("there are {connections_max} already"));
            }
            connections.insert(number, Arc::clone(&connection));
        }
        self.accepted_count.store(number + 1, Ordering::Relaxed);
        // Takes the connection off the list however its thread ends, or if it never begins.
        let registered = Registered {
            shared: Arc::clone(self),
            number,
        };
        thread::Builder::new()
            .name(format!("nbd-{number}"))
            .spawn(move || {
                let shared = &registered.shared;
                connection.serve(&shared.exports, &shared.limits);
                drop(connection);
            })
            .map_err(|error| format!("no thread for it: {error}"))?;
        Ok(())
    }

    fn see_everybody_out(&self) {
        let mut connections = self.connections.lock();
        for connection in connections.values() {
            connection.stop();
        }
        while !connections.is_empty() {
            self.gone.wait(&mut connections);
        }
    }

    fn flush(&self) -> Result<(), ServeError> {
        let mut result = Ok(());
        let mut last = None;
        while let Some(offer) = self.exports.after(last.as_deref()) {
            last = Some(offer.name().to_owned());
            if let Err(source) = offer.flush() {
                let export = offer.name().to_owned();
                tracing::error!(export, "the flush at the end failed: {source}");
                result = result.and(Err(ServeError::Flush { export, source }));
            }
        }
        result
    }
}

/// A connection's place on the list.
struct Registered {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let left = self.shared.connections.lock().remove(&self.number);
        // Its socket is closed before anybody is told that it is gone.
        drop(left);
        self.shared.gone.notify_all();
    }
}

impl Inspect for ServerHandle {
    fn inspect(&self, req: inspect::Request<'_>) {
        let shared = &self.0;
        req.respond()
            .field_with("addresses", |req| {
                let listeners = shared.listeners.lock().clone();
                req.list(listeners.iter().map(|listener| listener.address()));
            })
            .field("exports", &shared.exports)
            .field_with("connections", |req| {
                let connections = shared.connections.lock().clone();
                req.entries(connections.iter().map(|(number, one)| (number, &**one)));
            })
            .counter("accepted", shared.accepted_count.load(Ordering::Relaxed))
            .counter("refused", shared.refused_count.load(Ordering::Relaxed))
            .field("limits", &shared.limits);
    }
}
