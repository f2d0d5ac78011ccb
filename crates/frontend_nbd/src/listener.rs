//! Listening sockets: bound so that nobody else gets in, and leaving nothing behind.

mod adopted;

use crate::address::ListenAddress;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with, sockopt,
};
use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How many clients may knock before the first is let in.
const BACKLOG: i32 = 128;
/// The longest path of a Unix socket, in bytes.
const UNIX_PATH_LEN_MAX: usize = 107;

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
    #[error("cannot listen at {address}: {source}")]
    System {
        /// The address.
        address: ListenAddress,
        /// What the system said.
        source: io::Error,
    },
}

/// A socket that clients connect to.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    address: ListenAddress,
    /// The file of a Unix socket that was made here, removed when this is dropped.
    file: Option<SocketFile>,
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
        if let Some(file) = &self.file {
            file.is_left.store(true, Ordering::Relaxed);
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

impl From<Errno> for BindError {
    fn from(error: Errno) -> Self {
        Self::System(error.into())
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
        file: None,
    })
}

fn bind_unix(path: &Path) -> Result<Listener, BindError> {
    if path.as_os_str().len() > UNIX_PATH_LEN_MAX {
        let path = path.to_owned();
        return Err(ListenError::PathTooLong { path }.into());
    }
    // Kept as an absolute path: the file is removed at the end, wherever the process has gone meanwhile.
    let absolute = std::path::absolute(path)?;
    let name = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The file is made with the mode of its socket, so at no time can anybody else connect.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    let file = {
        let _folder = lock_folder(&absolute);
        match bind(&socket, &name) {
            Err(Errno::ADDRINUSE) => {
                remove_stale(path, &name)?;
                bind(&socket, &name)?;
            }
            other => other?,
        }
        SocketFile::new(absolute)?
    };
    // A umask may have taken our own rights away.
    fs::set_permissions(&file.path, Permissions::from_mode(0o600))?;
    listen(&socket, BACKLOG)?;
    Ok(Listener {
        socket,
        address: ListenAddress::Unix(path.to_owned()),
        file: Some(file),
    })
}

/// Keeps two servers that start at once from both removing a stale socket, one of them the other's new one.
///
/// The lock is only among servers like this one and is held for a moment; where it cannot be had, starting goes on without.
fn lock_folder(path: &Path) -> Option<OwnedFd> {
    let folder = path.parent()?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty()).ok()?;
    for _ in 0..LOCK_ATTEMPTS {
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(folder),
            Err(Errno::AGAIN) => std::thread::sleep(Duration::from_millis(10)),
            Err(_) => return None,
        }
    }
    None
}

const LOCK_ATTEMPTS: u32 = 100;

/// Removes the socket of a server that is gone.
fn remove_stale(path: &Path, name: &SocketAddrUnix) -> Result<(), BindError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let path = path.to_owned();
    if !metadata.file_type().is_socket() {
        return Err(ListenError::NotASocket { path }.into());
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&probe, name) {
        Err(Errno::CONNREFUSED) => {
            tracing::info!(
                "{}: replacing the socket of a server that is gone",
                path.display()
            );
            fs::remove_file(&path)?;
            Ok(())
        }
        Err(Errno::NOENT) => Ok(()),
        // Connected, or too many are waiting to be: somebody listens. So does whoever speaks another kind of socket there.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(ListenError::Live { path }.into()),
        Err(error) => Err(error.into()),
    }
}

/// The file of a bound Unix socket.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode: the file is removed only if it is still this one.
    identity: (u64, u64),
    is_left: AtomicBool,
}

impl SocketFile {
    fn new(path: PathBuf) -> io::Result<Self> {
        let identity = identity(&path)?;
        Ok(Self {
            path,
            identity,
            is_left: AtomicBool::new(false),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_left = *self.is_left.get_mut();
        if !is_left
            && identity(&self.path).is_ok_and(|now| now == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!("cannot remove the socket {}: {error}", self.path.display());
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
