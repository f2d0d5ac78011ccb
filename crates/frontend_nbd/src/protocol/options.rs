//! The options that a client sends before it chooses an export, and the replies to them.

use super::greeting::OPTION_MAGIC;
use super::{ALLOCATION_CONTEXT, STRING_LEN_MAX};
use smallvec::SmallVec;

/// The length of an option without its data, in bytes.
pub(crate) const HEADER_LEN: usize = 16;

const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

/// The header of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OptionHeader {
    /// The number of the option, which replies repeat, known or not.
    pub(crate) code: u32,
    /// The length of its data, in bytes, as the client has it.
    pub(crate) data_len: u32,
}

/// The options that mean something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OptionKind {
    ExportName,
    Abort,
    List,
    Info,
    Go,
    StructuredReply,
    ListMetaContext,
    SetMetaContext,
    /// Among them `STARTTLS` (5): there is no TLS yet.
    Unknown,
}

/// The kinds of replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum ReplyKind {
    Ack = 1,
    Server = 2,
    Info = 3,
    MetaContext = 4,
    /// The option is not known here.
    Unsupported = (1 << 31) | 1,
    /// Its data cannot be understood.
    Invalid = (1 << 31) | 3,
    /// There is no such export.
    UnknownExport = (1 << 31) | 6,
    /// Its data is too long.
    TooBig = (1 << 31) | 9,
}

/// The kinds of information about an export.
pub(crate) mod info {
    pub(crate) const EXPORT: u16 = 0;
    pub(crate) const NAME: u16 = 1;
    pub(crate) const DESCRIPTION: u16 = 2;
    pub(crate) const BLOCK_SIZE: u16 = 3;
}

/// What is wrong with an option's data, as a message for the client.
pub(crate) type Malformed = &'static str;

impl OptionHeader {
    /// Takes a header apart. The error is the magic that came instead.
    pub(crate) fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, u64> {
        let mut fields = Fields(bytes);
        let magic = u64::from_be_bytes(fields.array().expect("the header has its length"));
        if magic != OPTION_MAGIC {
            return Err(magic);
        }
        Ok(Self {
            code: fields.u32().expect("the header has its length"),
            data_len: fields.u32().expect("the header has its length"),
        })
    }

    pub(crate) fn kind(self) -> OptionKind {
        match self.code {
            1 => OptionKind::ExportName,
            2 => OptionKind::Abort,
            3 => OptionKind::List,
            6 => OptionKind::Info,
            7 => OptionKind::Go,
            8 => OptionKind::StructuredReply,
            9 => OptionKind::ListMetaContext,
            10 => OptionKind::SetMetaContext,
            _ => OptionKind::Unknown,
        }
    }
}

/// The data of `INFO` and `GO`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InfoRequest<'a> {
    pub(crate) export_name: &'a str,
    /// The kinds of information asked for, known or not.
    pub(crate) wanted: SmallVec<[u16; 8]>,
}

impl<'a> InfoRequest<'a> {
    pub(crate) fn parse(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(data);
        let export_name = fields.string()?;
        let count = fields.u16()?;
        // The data bounds the count, not the other way round.
        if fields.0.len() != usize::from(count) * 2 {
            return Err("the number of information requests does not fit the length of the option");
        }
        let wanted = fields.0.as_chunks().0.iter().copied();
        Ok(Self {
            export_name,
            wanted: wanted.map(u16::from_be_bytes).collect(),
        })
    }
}

/// The data of `LIST_META_CONTEXT` and `SET_META_CONTEXT`, reduced to what matters to the one context there is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ContextRequest<'a> {
    pub(crate) export_name: &'a str,
    /// There is no query at all.
    pub(crate) is_empty: bool,
    /// A query names `base:allocation`.
    pub(crate) names_allocation: bool,
    /// A query is `base:`, which stands for the whole namespace in a list.
    pub(crate) names_namespace: bool,
}

impl<'a> ContextRequest<'a> {
    pub(crate) fn parse(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(data);
        let export_name = fields.string()?;
        let count = fields.u32()?;
        let mut request = Self {
            export_name,
            is_empty: count == 0,
            names_allocation: false,
            names_namespace: false,
        };
        // A count that lies ends at the first query that is not there.
        for _ in 0..count {
            let query = fields.string()?;
            if !query.contains(':') {
                return Err(
                    "a metadata query has no namespace: it must look like `base:allocation`",
                );
            }
            request.names_allocation |= query == ALLOCATION_CONTEXT;
            request.names_namespace |= query == "base:";
        }
        fields.finish()?;
        Ok(request)
    }
}

/// Checks an export's name, or any other string.
pub(crate) fn parse_string(bytes: &[u8]) -> Result<&str, Malformed> {
    if bytes.len() > STRING_LEN_MAX {
        return Err("a string is longer than 4096 bytes");
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "a string is not UTF-8")?;
    if text.contains('\0') {
        return Err("a string contains a zero byte");
    }
    Ok(text)
}

/// Appends a reply to an option.
pub(crate) fn push_reply(out: &mut Vec<u8>, option: u32, kind: ReplyKind, data: &[&[u8]]) {
    let data_len: usize = data.iter().map(|part| part.len()).sum();
    let data_len = u32::try_from(data_len).expect("replies are built from bounded strings");
    out.extend_from_slice(&REPLY_MAGIC.to_be_bytes());
    out.extend_from_slice(&option.to_be_bytes());
    out.extend_from_slice(&(kind as u32).to_be_bytes());
    out.extend_from_slice(&data_len.to_be_bytes());
    for part in data {
        out.extend_from_slice(part);
    }
}

/// What is left of an option's data.
struct Fields<'a>(&'a [u8]);

const TOO_SHORT: Malformed = "the option's data ends too early";

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(TOO_SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(TOO_SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// A string after its length.
    fn string(&mut self) -> Result<&'a str, Malformed> {
        let len = self.u32()?;
        parse_string(self.take(usize::try_from(len).map_err(|_| TOO_SHORT)?)?)
    }

    fn finish(self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err("the option's data does not end where it should")
        }
    }
}

#[cfg(test)]
mod tests;
