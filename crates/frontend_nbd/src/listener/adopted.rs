//! Listening sockets that somebody else made: looked at closely, for they may be anything.

use super::{ListenError, Listener};
use crate::address::ListenAddress;
use parking_lot::Mutex;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketType, getsockname, sockopt};
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

impl Listener {
    /// Serves clients of `socket`, whose file, if it has one, belongs to whoever made it.
    pub(crate) fn adopt(socket: OwnedFd) -> Result<Self, ListenError> {
        let refuse = |reason: String| ListenError::NotAdoptable {
            descriptor: socket.as_raw_fd(),
            reason,
        };
        let address = address_of(&socket).map_err(refuse)?;
        // Another process may take the client that we were told of.
        rustix::io::ioctl_fionbio(&socket, true)
            .map_err(|error| refuse(format!("it cannot be used without blocking: {error}")))?;
        Ok(Self {
            socket,
            address,
            file: Mutex::default(),
        })
    }
}

fn address_of(socket: &OwnedFd) -> Result<ListenAddress, String> {
    let unsuitable = |error| format!("it is not a socket that can be asked what it is: {error}");
    let family = sockopt::socket_domain(socket).map_err(unsuitable)?;
    let kind = sockopt::socket_type(socket).map_err(unsuitable)?;
    if kind != SocketType::STREAM {
        return Err("it is not a stream socket".to_owned());
    }
    if !sockopt::socket_acceptconn(socket).map_err(unsuitable)? {
        return Err("it does not listen: pass the listening socket, not a connection".to_owned());
    }
    let name = getsockname(socket).map_err(unsuitable)?;
    match family {
        AddressFamily::UNIX => unix_address(name),
        AddressFamily::INET | AddressFamily::INET6 => tcp_address(name),
        _ => Err("it is neither a Unix nor a TCP socket".to_owned()),
    }
}

fn unix_address(name: SocketAddrAny) -> Result<ListenAddress, String> {
    let name = SocketAddrUnix::try_from(name).map_err(|error| error.to_string())?;
    match name.path_bytes() {
        Some(path) => Ok(ListenAddress::Unix(PathBuf::from(OsStr::from_bytes(path)))),
        None => Err(
            "it is a Unix socket without a file, which everybody on this machine may use: \
             give it a path"
                .to_owned(),
        ),
    }
}

fn tcp_address(name: SocketAddrAny) -> Result<ListenAddress, String> {
    let name = SocketAddr::try_from(name).map_err(|error| error.to_string())?;
    Ok(ListenAddress::Tcp {
        host: name.ip().to_string(),
        port: name.port(),
    })
}
