//! Writing zeros where the store has no better way.

use crate::DiskError;
use scsi_buffers::RequestBuffers;

/// About 50 us of copying.
const PIECE_BYTES: u32 = 256 * 1024;

/// A part of a zeroing, to be written as data.
#[derive(Debug)]
pub struct Piece {
    /// The first sector.
    pub sector: u64,
    /// As many zeros as are to be written, all from one static page.
    pub zeros: RequestBuffers<'static>,
}

/// Cuts the zeroing of `count` sectors from `sector` on into writes of a bounded size, each at least a sector.
///
/// This is how [`DiskIo::write_zeroes`](crate::DiskIo::write_zeroes) works unless implemented, and the fallback of those that
/// have a better way for some ranges. Whoever writes the pieces lets others run in between, but not around a single one: what
/// can complete at once does. The range was checked: its end is at most the disk's.
///
/// # Errors
/// [`DiskError::Unsupported`] with `no_fallback`, or if a sector is longer than [`RequestBuffers::zeros_max_len`].
pub fn pieces(
    sector_size: u32,
    sector: u64,
    count: u64,
    no_fallback: bool,
) -> Result<impl Iterator<Item = Piece> + Send, DiskError> {
    let piece_sectors = u64::from((PIECE_BYTES / sector_size).max(1));
    let zeros = move |sectors: u64| {
        // At most PIECE_BYTES or one sector, so a usize.
        RequestBuffers::zeros(sectors as usize * sector_size as usize)
    };
    if no_fallback || zeros(piece_sectors).is_none() {
        return Err(DiskError::Unsupported);
    }
    let end = sector + count;
    let mut at = sector;
    Ok(std::iter::from_fn(move || {
        let sectors = piece_sectors.min(end - at);
        let piece = Piece {
            sector: at,
            zeros: zeros(sectors)?,
        };
        at += sectors;
        (sectors > 0).then_some(piece)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_range_without_a_gap() {
        for (sector_size, count) in [(512, 1), (512, 512), (512, 513), (65536, 9), (1 << 20, 3)] {
            let mut at = 7;
            for piece in pieces(sector_size, 7, count, false).unwrap() {
                assert_eq!(piece.sector, at);
                assert!(piece.zeros.len() <= (PIECE_BYTES as usize).max(sector_size as usize));
                at += piece.zeros.len() as u64 / u64::from(sector_size);
            }
            assert_eq!(at, 7 + count);
        }
    }

    #[test]
    fn zeros_are_not_written_as_data_against_the_callers_wish() {
        assert!(matches!(
            pieces(512, 0, 1, true).map(|_| ()),
            Err(DiskError::Unsupported)
        ));
    }
}
