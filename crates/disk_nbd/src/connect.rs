//! Opening the socket, and shaking hands in a limited time. All of it blocks.

use crate::error::ConnectReason;
use crate::handshake::{self, Terms};
use crate::{NbdAddress, NbdUri};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{
    Timeout, set_socket_keepalive, set_socket_timeout, set_tcp_keepcnt, set_tcp_keepidle,
    set_tcp_keepintvl, set_tcp_nodelay, set_tcp_user_timeout,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, recv, send,
};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// A dead machine is noticed after about a minute, whether or not it owes us something: the kernel looks, and no thread of ours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_COUNT: u32 = 3;
const UNACKNOWLEDGED_MS_MAX: u32 = 60_000;

/// Connects to the server of `uri`, and agrees with it on the export.
pub(crate) fn connect(uri: &NbdUri, time_max: Duration) -> Result<(OwnedFd, Terms), ConnectReason> {
    let clock = Clock {
        deadline: Instant::now() + time_max,
        time_max,
    };
    let socket = match uri.address() {
        NbdAddress::Unix(path) => connect_unix(path, &clock),
        NbdAddress::Tcp { host, port } => connect_tcp(host, *port, &clock),
    };
    let socket = socket.map_err(|error| clock.timed_out(&error, ConnectReason::Unreachable))?;
    let stream = Limited {
        socket: &socket,
        clock: &clock,
    };
    let terms = match handshake::negotiate(stream, uri.export_name()) {
        Err(ConnectReason::Broken(error)) => {
            return Err(clock.timed_out(&error, ConnectReason::Broken));
        }
        other => other?,
    };
    Ok((socket, terms))
}

fn connect_unix(path: &Path, clock: &Clock) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path).map_err(|error| match error {
        Errno::NAMETOOLONG => io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path of the socket is longer than the 107 bytes that the system allows",
        ),
        other => other.into(),
    })?;
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // This bounds the wait for a server whose queue of clients is full.
    set_socket_timeout(&socket, Timeout::Send, Some(clock.left()?))?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) => Ok(socket),
        Err(Errno::AGAIN) => Err(io::ErrorKind::TimedOut.into()),
        Err(error) => Err(error.into()),
    }
}

fn connect_tcp(host: &str, port: u16, clock: &Clock) -> io::Result<OwnedFd> {
    let mut outcome = Err(io::Error::new(
        io::ErrorKind::NotFound,
        "the host has no address",
    ));
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, clock.left()?) {
            Ok(stream) => {
                let socket = OwnedFd::from(stream);
                set_up_tcp(&socket)?;
                return Ok(socket);
            }
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

fn set_up_tcp(socket: &OwnedFd) -> io::Result<()> {
    set_tcp_nodelay(socket, true)?;
    set_socket_keepalive(socket, true)?;
    set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    set_tcp_keepcnt(socket, KEEPALIVE_COUNT)?;
    set_tcp_user_timeout(socket, UNACKNOWLEDGED_MS_MAX)?;
    Ok(())
}

/// What is left of the time.
struct Clock {
    deadline: Instant,
    time_max: Duration,
}

impl Clock {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(left),
        }
    }

    /// The reason for a failure, unless the time was up.
    fn timed_out(
        &self,
        error: &io::Error,
        otherwise: fn(io::Error) -> ConnectReason,
    ) -> ConnectReason {
        match error.kind() {
            io::ErrorKind::TimedOut => ConnectReason::TimedOut(self.time_max),
            kind => otherwise(io::Error::new(kind, error.to_string())),
        }
    }
}

/// The socket as a stream that ends at the deadline, however slowly the bytes come.
struct Limited<'a> {
    socket: &'a OwnedFd,
    clock: &'a Clock,
}

impl Limited<'_> {
    fn wait(&self, events: PollFlags) -> io::Result<()> {
        let left = self.clock.left()?;
        let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut fds = [PollFd::from_borrowed_fd(self.socket.as_fd(), events)];
        match poll(&mut fds, Some(&left)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Read for Limited<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            self.wait(PollFlags::IN)?;
            match recv(self.socket, &mut *into, RecvFlags::DONTWAIT) {
                Ok((_, len)) => return Ok(len),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.wait(PollFlags::OUT)?;
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match send(self.socket, bytes, flags) {
                Ok(len) => return Ok(len),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
