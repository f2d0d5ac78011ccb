//! A small NBD client: the fixed newstyle handshake, simple replies, and requests that go out without waiting for replies. Apart from
//! the crates that serve, on purpose: an error in how they read a message is none here.

use std::io::{self, Error, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::TIME_MAX;

const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
/// Fixed newstyle, no zeroes.
const CLIENT_FLAGS: u32 = 3;
pub(crate) const FLAG_FUA: u16 = 1;
/// A read of this length is one request.
const READ_LEN_MAX: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Read = 0,
    Write = 1,
    Disconnect = 2,
    Flush = 3,
    Trim = 4,
    WriteZeroes = 6,
}

#[derive(Debug)]
pub(crate) struct Wire {
    stream: UnixStream,
    size_bytes: u64,
}

/// The head of a reply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply {
    pub(crate) cookie: u64,
    /// 0 if all went well.
    pub(crate) errno: u32,
}

impl Wire {
    pub(crate) fn connect(socket: &Path, export: &str) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(TIME_MAX))?;
        stream.set_write_timeout(Some(TIME_MAX))?;
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting)?;
        let name_len = u32::try_from(export.len()).expect("a name is short");
        let go = [&name_len.to_be_bytes(), export.as_bytes(), &[0, 0]].concat();
        let go_len = u32::try_from(go.len()).expect("a name is short");
        stream.write_all(
            &[
                &CLIENT_FLAGS.to_be_bytes(),
                &OPTION_MAGIC[..],
                &OPTION_GO.to_be_bytes(),
                &go_len.to_be_bytes(),
                &go,
            ]
            .concat(),
        )?;
        let size_bytes = hear_size(&mut stream)?;
        Ok(Self { stream, size_bytes })
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Sends a request. Whoever sends many has to hear replies in between.
    pub(crate) fn send(
        &mut self,
        command: Command,
        flags: u16,
        cookie: u64,
        offset: u64,
        len: u64,
        payload: &[u8],
    ) -> io::Result<()> {
        self.stream
            .write_all(&head(command, flags, cookie, offset, len))?;
        self.stream.write_all(payload)
    }

    pub(crate) fn hear(&mut self) -> io::Result<Reply> {
        let mut head = [0; 16];
        self.stream.read_exact(&mut head)?;
        if u32_at(&head, 0) != REPLY_MAGIC {
            return Err(Error::other(format!("no reply begins with {head:02x?}")));
        }
        Ok(Reply {
            cookie: u64::from_be_bytes(head[8..].try_into().expect("eight bytes")),
            errno: u32_at(&head, 4),
        })
    }

    /// Hears the data behind a good reply to a read.
    pub(crate) fn hear_data(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut data = vec![0; len];
        self.stream.read_exact(&mut data)?;
        Ok(data)
    }

    /// One request, and its reply. The error number is an error.
    pub(crate) fn request(
        &mut self,
        command: Command,
        offset: u64,
        len: u64,
        payload: &[u8],
    ) -> io::Result<Vec<u8>> {
        const COOKIE: u64 = 0x50a6;
        self.send(command, 0, COOKIE, offset, len, payload)?;
        let Reply { cookie, errno } = self.hear()?;
        if cookie != COOKIE {
            return Err(Error::other(format!("a reply to nothing: {cookie:#x}")));
        }
        if errno != 0 {
            return Err(Error::other(format!(
                "{command:?} of {len} bytes at {offset} failed with error {errno}"
            )));
        }
        let len = if command == Command::Read { len } else { 0 };
        self.hear_data(usize::try_from(len).expect("a request is short"))
    }

    /// Reads as much as it takes several requests for.
    pub(crate) fn read(&mut self, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < len {
            let done = bytes.len() as u64;
            let part = (len - done).min(READ_LEN_MAX);
            bytes.extend(self.request(Command::Read, offset + done, part, &[])?);
        }
        Ok(bytes)
    }

    /// Says goodbye, and waits for the end of the connection.
    pub(crate) fn disconnect(mut self) -> io::Result<()> {
        self.send(Command::Disconnect, 0, 0, 0, 0, &[])?;
        self.stream.read_to_end(&mut Vec::new()).map(drop)
    }
}

pub(crate) fn head(command: Command, flags: u16, cookie: u64, offset: u64, len: u64) -> [u8; 28] {
    let len = u32::try_from(len).expect("a request is short");
    let mut head = [0; 28];
    head[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
    head[4..6].copy_from_slice(&flags.to_be_bytes());
    head[6..8].copy_from_slice(&(command as u16).to_be_bytes());
    head[8..16].copy_from_slice(&cookie.to_be_bytes());
    head[16..24].copy_from_slice(&offset.to_be_bytes());
    head[24..].copy_from_slice(&len.to_be_bytes());
    head
}

fn hear_size(stream: &mut UnixStream) -> io::Result<u64> {
    let mut size = None;
    loop {
        let mut head = [0; 20];
        stream.read_exact(&mut head)?;
        let (kind, len) = (u32_at(&head, 12), u32_at(&head, 16));
        let mut data = vec![0; usize::try_from(len).map_err(Error::other)?];
        stream.read_exact(&mut data)?;
        match kind {
            REPLY_ACK => return size.ok_or_else(|| Error::other("the server told no size")),
            REPLY_INFO if data.len() == 12 && data[..2] == [0, 0] => {
                let bytes = data[2..10].try_into().expect("eight bytes");
                size = Some(u64::from_be_bytes(bytes));
            }
            REPLY_INFO => {}
            kind => {
                let told = String::from_utf8_lossy(&data);
                return Err(Error::other(format!("refused with {kind:#x}: {told}")));
            }
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
