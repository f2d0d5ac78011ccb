//! Binding so that nobody else gets in, and nobody else's socket is taken away.

use crate::file::SocketFile;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, listen, socket_with,
};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many clients may knock before the first is let in.
const BACKLOG: i32 = 128;
/// The longest path of a Unix socket, in bytes.
pub const UNIX_PATH_LEN_MAX: usize = 107;
const LOCK_ATTEMPTS: u32 = 100;

/// Why nobody can listen at a path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another process answers there.
    #[error("{path}: another server is listening there; stop it, or choose another path", path = .0.display())]
    Live(PathBuf),
    /// What is there is not a socket, and is left alone.
    #[error("{path}: there is a file that is not a socket; remove it, or choose another path", path = .0.display())]
    NotASocket(PathBuf),
    /// A folder is there.
    #[error("{path}: there is a folder; name a socket in it, as in {path}/platter.sock", path = .0.display())]
    IsAFolder(PathBuf),
    /// The path does not fit into a socket's address.
    #[error(
        "{path}: the path of a Unix socket is at most {UNIX_PATH_LEN_MAX} bytes long; choose a shorter one",
        path = .0.display()
    )]
    PathTooLong(PathBuf),
    /// The system refused.
    #[error("cannot listen at {path}: {source}{remedy}", path = .path.display(), remedy = remedy(.source))]
    System {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What to do about it, where that is known.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; make its folder first, or choose another path",
        io::ErrorKind::PermissionDenied => "; choose a path in a folder of your own",
        _ => "",
    }
}

pub(crate) fn bind(path: &Path) -> Result<(OwnedFd, SocketFile), BindError> {
    if path.as_os_str().len() > UNIX_PATH_LEN_MAX {
        return Err(BindError::PathTooLong(path.to_owned()));
    }
    let system = |source: io::Error| BindError::System {
        path: path.to_owned(),
        source,
    };
    let name = SocketAddrUnix::new(path).map_err(|errno| system(errno.into()))?;
    let socket = new_socket().map_err(|errno| system(errno.into()))?;
    let file = {
        let _folder = lock_folder(path);
        match rustix::net::bind(&socket, &name) {
            Err(Errno::ADDRINUSE) if is_stale(path, &name)? => {
                tracing::info!(
                    "{}: replacing the socket of a server that is gone",
                    path.display()
                );
                remove(path).map_err(system)?;
                rustix::net::bind(&socket, &name).map_err(|errno| system(errno.into()))?;
            }
            bound => bound.map_err(|errno| system(errno.into()))?,
        }
        // Still under the lock: to another server, one that is bound and does not listen yet looks like one that is gone.
        listen(&socket, BACKLOG).map_err(|errno| system(errno.into()))?;
        SocketFile::new(path).map_err(system)?
    };
    // A umask may have taken our own rights away.
    fs::set_permissions(file.path(), Permissions::from_mode(0o600)).map_err(system)?;
    Ok((socket, file))
}

fn new_socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The file is made with the mode of its socket, so at no time can anybody else connect.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    Ok(socket)
}

/// Keeps two servers that start at once from both removing a stale socket, one of them the other's new one.
///
/// The lock is only among servers like this one and is held for a moment; where it cannot be had, starting goes on without.
fn lock_folder(path: &Path) -> Option<OwnedFd> {
    let path = std::path::absolute(path).ok()?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path.parent()?, flags, Mode::empty()).ok()?;
    for _ in 0..LOCK_ATTEMPTS {
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(folder),
            Err(Errno::AGAIN) => std::thread::sleep(Duration::from_millis(10)),
            Err(_) => return None,
        }
    }
    None
}

/// Whether what is at the path, which is taken, is the socket of a server that is gone.
fn is_stale(path: &Path, name: &SocketAddrUnix) -> Result<bool, BindError> {
    let system = |source: io::Error| BindError::System {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(metadata) if metadata.is_dir() => return Err(BindError::IsAFolder(path.to_owned())),
        Ok(_) => return Err(BindError::NotASocket(path.to_owned())),
        // Somebody removed it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(system(error)),
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    match connect(probe.map_err(|errno| system(errno.into()))?, name) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(true),
        // Connected, or too many are waiting to be: somebody listens. So does whoever speaks another kind of socket there.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(BindError::Live(path.to_owned())),
        Err(error) => Err(system(error.into())),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
