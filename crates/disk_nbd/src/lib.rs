//! A disk on an NBD server.
//!
//! Row 7: one [`DiskIo`](disk_backend::DiskIo), [`NbdUri`], which says where it is, and [`NbdDiskHandle`], the configuration
//! `{"type": "nbd", "uri": "nbd+unix:///vm1?socket=/run/disks"}` that registers itself wherever this crate is linked.
//!
//! ```no_run
//! # futures_lite::future::block_on(async {
//! use disk_nbd::{NbdDisk, NbdOptions, NbdUri};
//! let uri: NbdUri = "nbd://server.example/images/debian".parse()?;
//! let disk = NbdDisk::connect(&uri, &NbdOptions::new(true)).await?;
//! let disk = disk_backend::Disk::new(disk)?;
//! println!("{} sectors of {} bytes", disk.sector_count(), disk.sector_size());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! **Guarantees.** Each disk has one connection and one thread, which does all of its input and output and sleeps while nothing is
//! to be done: any executor will do, and none is needed. Up to 128 requests and 32 MiB are in flight; who finds no room waits
//! without holding anything (C4). Overlapping requests are sent one after the other, because a server may execute what is in
//! flight in any order (C2). Memory is pinned or copied, so a dropped or forgotten future is sound (C9). Whatever a server
//! sends, nothing panics, and what is held of it is bounded. A server whose machine dies is noticed in about a minute.
//!
//! A sector is 512 bytes, or the server's smallest block. An unmap is a trim, of which the protocol promises nothing: this crate
//! says `Unspecified`, trusting that a server keeps or zeroes what is trimmed, as all known ones do. Where the server cannot
//! flush, the disk is volatile.
//!
//! **What it does not do.** Connect again after the connection was lost; use several connections; TLS (`nbds://` is refused) and
//! servers without the fixed newstyle handshake and its option `GO`. An export that is no whole number of sectors is refused.
//! Serving disks is `frontend_nbd`, and the messages of the protocol are `nbd_protocol`.
//!
//! **Failure.** [`ConnectError`] says what to do. A request that the server refuses is an error, and the disk goes on. Once the
//! connection is lost, or the server has broken the protocol, every request fails and says so. After a failed flush
//! changes are refused until the disk is opened anew (C8). A server that keeps its connection and never answers is waited for.

mod connect;
mod connection;
mod counters;
mod disk;
mod error;
mod handle;
mod handshake;
mod properties;
mod server_error;
mod status;
mod transfer;
mod uri;

pub use disk::{NbdDisk, NbdOptions};
pub use error::{ConnectError, ConnectReason};
pub use handle::NbdDiskHandle;
pub use uri::{InvalidNbdUri, NbdAddress, NbdUri, PORT_DEFAULT};
