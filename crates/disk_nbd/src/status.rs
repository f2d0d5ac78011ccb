//! What a server says of extents of bytes, in sectors.

use disk_backend::{BlockExtent, BlockState, BlockStatus};
use nbd_protocol::{Extent, extent_flag};

/// The answer about `sector_count` sectors, at least one, of which the first begins where the extents do.
///
/// A sector of which all parts are zero is zero, and a hole if all are holes; any other is data. Extents may end in the middle of a
/// sector: what follows is not known then, and data.
pub(crate) fn of_extents(extents: &[Extent], sector_size: u32, sector_count: u64) -> BlockStatus {
    let sector_size = u64::from(sector_size);
    let mut status = BlockStatus::default();
    // The parts so far of the sector that the next extent begins in the middle of.
    let mut begun: Option<(u64, BlockState)> = None;
    for extent in extents {
        let state = state_of(extent);
        let mut len = extent.len;
        if let Some((bytes, of_begun)) = begun.take() {
            let of_sector = least_known(of_begun, state);
            let missing = sector_size - bytes;
            if len < missing {
                begun = Some((bytes + len, of_sector));
                continue;
            }
            len -= missing;
            if !push(&mut status, 1, of_sector) {
                return status;
            }
        }
        if !push(&mut status, len / sector_size, state) {
            return status;
        }
        if !len.is_multiple_of(sector_size) {
            begun = Some((len % sector_size, state));
        }
        if status.sector_count() >= sector_count {
            break;
        }
    }
    if status.sector_count() == 0 {
        // Of the first sector too little is known to call it anything else.
        push(&mut status, 1, BlockState::Data);
    }
    // A server may say more in its last extent than it was asked.
    status.truncated(sector_count)
}

fn push(status: &mut BlockStatus, sector_count: u64, state: BlockState) -> bool {
    status.push(BlockExtent {
        sector_count,
        state,
        layer: None,
    })
}

/// A hole that does not say that it reads zero may read anything.
fn state_of(extent: &Extent) -> BlockState {
    let has = |flag: u64| extent.value & flag != 0;
    match (has(extent_flag::ZERO), has(extent_flag::HOLE)) {
        (true, true) => BlockState::Hole,
        (true, false) => BlockState::Zero,
        (false, _) => BlockState::Data,
    }
}

/// What holds of a sector whose parts are of these states.
fn least_known(one: BlockState, other: BlockState) -> BlockState {
    match (one, other) {
        (BlockState::Hole, BlockState::Hole) => BlockState::Hole,
        (BlockState::Data, _) | (_, BlockState::Data) => BlockState::Data,
        _ => BlockState::Zero,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BlockState::{Data, Hole, Zero};

    fn status(extents: &[(u64, u64)], sector_count: u64) -> Vec<(u64, BlockState)> {
        let extents: Vec<_> = extents
            .iter()
            .map(|&(len, value)| Extent { len, value })
            .collect();
        let status = of_extents(&extents, 512, sector_count);
        assert!(status.sector_count() <= sector_count);
        status
            .extents()
            .iter()
            .map(|extent| (extent.sector_count, extent.state))
            .collect()
    }

    #[test]
    fn whole_sectors_keep_their_state() {
        let extents = [(1024, 0), (512, 3), (512, 2), (512, 1)];
        let expected = [(2, Data), (1, Hole), (1, Zero), (1, Data)];
        assert_eq!(status(&extents, 5), expected);
    }

    #[test]
    fn a_sector_is_what_all_of_its_parts_are() {
        assert_eq!(status(&[(100, 3), (412, 3)], 1), [(1, Hole)]);
        assert_eq!(status(&[(100, 3), (412, 2)], 1), [(1, Zero)]);
        assert_eq!(status(&[(511, 3), (1, 0)], 1), [(1, Data)]);
        assert_eq!(
            status(&[(600, 0), (300, 3), (1000, 3), (200, 0)], 4),
            [(2, Data), (1, Hole), (1, Data)]
        );
        let crumbs: Vec<_> = (0..512)
            .map(|i| (1, if i == 300 { 2 } else { 3 }))
            .collect();
        assert_eq!(status(&crumbs, 1), [(1, Zero)]);
    }

    #[test]
    fn an_answer_is_neither_empty_nor_longer_than_the_question() {
        assert_eq!(status(&[(100, 3)], 8), [(1, Data)]);
        assert_eq!(status(&[(u64::MAX, 3)], 8), [(8, Hole)]);
        assert_eq!(
            status(&[(512, 0), (u64::MAX, 3)], 8),
            [(1, Data), (7, Hole)]
        );
    }

    #[test]
    fn the_number_of_extents_is_bounded() {
        let extents: Vec<_> = (0..1000).map(|i| (512, i % 2 * 3)).collect();
        let found = status(&extents, 1000);
        assert_eq!(found.len(), BlockStatus::EXTENTS_MAX);
    }
}
