//! An NBD client that does as it is told, wrong things included. Real clients are too polite for some tests.
//!
//! It speaks the fixed newstyle handshake and simple replies. Every wait ends after [`TIME_MAX`].

use std::io::{self, Error, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::TIME_MAX;

/// What the server says first.
const GREETING: &[u8; 16] = b"NBDMAGICIHAVEOPT";
pub(crate) const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
pub(crate) const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;

/// Client flags: fixed newstyle, no zeroes after the old reply.
pub(crate) const CLIENT_FLAGS: u32 = 3;

pub(crate) mod option {
    pub(crate) const EXPORT_NAME: u32 = 1;
    pub(crate) const ABORT: u32 = 2;
    pub(crate) const LIST: u32 = 3;
    pub(crate) const GO: u32 = 7;
    pub(crate) const STRUCTURED_REPLY: u32 = 8;
    pub(crate) const LIST_META_CONTEXT: u32 = 9;
    pub(crate) const SET_META_CONTEXT: u32 = 10;
}

pub(crate) mod option_reply {
    pub(crate) const ACK: u32 = 1;
    pub(crate) const INFO: u32 = 3;
    pub(crate) const ERR_UNSUPPORTED: u32 = ERROR | 1;
    pub(crate) const ERR_INVALID: u32 = ERROR | 3;
    pub(crate) const ERR_UNKNOWN: u32 = ERROR | 6;
    /// Set in every error.
    pub(crate) const ERROR: u32 = 1 << 31;
}

pub(crate) mod command {
    pub(crate) const READ: u16 = 0;
    pub(crate) const WRITE: u16 = 1;
    pub(crate) const DISCONNECT: u16 = 2;
    pub(crate) const FLUSH: u16 = 3;
    pub(crate) const TRIM: u16 = 4;
    pub(crate) const WRITE_ZEROES: u16 = 6;
    pub(crate) const BLOCK_STATUS: u16 = 7;
}

pub(crate) mod error {
    pub(crate) const PERMISSION: u32 = 1;
    pub(crate) const INVALID: u32 = 22;
    pub(crate) const NO_SPACE: u32 = 28;
    pub(crate) const OVERFLOW: u32 = 75;
}

/// Connects to a Unix socket.
#[track_caller]
pub(crate) fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket);
    let stream =
        stream.unwrap_or_else(|error| panic!("cannot connect to {}: {error}", socket.display()));
    stream
        .set_read_timeout(Some(TIME_MAX))
        .expect("a limit can be set");
    stream
        .set_write_timeout(Some(TIME_MAX))
        .expect("a limit can be set");
    stream
}

/// Hears the server's greeting, and returns the flags in it.
pub(crate) fn hear_greeting(stream: &mut UnixStream) -> io::Result<u16> {
    let mut greeting = [0; 16];
    stream.read_exact(&mut greeting)?;
    if &greeting != GREETING {
        return Err(Error::new(ErrorKind::InvalidData, "not an NBD server"));
    }
    read_u16(stream)
}

/// Hears the greeting and says goodbye.
pub(crate) fn greet_and_leave(mut stream: UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(TIME_MAX))?;
    hear_greeting(&mut stream)?;
    stream.write_all(&CLIENT_FLAGS.to_be_bytes())?;
    send_option(&mut stream, option::ABORT, &[])?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Sends one option of the handshake.
pub(crate) fn send_option(stream: &mut UnixStream, option: u32, data: &[u8]) -> io::Result<()> {
    let len = u32::try_from(data.len()).expect("an option is short");
    stream.write_all(
        &[
            OPTION_MAGIC,
            &option.to_be_bytes()[..],
            &len.to_be_bytes(),
            data,
        ]
        .concat(),
    )
}

/// Hears one reply to an option: its type and data.
pub(crate) fn hear_option_reply(
    stream: &mut UnixStream,
    option: u32,
) -> io::Result<(u32, Vec<u8>)> {
    let (magic, of) = (read_u64(stream)?, read_u32(stream)?);
    if (magic, of) != (OPTION_REPLY_MAGIC, option) {
        return Err(Error::new(
            ErrorKind::InvalidData,
            format!("{magic:#x} is no reply to option {option}"),
        ));
    }
    let (kind, len) = (read_u32(stream)?, read_u32(stream)?);
    let mut data = vec![0; len.try_into().expect("this is no 16-bit machine")];
    stream.read_exact(&mut data)?;
    Ok((kind, data))
}

/// The data of `GO`: an export's name, and no request for particular information.
pub(crate) fn go_data(export: &str) -> Vec<u8> {
    let len = u32::try_from(export.len()).expect("a name is short");
    [&len.to_be_bytes(), export.as_bytes(), &[0, 0]].concat()
}

/// The head of a request.
pub(crate) fn request(command: u16, flags: u16, cookie: u64, offset: u64, len: u32) -> [u8; 28] {
    let mut head = [0; 28];
    head[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
    head[4..6].copy_from_slice(&flags.to_be_bytes());
    head[6..8].copy_from_slice(&command.to_be_bytes());
    head[8..16].copy_from_slice(&cookie.to_be_bytes());
    head[16..24].copy_from_slice(&offset.to_be_bytes());
    head[24..].copy_from_slice(&len.to_be_bytes());
    head
}

/// A connection that can carry requests.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    pub(crate) size_bytes: u64,
    pub(crate) transmission_flags: u16,
    cookie: u64,
}

/// What the server said to a request: the data of a read, or its error number.
pub(crate) type Answer = Result<Vec<u8>, u32>;

impl Client {
    /// Shakes hands and opens an export.
    pub(crate) fn open(mut stream: UnixStream, export: &str) -> io::Result<Self> {
        hear_greeting(&mut stream)?;
        stream.write_all(&CLIENT_FLAGS.to_be_bytes())?;
        send_option(&mut stream, option::GO, &go_data(export))?;
        Self::finish_go(stream)
    }

    /// Hears the replies to a `GO` that was sent.
    pub(crate) fn finish_go(mut stream: UnixStream) -> io::Result<Self> {
        let mut info = None;
        loop {
            match hear_option_reply(&mut stream, option::GO)? {
                (option_reply::ACK, _) => break,
                (option_reply::INFO, data) if data.len() == 12 && data[..2] == [0, 0] => {
                    info = Some(data)
                }
                (option_reply::INFO, _) => {}
                (kind, data) => {
                    let text = String::from_utf8_lossy(&data).into_owned();
                    return Err(Error::other(format!("refused with {kind:#x}: {text}")));
                }
            }
        }
        let info = info.ok_or_else(|| Error::new(ErrorKind::InvalidData, "GO told no size"))?;
        let size_bytes = u64::from_be_bytes(info[2..10].try_into().expect("eight bytes"));
        let transmission_flags = u16::from_be_bytes(info[10..].try_into().expect("two bytes"));
        Ok(Self {
            stream,
            size_bytes,
            transmission_flags,
            cookie: 0,
        })
    }

    /// Sends a request and returns its cookie; hears nothing.
    #[track_caller]
    pub(crate) fn send(&mut self, command: u16, offset: u64, len: u32, payload: &[u8]) -> u64 {
        self.cookie += 1;
        let head = request(command, 0, self.cookie, offset, len);
        self.stream
            .write_all(&head)
            .expect("the server takes requests");
        self.stream
            .write_all(payload)
            .expect("the server takes the data of a write");
        self.cookie
    }

    /// Hears the head of the next reply: which request it is for, and its error or 0.
    #[track_caller]
    pub(crate) fn hear_head(&mut self) -> (u64, u32) {
        let magic = read_u32(&mut self.stream).expect("the server replies");
        assert_eq!(magic, SIMPLE_REPLY_MAGIC, "not a reply");
        let error = read_u32(&mut self.stream).expect("a reply has an error");
        (
            read_u64(&mut self.stream).expect("a reply has a cookie"),
            error,
        )
    }

    /// Hears the data that follows the head of a good reply to a read.
    #[track_caller]
    pub(crate) fn hear_data(&mut self, len: u32) -> Vec<u8> {
        let mut data = vec![0; len.try_into().expect("this is no 16-bit machine")];
        self.stream
            .read_exact(&mut data)
            .expect("a reply to a read has its data");
        data
    }

    /// Sends a request and hears its reply.
    #[track_caller]
    pub(crate) fn request(
        &mut self,
        command: u16,
        offset: u64,
        len: u32,
        payload: &[u8],
    ) -> Answer {
        let cookie = self.send(command, offset, len, payload);
        let (of, error) = self.hear_head();
        assert_eq!(of, cookie, "a reply to another request");
        match error {
            0 if command == command::READ => Ok(self.hear_data(len)),
            0 => Ok(Vec::new()),
            error => Err(error),
        }
    }

    /// Reads bytes that must be there.
    #[track_caller]
    pub(crate) fn read(&mut self, offset: u64, len: u32) -> Vec<u8> {
        self.request(command::READ, offset, len, &[])
            .expect("a read succeeds")
    }

    /// Writes bytes that must be taken.
    #[track_caller]
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        let len = data.len().try_into().expect("a request is short");
        self.request(command::WRITE, offset, len, data)
            .expect("a write succeeds");
    }

    /// Says goodbye, which has no answer but the end.
    #[track_caller]
    pub(crate) fn disconnect(mut self) {
        self.send(command::DISCONNECT, 0, 0, &[]);
        let mut rest = Vec::new();
        self.stream
            .read_to_end(&mut rest)
            .expect("the server ends the connection");
        assert!(rest.is_empty(), "the server goes on after the goodbye");
    }
}

fn read_u16(stream: &mut UnixStream) -> io::Result<u16> {
    read_array(stream).map(u16::from_be_bytes)
}

fn read_u32(stream: &mut UnixStream) -> io::Result<u32> {
    read_array(stream).map(u32::from_be_bytes)
}

fn read_u64(stream: &mut UnixStream) -> io::Result<u64> {
    read_array(stream).map(u64::from_be_bytes)
}

fn read_array<const LEN: usize>(stream: &mut UnixStream) -> io::Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
