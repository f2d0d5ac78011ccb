//! What chunks carry, taken apart for a client.

use super::{ChunkKind, Extent, ReplyHeader};
use crate::fields::Fields;
use crate::{Errno, Malformed};

/// The payload of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkPayload<'a> {
    /// Nothing.
    None,
    /// Data of a read.
    Data {
        /// In bytes, from the start of the export.
        offset: u64,
        /// At least one byte.
        data: &'a [u8],
    },
    /// Part of a read that is zeros.
    Hole {
        /// In bytes, from the start of the export.
        offset: u64,
        /// In bytes, at least one.
        len: u32,
    },
    /// What a metadata context knows, from the request's offset on.
    BlockStatus {
        /// The number that the context was given when it was chosen.
        context_id: u32,
        /// In order, without a gap; none of them is empty.
        extents: Extents<'a>,
    },
    /// The request failed.
    Error {
        /// Why.
        errno: Errno,
        /// The same in words; often empty.
        message: &'a str,
        /// Where, in bytes from the start of the export, if the server says so.
        offset: Option<u64>,
    },
    /// A chunk of a kind that is not known, to be passed over.
    Unknown,
}

/// The extents of a block status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extents<'a> {
    /// Whole extents only, as was checked.
    fields: Fields<'a>,
    is_extended: bool,
}

impl<'a> ChunkPayload<'a> {
    /// Takes a payload apart. The data of a read may be left in the socket instead, and received straight to its place: the
    /// payload of [`ChunkKind::OffsetData`] is the offset, in [`ReplyHeader::DATA_OFFSET_LEN`] bytes, then the data.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(kind: ChunkKind, payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(payload);
        let decoded = match kind {
            ChunkKind::None => Self::None,
            ChunkKind::OffsetData => {
                let offset = fields.u64()?;
                let data = std::mem::take(&mut fields.0);
                if data.is_empty() {
                    return Err(Malformed("a chunk has no data"));
                }
                Self::Data { offset, data }
            }
            ChunkKind::OffsetHole => {
                let (offset, len) = (fields.u64()?, fields.u32()?);
                if len == 0 {
                    return Err(Malformed("a hole is empty"));
                }
                Self::Hole { offset, len }
            }
            ChunkKind::BlockStatus | ChunkKind::BlockStatusExtended => {
                return block_status(fields, kind == ChunkKind::BlockStatusExtended);
            }
            ChunkKind::Error | ChunkKind::ErrorOffset => {
                let errno = Errno::from_code(fields.u32()?);
                let message_len = fields.u16()?.into();
                let message = crate::check_string(fields.take(message_len)?)?;
                let offset = match kind {
                    ChunkKind::ErrorOffset => Some(fields.u64()?),
                    _ => None,
                };
                Self::Error {
                    errno,
                    message,
                    offset,
                }
            }
            // Errors of a kind that is not known begin like those that are.
            ChunkKind::Unknown(_) if kind.is_error() => {
                return Ok(Self::Error {
                    errno: fields.u32().map_or(Errno::Io, Errno::from_code),
                    message: "",
                    offset: None,
                });
            }
            ChunkKind::Unknown(_) => return Ok(Self::Unknown),
        };
        fields.finish()?;
        Ok(decoded)
    }

    /// The offset at the beginning of data.
    pub fn data_offset(bytes: [u8; ReplyHeader::DATA_OFFSET_LEN]) -> u64 {
        u64::from_be_bytes(bytes)
    }
}

fn block_status(mut fields: Fields<'_>, is_extended: bool) -> Result<ChunkPayload<'_>, Malformed> {
    let context_id = fields.u32()?;
    let extent_len = match is_extended {
        true => 16,
        false => 8,
    };
    if is_extended {
        let count = fields.u32()?;
        if count as usize != fields.0.len() / extent_len {
            return Err(Malformed("a block status counts its extents wrongly"));
        }
    }
    let mut extents = Extents {
        fields,
        is_extended,
    };
    if fields.0.is_empty() || !fields.0.len().is_multiple_of(extent_len) {
        return Err(Malformed("a block status has no whole number of extents"));
    }
    if extents.any(|extent| extent.len == 0) {
        return Err(Malformed("an extent is empty"));
    }
    extents.fields = fields;
    Ok(ChunkPayload::BlockStatus {
        context_id,
        extents,
    })
}

impl Iterator for Extents<'_> {
    type Item = Extent;

    fn next(&mut self) -> Option<Extent> {
        let mut number = || match self.is_extended {
            true => self.fields.u64(),
            false => self.fields.u32().map(u64::from),
        };
        let len = number().ok()?;
        let value = number().ok()?;
        Some(Extent { len, value })
    }
}
