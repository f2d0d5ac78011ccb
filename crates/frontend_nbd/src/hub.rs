//! What the threads of a server share: who listens, who is connected, and how all of them end.

use crate::address::ListenAddress;
use crate::connection::Connection;
use crate::export::Export;
use crate::exports::Exports;
use crate::limits::{Limits, LiveLimits};
use crate::listener::Listener;
use crate::refusals::Refusals;
use crate::server::{ServeError, ServerError};
use crate::tls::TlsConfig;
use futures_lite::future::block_on;
use futures_util::future::join_all;
use inspect::Inspect;
use parking_lot::{Condvar, Mutex};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

#[derive(Debug)]
pub(crate) struct Hub {
    exports: Exports,
    limits: LiveLimits,
    /// For those who come from now on.
    tls: Mutex<Option<TlsConfig>>,
    /// Locked while a client is accepted, so that none is once they have been given away.
    listeners: Mutex<Vec<Arc<Listener>>>,
    stop: AtomicBool,
    /// Written when `stop` or `listeners` have changed.
    changed_event: OwnedFd,
    crowd: Arc<Crowd>,
    accepted_count: AtomicU64,
    refusals: Refusals,
}

/// Everybody who is connected. Apart from the hub, so that a thread that ends can let go of the hub before it says so.
#[derive(Debug, Default)]
struct Crowd {
    connections: Mutex<BTreeMap<u64, Arc<Connection>>>,
    /// Notified whenever a connection leaves the map.
    gone: Condvar,
}

/// How long a failure to accept is let rest.
const ACCEPT_PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

impl Hub {
    pub(crate) fn new(
        exports: impl IntoIterator<Item = Export>,
        limits: Limits,
    ) -> Result<Self, ServerError> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        Ok(Self {
            exports: Exports::new(exports)?,
            limits: LiveLimits::new(limits),
            tls: Mutex::default(),
            listeners: Mutex::default(),
            stop: AtomicBool::new(false),
            changed_event: event.map_err(io::Error::from)?,
            crowd: Arc::default(),
            accepted_count: AtomicU64::new(0),
            refusals: Refusals::default(),
        })
    }

    pub(crate) fn exports(&self) -> &Exports {
        &self.exports
    }

    pub(crate) fn limits(&self) -> &LiveLimits {
        &self.limits
    }

    pub(crate) fn set_limits(&self, limits: Limits) {
        self.limits.set(limits);
        self.look_at_the_clock();
    }

    pub(crate) fn set_tls(&self, tls: Option<TlsConfig>) {
        *self.tls.lock() = tls;
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.crowd.connections.lock().len()
    }

    pub(crate) fn accepted_count(&self) -> u64 {
        self.accepted_count.load(Ordering::Relaxed)
    }

    pub(crate) fn refused_count(&self) -> u64 {
        self.refusals.count()
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.tell_of_change();
    }

    /// See [`ServerHandle::share_listeners`](crate::ServerHandle::share_listeners).
    pub(crate) fn share_listeners(&self) -> io::Result<Vec<(OwnedFd, ListenAddress)>> {
        let listeners = self.listeners.lock();
        let shared = listeners
            .iter()
            .map(|listener| Ok((listener.duplicate()?, listener.address().clone())));
        shared.collect()
    }

    /// See [`ServerHandle::leave_listeners`](crate::ServerHandle::leave_listeners).
    pub(crate) fn leave_listeners(&self) {
        for listener in self.listeners.lock().drain(..) {
            listener.leave_file();
        }
        self.tell_of_change();
    }

    pub(crate) fn accept_until_stopped(self: &Arc<Self>) -> io::Result<()> {
        let mut is_failing = false;
        while !self.stop.load(Ordering::Acquire) {
            let listeners = self.listeners.lock().clone();
            let changed = PollFd::from_borrowed_fd(self.changed_event.as_fd(), PollFlags::IN);
            let sockets = listeners.iter();
            let sockets =
                sockets.map(|listener| PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN));
            let mut fds: Vec<_> = std::iter::once(changed).chain(sockets).collect();
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            // Taken before the state is looked at again, so that no change is missed; most often there is nothing to take.
            let _ = rustix::io::read(&self.changed_event, &mut [0; 8]);
            for (listener, fd) in listeners.iter().zip(&fds[1..]) {
                if !fd.revents().is_empty() {
                    self.accept(listener, &mut is_failing);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn listen(&self, listener: Listener) -> ListenAddress {
        let address = listener.address().clone();
        self.listeners.lock().push(Arc::new(listener));
        address
    }

    pub(crate) fn close_listeners(&self) {
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
            self.refuse(&peer, &reason);
        }
    }

    fn refuse(&self, peer: &str, reason: &str) {
        if self.refusals.add() {
            tracing::warn!(
                peer,
                "connection refused: {reason}; more of them are only counted, until there are none for 10 seconds"
            );
        }
    }

    fn try_admit(self: &Arc<Self>, socket: OwnedFd, peer: &str) -> Result<(), String> {
        let connections_max = self.limits.connections_max();
        let number = self.accepted_count.load(Ordering::Relaxed);
        let connection = Connection::new(number, socket, peer.to_owned());
        let connection = Arc::new(connection.map_err(|error| error.to_string())?);
        {
            let mut connections = self.crowd.connections.lock();
            if connections.len() >= connections_max {
                return Err(format!(
                    "there are {connections_max} already (limits/connections_max)"
                ));
            }
            connections.insert(number, Arc::clone(&connection));
        }
        self.accepted_count.store(number + 1, Ordering::Relaxed);
        // Takes the connection off the list however its thread ends, or if it never begins.
        let registered = Registered {
            crowd: Arc::clone(&self.crowd),
            number,
        };
        let hub = Arc::clone(self);
        thread::Builder::new()
            .name(format!("nbd-{number}"))
            .spawn(move || {
                let tls = hub.tls.lock().clone();
                connection.serve(&hub.exports, &hub.limits, tls.as_ref());
                drop(connection);
                // A server that has seen everybody out holds all that is left.
                drop(hub);
                drop(registered);
            })
            .map_err(|error| format!("no thread for it: {error}"))?;
        Ok(())
    }

    pub(crate) fn see_everybody_out(&self) {
        let mut connections = self.crowd.connections.lock();
        for connection in connections.values() {
            connection.stop();
        }
        while !connections.is_empty() {
            self.crowd.gone.wait(&mut connections);
        }
    }

    /// Makes durable what clients wrote.
    pub(crate) fn flush(&self) -> Result<(), ServeError> {
        self.exports.wait_for_leaving();
        // All at once: none waits for the disk of another, nor does the removal of one.
        let offers = self.exports.all().into_iter();
        let flushes = offers.map(|offer| async move {
            let flushed = offer.close().await;
            flushed.map_err(|source| (offer.name().to_owned(), source))
        });
        let mut result = Ok(());
        for flushed in block_on(join_all(flushes)) {
            if let Err((export, source)) = flushed {
                tracing::error!(export, "the flush at the end failed: {source}");
                result = result.and(Err(ServeError::Flush { export, source }));
            }
        }
        result
    }

    /// Has all connections look again how long they may still wait.
    fn look_at_the_clock(&self) {
        for connection in self.crowd.connections.lock().values() {
            connection.wake();
        }
    }
}

/// A connection's place on the list.
struct Registered {
    crowd: Arc<Crowd>,
    number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let left = self.crowd.connections.lock().remove(&self.number);
        // Its socket is closed before anybody is told that it is gone.
        drop(left);
        self.crowd.gone.notify_all();
    }
}

impl Inspect for Hub {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond()
            .field_with("addresses", |req| {
                let listeners = self.listeners.lock().clone();
                req.list(listeners.iter().map(|listener| listener.address()));
            })
            .field("exports", &self.exports)
            .field_with("connections", |req| {
                let connections = self.crowd.connections.lock().clone();
                req.entries(connections.iter().map(|(number, one)| (number, &**one)));
            })
            .field_with("tls", |req| match &*self.tls.lock() {
                Some(tls) => tls.inspect(req),
                None => req.ignore(),
            })
            .counter("accepted", self.accepted_count())
            .field("refused", &self.refusals)
            .field_with("limits", |req| {
                self.limits.show(req, || self.look_at_the_clock());
            });
    }
}
