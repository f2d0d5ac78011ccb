//! The daemon's side of the control socket.

use crate::control::descriptors;
use crate::control::operations::answer;
use crate::control::protocol::{self, Operation, REQUEST_LEN_MAX, Refusal, Request};
use crate::daemon::Daemon;
use crate::door::{Client, Door, Kind, Threshold};
use crate::exit::Failure;
use local_socket::LocalListener;
use serde_json::Value;
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
    Door::open(kind, Threshold::Local(listener), move |client| {
        if let Err(error) = serve_client(&daemon, client) {
            tracing::debug!("a control client is gone: {error}");
        }
    })
    .map_err(Failure::running)
}

/// Answers one client until it leaves.
///
/// # Errors
/// If it does not take its replies.
pub(crate) fn serve_client(daemon: &Daemon, client: Client) -> io::Result<()> {
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
        match protocol::parse(request) {
            Ok(Request {
                id,
                operation: Operation::Handover(_),
            }) => {
                return hand_over(daemon, &mut replies, id);
            }
            Ok(request) => {
                let result = answer(daemon, request.operation);
                replies.write_all(&protocol::reply(request.id, result))?;
            }
            Err((id, refusal)) => replies.write_all(&protocol::reply(id, Err(refusal)))?,
        }
    }
}

/// Gives the listening sockets away with a first reply, ends the daemon, and tells with a second reply that everything is let go.
fn hand_over(daemon: &Daemon, replies: &mut Client, id: Option<Value>) -> io::Result<()> {
    let (passed, sockets) = match daemon.pass_sockets() {
        Ok(passed) => passed,
        Err(refusal) => return replies.write_all(&protocol::reply(id, Err(refusal))),
    };
    let listeners = serde_json::to_value(passed).expect("texts are JSON");
    let first = protocol::reply(id.clone(), Ok(listeners));
    if let Err(error) = descriptors::send(&*replies, &first, &sockets) {
        tracing::warn!("serving on: whoever was to take over is gone");
        daemon.keep_place();
        return Err(error);
    }
    drop(sockets);
    daemon.give_place();
    let result = daemon.farewell().wait().map_err(Refusal::new);
    let told = replies.write_all(&protocol::reply(id, result.map(|()| Value::Null)));
    daemon.farewell().told();
    told
}
