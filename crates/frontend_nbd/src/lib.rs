//! Disks over the Network Block Device protocol.
//!
//! Row 8: a frontend. It turns the bytes of a socket into requests to a [`Disk`](disk_backend::Disk), and knows nothing of what
//! the disk is made of. `platter serve` is a user; a VMM that wants to share a disk can be another.
//!
//! ```
//! use frontend_nbd::{Export, Limits, Server};
//! # let disk = disklayer_ram::ram_disk(1 << 20, false)?;
//! let mut server = Server::new([Export::new("vm1", disk)?], Limits::default())?;
//! let address = server.listen(&"tcp:0".parse()?)?;
//! println!("connect to {}", address.uri("vm1"));
//! let handle = server.handle();
//! let serving = std::thread::spawn(|| server.serve());
//! handle.stop();
//! serving.join().expect("it does not panic")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Guarantees.** Requests need not be aligned: a write of less than a sector excludes whatever else changes that sector
//! through the same export. Many requests are in flight on each connection and are answered as they complete. A client that is
//! slow, dead or hostile holds up only itself: each connection has a thread and bounded memory of its own ([`Limits`]), and
//! nothing it sends panics, hangs, or allocates without bound. Waiting costs no processor time. Exports come and go, limits change,
//! and all of it can be looked into while clients are served ([`ServerHandle`]). When [`Server::serve`] returns, or
//! [`ServerHandle::remove_export`], what clients had sent is done, and what can be written is flushed.
//!
//! **What it does not do.** Decide who may use which export: whoever reaches the socket, and passes TLS where that is required
//! ([`TlsConfig`]), may use all; a Unix socket is for its owner only, and TCP for this machine unless an address is given. Opening
//! disks (`disk_resolver`), signals and configuration (`platter`). Telling a client of a resize, which the protocol has no message
//! for: a new connection sees it.
//!
//! **Failure.** A request that fails is answered with an errno, and with a message where the client can take one; the connection
//! goes on. A client that breaks the protocol loses its connection, with one line in the log. A panic below a connection
//! ends that connection.
//!
//! Where to start reading: `server`, `connection`, then `transmission`, which has the loop that everything turns in.

mod activity;
mod address;
mod connection;
mod export;
mod exports;
mod handshake;
mod hub;
mod limits;
mod listener;
mod protocol;
mod refusals;
mod server;
mod session;
mod slots;
mod span;
mod step;
mod tls;
mod transmission;
mod transport;
mod wakeup;

pub use activity::{Operation, OperationStats};
pub use address::{InvalidListenAddress, ListenAddress};
pub use export::{Export, InvalidExport, SECTOR_SIZE_MAX};
pub use exports::{ExportStats, RemoveExportError};
pub use limits::Limits;
pub use listener::ListenError;
pub use server::{ServeError, Server, ServerError, ServerHandle};
pub use tls::{InvalidTls, TlsConfig};
