//! A server in this process, and what the tests ask of it.
#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod client;
pub(crate) mod disk;
pub(crate) mod random;
pub(crate) mod tls;
pub(crate) mod wire;

use client::{Client, Style};
use disk_backend::Disk;
use frontend_nbd::{Export, Limits, ListenAddress, ServeError, Server, ServerHandle};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take before a test fails instead of hanging. Nothing is ever expected to take that long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The outcome of `serve`, once it is there.
pub(crate) type Ended = Receiver<Result<(), ServeError>>;

/// A server that is serving, on a Unix socket in a folder of its own.
pub(crate) struct Running {
    pub(crate) handle: ServerHandle,
    pub(crate) address: ListenAddress,
    ended: Ended,
    _folder: TempDir,
}

impl Running {
    /// Serves `disk` as the only export, named `disk`.
    pub(crate) fn one(disk: Disk) -> Self {
        Self::new([export("disk", disk)], Limits::default())
    }

    pub(crate) fn new(exports: impl IntoIterator<Item = Export>, limits: Limits) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = ListenAddress::Unix(folder.path().join("nbd.sock"));
        Self::listening(exports, limits, &address, folder)
    }

    pub(crate) fn on_tcp(exports: impl IntoIterator<Item = Export>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = "tcp:0".parse().expect("an address");
        Self::listening(exports, Limits::default(), &address, folder)
    }

    fn listening(
        exports: impl IntoIterator<Item = Export>,
        limits: Limits,
        address: &ListenAddress,
        folder: TempDir,
    ) -> Self {
        let mut server = Server::new(exports, limits).expect("a server");
        let address = server.listen(address).expect("it listens");
        let handle = server.handle();
        Self {
            handle,
            address,
            ended: serve(server),
            _folder: folder,
        }
    }

    /// A client that has neither sent nor received anything.
    pub(crate) fn connect(&self) -> Client {
        connect(&self.address)
    }

    /// A client that has greeted the server.
    pub(crate) fn greeted(&self) -> Client {
        let mut client = self.connect();
        client.greet(3);
        client
    }

    /// A client that has chosen the export `name` by `GO`; with structured replies also block status.
    pub(crate) fn client_of(&self, name: &str, style: Style) -> Client {
        let mut client = self.greeted();
        client.go(name, style);
        client
    }

    /// The same for the only export.
    pub(crate) fn client(&self, style: Style) -> Client {
        self.client_of("disk", style)
    }

    /// Waits until exactly `count` clients are connected.
    pub(crate) fn wait_for_connections(&self, count: usize) {
        let handle = &self.handle;
        wait_until(
            || handle.connection_count() == count,
            || format!("{} connections, not {count}", handle.connection_count()),
        );
    }

    /// Waits for the end of `serve`, which something else must bring about.
    pub(crate) fn wait_for_end(&self) -> Result<(), ServeError> {
        self.ended
            .recv_timeout(DEADLINE)
            .expect("serving ends in time")
    }

    /// Stops the server and waits for its end.
    pub(crate) fn stop(&self) -> Result<(), ServeError> {
        self.handle.stop();
        self.wait_for_end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
    }
}

/// A client of whoever listens there, that has neither sent nor received anything.
pub(crate) fn connect(address: &ListenAddress) -> Client {
    Client::new(match address {
        ListenAddress::Unix(path) => UnixStream::connect(path).expect("it is there"),
        ListenAddress::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).expect("it is there");
            // Only a stream of bytes is wanted, and that works for either kind.
            OwnedFd::from(stream).into()
        }
        other => panic!("no client for {other}"),
    })
}

/// Serves on a thread of its own; the result comes through the channel.
pub(crate) fn serve(server: Server) -> Ended {
    let (sender, ended) = channel();
    std::thread::spawn(move || {
        // A test that has failed already does not wait for it.
        let _ = sender.send(server.serve());
    });
    ended
}

pub(crate) fn export(name: &str, disk: Disk) -> Export {
    Export::new(name, disk).expect("an export")
}

/// Waits for something that another thread brings about.
pub(crate) fn wait_until(is_so: impl Fn() -> bool, what_is: impl Fn() -> String) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {}", what_is());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Bytes that differ from their neighbours, and from those of another `seed`.
pub(crate) fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes
}
