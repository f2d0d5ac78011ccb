//! What a running daemon is: its exports, how more of them are made, and the tree that shows it.
//!
//! - M1: once [`Daemon::release`] has begun, no export comes any more; when it has returned, the server holds no disk.

use crate::connect::ExportFacts;
use crate::control::Refusal;
use crate::control::descriptors::DESCRIPTORS_MAX;
use crate::exit::chain;
use crate::handover::{Farewell, Passed, PassedSocket};
use disk_backend::Disk;
use disk_resolver::Export;
use frontend_nbd::{ListenAddress, ServerHandle};
use futures_lite::future::block_on;
use inspect::Inspect;
use local_socket::SocketFile;
use parking_lot::Mutex;
use resource::ResourceResolver;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

/// A daemon that serves. Whoever holds it keeps no disk: only the server does.
pub(crate) struct Daemon {
    server: ServerHandle,
    resolver: ResourceResolver,
    /// Whether every export refuses writes, those to come included.
    read_only: bool,
    started: Instant,
    /// Whether exports are taken in no more (M1).
    is_released: Mutex<bool>,
    sockets: Sockets,
    farewell: Farewell,
}

/// The listening sockets of a daemon that it did not make itself, or may not give away.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// Why they cannot be given away, if they cannot.
    pub(crate) kept_for: Option<&'static str>,
    /// Those whose file is not ours to remove.
    pub(crate) borrowed: Vec<ListenAddress>,
    /// What the server calls those that another daemon gave us, and where they are: it may have had another working directory.
    pub(crate) renamed: Vec<(ListenAddress, ListenAddress)>,
    /// The files of those that another daemon gave us.
    pub(crate) files: Mutex<Vec<SocketFile>>,
}

impl Daemon {
    pub(crate) fn new(
        server: ServerHandle,
        resolver: ResourceResolver,
        read_only: bool,
        sockets: Sockets,
    ) -> Self {
        Self {
            sockets,
            farewell: Farewell::default(),
            server,
            resolver,
            read_only,
            started: Instant::now(),
            is_released: Mutex::new(false),
        }
    }

    /// What is served now, in the order of the names.
    pub(crate) fn exports(&self) -> Vec<ExportFacts> {
        let names = self.server.export_names().into_iter();
        names
            .filter_map(|name| Some(ExportFacts::new(&name, &self.server.disk(&name)?)))
            .collect()
    }

    /// Opens a disk and serves it from now on. Paths are relative to `base`. Waits for the disk.
    pub(crate) fn add_export(&self, export: &Export, base: &Path) -> Result<ExportFacts, Refusal> {
        // To say so before anything is created; it is made sure of below.
        if self.server.disk(&export.name).is_some() {
            return Err(taken(&export.name));
        }
        if let Some(mistake) = export
            .check(&self.resolver, self.read_only)
            .into_iter()
            .next()
        {
            return Err(mistake.into());
        }
        let disk = block_on(export.open(&self.resolver, base, self.read_only))?;
        let facts = ExportFacts::new(&export.name, &disk);
        let offer = frontend_nbd::Export::new(&export.name, disk)
            .map_err(|error| Refusal::at("export", chain(&error)))?;
        let is_released = self.is_released.lock();
        if *is_released {
            return Err(Refusal::new("the daemon is stopping"));
        }
        self.server
            .add_export(offer)
            .map_err(|error| Refusal::at("export.name", chain(&error)))?;
        drop(is_released);
        tracing::info!(export = export.name, "serving one more disk: {facts}");
        Ok(facts)
    }

    /// Sees the clients of an export out, flushes it and lets go of its disk. Waits for all of that.
    pub(crate) fn remove_export(&self, name: &str) -> Result<(), Refusal> {
        let removed = self.server.remove_export(name);
        removed.map_err(|error| Refusal::at("name", chain(&error)))?;
        tracing::info!(export = name, "an export was removed");
        Ok(())
    }

    /// Changes the size of an export's disk, for those that can. Waits for the disk.
    pub(crate) fn resize(&self, name: &str, size_bytes: u64) -> Result<ExportFacts, Refusal> {
        let disk = self.disk(name)?;
        let sector_size = u64::from(disk.sector_size());
        if size_bytes == 0 || !size_bytes.is_multiple_of(sector_size) {
            let message = format!(
                "{size_bytes} bytes are no whole number of sectors of {sector_size} bytes, and at least one"
            );
            return Err(Refusal::at("size", message));
        }
        let resized = block_on(disk.resize(size_bytes >> disk.sector_shift()));
        resized.map_err(|error| {
            let reason = chain(&error);
            let message = format!("\"{name}\" was not resized to {size_bytes} bytes: {reason}");
            Refusal::at("size", message)
        })?;
        let facts = ExportFacts::new(name, &disk);
        tracing::info!(export = name, "resized: {facts}");
        Ok(facts)
    }

    /// Lets go of every disk, and takes no further one. For after the end of serving.
    pub(crate) fn release(&self) {
        *self.is_released.lock() = true;
        for name in self.server.export_names() {
            if let Err(error) = self.server.remove_export(&name) {
                tracing::error!("{}", chain(&error));
            }
        }
    }

    /// The listening sockets, for whoever takes over. [`give_place`](Self::give_place) follows, or [`keep_place`](Self::keep_place).
    pub(crate) fn pass_sockets(&self) -> Result<(Passed, Vec<OwnedFd>), Refusal> {
        if let Some(reason) = self.sockets.kept_for {
            return Err(Refusal::new(format!(
                "nobody can take over from a daemon {reason}"
            )));
        }
        if !self.farewell.begin() {
            return Err(Refusal::new("somebody is taking over already"));
        }
        let shared = match self.server.share_listeners() {
            Ok(shared) if shared.is_empty() => Err("the daemon is stopping already".to_owned()),
            Ok(shared) if shared.len() > DESCRIPTORS_MAX => Err(format!(
                "a daemon that listens at more than {DESCRIPTORS_MAX} addresses cannot give them away"
            )),
            Ok(shared) => Ok(shared),
            Err(error) => Err(format!("the sockets cannot be given away: {error}")),
        };
        let shared = shared.map_err(|reason| {
            self.keep_place();
            Refusal::new(reason)
        })?;
        let passed = shared.into_iter().map(|(socket, address)| {
            let owns_file = !self.sockets.borrowed.contains(&address);
            let address = self.sockets.place_of(address).to_string();
            (socket, PassedSocket { address, owns_file })
        });
        let (sockets, listeners) = passed.unzip();
        Ok((Passed { listeners }, sockets))
    }

    /// Ends the serving: somebody else has the sockets. Nobody is let in from now on, and nobody is refused.
    pub(crate) fn give_place(&self) {
        tracing::info!("another daemon takes over: finishing what is in flight");
        self.server.leave_listeners();
        self.sockets
            .files
            .lock()
            .drain(..)
            .for_each(SocketFile::leave);
        self.server.stop();
    }

    /// Serves on: nobody takes over.
    pub(crate) fn keep_place(&self) {
        self.farewell.cancel();
    }

    /// The conversation with whoever takes over.
    pub(crate) fn farewell(&self) -> &Farewell {
        &self.farewell
    }

    fn disk(&self, name: &str) -> Result<Disk, Refusal> {
        let disk = self.server.disk(name);
        disk.ok_or_else(|| Refusal::at("export", format!("there is no export named {name:?}")))
    }
}

impl Sockets {
    /// Where a socket of the server is, for a process with another working directory.
    fn place_of(&self, address: ListenAddress) -> ListenAddress {
        let mut renamed = self.renamed.iter();
        if let Some((_, place)) = renamed.find(|(name, _)| *name == address) {
            return place.clone();
        }
        match address {
            ListenAddress::Unix(path) => {
                ListenAddress::Unix(std::path::absolute(&path).unwrap_or(path))
            }
            address => address,
        }
    }
}

fn taken(name: &str) -> Refusal {
    let message = format!("there is an export named {name:?} already: remove it first");
    Refusal::at("export.name", message)
}

impl Inspect for Daemon {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond()
            .field("version", env!("CARGO_PKG_VERSION"))
            .field("pid", &std::process::id())
            .field("uptime_seconds", &self.started.elapsed().as_secs())
            .field("read_only", &self.read_only)
            .merge(&self.server);
    }
}

impl fmt::Debug for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Daemon").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frontend_nbd::{Limits, Server};

    #[test]
    fn who_finds_the_daemon_stopping_is_not_waited_for() {
        let server = Server::new([], Limits::default()).unwrap();
        let resolver = disk_resolver::resolver();
        let daemon = Daemon::new(server.handle(), resolver, false, Sockets::default());
        let refusal = daemon.pass_sockets().expect_err("it has no sockets");
        assert!(refusal.message.contains("stopping"), "{refusal:?}");
        assert!(
            daemon.farewell.begin(),
            "somebody else is believed to take over"
        );
    }
}
