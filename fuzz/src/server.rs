//! One NBD server for all runs, each of which has an export of its own, and the client's end of a connection.

use disklayer_ram::ram_disk;
use frontend_nbd::{Export, Limits, ListenAddress, Server, ServerHandle};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;
use tempfile::TempDir;

/// How long nothing may come from the server before that is a hang.
const PATIENCE: Duration = Duration::from_secs(10);

static SERVER: LazyLock<Running> = LazyLock::new(Running::new);

struct Running {
    handle: ServerHandle,
    socket: PathBuf,
    _folder: TempDir,
}

impl Running {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let socket = folder.path().join("nbd.sock");
        let mut limits = Limits::default();
        // What hangs is to be found out by us, not ended by the server.
        limits.handshake_timeout = None;
        let mut server = Server::new([], limits).expect("a server");
        server
            .listen(&ListenAddress::Unix(socket.clone()))
            .expect("it listens");
        let handle = server.handle();
        std::thread::spawn(|| server.serve());
        Self {
            handle,
            socket,
            _folder: folder,
        }
    }
}

/// An export for one run. Dropping it takes it away, which waits until its clients are gone.
pub(crate) struct Offered {
    name: &'static str,
}

impl Offered {
    /// A disk in memory, full of zeros.
    pub(crate) fn new(name: &'static str, size_bytes: u64) -> Self {
        let disk = ram_disk(size_bytes, false).expect("a disk");
        let export = Export::new(name, disk).expect("an export");
        let described = export.with_description("for one run").expect("a text");
        let added = SERVER.handle.add_export(described);
        added.expect("the run before has taken its own away");
        Self { name }
    }

    pub(crate) fn connect(&self) -> Client {
        let stream = UnixStream::connect(&SERVER.socket).expect("it listens");
        for set in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
            set(&stream, Some(PATIENCE)).expect("a socket has time-outs");
        }
        Client(stream)
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        let removed = SERVER.handle.remove_export(self.name);
        removed.expect("a disk in memory is flushed");
    }
}

/// A client's end.
pub(crate) struct Client(UnixStream);

/// The server has closed the connection.
#[derive(Debug)]
pub(crate) struct Closed;

impl Client {
    /// Sends all, or what the server takes before it closes the connection. Whoever sends more than a socket holds must know that the
    /// server does not wait for its replies to be taken.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        self.0.write_all(bytes).map_err(|error| closed(&error))
    }

    /// Sends all from another thread, while this one takes the replies with `take`; then waits for the server to close.
    pub(crate) fn send_beside<T>(&mut self, bytes: &[u8], take: impl FnOnce(&mut Self) -> T) -> T {
        let mut sender = self.0.try_clone().expect("there is a descriptor");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // The server may have closed already.
                let _ = sender.write_all(bytes);
                let _ = sender.shutdown(Shutdown::Write);
            });
            let taken = take(self);
            self.drain();
            taken
        })
    }

    /// The next `N` bytes.
    pub(crate) fn receive<const N: usize>(&mut self) -> Result<[u8; N], Closed> {
        let mut bytes = [0; N];
        self.receive_into(&mut bytes).map(|()| bytes)
    }

    pub(crate) fn receive_vec(&mut self, len: usize) -> Result<Vec<u8>, Closed> {
        assert!(len <= 64 << 20, "the server announces {len} bytes");
        let mut bytes = vec![0; len];
        self.receive_into(&mut bytes).map(|()| bytes)
    }

    pub(crate) fn receive_into(&mut self, into: &mut [u8]) -> Result<(), Closed> {
        self.0.read_exact(into).map_err(|error| closed(&error))
    }

    /// Takes whatever comes until the server closes.
    pub(crate) fn drain(&mut self) {
        if let Err(error) = io::copy(&mut self.0, &mut io::sink()) {
            let Closed = closed(&error);
        }
    }
}

fn closed(error: &io::Error) -> Closed {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    assert!(
        matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof),
        "the server hangs: {error}"
    );
    Closed
}
