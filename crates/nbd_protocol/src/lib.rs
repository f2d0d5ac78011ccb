//! The numbers and messages of the Network Block Device protocol, as bytes and back, for servers and clients alike.
//!
//! Row 1: a foundation. It knows neither disks nor sockets. `frontend_nbd` is a server made of it, `disk_nbd` a client. The source of
//! every number is the protocol's own document, `doc/proto.md` of <https://github.com/NetworkBlockDevice/nbd>, in the revision
//! that includes extended headers. All integers are big-endian.
//!
//! ```
//! use nbd_protocol::{Command, Framing, ReplyHeader, Request, reply};
//! let request = Request { command: Command::Read, flags: 0, cookie: 7, offset: 512, len: 1024 };
//! let bytes = request.encode(Framing::Structured);
//! assert_eq!(Request::decode(&bytes), Ok(request));
//! let head = reply::data(Framing::Structured, true, &request, 512, 1024);
//! let ReplyHeader::Chunk(chunk) = ReplyHeader::decode(&head)? else { panic!("data comes in chunks") };
//! assert_eq!((chunk.cookie, chunk.payload_len), (7, 8 + 1024));
//! # Ok::<(), nbd_protocol::Malformed>(())
//! ```
//!
//! **Guarantees.** What is encoded decodes to the same. Decoding never panics, never reads beyond the bytes it is given, and never
//! takes more memory than those: a count inside a message is bounded by the message's length, not the other way round.
//!
//! **What it does not do.** Send, receive, or remember: in which order messages may come is for whoever has the connection. Nor does
//! it bound the length of a message: compare the lengths in headers with what you are willing to hold, before you receive.
//!
//! **Failure.** [`Malformed`] says what is wrong with bytes that the other side sent. Encoding does not fail; it panics on what a
//! caller of ours must not try (a 64-bit length in a compact header).

mod context;
mod errno;
mod fields;
mod framing;
mod info;
mod option;
pub mod reply;
mod request;

pub use context::{ContextRequest, MetaContext, Queries};
pub use errno::Errno;
pub use fields::{Malformed, STRING_LEN_MAX, check_string};
pub use framing::Framing;
pub use info::{BlockSizes, ExportEntry, Info, InfoKind, InfoRequest};
pub use option::{OptionHeader, OptionKind, OptionReplyHeader, ReplyKind, push_reply};
pub use reply::{ChunkHeader, ChunkKind, Extent, ReplyHeader};
pub use request::{BadMagic, Command, Request};

use smallvec::SmallVec;

/// A message without its data, or all of a short one. The headers of requests, and of data, fit without a heap allocation.
pub type Head = SmallVec<[u8; 40]>;

/// What each side sends first.
pub mod greeting {
    use crate::Malformed;

    /// `NBDMAGIC`: the server's first eight bytes.
    pub const MAGIC: u64 = 0x4e42_444d_4147_4943;
    /// `IHAVEOPT`: the next eight; begins each option of the client, too.
    pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
    /// The length of the server's greeting, in bytes; the client answers with 32 bits of the flags that it wants.
    pub const LEN: usize = 18;
    /// The server explains what it refuses, and takes more than one option. Set by either side.
    pub const FIXED_NEWSTYLE: u16 = 1 << 0;
    /// No padding after the answer to `EXPORT_NAME`. Set by either side.
    pub const NO_ZEROES: u16 = 1 << 1;
    /// The padding that a client gets which does not say [`NO_ZEROES`], in bytes.
    pub const PADDING_LEN: usize = 124;

    /// The server's greeting.
    pub fn encode(flags: u16) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&MAGIC.to_be_bytes());
        bytes[8..16].copy_from_slice(&OPTION_MAGIC.to_be_bytes());
        bytes[16..].copy_from_slice(&flags.to_be_bytes());
        bytes
    }

    /// The flags of the server's greeting, known here or not.
    ///
    /// # Errors
    /// If it is not the greeting of a newstyle NBD server.
    pub fn decode(bytes: &[u8; LEN]) -> Result<u16, Malformed> {
        let mut expected = encode(0);
        expected[16..].copy_from_slice(&bytes[16..]);
        match *bytes == expected {
            true => Ok(u16::from_be_bytes([bytes[16], bytes[17]])),
            false => Err(Malformed("it does not greet as an NBD server does")),
        }
    }
}

/// What an export can do: the transmission flags.
pub mod transmission_flag {
    /// Always set.
    pub const HAS_FLAGS: u16 = 1 << 0;
    /// Nothing may be changed.
    pub const READ_ONLY: u16 = 1 << 1;
    /// There is `FLUSH`.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// There is the flag `FUA`.
    pub const SEND_FUA: u16 = 1 << 3;
    /// Random access is slow.
    pub const ROTATIONAL: u16 = 1 << 4;
    /// There is `TRIM`.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// There is `WRITE_ZEROES`.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// There is the flag `DF`.
    pub const SEND_DF: u16 = 1 << 7;
    /// Several connections may be used together: a flush on one covers what was answered on any.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    /// There is `CACHE`.
    pub const SEND_CACHE: u16 = 1 << 10;
    /// There is the flag `FAST_ZERO`.
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
    /// `BLOCK_STATUS` may have a payload that names the contexts wanted.
    pub const BLOCK_STATUS_PAYLOAD: u16 = 1 << 12;
}

/// What a client may ask for with a command.
pub mod command_flag {
    /// Durable before it is answered.
    pub const FUA: u16 = 1 << 0;
    /// `WRITE_ZEROES` may not make holes.
    pub const NO_HOLE: u16 = 1 << 1;
    /// `READ` is to be answered in one piece.
    pub const DF: u16 = 1 << 2;
    /// `BLOCK_STATUS` is to be answered with one extent.
    pub const REQ_ONE: u16 = 1 << 3;
    /// `WRITE_ZEROES` fails where it is not faster than `WRITE`.
    pub const FAST_ZERO: u16 = 1 << 4;
    /// The length is that of a payload that follows; for extended headers only, where every `WRITE` has it.
    pub const PAYLOAD_LEN: u16 = 1 << 5;
}

/// What the context `base:allocation` says of an extent.
pub mod extent_flag {
    /// It takes no space.
    pub const HOLE: u64 = 1 << 0;
    /// It reads as zeros.
    pub const ZERO: u64 = 1 << 1;
}

/// The context that tells data from holes; its values are [`extent_flag`]s.
pub const BASE_ALLOCATION: &str = "base:allocation";
