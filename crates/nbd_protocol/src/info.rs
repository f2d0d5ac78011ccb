//! What can be learned about an export before it is chosen.

use crate::fields::{Fields, push_string};
use crate::{Malformed, check_string};
use smallvec::SmallVec;

/// The kinds of information about an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InfoKind {
    /// Size and abilities; sent unasked.
    Export,
    /// Its name, as the server has it.
    Name,
    /// A description for people.
    Description,
    /// The sizes of requests.
    BlockSizes,
    /// Any other number.
    Unknown(u16),
}

impl InfoKind {
    /// What a number means.
    pub fn from_code(code: u16) -> Self {
        match code {
            0 => Self::Export,
            1 => Self::Name,
            2 => Self::Description,
            3 => Self::BlockSizes,
            other => Self::Unknown(other),
        }
    }

    /// The number on the wire.
    pub fn code(self) -> u16 {
        match self {
            Self::Export => 0,
            Self::Name => 1,
            Self::Description => 2,
            Self::BlockSizes => 3,
            Self::Unknown(code) => code,
        }
    }
}

/// The data of `INFO` and `GO`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InfoRequest<'a> {
    /// The empty name is that of the default export.
    pub export_name: &'a str,
    /// The kinds of information asked for, known or not.
    pub wanted: SmallVec<[InfoKind; 8]>,
}

impl<'a> InfoRequest<'a> {
    /// The option's data.
    ///
    /// # Panics
    /// If the name is longer than [`STRING_LEN_MAX`](crate::STRING_LEN_MAX), or more than 65535 kinds are wanted.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        push_string(&mut out, self.export_name);
        let count = u16::try_from(self.wanted.len()).expect("there are few kinds");
        out.extend_from_slice(&count.to_be_bytes());
        let codes = self.wanted.iter().map(|kind| kind.code().to_be_bytes());
        out.extend(codes.flatten());
        out
    }

    /// Takes the option's data apart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(data);
        let export_name = fields.string()?;
        let count = fields.u16()?;
        // The data bounds the count, not the other way round.
        if fields.0.len() != usize::from(count) * 2 {
            return Err(Malformed(
                "the number of information requests does not fit the length of the option",
            ));
        }
        let codes = fields.0.as_chunks().0.iter().copied();
        let wanted = codes.map(|code| InfoKind::from_code(u16::from_be_bytes(code)));
        Ok(Self {
            export_name,
            wanted: wanted.collect(),
        })
    }
}

/// The smallest, the best and the largest request, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSizes {
    /// Offsets and lengths are multiples of it.
    pub minimum: u32,
    /// Multiples of it are fastest.
    pub preferred: u32,
    /// The most that one request may read or write; `u32::MAX` for no limit.
    pub maximum: u32,
}

/// One thing about an export: the data of one `INFO` reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Info<'a> {
    /// Size and abilities.
    Export {
        /// In bytes.
        size: u64,
        /// Of [`transmission_flag`](crate::transmission_flag).
        flags: u16,
    },
    /// Its name.
    Name(&'a str),
    /// A description for people.
    Description(&'a str),
    /// The sizes of requests.
    BlockSizes(BlockSizes),
    /// Something of another kind, to be passed over.
    Unknown(u16),
}

impl<'a> Info<'a> {
    /// The reply's data.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.kind().code().to_be_bytes().to_vec();
        match self {
            Self::Export { size, flags } => {
                out.extend_from_slice(&size.to_be_bytes());
                out.extend_from_slice(&flags.to_be_bytes());
            }
            Self::Name(text) | Self::Description(text) => out.extend_from_slice(text.as_bytes()),
            Self::BlockSizes(sizes) => {
                let sizes = [sizes.minimum, sizes.preferred, sizes.maximum];
                out.extend(sizes.map(u32::to_be_bytes).as_flattened());
            }
            Self::Unknown(_) => {}
        }
        out
    }

    /// Takes the reply's data apart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(data);
        let kind = InfoKind::from_code(fields.u16()?);
        let info = match kind {
            InfoKind::Export => Self::Export {
                size: fields.u64()?,
                flags: fields.u16()?,
            },
            InfoKind::BlockSizes => Self::BlockSizes(BlockSizes {
                minimum: fields.u32()?,
                preferred: fields.u32()?,
                maximum: fields.u32()?,
            }),
            InfoKind::Name => return fields.rest().map(Self::Name),
            InfoKind::Description => return fields.rest().map(Self::Description),
            InfoKind::Unknown(code) => return Ok(Self::Unknown(code)),
        };
        fields.finish()?;
        Ok(info)
    }

    fn kind(&self) -> InfoKind {
        match self {
            Self::Export { .. } => InfoKind::Export,
            Self::Name(_) => InfoKind::Name,
            Self::Description(_) => InfoKind::Description,
            Self::BlockSizes(_) => InfoKind::BlockSizes,
            Self::Unknown(code) => InfoKind::Unknown(*code),
        }
    }
}

/// One export of a list: the data of one `SERVER` reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportEntry<'a> {
    /// What a client asks for.
    pub name: &'a str,
    /// For people; often empty.
    pub description: &'a str,
}

impl<'a> ExportEntry<'a> {
    /// The reply's data.
    ///
    /// # Panics
    /// If the name is longer than [`STRING_LEN_MAX`](crate::STRING_LEN_MAX).
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        push_string(&mut out, self.name);
        out.extend_from_slice(self.description.as_bytes());
        out
    }

    /// Takes the reply's data apart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(data);
        Ok(Self {
            name: fields.string()?,
            description: check_string(fields.0)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_info_request_names_an_export_and_what_is_wanted() {
        let request = InfoRequest {
            export_name: "vm1",
            wanted: [InfoKind::Name, InfoKind::BlockSizes, InfoKind::Unknown(77)][..].into(),
        };
        let data = request.encode();
        assert_eq!(data, *b"\0\0\0\x03vm1\0\x03\0\x01\0\x03\0\x4d");
        assert_eq!(InfoRequest::decode(&data), Ok(request.clone()));
        for len in 0..data.len() {
            assert!(InfoRequest::decode(&data[..len]).is_err(), "{len} bytes");
        }
        let longer = [&data[..], b"\0"].concat();
        assert!(InfoRequest::decode(&longer).is_err());
    }

    #[test]
    fn a_length_that_lies_is_refused() {
        assert!(InfoRequest::decode(&[0xff; 6]).is_err());
        assert!(InfoRequest::decode(b"\0\0\0\0\xff\xff\0\0").is_err());
    }

    #[test]
    fn every_info_comes_back_and_no_part_of_it_does() {
        let sizes = BlockSizes {
            minimum: 1,
            preferred: 4096,
            maximum: 32 << 20,
        };
        let export = Info::Export {
            size: 1 << 40,
            flags: 0x0123,
        };
        for info in [export, Info::BlockSizes(sizes)] {
            let data = info.encode();
            assert_eq!(Info::decode(&data), Ok(info));
            for len in 0..data.len() {
                assert!(Info::decode(&data[..len]).is_err(), "{info:?}: {len} bytes");
            }
            assert!(Info::decode(&[&data[..], b"\0"].concat()).is_err());
        }
        for info in [Info::Name("a"), Info::Description(""), Info::Unknown(9)] {
            assert_eq!(Info::decode(&info.encode()), Ok(info));
        }
        assert_eq!(export.encode()[..4], [0, 0, 0, 0]);
        assert_eq!(Info::BlockSizes(sizes).encode()[..6], [0, 3, 0, 0, 0, 1]);
    }

    #[test]
    fn an_entry_of_a_list_is_a_name_and_then_a_description() {
        let entry = ExportEntry {
            name: "a",
            description: "two words",
        };
        let data = entry.encode();
        assert_eq!(data, *b"\0\0\0\x01atwo words");
        assert_eq!(ExportEntry::decode(&data), Ok(entry));
        assert!(ExportEntry::decode(&data[..4]).is_err());
        assert!(ExportEntry::decode(b"\0\0\0\x01a\xff").is_err());
    }
}
