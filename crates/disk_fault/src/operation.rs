//! What a request wants, as rules tell requests apart.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "FaultOperation")]
pub enum Operation {
    /// Reading sectors.
    Read,
    /// Writing data to sectors.
    Write,
    /// Writing zeros to sectors.
    WriteZeroes,
    /// Giving up the content of sectors. A disk that ignores unmaps never sees one.
    Unmap,
    /// Making durable what was written.
    Flush,
    /// Asking what sectors hold, without reading them.
    BlockStatus,
    /// Changing the size of the disk.
    Resize,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 7] = [
        Self::Read,
        Self::Write,
        Self::WriteZeroes,
        Self::Unmap,
        Self::Flush,
        Self::BlockStatus,
        Self::Resize,
    ];

    /// Whether a request of this kind is about a range of sectors.
    pub fn has_sectors(self) -> bool {
        !matches!(self, Self::Flush | Self::Resize)
    }

    /// As it is written in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::WriteZeroes => "write_zeroes",
            Self::Unmap => "unmap",
            Self::Flush => "flush",
            Self::BlockStatus => "block_status",
            Self::Resize => "resize",
        }
    }

    /// The names of some, for a message.
    pub(crate) fn list(operations: impl IntoIterator<Item = Self>) -> String {
        let names: Vec<&str> = operations.into_iter().map(Self::name).collect();
        names.join(", ")
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A request, before it is known what becomes of it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) operation: Operation,
    /// Empty if it is about no sectors.
    pub(crate) sectors: Range<u64>,
    /// Whether it is to be durable when it completes.
    pub(crate) fua: bool,
    /// How long the disk is, in sectors.
    pub(crate) sector_count: u64,
}
