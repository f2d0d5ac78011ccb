//! What clients and director share.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value;

use super::client::{Step, Trouble};
use super::control::Control;
use super::exports::EXPORTS;
use super::faults::ErrorLog;
use super::gate::Gate;
use super::wire::Wire;
use super::{LOOK_INTERVAL, TIME_MAX, daemon};

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    /// Has the images, the sockets, the log, and what tools write.
    pub(crate) folder: PathBuf,
    pub(crate) gate: Gate,
    pub(crate) tally: Tally,
    errors: Mutex<ErrorLog>,
    /// Held while one of our own clients connects, so that its connection is the one that is new.
    connecting: Mutex<()>,
}

impl World {
    pub(crate) fn new(seed: u64, folder: PathBuf) -> Self {
        Self {
            seed,
            folder,
            gate: Gate::default(),
            tally: Tally::default(),
            errors: Mutex::default(),
            connecting: Mutex::default(),
        }
    }

    /// The errors that were ordered.
    pub(crate) fn errors(&self) -> MutexGuard<'_, ErrorLog> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn uri(&self, export: &str) -> String {
        daemon::uri(&self.folder, export)
    }

    pub(crate) fn control(&self) -> Step<Control> {
        Control::connect(&daemon::control_socket(&self.folder)).map_err(Trouble::Cut)
    }

    /// Connects to an export; also returns the number that the daemon has for the connection.
    pub(crate) fn connect(&self, export: usize) -> Step<(Wire, String)> {
        let mut control = self.control()?;
        let _only = self
            .connecting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = control.own_connections().map_err(Trouble::Cut)?;
        let name = EXPORTS[export].name;
        let wire = Wire::connect(&daemon::socket(&self.folder), name)
            .map_err(|error| Trouble::cut(format!("cannot connect to {name}"), error))?;
        let mut new = control.own_connections().map_err(Trouble::Cut)?;
        new.retain(|number| !before.contains(number));
        match <[String; 1]>::try_from(new) {
            Ok([number]) => Ok((wire, number)),
            Err(none) if none.is_empty() => Err(Trouble::Cut(format!(
                "{name}: a connection was made, and the daemon does not show it"
            ))),
            Err(found) => Err(Trouble::Wrong(format!(
                "one connection was made, and the daemon shows {found:?}"
            ))),
        }
    }

    /// Waits until the daemon has done with a connection whose client has died.
    pub(crate) fn wait_until_gone(&self, number: &str) -> Step {
        self.wait_until_none(number, |found, _| found == number)
    }

    /// The same for all connections of a process.
    pub(crate) fn wait_until_process_gone(&self, pid: u32) -> Step {
        let own = format!("pid {pid} ");
        self.wait_until_none(&own, |_, connection| {
            let peer = connection.get("peer").and_then(Value::as_str);
            peer.is_some_and(|peer| peer.starts_with(&own))
        })
    }

    fn wait_until_none(&self, what: &str, is_meant: impl Fn(&str, &Value) -> bool) -> Step {
        let mut control = self.control()?;
        let begun = Instant::now();
        loop {
            let connections = control.inspect("connections").map_err(Trouble::Cut)?;
            let mut connections = connections.as_object().into_iter().flatten();
            if !connections.any(|(number, connection)| is_meant(number, connection)) {
                return Ok(());
            }
            if begun.elapsed() > TIME_MAX {
                return Err(Trouble::Wrong(format!(
                    "the client of connection {what} has died, and the daemon keeps the connection"
                )));
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

/// What was done, for the report.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    pub(crate) fn add(&self, what: impl Display, count: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(what.to_string()).or_default() += count;
    }

    pub(crate) fn get(&self, what: &str) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(what).copied().unwrap_or(0)
    }

    pub(crate) fn all(&self) -> BTreeMap<String, u64> {
        let counts = self.0.lock();
        counts.unwrap_or_else(PoisonError::into_inner).clone()
    }
}
