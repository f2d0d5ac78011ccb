//! Listening sockets: bound so that nobody else gets in, and leaving nothing behind.

mod adopted;

use crate::address::ListenAddress;
use local_socket::{LocalListener, SocketFile, UNIX_PATH_LEN_MAX};
use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a server cannot listen at an address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another process answers at the path.
    #[error("{path}: another server is listening there; stop it, or choose another path")]
    Live {
        /// The path of the socket.
        path: PathBuf,
    },
    /// What is at the path is not a socket, and is left alone.
    #[error("{path}: there is a file that is not a socket; remove it, or choose another path")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// A folder is at the path.
    #[error("{path}: there is a folder; name a socket in it, as in {path}/platter.sock")]
    IsAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The path does not fit into a socket's address.
    #[error(
        "{path}: the path of a Unix socket is at most {UNIX_PATH_LEN_MAX} bytes long; choose a shorter one"
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// A descriptor that was passed to the process cannot be served.
    #[error("cannot serve descriptor {descriptor}: {reason}")]
    NotAdoptable {
        /// Its number.
        descriptor: RawFd,
        /// What is wrong with it.
        reason: String,
    },
    /// The system refused.
    #[error("cannot listen at {address}: {source}{remedy}", remedy = remedy(.address, .source))]
    System {
        /// The address.
        address: ListenAddress,
        /// What the system said.
        source: io::Error,
    },
}

/// What to do about it, where that is known.
fn remedy(address: &ListenAddress, error: &io::Error) -> &'static str {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, NotFound, PermissionDenied};
    match (address, error.kind()) {
        (ListenAddress::Unix(_), NotFound) => "; make its folder first, or choose another path",
        (ListenAddress::Unix(_), PermissionDenied) => "; choose a path in a folder of your own",
        (ListenAddress::Tcp { .. }, AddrInUse) => {
            "; stop the program that listens there, or choose another port"
        }
        (ListenAddress::Tcp { .. }, AddrNotAvailable) => "; give an address that this machine has",
        (ListenAddress::Tcp { .. }, PermissionDenied) => "; choose a port from 1024 on",
        _ => "",
    }
}

/// A socket that clients connect to.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The file of a Unix socket that was made here, removed when this is dropped; before the socket is closed, so that nobody takes
    /// it for the socket of a server that is gone.
    file: Mutex<Option<SocketFile>>,
    socket: OwnedFd,
    address: ListenAddress,
}

impl Listener {
    pub(crate) fn bind(address: &ListenAddress) -> Result<Self, ListenError> {
        match address {
            ListenAddress::Unix(path) => bind_unix(path),
            ListenAddress::Tcp { host, port } => bind_tcp(host, *port),
        }
        .map_err(|error| match error {
            BindError::Listen(error) => error,
            BindError::System(source) => ListenError::System {
                address: address.clone(),
                source,
            },
        })
    }

    /// Where clients find it: the port is the real one, where the system chose it.
    pub(crate) fn address(&self) -> &ListenAddress {
        &self.address
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Another descriptor of the same socket.
    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Leaves the file of the socket where it is: somebody else listens there from now on.
    pub(crate) fn leave_file(&self) {
        if let Some(file) = self.file.lock().take() {
            file.leave();
        }
    }

    /// A client that is waiting, and who it is; `None` if there is none.
    pub(crate) fn accept(&self) -> io::Result<Option<(OwnedFd, String)>> {
        let socket = match accept_with(&self.socket, SocketFlags::CLOEXEC) {
            Ok(socket) => socket,
            // Whoever was there has gone again.
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR | Errno::PROTO) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let peer = match &self.address {
            ListenAddress::Unix(_) => prepare_unix(&socket),
            ListenAddress::Tcp { .. } => prepare_tcp(&socket)?,
        };
        Ok(Some((socket, peer)))
    }
}

/// How much a Unix socket holds that its reader has not taken yet, in bytes: twice what it is by default, and as much as the
/// system allows everybody. Reads of 1 MiB gain a tenth; more than this gains nothing.
const SEND_BUFFER_BYTES: usize = 208 * 1024;

fn prepare_unix(socket: &OwnedFd) -> String {
    // It only gets slower without.
    let _ = sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER_BYTES);
    match sockopt::socket_peercred(socket) {
        Ok(peer) => format!("pid {} of uid {}", peer.pid, peer.uid.as_raw()),
        Err(_) => "unix".to_owned(),
    }
}

fn prepare_tcp(socket: &OwnedFd) -> io::Result<String> {
    sockopt::set_tcp_nodelay(socket, true)?;
    // A machine that vanished without a word is noticed after about two minutes.
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(socket, Duration::from_secs(15))?;
    sockopt::set_tcp_keepcnt(socket, 4)?;
    let peer = rustix::net::getpeername(socket)?.map(SocketAddr::try_from);
    Ok(match peer {
        Some(Ok(address)) => address.to_string(),
        _ => "tcp".to_owned(),
    })
}

/// An error that has a name of its own, or only what the system said.
enum BindError {
    Listen(ListenError),
    System(io::Error),
}

impl From<ListenError> for BindError {
    fn from(error: ListenError) -> Self {
        Self::Listen(error)
    }
}

impl From<io::Error> for BindError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<local_socket::BindError> for BindError {
    fn from(error: local_socket::BindError) -> Self {
        match error {
            local_socket::BindError::Live(path) => ListenError::Live { path }.into(),
            local_socket::BindError::NotASocket(path) => ListenError::NotASocket { path }.into(),
            local_socket::BindError::IsAFolder(path) => ListenError::IsAFolder { path }.into(),
            local_socket::BindError::PathTooLong(path) => ListenError::PathTooLong { path }.into(),
            local_socket::BindError::System { source, .. } => source.into(),
            other => Self::System(io::Error::other(other)),
        }
    }
}

fn bind_tcp(host: &str, port: u16) -> Result<Listener, BindError> {
    let listener = TcpListener::bind((host, port))?;
    listener.set_nonblocking(true)?;
    let local = listener.local_addr()?;
    Ok(Listener {
        socket: listener.into(),
        // The name stays as it was given; only the port may be news.
        address: ListenAddress::Tcp {
            host: host.to_owned(),
            port: local.port(),
        },
        file: Mutex::default(),
    })
}

fn bind_unix(path: &Path) -> Result<Listener, BindError> {
    let (socket, file) = LocalListener::bind(path)?.into_parts();
    Ok(Listener {
        socket,
        address: ListenAddress::Unix(path.to_owned()),
        file: Mutex::new(Some(file)),
    })
}
