//! The header of a request, and what is wrong with it by itself: nothing here knows an export.

use crate::command_flag::{DF, FAST_ZERO, FUA, NO_HOLE, PAYLOAD_LEN, REQ_ONE};
use crate::{Framing, Head};
use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const COMPACT_MAGIC: u32 = 0x2560_9513;
const EXTENDED_MAGIC: u32 = 0x21e4_1c71;

pub(crate) const COMPACT_LEN: usize = size_of::<Compact>();
pub(crate) const EXTENDED_LEN: usize = size_of::<Extended>();

const _: () = assert!(COMPACT_LEN == 28 && EXTENDED_LEN == 32);

/// What both kinds of headers have in common.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Common {
    magic: U32,
    flags: U16,
    command: U16,
    cookie: U64,
    offset: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Compact {
    common: Common,
    len: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Extended {
    common: Common,
    len: U64,
}

/// A request, without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What it wants.
    pub command: Command,
    /// Of [`command_flag`](crate::command_flag).
    pub flags: u16,
    /// The client's name for the request, repeated in the reply.
    pub cookie: u64,
    /// In bytes, from the start of the export.
    pub offset: u64,
    /// In bytes; below 2^32 in a compact header.
    pub len: u64,
}

/// The commands of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Sends data.
    Read,
    /// Takes data, which follows the header.
    Write,
    /// Ends the session; there is no reply.
    Disconnect,
    /// Makes durable what was answered before.
    Flush,
    /// Forgets data; a hint.
    Trim,
    /// Prepares for reading; a hint.
    Cache,
    /// Writes zeros.
    WriteZeroes,
    /// Tells what the metadata contexts know.
    BlockStatus,
    /// Any other number.
    Unknown(u16),
}

/// The bytes are not a request: whoever sent them is out of step, and nothing after them can be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a request begins with {0:#010x}")]
pub struct BadMagic(pub u32);

impl Request {
    /// The header as bytes. With extended headers a write gets the flag `PAYLOAD_LEN`, which it must have there.
    ///
    /// # Panics
    /// If the length is too large for a compact header.
    pub fn encode(&self, framing: Framing) -> Head {
        let is_extended = framing == Framing::Extended;
        let common = Common {
            magic: if is_extended {
                EXTENDED_MAGIC
            } else {
                COMPACT_MAGIC
            }
            .into(),
            flags: match self.command {
                Command::Write if is_extended => self.flags | PAYLOAD_LEN,
                _ => self.flags,
            }
            .into(),
            command: self.command.code().into(),
            cookie: self.cookie.into(),
            offset: self.offset.into(),
        };
        if is_extended {
            let len = self.len.into();
            return Head::from_slice(Extended { common, len }.as_bytes());
        }
        let len = u32::try_from(self.len).expect("a compact header has a length of 32 bits");
        let len = len.into();
        Head::from_slice(Compact { common, len }.as_bytes())
    }

    /// Takes a header apart. `bytes` is as long as [`Framing::request_len`] says, which tells the two kinds apart.
    ///
    /// # Errors
    /// The magic that came instead of a request's.
    ///
    /// # Panics
    /// If `bytes` is as long as no header is.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadMagic> {
        let (common, len, magic) = match bytes.len() {
            COMPACT_LEN => {
                let wire = Compact::ref_from_bytes(bytes).expect("the length was compared");
                (&wire.common, u64::from(wire.len.get()), COMPACT_MAGIC)
            }
            EXTENDED_LEN => {
                let wire = Extended::ref_from_bytes(bytes).expect("the length was compared");
                (&wire.common, wire.len.get(), EXTENDED_MAGIC)
            }
            other => panic!("no request has a header of {other} bytes"),
        };
        if common.magic.get() != magic {
            return Err(BadMagic(common.magic.get()));
        }
        Ok(Self {
            command: Command::from_code(common.command.get()),
            flags: common.flags.get(),
            cookie: common.cookie.get(),
            offset: common.offset.get(),
            len,
        })
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// How many bytes of payload follow the header. With extended headers the flag `PAYLOAD_LEN` announces one with any command.
    pub fn payload_len(&self, framing: Framing) -> u64 {
        match self.command {
            Command::Write => self.len,
            _ if framing == Framing::Extended && self.has(PAYLOAD_LEN) => self.len,
            _ => 0,
        }
    }
}

impl Command {
    /// What a number asks for.
    pub fn from_code(code: u16) -> Self {
        match code {
            0 => Self::Read,
            1 => Self::Write,
            2 => Self::Disconnect,
            3 => Self::Flush,
            4 => Self::Trim,
            5 => Self::Cache,
            6 => Self::WriteZeroes,
            7 => Self::BlockStatus,
            other => Self::Unknown(other),
        }
    }

    /// The number on the wire.
    pub fn code(self) -> u16 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Disconnect => 2,
            Self::Flush => 3,
            Self::Trim => 4,
            Self::Cache => 5,
            Self::WriteZeroes => 6,
            Self::BlockStatus => 7,
            Self::Unknown(code) => code,
        }
    }

    /// The flags that may come with it. FUA may come with anything, since clients exist that set it everywhere.
    pub fn flags_allowed(self, framing: Framing) -> u16 {
        match self {
            Self::Read if framing.has_chunks() => FUA | DF,
            Self::Write if framing == Framing::Extended => FUA | PAYLOAD_LEN,
            Self::WriteZeroes => FUA | NO_HOLE | FAST_ZERO,
            Self::BlockStatus => FUA | REQ_ONE,
            Self::Read
            | Self::Write
            | Self::Disconnect
            | Self::Flush
            | Self::Trim
            | Self::Cache
            | Self::Unknown(_) => FUA,
        }
    }

    /// Whether it may change the content of an export.
    pub fn changes(self) -> bool {
        matches!(self, Self::Write | Self::Trim | Self::WriteZeroes)
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Disconnect => "disconnect",
            Self::Flush => "flush",
            Self::Trim => "trim",
            Self::Cache => "cache",
            Self::WriteZeroes => "write of zeros",
            Self::BlockStatus => "block status",
            Self::Unknown(_) => "unknown command",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WRITE: [u8; COMPACT_LEN] = [
        0x25, 0x60, 0x95, 0x13, // magic
        0x00, 0x01, // FUA
        0x00, 0x01, // write
        1, 2, 3, 4, 5, 6, 7, 8, // cookie
        0, 0, 0, 1, 0, 0, 0x10, 0, // offset
        0, 0, 2, 0, // length
    ];

    const TRIM: [u8; EXTENDED_LEN] = [
        0x21, 0xe4, 0x1c, 0x71, // magic
        0x00, 0x00, // no flags
        0x00, 0x04, // trim
        1, 2, 3, 4, 5, 6, 7, 8, // cookie
        0, 0, 0, 1, 0, 0, 0x10, 0, // offset
        0, 0, 2, 0, 0, 0, 0, 1, // length
    ];

    #[test]
    fn a_compact_header_is_taken_apart_byte_by_byte() {
        let request = Request::decode(&WRITE).unwrap();
        assert_eq!(request.command, Command::Write);
        assert!(request.has(FUA) && !request.has(DF));
        assert_eq!(request.cookie, 0x0102_0304_0506_0708);
        assert_eq!(request.offset, 0x1_0000_1000);
        assert_eq!(request.len, 512);
        assert_eq!(request.payload_len(Framing::Simple), 512);
        assert_eq!(request.encode(Framing::Structured)[..], WRITE);
    }

    #[test]
    fn an_extended_header_has_a_length_of_64_bits() {
        let request = Request::decode(&TRIM).unwrap();
        assert_eq!(request.command, Command::Trim);
        assert_eq!(request.len, 0x200_0000_0001);
        assert_eq!(request.payload_len(Framing::Extended), 0);
        assert_eq!(request.encode(Framing::Extended)[..], TRIM);
    }

    #[test]
    fn an_extended_write_says_that_it_has_a_payload() {
        let request = Request::decode(&WRITE).unwrap();
        let extended = Request::decode(&request.encode(Framing::Extended)).unwrap();
        assert_eq!(extended.flags, FUA | PAYLOAD_LEN);
        assert_eq!(extended.payload_len(Framing::Extended), 512);
    }

    #[test]
    fn only_a_write_has_a_payload_unless_an_extended_header_announces_one() {
        for code in 0..=9_u16 {
            let mut bytes = WRITE;
            bytes[6..8].copy_from_slice(&code.to_be_bytes());
            let mut request = Request::decode(&bytes).unwrap();
            for framing in [Framing::Simple, Framing::Structured, Framing::Extended] {
                assert_eq!(request.payload_len(framing) > 0, code == 1, "{request:?}");
            }
            request.flags |= PAYLOAD_LEN;
            assert_eq!(request.payload_len(Framing::Extended), 512);
            assert_eq!(request.payload_len(Framing::Structured) > 0, code == 1);
        }
    }

    #[test]
    fn a_wrong_magic_is_reported_as_it_came() {
        let mut bytes = WRITE;
        bytes[0] = b'G';
        assert_eq!(Request::decode(&bytes), Err(BadMagic(0x4760_9513)));
        let mut bytes = TRIM;
        bytes[..4].copy_from_slice(&COMPACT_MAGIC.to_be_bytes());
        assert_eq!(Request::decode(&bytes), Err(BadMagic(COMPACT_MAGIC)));
    }

    proptest! {
        #[test]
        fn every_request_comes_back(code: u16, flags: u16, cookie: u64, offset: u64, len: u32, long: u64) {
            let command = Command::from_code(code);
            prop_assert_eq!(command.code(), code);
            let request = Request { command, flags, cookie, offset, len: u64::from(len) };
            prop_assert_eq!(Request::decode(&request.encode(Framing::Simple)), Ok(request));
            let flags = if command == Command::Write { flags | PAYLOAD_LEN } else { flags };
            let request = Request { flags, len: long, ..request };
            prop_assert_eq!(Request::decode(&request.encode(Framing::Extended)), Ok(request));
        }
    }
}
