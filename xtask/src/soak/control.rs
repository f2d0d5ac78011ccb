//! A client of the daemon's control socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use super::TIME_MAX;
use crate::Fallible;

#[derive(Debug)]
pub(crate) struct Control(BufReader<UnixStream>);

impl Control {
    pub(crate) fn connect(socket: &Path) -> Fallible<Self> {
        let failed = |error| format!("cannot connect to {}: {error}", socket.display());
        let stream = UnixStream::connect(socket).map_err(failed)?;
        stream.set_read_timeout(Some(TIME_MAX)).map_err(failed)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Asks for something that has to be done.
    pub(crate) fn ask(&mut self, request: &Value) -> Fallible<Value> {
        let failed = |error| format!("the control socket did not answer {request}: {error}");
        let line = format!("{request}\n");
        self.0
            .get_mut()
            .write_all(line.as_bytes())
            .map_err(failed)?;
        let mut line = String::new();
        self.0.read_line(&mut line).map_err(failed)?;
        let mut reply: Value = serde_json::from_str(&line)
            .map_err(|_| format!("the control socket answered {request} with `{line}`"))?;
        match reply.get_mut("ok") {
            Some(ok) => Ok(ok.take()),
            None => Err(format!("{request} was refused: {reply}")),
        }
    }

    pub(crate) fn inspect(&mut self, path: &str) -> Fallible<Value> {
        self.ask(&json!({ "op": "inspect", "path": path }))
    }

    pub(crate) fn set(&mut self, path: &str, value: Value) -> Fallible<Value> {
        self.ask(&json!({ "op": "set", "path": path, "value": value }))
    }

    pub(crate) fn resize(&mut self, export: &str, size_bytes: u64) -> Fallible<Value> {
        self.ask(&json!({ "op": "resize", "export": export, "size": size_bytes }))
    }

    /// The numbers of the connections that this process has.
    pub(crate) fn own_connections(&mut self) -> Fallible<Vec<String>> {
        let own = format!("pid {} ", std::process::id());
        let connections = self.inspect("connections")?;
        let connections = connections.as_object().into_iter().flatten();
        let of_ours = connections.filter(|(_, connection)| {
            let peer = connection.get("peer").and_then(Value::as_str);
            peer.is_some_and(|peer| peer.starts_with(&own))
        });
        Ok(of_ours.map(|(number, _)| number.clone()).collect())
    }
}

/// All numbers under this name, anywhere in the tree, added up.
pub(crate) fn sum_of(tree: &Value, name: &str) -> u64 {
    let inner = |value: &Value| sum_of(value, name);
    match tree {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| match value.as_u64() {
                Some(number) if key == name => number,
                _ => inner(value),
            })
            .sum(),
        Value::Array(items) => items.iter().map(inner).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_wherever_they_are_in_the_tree() {
        let tree =
            json!({ "size": 1, "of": [{ "size": 20 }, { "deep": { "size": 300, "other": 9 } }] });
        assert_eq!(sum_of(&tree, "size"), 321);
        assert_eq!(sum_of(&tree, "nobody"), 0);
    }
}
