//! One connection: its thread, and what others see of it.

use crate::activity::Activity;
use crate::exports::{Exports, NoPlace, Offer, Place};
use crate::handshake::{self, Outcome};
use crate::limits::LiveLimits;
use crate::protocol::contexts::ContextSet;
use crate::session::{End, SessionError};
use crate::tls::TlsConfig;
use crate::transmission::{self, Session};
use crate::transport::{Channel, Socket};
use crate::wakeup::Wakeup;
use inspect::Inspect;
use nbd_protocol::Framing;
use rustix::net::Shutdown;
use scsi_buffers::BouncePool;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// A connection, as its server sees it. Nothing here is locked while data moves.
#[derive(Debug)]
pub(crate) struct Connection {
    /// By which it is known to everybody who lists connections.
    number: u64,
    /// For the log.
    peer: String,
    socket: Arc<OwnedFd>,
    wakeup: Arc<Wakeup>,
    activity: Activity,
    /// Once the client has chosen.
    chosen: OnceLock<Chosen>,
}

/// What the handshake brought.
#[derive(Debug)]
struct Chosen {
    export: String,
    /// In TLS.
    is_secure: bool,
    framing: Framing,
    contexts: ContextSet,
    pool: BouncePool,
}

impl Connection {
    /// # Errors
    /// If the system has no more descriptors.
    pub(crate) fn new(number: u64, socket: OwnedFd, peer: String) -> io::Result<Self> {
        Ok(Self {
            number,
            peer,
            socket: Arc::new(socket),
            wakeup: Arc::new(Wakeup::new()?),
            activity: Activity::new(),
            chosen: OnceLock::new(),
        })
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Asks the connection's thread to finish what is in flight and to end.
    pub(crate) fn stop(&self) {
        self.wakeup.stop();
        // Ends a wait for the client's next request. It fails only if the client is gone, and then there is no wait.
        let _ = rustix::net::shutdown(&*self.socket, Shutdown::Read);
    }

    /// Has the connection's thread look around, if it sleeps and nothing is in flight.
    pub(crate) fn wake(&self) {
        self.wakeup.notify();
    }

    /// The work of the connection's thread. Whatever happens in it, a panic included, ends here, with one line in the log.
    pub(crate) fn serve(
        self: &Arc<Self>,
        exports: &Exports,
        limits: &LiveLimits,
        tls: Option<&TlsConfig>,
    ) {
        let serve = AssertUnwindSafe(|| self.serve_session(exports, limits, tls));
        let served = std::panic::catch_unwind(serve);
        let peer = self.peer.as_str();
        let chosen = self.chosen.get();
        let export = chosen.map_or("", |chosen| chosen.export.as_str());
        let requests = self.activity.requests();
        match served {
            Ok(Ok(end)) => {
                tracing::debug!(peer, export, requests, "connection ended: {}", end.reason());
            }
            Ok(Err(error)) => {
                tracing::warn!(peer, export, requests, "connection closed: {error}");
            }
            // The panic's own message was printed by the panic hook.
            Err(_) => {
                tracing::error!(
                    peer,
                    export,
                    requests,
                    "connection closed: it panicked, please report it"
                );
            }
        }
        // The client learns of the end now, however long the server remembers the connection.
        let _ = rustix::net::shutdown(&*self.socket, Shutdown::Both);
    }

    fn serve_session(
        self: &Arc<Self>,
        exports: &Exports,
        limits: &LiveLimits,
        tls: Option<&TlsConfig>,
    ) -> Result<End, SessionError> {
        let socket = Socket::new(Arc::clone(&self.socket), Arc::clone(&self.wakeup));
        let mut transport = Channel::new(socket);
        let hall = Hall {
            exports,
            limits,
            tls,
            connection: self,
        };
        let agreement = match handshake::negotiate(&mut transport, &self.wakeup, &hall)? {
            Outcome::Agreed(agreement) => agreement,
            Outcome::Ended(end) => return Ok(end),
        };
        let is_secure = transport.is_secure();
        let name = agreement.export.name();
        tracing::debug!(
            peer = self.peer,
            export = name,
            is_secure,
            "connection uses an export"
        );
        let chosen = self.chosen.get_or_init(|| Chosen {
            export: name.to_owned(),
            is_secure,
            framing: agreement.framing,
            contexts: agreement.contexts,
            pool: BouncePool::new(limits.bytes_in_flight_max()),
        });
        let session = Session {
            export: &agreement.export,
            framing: agreement.framing,
            contexts: agreement.contexts,
            limits,
            pool: &chosen.pool,
            activity: &self.activity,
            wakeup: &self.wakeup,
            peer: &self.peer,
        };
        transmission::run(&session, &mut transport)
    }
}

/// What a client that has not chosen yet can see and do.
#[derive(Debug)]
pub(crate) struct Hall<'a> {
    exports: &'a Exports,
    limits: &'a LiveLimits,
    tls: Option<&'a TlsConfig>,
    connection: &'a Arc<Connection>,
}

impl<'a> Hall<'a> {
    /// The server's certificates; the same as long as the client is connected.
    pub(crate) fn tls(&self) -> Option<&'a TlsConfig> {
        self.tls
    }

    /// As [`Exports::find`]. Not to be kept while the client is waited for.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Offer>> {
        self.exports.find(name)
    }

    /// As [`Exports::after`]. Not to be kept while the client is waited for.
    pub(crate) fn after(&self, name: Option<&str>) -> Option<Arc<Offer>> {
        self.exports.after(name)
    }

    /// When a client that has come now must have chosen.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let timeout = self.limits.handshake_timeout()?;
        Some(Instant::now() + timeout)
    }

    /// Chooses an export for good.
    pub(crate) fn enter(&self, offer: &Arc<Offer>) -> Result<Place, NoPlace> {
        let connections_max = self.limits.connections_per_export_max();
        let entered = offer.enter(self.connection, connections_max);
        if entered.as_ref().err() == Some(&NoPlace::Full) && offer.refuse() {
            tracing::warn!(
                peer = self.connection.peer,
                export = offer.name(),
                "refused: as many connections as may use the export already; more of them are only counted, until there are \
                 none for 10 seconds"
            );
        }
        entered
    }
}

impl End {
    fn reason(self) -> &'static str {
        match self {
            Self::Disconnected => "the client disconnected",
            Self::HungUp => "the client hung up",
            Self::Silent => "the client never said a word",
            Self::Refused => "as many connections as may use the export already",
            Self::Idle => "the client was idle for too long (limits/idle_timeout_s)",
            Self::Stopped => "the server stops, or the export was removed",
        }
    }
}

impl Inspect for Connection {
    fn inspect(&self, req: inspect::Request<'_>) {
        let mut response = req.respond();
        response.field("peer", &self.peer);
        if let Some(chosen) = self.chosen.get() {
            response.merge(chosen);
        }
        response.merge(&self.activity);
    }
}

impl Inspect for Chosen {
    fn inspect(&self, req: inspect::Request<'_>) {
        let framing = match self.framing {
            Framing::Simple => "simple",
            Framing::Structured => "structured",
            Framing::Extended => "extended",
        };
        req.respond()
            .field("export", &self.export)
            .field("is_secure", &self.is_secure)
            .field("framing", framing)
            .field_with("contexts", |req| {
                req.list(self.contexts.iter().map(|context| context.name()));
            })
            .field("bounce_pool", &self.pool);
    }
}
