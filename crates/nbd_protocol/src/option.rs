//! The options that a client sends before it chooses an export, and what answers them.

use crate::Malformed;
use crate::greeting::OPTION_MAGIC;
use zerocopy::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireOption {
    magic: U64,
    code: U32,
    data_len: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireReply {
    magic: U64,
    option: U32,
    kind: U32,
    data_len: U32,
}

/// The header of an option; its data follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionHeader {
    /// What it asks for.
    pub kind: OptionKind,
    /// The length of its data, in bytes, as the client has it.
    pub data_len: u32,
}

/// The options of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OptionKind {
    /// Chooses an export, and can only be refused by closing the connection. The data is the name.
    ExportName,
    /// Says goodbye.
    Abort,
    /// Asks for the names of exports.
    List,
    /// Goes on in TLS.
    StartTls,
    /// Asks about an export: [`InfoRequest`](crate::InfoRequest).
    Info,
    /// The same, and chooses it.
    Go,
    /// Asks for replies in chunks.
    StructuredReply,
    /// Asks for the names of metadata contexts: [`ContextRequest`](crate::ContextRequest).
    ListMetaContext,
    /// The same, and chooses them.
    SetMetaContext,
    /// Asks for headers with lengths of 64 bits.
    ExtendedHeaders,
    /// Any other number.
    Unknown(u32),
}

impl OptionHeader {
    /// The length of an option without its data, in bytes.
    pub const LEN: usize = size_of::<WireOption>();

    /// The header as bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        zerocopy::transmute!(WireOption {
            magic: OPTION_MAGIC.into(),
            code: self.kind.code().into(),
            data_len: self.data_len.into(),
        })
    }

    /// Takes a header apart. The error is the magic that came instead.
    ///
    /// # Errors
    /// If it does not begin as an option does: nothing after it can be understood.
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, u64> {
        let wire: WireOption = zerocopy::transmute!(*bytes);
        match wire.magic.get() {
            OPTION_MAGIC => Ok(Self {
                kind: OptionKind::from_code(wire.code.get()),
                data_len: wire.data_len.get(),
            }),
            other => Err(other),
        }
    }
}

impl OptionKind {
    /// What a number asks for.
    pub fn from_code(code: u32) -> Self {
        match code {
            1 => Self::ExportName,
            2 => Self::Abort,
            3 => Self::List,
            5 => Self::StartTls,
            6 => Self::Info,
            7 => Self::Go,
            8 => Self::StructuredReply,
            9 => Self::ListMetaContext,
            10 => Self::SetMetaContext,
            11 => Self::ExtendedHeaders,
            other => Self::Unknown(other),
        }
    }

    /// The number on the wire, which replies repeat, known or not.
    pub fn code(self) -> u32 {
        match self {
            Self::ExportName => 1,
            Self::Abort => 2,
            Self::List => 3,
            Self::StartTls => 5,
            Self::Info => 6,
            Self::Go => 7,
            Self::StructuredReply => 8,
            Self::ListMetaContext => 9,
            Self::SetMetaContext => 10,
            Self::ExtendedHeaders => 11,
            Self::Unknown(code) => code,
        }
    }
}

/// The header of a reply to an option; its data follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionReplyHeader {
    /// What was asked for.
    pub option: OptionKind,
    /// What the reply is.
    pub kind: ReplyKind,
    /// The length of its data, in bytes, as the server has it.
    pub data_len: u32,
}

/// The kinds of replies to options. The data of an error is a message for people, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplyKind {
    /// The last reply, if all went well.
    Ack,
    /// One export: [`ExportEntry`](crate::ExportEntry).
    Server,
    /// One thing about an export: [`Info`](crate::Info).
    Info,
    /// One metadata context: [`MetaContext`](crate::MetaContext).
    MetaContext,
    /// The option is not known.
    Unsupported,
    /// The server will not have it.
    Policy,
    /// The option's data makes no sense, or the option no sense now.
    Invalid,
    /// The server cannot do it where it runs.
    Platform,
    /// Only in TLS.
    TlsRequired,
    /// There is no such export.
    UnknownExport,
    /// The server is about to stop.
    Shutdown,
    /// Only for clients that ask for the block sizes.
    BlockSizeRequired,
    /// The option's data is too long.
    TooBig,
    /// Only with extended headers.
    ExtendedHeadersRequired,
    /// Any other number.
    Unknown(u32),
}

const ERROR: u32 = 1 << 31;

impl OptionReplyHeader {
    /// The length of a reply without its data, in bytes.
    pub const LEN: usize = size_of::<WireReply>();

    /// The header as bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        zerocopy::transmute!(WireReply {
            magic: REPLY_MAGIC.into(),
            option: self.option.code().into(),
            kind: self.kind.code().into(),
            data_len: self.data_len.into(),
        })
    }

    /// Takes a header apart.
    ///
    /// # Errors
    /// If it does not begin as a reply does.
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, Malformed> {
        let wire: WireReply = zerocopy::transmute!(*bytes);
        match wire.magic.get() {
            REPLY_MAGIC => Ok(Self {
                option: OptionKind::from_code(wire.option.get()),
                kind: ReplyKind::from_code(wire.kind.get()),
                data_len: wire.data_len.get(),
            }),
            _ => Err(Malformed("a reply to an option has the wrong magic")),
        }
    }
}

impl ReplyKind {
    /// What a number means.
    pub fn from_code(code: u32) -> Self {
        const KNOWN: [ReplyKind; 14] = [
            ReplyKind::Ack,
            ReplyKind::Server,
            ReplyKind::Info,
            ReplyKind::MetaContext,
            ReplyKind::Unsupported,
            ReplyKind::Policy,
            ReplyKind::Invalid,
            ReplyKind::Platform,
            ReplyKind::TlsRequired,
            ReplyKind::UnknownExport,
            ReplyKind::Shutdown,
            ReplyKind::BlockSizeRequired,
            ReplyKind::TooBig,
            ReplyKind::ExtendedHeadersRequired,
        ];
        let known = KNOWN.into_iter().find(|kind| kind.code() == code);
        known.unwrap_or(Self::Unknown(code))
    }

    /// The number on the wire.
    pub fn code(self) -> u32 {
        match self {
            Self::Ack => 1,
            Self::Server => 2,
            Self::Info => 3,
            Self::MetaContext => 4,
            Self::Unsupported => ERROR | 1,
            Self::Policy => ERROR | 2,
            Self::Invalid => ERROR | 3,
            Self::Platform => ERROR | 4,
            Self::TlsRequired => ERROR | 5,
            Self::UnknownExport => ERROR | 6,
            Self::Shutdown => ERROR | 7,
            Self::BlockSizeRequired => ERROR | 8,
            Self::TooBig => ERROR | 9,
            Self::ExtendedHeadersRequired => ERROR | 10,
            Self::Unknown(code) => code,
        }
    }

    /// Whether it says that the option failed, known or not.
    pub fn is_error(self) -> bool {
        self.code() & ERROR != 0
    }

    /// Whether it is the last reply to its option.
    pub fn is_last(self) -> bool {
        self == Self::Ack || self.is_error()
    }
}

/// Appends a reply to an option.
///
/// # Panics
/// If `data` is 4 GiB or more.
pub fn push_reply(out: &mut Vec<u8>, option: OptionKind, kind: ReplyKind, data: &[&[u8]]) {
    let data_len: usize = data.iter().map(|part| part.len()).sum();
    let header = OptionReplyHeader {
        option,
        kind,
        data_len: u32::try_from(data_len).expect("replies are built from bounded strings"),
    };
    out.extend_from_slice(&header.encode());
    for part in data {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_names_its_option() {
        let bytes = *b"IHAVEOPT\0\0\0\x07\0\0\0\x10";
        let header = OptionHeader::decode(&bytes).unwrap();
        assert_eq!((header.kind, header.data_len), (OptionKind::Go, 16));
        assert_eq!(header.encode(), bytes);
        assert_eq!(
            OptionHeader::decode(b"GET / HTTP/1.1\r\n"),
            Err(u64::from_be_bytes(*b"GET / HT"))
        );
    }

    #[test]
    fn every_number_comes_back() {
        for code in (0..20).chain([u32::MAX]) {
            assert_eq!(OptionKind::from_code(code).code(), code);
            for code in [code, code | ERROR] {
                let kind = ReplyKind::from_code(code);
                assert_eq!(kind.code(), code);
                assert_eq!(kind.is_error(), code & ERROR != 0);
            }
        }
        let is_known = |code| !matches!(ReplyKind::from_code(code), ReplyKind::Unknown(_));
        assert_eq!((0..=40).filter(|code| is_known(*code)).count(), 4);
        assert_eq!((0..=40).filter(|code| is_known(code | ERROR)).count(), 10);
    }

    #[test]
    fn a_reply_repeats_the_option_and_counts_its_data() {
        let mut out = Vec::new();
        push_reply(
            &mut out,
            OptionKind::List,
            ReplyKind::Server,
            &[b"ab", b"c"],
        );
        assert_eq!(
            out,
            *b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x03\0\0\0\x02\0\0\0\x03abc"
        );
        let header = OptionReplyHeader::decode(out.first_chunk().unwrap()).unwrap();
        assert_eq!((header.option, header.data_len), (OptionKind::List, 3));
        assert!(header.kind == ReplyKind::Server && !header.kind.is_last());
        out.clear();
        push_reply(
            &mut out,
            OptionKind::Unknown(99),
            ReplyKind::Unsupported,
            &[],
        );
        assert_eq!(out[8..], [0, 0, 0, 99, 0x80, 0, 0, 1, 0, 0, 0, 0]);
        let header = OptionReplyHeader::decode(out.first_chunk().unwrap()).unwrap();
        assert!(header.kind.is_error() && header.kind.is_last());
        out[0] = 1;
        assert!(OptionReplyHeader::decode(out.first_chunk().unwrap()).is_err());
    }
}
