//! What went wrong, on which disk, and where.

use disk_backend::DiskError;
use std::fmt;
use std::ops::Range;

/// Which of the two disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    First,
    Second,
}

/// What was tried; ranges are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Attempt {
    Read(Range<u64>),
    Write(Range<u64>),
    Zero(Range<u64>),
    /// Asking what is data and what is a hole, from there on.
    Status(u64),
    Flush,
}

/// An operation that failed, and so ended the run.
#[derive(Debug, thiserror::Error)]
#[error("{attempt} failed")]
pub(crate) struct Fault {
    pub(crate) side: Side,
    pub(crate) attempt: Attempt,
    pub(crate) source: DiskError,
}

impl Fault {
    /// The first byte concerned; a flush concerns all, and comes last.
    pub(crate) fn offset(&self) -> u64 {
        match &self.attempt {
            Attempt::Read(range) | Attempt::Write(range) | Attempt::Zero(range) => range.start,
            Attempt::Status(offset) => *offset,
            Attempt::Flush => u64::MAX,
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |range: &Range<u64>| {
            format!(
                "{} bytes at offset {}",
                range.end - range.start,
                range.start
            )
        };
        match self {
            Self::Read(range) => write!(f, "reading {}", of(range)),
            Self::Write(range) => write!(f, "writing {}", of(range)),
            Self::Zero(range) => write!(f, "zeroing {}", of(range)),
            Self::Status(offset) => write!(f, "asking for the block status at offset {offset}"),
            Self::Flush => f.write_str("flushing"),
        }
    }
}
