//! Servers in this process for the tests to connect to.
#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod script;

use disk_backend::{Disk, DiskError};
use disk_nbd::{NbdAddress, NbdDisk, NbdOptions, NbdUri};
use frontend_nbd::{Export, Limits, ListenAddress, Server, ServerHandle};
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;
use std::time::Duration;
use tempfile::TempDir;

/// How long anything may take before a test fails instead of hanging. Nothing is ever expected to take that long.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(30);

/// Our own server with one export, named `disk`, on a Unix socket; stopped when dropped.
pub(crate) struct Running {
    handle: ServerHandle,
    folder: TempDir,
}

impl Running {
    pub(crate) fn new(export: Export) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut server = Server::new([export], Limits::default()).expect("a server");
        let address = ListenAddress::Unix(folder.path().join(SOCKET));
        server.listen(&address).expect("it listens");
        let handle = server.handle();
        std::thread::spawn(move || server.serve().expect("it serves"));
        Self { handle, folder }
    }

    /// Serves a disk.
    pub(crate) fn of(disk: Disk) -> Self {
        Self::new(Export::new("disk", disk).expect("an export"))
    }

    /// Serves an empty disk in memory.
    pub(crate) fn ram(size_bytes: u64) -> Self {
        Self::of(disklayer_ram::ram_disk(size_bytes, false).expect("a disk"))
    }

    pub(crate) fn uri(&self) -> NbdUri {
        uri(&self.folder, "disk")
    }

    pub(crate) fn connect(&self) -> Disk {
        let connected = block_on(NbdDisk::connect(&self.uri(), &NbdOptions::default()));
        Disk::new(connected.expect("it connects")).expect("valid metadata")
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.handle.connection_count()
    }

    pub(crate) fn stop(&self) {
        self.handle.stop();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
    }
}

/// The name of a server's socket in its folder.
pub(crate) const SOCKET: &str = "nbd.sock";

/// An export of the server in a folder.
pub(crate) fn uri(folder: &TempDir, export_name: &str) -> NbdUri {
    let address = NbdAddress::Unix(folder.path().join(SOCKET));
    NbdUri::new(address, export_name).expect("a plain path")
}

/// Bytes that differ from their neighbours, and from those of another `seed`.
pub(crate) fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes
}

/// What `work` gives, which it does on a thread of its own; a test whose work hangs fails.
#[track_caller]
pub(crate) fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    let worker = std::thread::spawn(move || {
        let result = work();
        // Who waited too long is gone.
        let _ = sender.send(());
        result
    });
    match receiver.recv_timeout(TIME_MAX) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        // Done, or panicked: the thread has ended or is about to.
        _ => match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        },
    }
}

/// Reads `len` bytes from `sector` on.
pub(crate) fn read(disk: &Disk, sector: u64, len: usize) -> Result<Vec<u8>, DiskError> {
    let mut bytes = vec![0xee; len];
    let buffers = HostBuffers::from_mut(&mut bytes);
    block_on(disk.read_vectored(&buffers.buffers(), sector))?;
    drop(buffers);
    Ok(bytes)
}

/// Writes `bytes` from `sector` on.
pub(crate) fn write(disk: &Disk, sector: u64, bytes: &[u8], fua: bool) -> Result<(), DiskError> {
    let buffers = HostBuffers::from_ref(bytes);
    block_on(disk.write_vectored(&buffers.buffers(), sector, fua))
}

/// An error with its source.
pub(crate) fn text(error: &DiskError) -> String {
    let source = std::error::Error::source(error).map_or(String::new(), ToString::to_string);
    format!("{error}: {source}")
}
