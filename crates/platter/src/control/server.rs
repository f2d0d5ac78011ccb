//! The daemon's side of the control socket.

use crate::control::operations::answer;
use crate::control::protocol::{self, REQUEST_LEN_MAX, Refusal};
use crate::daemon::Daemon;
use crate::door::{Client, Door, Kind};
use crate::exit::Failure;
use local_socket::LocalListener;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;

/// How many clients there may be at once. Each is of the daemon's own user; what they cost is a thread and a request each.
const CLIENTS_MAX: usize = 32;

/// Listens at `path`: clients wait from now on.
///
/// # Errors
/// If that is not possible.
pub(crate) fn bind(path: &Path) -> Result<LocalListener, Failure> {
    LocalListener::bind(path).map_err(Failure::running)
}

/// Answers whoever comes, until the door is closed.
///
/// # Errors
/// If the system has no thread for it.
pub(crate) fn serve(listener: LocalListener, daemon: Arc<Daemon>) -> Result<Door, Failure> {
    let kind = Kind {
        name: "control",
        clients_max: CLIENTS_MAX,
        full: b"{\"error\":{\"message\":\"there are 32 clients at the control socket already; try again\"}}\n",
        patience: None,
    };
    Door::open(kind, listener, move |client| {
        if let Err(error) = serve_client(&daemon, client) {
            tracing::debug!("a control client is gone: {error}");
        }
    })
    .map_err(Failure::running)
}

fn serve_client(daemon: &Daemon, client: Client) -> io::Result<()> {
    let mut requests = BufReader::new(client.clone());
    let mut replies = client;
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut requests).take(REQUEST_LEN_MAX as u64);
        limited.read_until(b'\n', &mut line)?;
        let Some(request) = line.strip_suffix(b"\n") else {
            if line.len() == REQUEST_LEN_MAX {
                let refusal = Refusal::new("a request is at most 1 MiB long");
                replies.write_all(&protocol::reply(None, Err(refusal)))?;
            }
            return Ok(());
        };
        replies.write_all(&answered(daemon, request))?;
    }
}

/// The reply to a request.
fn answered(daemon: &Daemon, request: &[u8]) -> Vec<u8> {
    match protocol::parse(request) {
        Ok(request) => protocol::reply(request.id, answer(daemon, request.operation)),
        Err((id, refusal)) => protocol::reply(id, Err(refusal)),
    }
}
