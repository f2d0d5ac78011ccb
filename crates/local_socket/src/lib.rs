//! Listening Unix sockets that only their owner can reach, and that leave nothing behind.
//!
//! Foundation (row 1): knows nothing of disks, and of what is said on the socket. What offers something to programs of the same
//! user listens here: a daemon's side doors, and servers of a protocol.
//!
//! ```
//! use std::os::unix::net::UnixStream;
//!
//! let folder = tempfile::tempdir()?;
//! let listener = local_socket::LocalListener::bind(folder.path().join("control"))?;
//! let client = UnixStream::connect(listener.path())?;
//! assert!(listener.accept()?.is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Guarantees.** The file has mode 0600 from the moment it exists, whatever the umask. A socket that a dead server left is
//! replaced; one that is alive, and a file that is no socket, is refused and left alone, also if several servers start at once. The
//! file is removed when the listener is dropped, if it is still the same one, wherever the process has gone meanwhile.
//!
//! **What it does not do.** Accepting in the background, limits, and threads: that is for whoever listens. Abstract sockets, which
//! have no mode. TCP.
//!
//! **Failure.** [`BindError`] names the path and says what to do; then nothing was changed.

mod bind;
mod file;
mod listener;

pub use bind::{BindError, UNIX_PATH_LEN_MAX};
pub use file::SocketFile;
pub use listener::LocalListener;
