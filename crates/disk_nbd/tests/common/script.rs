//! A server that does what a test tells it to, byte by byte.

use super::{SOCKET, uri};
use disk_backend::Disk;
use disk_nbd::{ConnectError, NbdDisk, NbdOptions, NbdUri};
use futures_lite::future::block_on;
use nbd_protocol::{
    BASE_ALLOCATION, BlockSizes, Command, Framing, Info, MetaContext, OptionHeader, OptionKind,
    ReplyKind, Request, greeting, push_reply, transmission_flag,
};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

/// The size of the export, in bytes.
pub(crate) const SIZE_BYTES: u64 = 1 << 30;

/// The number of `base:allocation`.
pub(crate) const CONTEXT_ID: u32 = 7;

/// Everything that an export can have.
pub(crate) const ALL_FLAGS: u16 = transmission_flag::HAS_FLAGS
    | transmission_flag::SEND_FLUSH
    | transmission_flag::SEND_FUA
    | transmission_flag::SEND_TRIM
    | transmission_flag::SEND_WRITE_ZEROES
    | transmission_flag::SEND_FAST_ZERO;

/// What the server says in a handshake that goes well.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer {
    pub(crate) framing: Framing,
    pub(crate) flags: u16,
    pub(crate) size_bytes: u64,
    pub(crate) block_sizes: Option<[u32; 3]>,
}

impl Offer {
    pub(crate) fn new(framing: Framing) -> Self {
        Self {
            framing,
            flags: ALL_FLAGS,
            size_bytes: SIZE_BYTES,
            block_sizes: None,
        }
    }
}

/// A server that takes one client and does what its script says; the script's panics are the test's.
pub(crate) struct Scripted {
    thread: Option<JoinHandle<()>>,
    folder: TempDir,
}

impl Scripted {
    /// The script gets the connection as it was made.
    pub(crate) fn raw(script: impl FnOnce(Peer) + Send + 'static) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join(SOCKET)).expect("it listens");
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a client");
            script(Peer {
                stream,
                framing: Framing::Simple,
            });
        });
        Self {
            thread: Some(thread),
            folder,
        }
    }

    /// The script gets the connection when the handshake is over.
    pub(crate) fn new(offer: Offer, script: impl FnOnce(Peer) + Send + 'static) -> Self {
        Self::raw(move |mut peer| {
            peer.shake_hands(offer).expect("a client that shakes hands");
            script(peer);
        })
    }

    pub(crate) fn uri(&self) -> NbdUri {
        uri(&self.folder, "disk")
    }

    pub(crate) fn try_connect(&self) -> Result<NbdDisk, ConnectError> {
        block_on(NbdDisk::connect(&self.uri(), &NbdOptions::default()))
    }

    pub(crate) fn connect(&self) -> Disk {
        Disk::new(self.try_connect().expect("it connects")).expect("valid metadata")
    }

    /// Waits for the end of the script.
    pub(crate) fn end(mut self) {
        let thread = self.thread.take().expect("only here");
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// The client, as the script sees it.
pub(crate) struct Peer {
    stream: UnixStream,
    framing: Framing,
}

impl Peer {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // A client that has seen enough may be gone.
        let _ = self.stream.write_all(bytes);
    }

    pub(crate) fn receive(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Waits until the client has ended the connection, whatever it sends before.
    pub(crate) fn wait_for_end(&mut self) {
        // An error is an end too.
        let _ = io::copy(&mut self.stream, &mut io::sink());
    }

    /// Ends the connection.
    pub(crate) fn hang_up(&mut self) {
        self.stream.shutdown(Shutdown::Both).expect("it is open");
    }

    /// The same connection once more, for another thread.
    pub(crate) fn another(&self) -> Self {
        Self {
            stream: self.stream.try_clone().expect("there are descriptors"),
            framing: self.framing,
        }
    }

    /// Sends these bytes again and again, a few at a time, until the client has ended the connection.
    pub(crate) fn drip(&mut self, bytes: &[u8]) {
        self.stream
            .set_read_timeout(Some(Duration::from_millis(5)))
            .expect("not zero");
        for piece in bytes.chunks(7).cycle() {
            self.send(piece);
            match self.receive(1) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }

    /// Sends these bytes again and again, as fast as they are taken, until the client has ended the connection.
    pub(crate) fn flood(&mut self, bytes: &[u8]) {
        while self.stream.write_all(bytes).is_ok() {}
    }

    pub(crate) fn greet(&mut self) -> io::Result<()> {
        self.send(&greeting::encode(
            greeting::FIXED_NEWSTYLE | greeting::NO_ZEROES,
        ));
        assert_eq!(self.receive(4)?, [0, 0, 0, 3]);
        Ok(())
    }

    pub(crate) fn option(&mut self) -> io::Result<(OptionKind, Vec<u8>)> {
        let header = self.receive(OptionHeader::LEN)?;
        let header = header.try_into().expect("the header has its length");
        let header = OptionHeader::decode(&header).expect("an option");
        let data = self.receive(header.data_len as usize)?;
        Ok((header.kind, data))
    }

    pub(crate) fn reply(&mut self, option: OptionKind, kind: ReplyKind, data: &[u8]) {
        let mut bytes = Vec::new();
        push_reply(&mut bytes, option, kind, &[data]);
        self.send(&bytes);
    }

    fn shake_hands(&mut self, offer: Offer) -> io::Result<()> {
        self.framing = offer.framing;
        self.greet()?;
        loop {
            let (option, _) = self.option()?;
            let is_had = match option {
                OptionKind::ExtendedHeaders => offer.framing == Framing::Extended,
                OptionKind::StructuredReply => offer.framing == Framing::Structured,
                OptionKind::SetMetaContext | OptionKind::Go => true,
                other => panic!("a client asks for {other:?}"),
            };
            if option == OptionKind::SetMetaContext {
                let context = MetaContext {
                    id: CONTEXT_ID,
                    name: BASE_ALLOCATION,
                };
                self.reply(option, ReplyKind::MetaContext, &context.encode());
            }
            if option == OptionKind::Go {
                for info in offer.infos() {
                    self.reply(option, ReplyKind::Info, &info.encode());
                }
            }
            let last = match is_had {
                true => ReplyKind::Ack,
                false => ReplyKind::Unsupported,
            };
            self.reply(option, last, &[]);
            if option == OptionKind::Go {
                return Ok(());
            }
        }
    }

    /// The next request, and the data of a write. At the end of the stream it is a goodbye.
    pub(crate) fn request(&mut self) -> (Request, Vec<u8>) {
        let goodbye = Request {
            command: Command::Disconnect,
            flags: 0,
            cookie: 0,
            offset: 0,
            len: 0,
        };
        let Ok(header) = self.receive(self.framing.request_len()) else {
            return (goodbye, Vec::new());
        };
        let request = Request::decode(&header).expect("a request");
        let len = request.payload_len(self.framing) as usize;
        let data = self.receive(len).expect("the data of a write");
        (request, data)
    }

    /// A request that must be this command.
    #[track_caller]
    pub(crate) fn expect(&mut self, command: Command) -> Request {
        let (request, _) = self.request();
        assert_eq!(request.command, command);
        request
    }
}

impl Offer {
    fn infos(&self) -> Vec<Info<'static>> {
        let export = Info::Export {
            size: self.size_bytes,
            flags: self.flags,
        };
        let sizes = self.block_sizes.map(|[minimum, preferred, maximum]| {
            Info::BlockSizes(BlockSizes {
                minimum,
                preferred,
                maximum,
            })
        });
        std::iter::once(export).chain(sizes).collect()
    }
}
