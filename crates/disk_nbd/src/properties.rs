//! What the terms of the handshake make of a disk.

use crate::error::ConnectReason;
use crate::handshake::Terms;
use nbd_protocol::{BlockSizes, transmission_flag};

/// The smallest sector of a disk, in bytes.
const SECTOR_SIZE_MIN: u32 = 512;

/// The largest block that the protocol allows a server to insist on, in bytes.
const MINIMUM_MAX: u32 = 64 * 1024;

/// What a server writes best is taken for a sector of the medium up to here, in bytes: above, it is the best size of a transfer.
const PHYSICAL_SECTOR_SIZE_MAX: u32 = 64 * 1024;

/// The most bytes of data in one request, unless the server prefers more: what is longer is cut, so that a long request does not
/// hold up the short ones behind it.
const PIECE_BYTES: u32 = 1 << 20;

/// The most bytes of data in one request whatever the server prefers: a quarter of what may be in flight.
pub(crate) const PIECE_BYTES_MAX: u32 = 8 << 20;

/// The most bytes that are zeroed with one request, unless the server takes less: what every server takes that announces nothing.
const ZERO_BYTES_MAX: u32 = 32 << 20;

/// The most bytes that one request without data may be about, where the limit of the block sizes does not hold.
const RANGE_BYTES_MAX: u32 = 1 << 30;

/// What servers are to be expected to take that announce nothing.
const UNANNOUNCED: BlockSizes = BlockSizes {
    minimum: 1,
    preferred: 4096,
    maximum: 32 << 20,
};

/// The facts of a disk, fixed for its life.
#[derive(Debug, Clone, Copy, inspect::Inspect)]
pub(crate) struct Properties {
    pub(crate) size_bytes: u64,
    #[inspect(skip)]
    pub(crate) sector_size: u32,
    #[inspect(skip)]
    pub(crate) physical_sector_size: u32,
    pub(crate) is_read_only_there: bool,
    pub(crate) can_flush: bool,
    pub(crate) can_fua: bool,
    pub(crate) can_trim: bool,
    pub(crate) can_zero: bool,
    pub(crate) can_zero_fast: bool,
    pub(crate) has_block_status: bool,
    /// The longest read or write, in bytes; whole sectors.
    pub(crate) piece_bytes: u32,
    /// The longest zeroing, in bytes; whole sectors.
    pub(crate) zero_bytes: u32,
    /// The longest trim or question about a status, in bytes; whole sectors.
    pub(crate) range_bytes: u32,
}

impl Properties {
    pub(crate) fn new(terms: &Terms) -> Result<Self, ConnectReason> {
        let sizes = terms.block_sizes.unwrap_or(UNANNOUNCED);
        check_block_sizes(sizes)?;
        let sector_size = sizes.minimum.max(SECTOR_SIZE_MIN);
        check_size(terms.size_bytes, sector_size)?;
        let has = |flag: u16| terms.flags & flag != 0;
        let whole_sectors = |bytes: u32| bytes - bytes % sector_size;
        // Only a hint, so one that makes no sense costs speed at most.
        let preferred = match sizes.preferred.is_power_of_two() {
            true => sizes.preferred,
            false => UNANNOUNCED.preferred,
        };
        let piece_bytes = PIECE_BYTES.max(preferred).min(PIECE_BYTES_MAX);
        Ok(Self {
            size_bytes: terms.size_bytes,
            sector_size,
            physical_sector_size: preferred.clamp(sector_size, PHYSICAL_SECTOR_SIZE_MAX),
            is_read_only_there: has(transmission_flag::READ_ONLY),
            can_flush: has(transmission_flag::SEND_FLUSH),
            can_fua: has(transmission_flag::SEND_FUA),
            can_trim: has(transmission_flag::SEND_TRIM),
            can_zero: has(transmission_flag::SEND_WRITE_ZEROES),
            can_zero_fast: has(transmission_flag::SEND_WRITE_ZEROES)
                && has(transmission_flag::SEND_FAST_ZERO),
            has_block_status: terms.allocation_context.is_some(),
            piece_bytes: whole_sectors(piece_bytes.min(sizes.maximum)),
            zero_bytes: whole_sectors(ZERO_BYTES_MAX.min(sizes.maximum)),
            range_bytes: whole_sectors(RANGE_BYTES_MAX),
        })
    }

    pub(crate) fn sector_count(&self) -> u64 {
        self.size_bytes / u64::from(self.sector_size)
    }
}

fn check_block_sizes(sizes: BlockSizes) -> Result<(), ConnectReason> {
    let BlockSizes {
        minimum,
        preferred,
        maximum,
    } = sizes;
    let problem = if !minimum.is_power_of_two() || minimum > MINIMUM_MAX {
        "the smallest must be a power of two of at most 65536"
    } else if maximum < minimum.max(SECTOR_SIZE_MIN) {
        "the largest is below the smallest, or below a sector of 512 bytes"
    } else {
        return Ok(());
    };
    Err(ConnectReason::BlockSizes {
        minimum,
        preferred,
        maximum,
        problem,
    })
}

fn check_size(size_bytes: u64, sector_size: u32) -> Result<(), ConnectReason> {
    if size_bytes == 0 {
        return Err(ConnectReason::Empty);
    }
    if !size_bytes.is_multiple_of(sector_size.into()) {
        return Err(ConnectReason::SizeNotSectorMultiple {
            size_bytes,
            sector_size,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nbd_protocol::Framing;

    fn of(size_bytes: u64, sizes: Option<[u32; 3]>) -> Result<Properties, ConnectReason> {
        Properties::new(&Terms {
            size_bytes,
            flags: 0,
            block_sizes: sizes.map(|[minimum, preferred, maximum]| BlockSizes {
                minimum,
                preferred,
                maximum,
            }),
            framing: Framing::Simple,
            allocation_context: None,
        })
    }

    #[test]
    fn a_sector_is_the_smallest_block_and_at_least_512_bytes() {
        for (sizes, sector_size, physical, piece) in [
            (None, 512, 4096, 1 << 20),
            (Some([1, 1, u32::MAX]), 512, 512, 1 << 20),
            (Some([512, 512, 1000]), 512, 512, 512),
            (Some([4096, 65536, 32 << 20]), 4096, 65536, 1 << 20),
            (Some([1, 4 << 20, 32 << 20]), 512, 65536, 4 << 20),
            (Some([65536, 1 << 31, u32::MAX]), 65536, 65536, 8 << 20),
            (Some([4096, 4096, 70_000]), 4096, 4096, 69_632),
            (Some([4096, 512, 1 << 20]), 4096, 4096, 1 << 20),
            (Some([512, 5000, 1 << 20]), 512, 4096, 1 << 20),
        ] {
            let found = of(1 << 30, sizes).unwrap();
            assert_eq!(found.sector_size, sector_size, "{sizes:?}");
            assert_eq!(found.physical_sector_size, physical, "{sizes:?}");
            assert_eq!(found.piece_bytes, piece, "{sizes:?}");
            for bytes in [found.piece_bytes, found.zero_bytes, found.range_bytes] {
                assert!(bytes.is_multiple_of(sector_size));
            }
        }
    }

    #[test]
    fn block_sizes_that_make_no_sense_are_refused() {
        for sizes in [
            [0, 4096, 1 << 20],
            [3, 4096, 1 << 20],
            [131_072, 131_072, 1 << 20],
            [4096, 4096, 1024],
            [1, 1, 511],
        ] {
            let error = of(1 << 20, Some(sizes)).expect_err("senseless");
            assert!(
                matches!(error, ConnectReason::BlockSizes { .. }),
                "{sizes:?}"
            );
        }
    }

    #[test]
    fn an_export_is_whole_sectors_and_not_empty() {
        assert_eq!(of(1536, None).unwrap().sector_count(), 3);
        assert!(matches!(of(0, None), Err(ConnectReason::Empty)));
        for (size, sizes) in [(1000, None), (1536, Some([4096, 4096, 1 << 20]))] {
            let error = of(size, sizes).expect_err("not whole");
            assert!(error.to_string().contains("no multiple"), "{error}");
        }
    }
}
