//! A client of the control socket that says what it is told to say.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::client;

/// A connection to a control socket. Every wait ends after `TIME_MAX`.
pub(crate) struct Control(BufReader<UnixStream>);

impl Control {
    #[track_caller]
    pub(crate) fn connect(path: &Path) -> Self {
        Self(BufReader::new(client::connect(path)))
    }

    pub(crate) fn stream(&self) -> &UnixStream {
        self.0.get_ref()
    }

    /// Sends a line, right or wrong.
    #[track_caller]
    pub(crate) fn send(&self, line: impl AsRef<[u8]>) {
        let line = [line.as_ref(), b"\n"].concat();
        self.stream()
            .write_all(&line)
            .expect("the daemon takes requests");
    }

    /// Hears a reply, or `None` if the daemon has hung up.
    #[track_caller]
    pub(crate) fn hear(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.0.read_line(&mut line).expect("the daemon replies") {
            0 => None,
            _ => Some(serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"))),
        }
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, request: Value) -> Value {
        self.send(request.to_string());
        self.hear().expect("the daemon replies")
    }

    /// Asks for what must be done.
    #[track_caller]
    pub(crate) fn get(&mut self, request: Value) -> Value {
        let mut reply = self.ask(request);
        assert!(reply.get("error").is_none(), "refused: {reply}");
        reply["ok"].take()
    }

    #[track_caller]
    pub(crate) fn inspect(&mut self, path: &str) -> Value {
        self.get(json!({ "op": "inspect", "path": path }))
    }
}
