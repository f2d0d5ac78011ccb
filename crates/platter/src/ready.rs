//! Telling whoever started the daemon how it is doing: a descriptor that hears one line, and systemd's notification socket.

use crate::exit::Failure;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What a service manager's variables for its children are called; they are not meant for ours.
pub(crate) const VARIABLES: [&str; 4] =
    [NOTIFY_SOCKET, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// The descriptor of `--ready-fd`, which is told once that clients can connect.
#[derive(Debug)]
pub(crate) struct ReadyFd(File);

impl ReadyFd {
    /// Takes the descriptor, so that no child has it. To be called before anything else is opened: only then does the number
    /// mean what the caller of the program meant.
    ///
    /// # Errors
    /// If there is no such descriptor, or it cannot be written.
    pub(crate) fn claim(number: RawFd) -> Result<Self, Failure> {
        let refuse = |error: &dyn std::fmt::Display| {
            Failure::running(format!(
                "--ready-fd {number}: {error}; pass the end of a pipe that somebody reads, or a file"
            ))
        };
        // Opened again, because a number is not a descriptor to Rust; this is another one of the same pipe. Without NONBLOCK it
        // would wait for somebody who reads, and there may be nobody any more.
        let path = format!("/proc/self/fd/{number}");
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let file = File::options().append(true).custom_flags(flags).open(path);
        let file = file.map_err(|error| refuse(&error))?;
        // Who waits for the end, and not for the line, waits for this one too. The standard streams have other uses.
        if number > 2 {
            nix::unistd::close(number).map_err(|error| refuse(&error))?;
        }
        Ok(Self(file))
    }

    /// Says so, and closes it.
    pub(crate) fn tell(mut self) {
        if let Err(error) = self.0.write_all(b"ready\n") {
            tracing::warn!("serving, but the descriptor of --ready-fd does not take it: {error}");
        }
    }
}

/// Sends a state to the service manager, if one wants to know: `READY=1`, `STOPPING=1`, `STATUS=...`, one per line.
///
/// As described in sd_notify(3).
pub(crate) fn notify(state: &str) {
    let Some(address) = std::env::var_os(NOTIFY_SOCKET) else {
        return;
    };
    if let Err(error) = send(&address, state) {
        tracing::warn!("cannot notify the service manager at {address:?}: {error}");
    }
}

fn send(address: &OsStr, state: &str) -> io::Result<()> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> Vec<u8> {
        let mut state = [0; 64];
        let len = socket.recv(&mut state).unwrap();
        state[..len].to_vec()
    }

    #[test]
    fn a_state_goes_to_a_path_and_to_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), "READY=1").unwrap();
        assert_eq!(heard(&socket), b"READY=1");
        let name = format!("platter-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), "STOPPING=1").unwrap();
        assert_eq!(heard(&socket), b"STOPPING=1");
        send(folder.path().join("nobody").as_os_str(), "READY=1").unwrap_err();
    }
}
