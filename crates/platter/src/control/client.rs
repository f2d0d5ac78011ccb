//! The side of the control socket that asks.

use crate::cli::ControlArgs;
use crate::control::protocol::{self, Refusal};
use crate::exit::Failure;
use crate::runtime_dir;
use serde_json::{Map, Value};
use std::fmt;
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
        self.ask(operation, fields)?;
        self.hear()
    }

    /// Asks for something.
    ///
    /// # Errors
    /// If the daemon does not take it.
    pub(crate) fn ask(&mut self, operation: &str, fields: Value) -> Result<(), Failure> {
        let request = request(operation, fields);
        let mut stream = self.socket();
        stream
            .write_all(&request)
            .map_err(|error| self.lost(&error))
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    /// If the daemon refuses, or goes away.
    pub(crate) fn hear(&mut self) -> Result<Value, Failure> {
        let mut line = Vec::new();
        match self.stream.read_until(b'\n', &mut line) {
            Ok(0) => Err(self.lost(&"it closed the connection")),
            Ok(_) => self.understand(&line),
            Err(error) => Err(self.lost(&error)),
        }
    }

    /// What a line says.
    ///
    /// # Errors
    /// A refusal, or nonsense.
    pub(crate) fn understand(&self, line: &[u8]) -> Result<Value, Failure> {
        match protocol::parse_reply(line) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(refusal)) => Err(refused(refusal)),
            Err(why) => Err(self.lost(&format_args!("its reply makes no sense: {why}"))),
        }
    }

    /// The connection itself. What it hears must be heard in one way only: here, or by [`hear`](Self::hear) once nothing is
    /// read ahead.
    pub(crate) fn socket(&self) -> &UnixStream {
        self.stream.get_ref()
    }

    /// There is no answer.
    pub(crate) fn lost(&self, why: &dyn fmt::Display) -> Failure {
        let path = self.path.display();
        Failure::running(format!("the daemon at {path} did not answer: {why}"))
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
