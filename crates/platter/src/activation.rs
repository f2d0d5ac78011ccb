//! Listening sockets that a service manager opened for us (sd_listen_fds(3)).

use crate::exit::Failure;
use listenfd::ListenFd;
use std::os::fd::OwnedFd;

/// More than a process can sensibly be given; the number comes from the environment.
const SOCKETS_MAX: usize = 253;

/// The sockets, if this process is the one that they are meant for. To be called once, before there are other threads.
///
/// # Errors
/// If something was passed that is no stream socket, or far too much.
pub(crate) fn sockets() -> Result<Vec<OwnedFd>, Failure> {
    let variable = |name| std::env::var(name).ok();
    if variable("LISTEN_PID") != Some(std::process::id().to_string()) {
        return Ok(Vec::new());
    }
    let count = variable("LISTEN_FDS").and_then(|count| count.parse().ok());
    match count {
        Some(0..=SOCKETS_MAX) => {}
        _ => {
            let message = format!("LISTEN_FDS is not a number from 0 to {SOCKETS_MAX}");
            return Err(Failure::running(message));
        }
    }
    let mut passed = ListenFd::from_env();
    (0..passed.len())
        .map(|index| take(&mut passed, index))
        .collect()
}

fn take(passed: &mut ListenFd, index: usize) -> Result<OwnedFd, Failure> {
    if let Ok(Some(socket)) = passed.take_unix_listener(index) {
        return Ok(socket.into());
    }
    match passed.take_tcp_listener(index) {
        Ok(Some(socket)) => Ok(socket.into()),
        Ok(None) => unreachable!("each socket is taken once"),
        Err(_) => Err(Failure::running(format!(
            "socket {index} of those passed by the service manager is neither a Unix nor a TCP stream socket"
        ))),
    }
}
