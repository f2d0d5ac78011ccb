//! Why a RAM layer cannot be made.

use crate::store::Store;

/// Why a RAM layer cannot be made, or not given a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RamDiskError {
    /// The size is not a whole number of sectors.
    #[error("a size of {size} bytes is not a multiple of the sector size, {sector_size} bytes")]
    NotSectorMultiple {
        /// The size, in bytes.
        size: u64,
        /// The sector size, in bytes.
        sector_size: u32,
    },
    /// The size is zero.
    #[error("a disk needs at least one sector")]
    EmptyDisk,
    /// The sector size is not a power of two from 512 to 65536.
    #[error("a sector size of {0} bytes is invalid: it must be a power of two from 512 to 65536")]
    InvalidSectorSize(u32),
    /// The size is beyond what the table of chunks can address.
    #[error("a size of {0} bytes is too large: a RAM disk has at most {max} bytes", max = Store::BYTES_MAX)]
    TooLarge(u64),
    /// No size was given, and there is no layer below to take it from.
    #[error(
        "a RAM layer at the bottom needs a size: give one, as in `ram:1G` or {{\"type\": \"ram\", \"size\": \"1G\"}}"
    )]
    UnknownSize,
}
