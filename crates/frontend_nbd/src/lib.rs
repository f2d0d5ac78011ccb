//! Disks over the Network Block Device protocol.
//!
//! A [`Server`] offers [`Export`]s, each a disk under a name, at Unix sockets and TCP ports. Any client of the fixed newstyle
//! protocol can use them: QEMU, libnbd, the Linux kernel. It stands beside the other frontends, and knows disks only as
//! [`Disk`](disk_backend::Disk).
//!
//! ```
//! use frontend_nbd::{Export, Limits, Server};
//!
//! fn serve(disk: disk_backend::Disk) -> Result<(), Box<dyn std::error::Error>> {
//!     let mut server = Server::new([Export::new("vm1", disk)?], Limits::default())?;
//!     server.listen(&"unix:vm1.sock".parse()?)?;
//!     Ok(server.serve()?)
//! }
//! ```
//!
//! **Guarantees.** Each connection has a thread and a bounded amount of memory of its own, so a slow or dead client holds up
//! only itself; an idle one costs no processor time. Requests need not be aligned to sectors: the rest of a sector is kept,
//! whatever other connections of the export write. A stop finishes what clients have sent, and flushes.
//!
//! **Not here.** TLS and authentication: whoever can connect can read and write, and a Unix socket admits its owner only.
//! Building disks is `disk_resolver`'s affair.
//!
//! **Failure.** A disk's error becomes the protocol's, in one match; a client that breaks the protocol gets its error, or is
//! disconnected with one line in the log. Neither disturbs anybody else.

mod address;
mod connection;
mod export;
mod handshake;
mod limits;
mod listener;
mod protocol;
mod server;
mod session;
mod slots;
mod span;
mod step;
mod transmission;
mod transport;
mod wakeup;

pub use address::{InvalidListenAddress, ListenAddress};
pub use export::{Export, InvalidExport, SECTOR_SIZE_MAX};
pub use limits::Limits;
pub use listener::ListenError;
pub use server::{ServeError, Server, ServerError, ServerHandle};
