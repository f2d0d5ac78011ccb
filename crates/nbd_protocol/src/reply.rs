//! The messages that answer requests: their headers, and what a server sends whole.

mod payload;

pub use payload::{ChunkPayload, Extents};

use crate::fields::Fields;
use crate::{Errno, Framing, Head, Malformed, Request};
use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const SIMPLE_MAGIC: u32 = 0x6744_6698;
const STRUCTURED_MAGIC: u32 = 0x668e_33ef;
const EXTENDED_MAGIC: u32 = 0x6e8a_278c;

const FLAG_DONE: u16 = 1 << 0;

/// The longest message that explains an error here, in bytes; a client must take what the protocol allows,
/// [`STRING_LEN_MAX`](crate::STRING_LEN_MAX).
pub const ERROR_MESSAGE_LEN_MAX: usize = 512;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Simple {
    magic: U32,
    errno: U32,
    cookie: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Structured {
    magic: U32,
    flags: U16,
    kind: U16,
    cookie: U64,
    payload_len: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Extended {
    magic: U32,
    flags: U16,
    kind: U16,
    cookie: U64,
    offset: U64,
    payload_len: U64,
}

/// How a message that answers a request begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyHeader {
    /// All of a reply but the data of a read that succeeded, which follows.
    Simple {
        /// 0 for success, or for [`Errno::from_code`].
        errno: u32,
        /// That of the request.
        cookie: u64,
    },
    /// One of the messages that make up a reply.
    Chunk(ChunkHeader),
}

/// The header of a chunk; its payload follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHeader {
    /// No further chunk answers this request.
    pub is_last: bool,
    /// What the payload is.
    pub kind: ChunkKind,
    /// That of the request.
    pub cookie: u64,
    /// That of the request; only in extended headers.
    pub offset: Option<u64>,
    /// In bytes, as the server has it.
    pub payload_len: u64,
}

/// The kinds of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChunkKind {
    /// Nothing: the request succeeded, or everything was said.
    None,
    /// An offset in 64 bits, then data from there on.
    OffsetData,
    /// A range that reads as zeros.
    OffsetHole,
    /// Extents with lengths and values of 32 bits.
    BlockStatus,
    /// Extents with lengths and values of 64 bits, for extended headers.
    BlockStatusExtended,
    /// The request failed.
    Error,
    /// The request failed at an offset.
    ErrorOffset,
    /// Any other number.
    Unknown(u16),
}

impl ChunkKind {
    /// What a number means.
    pub fn from_code(code: u16) -> Self {
        match code {
            0 => Self::None,
            1 => Self::OffsetData,
            2 => Self::OffsetHole,
            5 => Self::BlockStatus,
            6 => Self::BlockStatusExtended,
            0x8001 => Self::Error,
            0x8002 => Self::ErrorOffset,
            other => Self::Unknown(other),
        }
    }

    /// The number on the wire.
    pub fn code(self) -> u16 {
        match self {
            Self::None => 0,
            Self::OffsetData => 1,
            Self::OffsetHole => 2,
            Self::BlockStatus => 5,
            Self::BlockStatusExtended => 6,
            Self::Error => 0x8001,
            Self::ErrorOffset => 0x8002,
            Self::Unknown(code) => code,
        }
    }

    /// Whether it says that the request failed, known or not.
    pub fn is_error(self) -> bool {
        self.code() & 0x8000 != 0
    }
}

impl ReplyHeader {
    /// The length of the shortest header, in bytes: this much may always be waited for.
    pub const LEN_MIN: usize = size_of::<Simple>();
    /// The length of the longest header, in bytes.
    pub const LEN_MAX: usize = size_of::<Extended>();
    /// What begins the payload of [`ChunkKind::OffsetData`]: the offset, in 64 bits.
    pub const DATA_OFFSET_LEN: usize = 8;

    /// The length of the header that begins with these bytes.
    ///
    /// # Errors
    /// If nothing that answers a request begins so: the other side is out of step, or no server.
    pub fn len(magic: [u8; 4]) -> Result<usize, Malformed> {
        match u32::from_be_bytes(magic) {
            SIMPLE_MAGIC => Ok(size_of::<Simple>()),
            STRUCTURED_MAGIC => Ok(size_of::<Structured>()),
            EXTENDED_MAGIC => Ok(size_of::<Extended>()),
            _ => Err(Malformed("a reply has the wrong magic")),
        }
    }

    /// Takes the header at the beginning of `bytes` apart; [`len`](Self::len) says how long it is. Whether the connection's
    /// [`Framing`] allows it is for the caller to compare with [`allowed_in`](Self::allowed_in).
    ///
    /// # Errors
    /// As [`len`](Self::len); or if it is not there whole.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(bytes);
        let short = Malformed("a reply ends too early");
        let magic = bytes.first_chunk().ok_or(short)?;
        Self::len(*magic)?;
        Ok(match u32::from_be_bytes(*magic) {
            SIMPLE_MAGIC => {
                let wire: &Simple = fields.read()?;
                Self::Simple {
                    errno: wire.errno.get(),
                    cookie: wire.cookie.get(),
                }
            }
            STRUCTURED_MAGIC => {
                let wire: &Structured = fields.read()?;
                Self::Chunk(ChunkHeader {
                    is_last: wire.flags.get() & FLAG_DONE != 0,
                    kind: ChunkKind::from_code(wire.kind.get()),
                    cookie: wire.cookie.get(),
                    offset: None,
                    payload_len: wire.payload_len.get().into(),
                })
            }
            _ => {
                let wire: &Extended = fields.read()?;
                Self::Chunk(ChunkHeader {
                    is_last: wire.flags.get() & FLAG_DONE != 0,
                    kind: ChunkKind::from_code(wire.kind.get()),
                    cookie: wire.cookie.get(),
                    offset: Some(wire.offset.get()),
                    payload_len: wire.payload_len.get(),
                })
            }
        })
    }

    /// Whether a server may send it where this framing was agreed on: a simple reply unless headers are extended, a structured
    /// chunk only with structured replies, an extended one only with extended headers.
    pub fn allowed_in(&self, framing: Framing) -> bool {
        match self {
            Self::Simple { .. } => framing != Framing::Extended,
            Self::Chunk(chunk) => match chunk.offset {
                None => framing == Framing::Structured,
                Some(_) => framing == Framing::Extended,
            },
        }
    }
}

/// One extent of a block status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// In bytes; below 2^32 unless headers are extended.
    pub len: u64,
    /// What the context says of it; below 2^32 unless headers are extended. For `base:allocation` of
    /// [`extent_flag`](crate::extent_flag).
    pub value: u64,
}

/// Success of anything but a read or a block status. Where a simple reply may tell it, it does: it is shorter, and clients take
/// it with one call less.
pub fn success(framing: Framing, request: &Request) -> Head {
    match framing {
        Framing::Simple | Framing::Structured => simple(0, request.cookie),
        Framing::Extended => chunk(framing, true, ChunkKind::None, request, 0),
    }
}

/// Success of a read of nothing.
pub fn no_data(framing: Framing, request: &Request) -> Head {
    match framing {
        Framing::Simple => simple(0, request.cookie),
        _ => chunk(framing, true, ChunkKind::None, request, 0),
    }
}

/// Failure. A chunk explains it, in the first [`ERROR_MESSAGE_LEN_MAX`] bytes of `message`.
pub fn error(framing: Framing, request: &Request, errno: Errno, message: &str) -> Head {
    if framing == Framing::Simple {
        return simple(errno.code(), request.cookie);
    }
    // Whole characters only.
    let message = &message[..message.floor_char_boundary(ERROR_MESSAGE_LEN_MAX)];
    let payload_len = 4 + 2 + message.len();
    let mut head = chunk(framing, true, ChunkKind::Error, request, payload_len);
    head.extend_from_slice(&errno.code().to_be_bytes());
    head.extend_from_slice(&(message.len() as u16).to_be_bytes());
    head.extend_from_slice(message.as_bytes());
    head
}

/// What goes before data of a read, which follows. Without chunks it goes before all of it; a chunk has `data_len` bytes from
/// `offset` on, counted from the start of the export.
pub fn data(
    framing: Framing,
    is_last: bool,
    request: &Request,
    offset: u64,
    data_len: u32,
) -> Head {
    if framing == Framing::Simple {
        return simple(0, request.cookie);
    }
    let payload_len = ReplyHeader::DATA_OFFSET_LEN + data_len as usize;
    let mut head = chunk(
        framing,
        is_last,
        ChunkKind::OffsetData,
        request,
        payload_len,
    );
    head.extend_from_slice(&offset.to_be_bytes());
    head
}

/// Part of a read that is zeros: `len` bytes from `offset` on, counted from the start of the export.
///
/// # Panics
/// Without chunks there is no such message.
pub fn hole(framing: Framing, is_last: bool, request: &Request, offset: u64, len: u32) -> Head {
    let mut head = chunk(framing, is_last, ChunkKind::OffsetHole, request, 8 + 4);
    head.extend_from_slice(&offset.to_be_bytes());
    head.extend_from_slice(&len.to_be_bytes());
    head
}

/// What one metadata context knows: a chunk for each that was chosen answers a block status.
///
/// # Panics
/// If a length or a value needs more bits than the framing has; without chunks there is no such message.
pub fn block_status(
    framing: Framing,
    is_last: bool,
    request: &Request,
    context_id: u32,
    extents: &[Extent],
) -> Head {
    let is_extended = framing == Framing::Extended;
    let (kind, payload_len) = match is_extended {
        true => (ChunkKind::BlockStatusExtended, 4 + 4 + extents.len() * 16),
        false => (ChunkKind::BlockStatus, 4 + extents.len() * 8),
    };
    let mut reply = chunk(framing, is_last, kind, request, payload_len);
    reply.extend_from_slice(&context_id.to_be_bytes());
    if is_extended {
        reply.extend_from_slice(&(extents.len() as u32).to_be_bytes());
    }
    for Extent { len, value } in extents.iter().copied() {
        for number in [len, value] {
            if is_extended {
                reply.extend_from_slice(&number.to_be_bytes());
            } else {
                let number = u32::try_from(number).expect("a compact extent has 32 bits");
                reply.extend_from_slice(&number.to_be_bytes());
            }
        }
    }
    reply
}

fn simple(errno: u32, cookie: u64) -> Head {
    let wire = Simple {
        magic: SIMPLE_MAGIC.into(),
        errno: errno.into(),
        cookie: cookie.into(),
    };
    Head::from_slice(wire.as_bytes())
}

fn chunk(
    framing: Framing,
    is_last: bool,
    kind: ChunkKind,
    request: &Request,
    payload_len: usize,
) -> Head {
    let flags = U16::new(if is_last { FLAG_DONE } else { 0 });
    let kind = U16::new(kind.code());
    let cookie = U64::new(request.cookie);
    match framing {
        Framing::Simple => panic!("simple replies have no chunks"),
        Framing::Structured => {
            let payload_len = u32::try_from(payload_len).expect("replies are bounded");
            let wire = Structured {
                magic: STRUCTURED_MAGIC.into(),
                flags,
                kind,
                cookie,
                payload_len: payload_len.into(),
            };
            Head::from_slice(wire.as_bytes())
        }
        Framing::Extended => {
            let wire = Extended {
                magic: EXTENDED_MAGIC.into(),
                flags,
                kind,
                cookie,
                offset: request.offset.into(),
                payload_len: (payload_len as u64).into(),
            };
            Head::from_slice(wire.as_bytes())
        }
    }
}

#[cfg(test)]
mod tests;
