//! The side of the control socket that asks.

use crate::cli::ControlArgs;
use crate::control::protocol::{self, Refusal};
use crate::exit::Failure;
use crate::runtime_dir;
use serde_json::{Map, Value};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// A connection to a daemon.
pub(crate) struct Connection {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Connection {
    /// Connects to the daemon that was named, or to the only one there is.
    ///
    /// # Errors
    /// If there is none, or, where nobody named one, several.
    pub(crate) fn open(args: &ControlArgs) -> Result<Self, Failure> {
        match &args.control {
            Some(path) => Self::connect(path),
            None => Self::connect(&runtime_dir::only_control_socket()?),
        }
    }

    /// Connects to the daemon at `path`.
    ///
    /// # Errors
    /// If nobody is there.
    pub(crate) fn connect(path: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(path).map_err(|error| {
            Failure::running(format!(
                "cannot connect to the control socket {}: {error}; does a daemon run with --control?",
                path.display()
            ))
        })?;
        Ok(Self {
            stream: BufReader::new(stream),
            path: path.to_owned(),
        })
    }

    /// Asks for something and waits for the answer.
    ///
    /// # Errors
    /// If the daemon refuses, or goes away.
    pub(crate) fn call(&mut self, operation: &str, fields: Value) -> Result<Value, Failure> {
        let lost = |why: &dyn std::fmt::Display| {
            let path = self.path.display();
            Failure::running(format!("the daemon at {path} did not answer: {why}"))
        };
        let request = request(operation, fields);
        let mut line = Vec::new();
        let mut stream = self.stream.get_ref();
        stream.write_all(&request).map_err(|error| lost(&error))?;
        let read = self.stream.read_until(b'\n', &mut line);
        match read {
            Ok(0) => return Err(lost(&"it closed the connection")),
            Ok(_) => {}
            Err(error) => return Err(lost(&error)),
        }
        match protocol::parse_reply(&line) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(refusal)) => Err(refused(refusal)),
            Err(why) => Err(lost(&format_args!("its reply makes no sense: {why}"))),
        }
    }
}

fn request(operation: &str, fields: Value) -> Vec<u8> {
    let mut request = Map::from_iter([("op".to_owned(), operation.into())]);
    if let Value::Object(fields) = fields {
        request.extend(fields);
    }
    let mut line = Value::Object(request).to_string();
    line.push('\n');
    line.into_bytes()
}

fn refused(refusal: Refusal) -> Failure {
    Failure::running(match refusal.path {
        // These are the words of the command line already.
        Some(path) if !path.contains(['.', '[']) => refusal.message,
        Some(path) => format!("{path}: {}", refusal.message),
        None => refusal.message,
    })
}
