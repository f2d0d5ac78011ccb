//! A socket that clients connect to.

use crate::bind::{BindError, bind};
use crate::file::SocketFile;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A listening Unix socket, for its owner only.
#[derive(Debug)]
pub struct LocalListener {
    /// Removed before the socket is closed: until then nobody takes it for the socket of a server that is gone.
    file: SocketFile,
    socket: OwnedFd,
}

impl LocalListener {
    /// Listens at `path`: whoever connects from now on waits to be accepted.
    ///
    /// Blocks for a moment while another server of this kind binds in the same folder.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(path: impl AsRef<Path>) -> Result<Self, BindError> {
        let (socket, file) = bind(path.as_ref())?;
        Ok(Self { socket, file })
    }

    /// Where it listens, as an absolute path.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// A client that is waiting; `None` if there is none (any more). Does not block.
    ///
    /// # Errors
    /// The system's: mostly that there are no more descriptors, and then the client goes on waiting.
    pub fn accept(&self) -> io::Result<Option<OwnedFd>> {
        match accept_with(&self.socket, SocketFlags::CLOEXEC) {
            Ok(client) => Ok(Some(client)),
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The socket, which does not block, and the charge of its file.
    pub fn into_parts(self) -> (OwnedFd, SocketFile) {
        (self.socket, self.file)
    }
}

impl AsFd for LocalListener {
    /// Readable when a client is waiting.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
