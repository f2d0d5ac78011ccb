//! The exports of a server, which come and go while it serves.
//!
//! - E1: a connection that has chosen an export holds a [`Place`] in it, and nobody else keeps the export's disk: who only looks
//!   around holds it for no longer than it takes to look.
//! - E2: once an export is closed, it has no places to give.
//! - E3: the list of exports is locked to look something up, never while a client, a disk or another lock is waited for.

use crate::activity::{Operation, OperationStats, Totals};
use crate::connection::Connection;
use crate::export::{Export, InvalidExport, shortened};
use crate::refusals::Refusals;
use disk_backend::DiskError;
use futures_lite::future::block_on;
use inspect::Inspect;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::ops::{Bound, Deref};
use std::sync::{Arc, Weak};

/// Why an export was not removed, or not in good order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveExportError {
    /// There is none of that name; nothing was changed.
    #[error("there is no export named {}", shortened(.name))]
    Unknown {
        /// The name that was asked for.
        name: String,
    },
    /// The export is gone, but what clients wrote last may be lost: the final flush failed.
    #[error("export {} was removed, but its last flush failed", shortened(.export))]
    Flush {
        /// The export's name.
        export: String,
        /// What the disk said.
        source: DiskError,
    },
}

/// All exports of a server, by name.
#[derive(Debug, Default)]
pub(crate) struct Exports {
    by_name: Mutex<BTreeMap<String, Arc<Offer>>>,
    /// How many exports are off the list and not yet flushed.
    leaving_count: Mutex<usize>,
    /// Notified whenever `leaving_count` is 0 again.
    all_left: Condvar,
}

/// An export that is, or was, on offer; and who uses it.
#[derive(Debug)]
pub(crate) struct Offer {
    export: Export,
    users: Mutex<Users>,
    /// Notified whenever a user leaves.
    left: Condvar,
    refusals: Refusals,
    /// The last field, so that the disk is dropped before it is.
    farewell: Farewell,
}

/// What the clients of an export do, and have done since it was added.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportStats {
    /// The export's name.
    pub name: String,
    /// How many connections use it now.
    pub connections: usize,
    /// How many of their requests are being worked on.
    pub requests_in_flight: u64,
    /// How many clients were turned away because of a limit of connections to it.
    pub refused: u64,
    /// Every operation, in the order of [`Operation::ALL`], with what was done of it by all connections, those that have gone
    /// included.
    pub operations: Vec<(Operation, OperationStats)>,
}

/// Why an export has no place for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// It was removed.
    Removed,
    /// As many connections as may are using it.
    Full,
}

#[derive(Debug, Default)]
struct Users {
    /// Nobody may come any more (E2).
    is_closed: bool,
    /// By number.
    connections: BTreeMap<u64, Arc<Connection>>,
    /// What those did who have gone (A2).
    before: Totals,
}

/// A connection's place among the users of an export. Dropped when the connection needs the export no longer.
#[derive(Debug)]
pub(crate) struct Place {
    offer: Arc<Offer>,
    number: u64,
}

/// Tells that its owner has been dropped.
#[derive(Debug, Default)]
struct Farewell(Arc<Gone>);

#[derive(Debug, Default)]
struct Gone {
    is_gone: Mutex<bool>,
    happened: Condvar,
}

impl Exports {
    pub(crate) fn new(exports: impl IntoIterator<Item = Export>) -> Result<Self, InvalidExport> {
        let all = Self::default();
        exports
            .into_iter()
            .try_for_each(|export| all.add(export))
            .map(|()| all)
    }

    pub(crate) fn add(&self, export: Export) -> Result<(), InvalidExport> {
        let name = export.name().to_owned();
        let mut by_name = self.by_name.lock();
        if by_name.contains_key(&name) {
            return Err(InvalidExport::DuplicateName { name });
        }
        by_name.insert(name, Arc::new(Offer::new(export)));
        Ok(())
    }

    /// Takes an export off the list, sees its clients out and flushes it. When this returns nothing here holds its disk.
    pub(crate) fn remove(&self, name: &str) -> Result<(), RemoveExportError> {
        // Counted before it is off the list: between the two, an ending server would neither flush it nor wait.
        let _leaving = self.count_leaving();
        let offer = self.by_name.lock().remove(name);
        let offer = offer.ok_or_else(|| RemoveExportError::Unknown {
            name: name.to_owned(),
        })?;
        offer.see_everybody_out();
        let flushed = block_on(offer.close()).map_err(|source| RemoveExportError::Flush {
            export: name.to_owned(),
            source,
        });
        let gone = Arc::clone(&offer.farewell.0);
        drop(offer);
        // Somebody may still be looking (E1).
        gone.wait();
        flushed
    }

    /// Waits until every export that is off the list is flushed.
    pub(crate) fn wait_for_leaving(&self) {
        let mut count = self.leaving_count.lock();
        while *count > 0 {
            self.all_left.wait(&mut count);
        }
    }

    /// The export of exactly this name.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Offer>> {
        self.by_name.lock().get(name).map(Arc::clone)
    }

    /// The export that a client means. The empty name stands for an only export, whatever its name.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Offer>> {
        let by_name = self.by_name.lock();
        let only = || match by_name.len() {
            1 if name.is_empty() => by_name.values().next(),
            _ => None,
        };
        by_name.get(name).or_else(only).map(Arc::clone)
    }

    /// The export whose name follows `name`, or the first: to go through all of them without holding any (E1).
    pub(crate) fn after(&self, name: Option<&str>) -> Option<Arc<Offer>> {
        let from = name.map_or(Bound::Unbounded, Bound::Excluded);
        let by_name = self.by_name.lock();
        let mut behind = by_name.range::<str, _>((from, Bound::Unbounded));
        behind.next().map(|(_, offer)| Arc::clone(offer))
    }

    pub(crate) fn all(&self) -> Vec<Arc<Offer>> {
        self.by_name.lock().values().map(Arc::clone).collect()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.by_name.lock().keys().cloned().collect()
    }

    fn count_leaving(&self) -> impl Drop {
        struct Leaving<'a>(&'a Exports);
        impl Drop for Leaving<'_> {
            fn drop(&mut self) {
                let mut count = self.0.leaving_count.lock();
                *count -= 1;
                if *count == 0 {
                    self.0.all_left.notify_all();
                }
            }
        }
        *self.leaving_count.lock() += 1;
        Leaving(self)
    }
}

impl Offer {
    fn new(export: Export) -> Self {
        Self {
            export,
            users: Mutex::default(),
            left: Condvar::new(),
            refusals: Refusals::default(),
            farewell: Farewell::default(),
        }
    }

    /// A place for `connection`, among at most `connections_max` unless the export has its own limit.
    pub(crate) fn enter(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        connections_max: Option<usize>,
    ) -> Result<Place, NoPlace> {
        let number = connection.number();
        let mut users = self.users.lock();
        if users.is_closed {
            return Err(NoPlace::Removed);
        }
        let connections_max = self.export.connections_max().get().or(connections_max);
        if connections_max.is_some_and(|max| users.connections.len() >= max) {
            return Err(NoPlace::Full);
        }
        users.connections.insert(number, Arc::clone(connection));
        Ok(Place {
            offer: Arc::clone(self),
            number,
        })
    }

    /// Counts a client for whom it was full, and returns whether the log should say so.
    pub(crate) fn refuse(&self) -> bool {
        self.refusals.add()
    }

    /// What its clients do now, and what all of them have done.
    pub(crate) fn stats(&self) -> ExportStats {
        let (mut totals, present) = {
            let users = self.users.lock();
            let present: Vec<_> = users.connections.values().map(Arc::clone).collect();
            (users.before.clone(), present)
        };
        // Who leaves now is not in `before` yet (A2).
        present.iter().for_each(|one| totals.add(one.activity()));
        let in_flight = present
            .iter()
            .map(|one| one.activity().requests_in_flight());
        ExportStats {
            name: self.export.name().to_owned(),
            connections: present.len(),
            requests_in_flight: in_flight.sum(),
            refused: self.refusals.count(),
            operations: totals.into_operations().collect(),
        }
    }

    fn see_everybody_out(&self) {
        let mut users = self.users.lock();
        users.is_closed = true;
        users.connections.values().for_each(|one| one.stop());
        while !users.connections.is_empty() {
            self.left.wait(&mut users);
        }
    }

    /// Makes what clients wrote durable, and leaves the disk as after a clean stop, unless they could not write.
    pub(crate) async fn close(&self) -> Result<(), DiskError> {
        match self.export.is_read_only() {
            true => Ok(()),
            false => self.export.disk().close().await,
        }
    }
}

impl Deref for Offer {
    type Target = Export;

    fn deref(&self) -> &Export {
        &self.export
    }
}

impl Place {
    /// Whether it is a place in `offer`.
    pub(crate) fn is_in(&self, offer: &Weak<Offer>) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.offer), offer.as_ptr())
    }
}

impl Deref for Place {
    type Target = Offer;

    fn deref(&self) -> &Offer {
        &self.offer
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut users = self.offer.users.lock();
        if let Some(gone) = users.connections.remove(&self.number) {
            users.before.add(gone.activity());
        }
        drop(users);
        self.offer.left.notify_all();
    }
}

impl Gone {
    fn wait(&self) {
        let mut is_gone = self.is_gone.lock();
        while !*is_gone {
            self.happened.wait(&mut is_gone);
        }
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        *self.0.is_gone.lock() = true;
        self.0.happened.notify_all();
    }
}

impl Inspect for Exports {
    fn inspect(&self, req: inspect::Request<'_>) {
        let mut last: Option<String> = None;
        req.entries(std::iter::from_fn(|| {
            let offer = self.after(last.as_deref())?;
            let name = offer.name().to_owned();
            last = Some(name.clone());
            Some((name, offer))
        }));
    }
}

impl Inspect for Offer {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond()
            .merge(&self.export)
            .field_mut_with("connections_max", |new| {
                self.export.connections_max().change(new)
            })
            .merge_with(|req| self.stats().inspect(req));
    }
}

impl Inspect for ExportStats {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond()
            .field("connections", &self.connections)
            .counter("refused", self.refused)
            .field("requests_in_flight", &self.requests_in_flight)
            .field_with("operations", |req| {
                let operations = self.operations.iter();
                req.entries(operations.map(|(operation, stats)| (operation.name(), stats)));
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use disklayer_ram::ram_disk;
    use std::os::unix::net::UnixStream;

    fn connection() -> Arc<Connection> {
        let (socket, _) = UnixStream::pair().unwrap();
        Arc::new(Connection::new(7, socket.into(), String::new()).unwrap())
    }

    #[test]
    fn an_export_that_was_closed_after_it_was_found_has_no_place_left() {
        let export = Export::new("disk", ram_disk(512, false).unwrap()).unwrap();
        let exports = Exports::new([export]).unwrap();
        let found = exports.find("").unwrap();
        let place = found.enter(&connection(), None).unwrap();
        assert!(place.is_in(&Arc::downgrade(&found)));
        drop(place);
        found.see_everybody_out();
        let refused = found.enter(&connection(), None).unwrap_err();
        assert_eq!(refused, NoPlace::Removed);
    }
}
