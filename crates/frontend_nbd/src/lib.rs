//! Disks over the Network Block Device protocol.

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
