//! The header of a request, and what is wrong with it by itself: nothing here knows an export.

use super::command_flag::{DF, FAST_ZERO, FUA, NO_HOLE, REQ_ONE};
use super::errno::Purpose;
use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const MAGIC: u32 = 0x2560_9513;

/// The length of a request without its payload, in bytes.
pub(crate) const HEADER_LEN: usize = size_of::<WireHeader>();

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireHeader {
    magic: U32,
    flags: U16,
    command: U16,
    cookie: U64,
    offset: U64,
    len: U32,
}

const _: () = assert!(HEADER_LEN == 28);

/// A request, without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) flags: u16,
    /// The client's name for the request, repeated in the reply.
    pub(crate) cookie: u64,
    /// In bytes, from the start of the export.
    pub(crate) offset: u64,
    /// In bytes.
    pub(crate) len: u32,
}

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Read,
    Write,
    Disconnect,
    Flush,
    Trim,
    WriteZeroes,
    BlockStatus,
    /// A number that means nothing here, or an extension that was never offered.
    Unknown(u16),
}

/// The bytes are not a request: whoever sent them is out of step, and nothing after them can be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadMagic(pub(crate) u32);

impl Request {
    /// Takes a header apart.
    pub(crate) fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, BadMagic> {
        let header: WireHeader = zerocopy::transmute!(*bytes);
        if header.magic.get() != MAGIC {
            return Err(BadMagic(header.magic.get()));
        }
        Ok(Self {
            command: Command::from_code(header.command.get()),
            flags: header.flags.get(),
            cookie: header.cookie.get(),
            offset: header.offset.get(),
            len: header.len.get(),
        })
    }

    pub(crate) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn purpose(&self) -> Purpose {
        match self.command {
            Command::WriteZeroes if self.has(FAST_ZERO) => Purpose::StoreFast,
            Command::Write | Command::WriteZeroes => Purpose::Store,
            _ => Purpose::Other,
        }
    }

    /// How many bytes of payload follow the header.
    pub(crate) fn payload_len(&self) -> u32 {
        match self.command {
            Command::Write => self.len,
            _ => 0,
        }
    }
}

impl Command {
    fn from_code(code: u16) -> Self {
        match code {
            0 => Self::Read,
            1 => Self::Write,
            2 => Self::Disconnect,
            3 => Self::Flush,
            4 => Self::Trim,
            6 => Self::WriteZeroes,
            7 => Self::BlockStatus,
            other => Self::Unknown(other),
        }
    }

    /// The flags that may come with it. FUA may come with anything, since clients exist that set it everywhere.
    pub(crate) fn flags_allowed(self) -> u16 {
        match self {
            Self::Read => FUA | DF,
            Self::WriteZeroes => FUA | NO_HOLE | FAST_ZERO,
            Self::BlockStatus => FUA | REQ_ONE,
            Self::Write | Self::Disconnect | Self::Flush | Self::Trim | Self::Unknown(_) => FUA,
        }
    }

    /// Whether it may change the content of an export.
    pub(crate) fn changes(self) -> bool {
        matches!(self, Self::Write | Self::Trim | Self::WriteZeroes)
    }

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Disconnect => "disconnect",
            Self::Flush => "flush",
            Self::Trim => "trim",
            Self::WriteZeroes => "write of zeros",
            Self::BlockStatus => "block status",
            Self::Unknown(_) => "unknown command",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: [u8; HEADER_LEN] = [
        0x25, 0x60, 0x95, 0x13, // magic
        0x00, 0x01, // FUA
        0x00, 0x01, // write
        1, 2, 3, 4, 5, 6, 7, 8, // cookie
        0, 0, 0, 1, 0, 0, 0x10, 0, // offset
        0, 0, 2, 0, // length
    ];

    #[test]
    fn a_header_is_taken_apart_byte_by_byte() {
        let request = Request::parse(&WRITE).unwrap();
        assert_eq!(request.command, Command::Write);
        assert!(request.has(FUA) && !request.has(DF));
        assert_eq!(request.cookie, 0x0102_0304_0506_0708);
        assert_eq!(request.offset, 0x1_0000_1000);
        assert_eq!((request.len, request.payload_len()), (512, 512));
    }

    #[test]
    fn only_a_write_has_a_payload() {
        for code in 0..=9_u16 {
            let mut bytes = WRITE;
            bytes[6..8].copy_from_slice(&code.to_be_bytes());
            let request = Request::parse(&bytes).unwrap();
            assert_eq!(request.payload_len() > 0, code == 1, "{request:?}");
        }
    }

    #[test]
    fn a_wrong_magic_is_reported_as_it_came() {
        let mut bytes = WRITE;
        bytes[0] = b'G';
        assert_eq!(Request::parse(&bytes), Err(BadMagic(0x4760_9513)));
    }

    #[test]
    fn commands_that_were_never_offered_are_unknown() {
        for code in [5_u16, 8, 9, 0xffff] {
            assert_eq!(Command::from_code(code), Command::Unknown(code));
        }
    }
}
