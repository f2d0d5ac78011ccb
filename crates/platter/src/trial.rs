//! For the fuzz targets, and nobody else: parts of the daemon that take input from outside, without a daemon around them.

use crate::control;
use crate::daemon::{Daemon, Sockets};
use crate::door::Client;
use frontend_nbd::ServerHandle;
use resource::ResourceResolver;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Answers one client of a control socket until it leaves.
///
/// # Errors
/// If the client does not take its replies, or the system fails.
pub fn answer_control_client(
    server: ServerHandle,
    resolver: ResourceResolver,
    socket: OwnedFd,
) -> io::Result<()> {
    let sockets = Sockets {
        kept_for: Some("that is only tried"),
        ..Sockets::default()
    };
    let daemon = Daemon::new(server, resolver, false, sockets);
    control::serve_client(&daemon, Client::new(Arc::new(socket)))
}
