//! The server as its owner sees it. What it does is in `hub`.

use crate::address::ListenAddress;
use crate::export::{Export, InvalidExport};
use crate::exports::{ExportStats, RemoveExportError};
use crate::hub::Hub;
use crate::limits::Limits;
use crate::listener::{ListenError, Listener};
use crate::tls::TlsConfig;
use disk_backend::{Disk, DiskError};
use inspect::Inspect;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// An NBD server: exports, and the addresses where it offers them.
#[derive(Debug)]
pub struct Server {
    hub: Arc<Hub>,
}

/// Another thread's hold on a [`Server`]. Cheap to clone; inspecting it shows the exports, the connections and the limits.
#[derive(Debug, Clone)]
pub struct ServerHandle(Arc<Hub>);

/// Why a server cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// An export cannot be offered together with the others.
    #[error(transparent)]
    Export(#[from] InvalidExport),
    /// The system has no descriptor for it.
    #[error("cannot set up a server: {0}")]
    System(#[from] io::Error),
}

/// Why serving did not end well. All clients are gone in any case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Waiting for clients failed.
    #[error("cannot wait for clients: {0}")]
    Wait(#[source] io::Error),
    /// What clients wrote last may be lost: the final flush failed. Further failures of the kind are in the log.
    #[error("export {export:?}: the flush at the end failed")]
    Flush {
        /// The export's name.
        export: String,
        /// What the disk said.
        source: DiskError,
    },
}

impl Server {
    /// A server that offers `exports` and listens nowhere yet. Limits that are out of their range are brought into it.
    ///
    /// # Errors
    /// [`InvalidExport::DuplicateName`]; the system's.
    pub fn new(
        exports: impl IntoIterator<Item = Export>,
        limits: Limits,
    ) -> Result<Self, ServerError> {
        let hub = Arc::new(Hub::new(exports, limits)?);
        Ok(Self { hub })
    }

    /// Listens at one more address, from now on: clients that connect before [`serve`](Self::serve) wait for it.
    ///
    /// Returns the address with the port that the system chose, if it was asked to. The file of a Unix socket can be used by
    /// its owner only; a stale one is replaced, and it is removed when serving ends.
    ///
    /// # Errors
    /// [`ListenError`]; nothing was changed then.
    pub fn listen(&mut self, address: &ListenAddress) -> Result<ListenAddress, ListenError> {
        Ok(self.hub.listen(Listener::bind(address)?))
    }

    /// Listens at a socket that somebody else made and passed to this process: whoever starts services on demand, or the server
    /// that was here before. It must be a stream socket that listens, TCP or Unix with a path. Clients that are waiting in
    /// its queue are served.
    ///
    /// Returns its address. The file of a Unix socket, and who may use it, are the business of whoever made it: it is not removed
    /// when serving ends.
    ///
    /// # Errors
    /// [`ListenError::NotAdoptable`]; the descriptor is closed then.
    pub fn adopt(&mut self, socket: OwnedFd) -> Result<ListenAddress, ListenError> {
        Ok(self.hub.listen(Listener::adopt(socket)?))
    }

    /// As [`ServerHandle::set_tls`].
    pub fn set_tls(&mut self, tls: Option<TlsConfig>) {
        self.hub.set_tls(tls);
    }

    /// A handle for other threads.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle(Arc::clone(&self.hub))
    }

    /// Serves until [`ServerHandle::stop`] is called, then sees everybody out: no client is let in any more, what clients have
    /// sent is done and answered, every writable export is flushed.
    ///
    /// Each connection has a thread of its own. Idle connections, and an idle server, cost no processor time. Clients that do
    /// not take their replies are waited for as long as [`Limits::stop_grace`] says; disks are waited for until they are done.
    ///
    /// # Errors
    /// [`ServeError`], after all of that.
    pub fn serve(self) -> Result<(), ServeError> {
        let waited = self.hub.accept_until_stopped();
        self.hub.close_listeners();
        self.hub.see_everybody_out();
        let flushed = self.hub.flush();
        waited.map_err(ServeError::Wait).and(flushed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Handles may live on, and must not keep clients waiting for nobody.
        self.hub.close_listeners();
    }
}

impl ServerHandle {
    /// Makes [`Server::serve`] see everybody out and return. Does not wait for it; more than once is as good as once.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Uses these certificates, or no TLS, for everybody who connects from now on. Those who are connected stay as they are.
    /// There is no TLS until this is called.
    pub fn set_tls(&self, tls: Option<TlsConfig>) {
        self.0.set_tls(tls);
    }

    /// Lets nobody in any more, and gives the listening sockets away, with their addresses: as descriptors that are closed when
    /// another program is executed, unless you see to it that they are not. The files of Unix sockets stay where they are.
    ///
    /// The sockets go on listening as long as somebody holds one of their descriptors, so no client is refused: who connects from
    /// now on waits in the queue until another server, in this or another process, [adopts](Server::adopt) them. Those who
    /// were let in before are served on, until [`stop`](Self::stop). Once given away there are none left: a second call
    /// returns nothing.
    ///
    /// # Errors
    /// If the system has no descriptors left; nothing was changed then.
    pub fn release_listeners(&self) -> io::Result<Vec<(OwnedFd, ListenAddress)>> {
        let shared = self.0.share_listeners()?;
        self.0.leave_listeners();
        Ok(shared)
    }

    /// The first half of [`release_listeners`](Self::release_listeners), for who can fail to pass the sockets on: more descriptors
    /// of them, with their addresses. Nothing changes here, until [`leave_listeners`](Self::leave_listeners).
    ///
    /// # Errors
    /// If the system has no descriptors left.
    pub fn share_listeners(&self) -> io::Result<Vec<(OwnedFd, ListenAddress)>> {
        self.0.share_listeners()
    }

    /// The second half: lets nobody in any more, and leaves the files of Unix sockets where they are. Where nobody else has
    /// descriptors of the sockets, clients are refused from now on.
    pub fn leave_listeners(&self) {
        self.0.leave_listeners();
    }

    /// Offers one more export from now on.
    ///
    /// # Errors
    /// [`InvalidExport::DuplicateName`]; nothing was changed then.
    pub fn add_export(&self, export: Export) -> Result<(), InvalidExport> {
        self.0.exports().add(export)
    }

    /// Takes an export away: from now on nobody gets it, and a client that asks for it is told that there is none.
    ///
    /// Its clients are seen out as [`stop`](Self::stop) would: what they have sent is done and answered, those who do not take
    /// their replies are cut off after [`Limits::stop_grace`]. Then the export is flushed, if it could be written. When this
    /// returns, the server holds its [`Disk`] no longer; clones that others have made are theirs. Other exports and their
    /// clients notice nothing.
    ///
    /// **It blocks** until all of that is done. Its disk is waited for until it is done, so on a disk that hangs it never
    /// returns; the export is off the list all the same, and its name may be used again. Not to be called by a disk.
    ///
    /// # Errors
    /// [`RemoveExportError::Unknown`]; and [`RemoveExportError::Flush`], with the export gone.
    pub fn remove_export(&self, name: &str) -> Result<(), RemoveExportError> {
        self.0.exports().remove(name)
    }

    /// The names of all exports, in order.
    pub fn export_names(&self) -> Vec<String> {
        self.0.exports().names()
    }

    /// The disk of the export named exactly `name`, to look at or to resize. As long as a clone is kept, so is the disk,
    /// whatever becomes of the export.
    pub fn disk(&self, name: &str) -> Option<Disk> {
        self.0.exports().get(name).map(|offer| offer.disk().clone())
    }

    /// What clients do and have done, export by export, for whoever watches the server.
    pub fn export_stats(&self) -> Vec<ExportStats> {
        let exports = self.0.exports().all();
        exports.iter().map(|offer| offer.stats()).collect()
    }

    /// How many clients have been let in since the beginning.
    pub fn accepted_count(&self) -> u64 {
        self.0.accepted_count()
    }

    /// How many clients were turned away at the door since the beginning, because of
    /// [`Limits::connections_max`] or for want of a thread.
    pub fn refused_count(&self) -> u64 {
        self.0.refused_count()
    }

    /// How many clients are connected.
    pub fn connection_count(&self) -> usize {
        self.0.connection_count()
    }

    /// The limits as they are now.
    pub fn limits(&self) -> Limits {
        self.0.limits().get()
    }

    /// Changes the limits, from now on. Those that are out of their range are brought into it. Who is connected stays so.
    pub fn set_limits(&self, limits: Limits) {
        self.0.set_limits(limits);
    }
}

impl Inspect for ServerHandle {
    fn inspect(&self, req: inspect::Request<'_>) {
        self.0.inspect(req);
    }
}
