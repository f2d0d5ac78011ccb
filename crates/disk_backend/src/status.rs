//! What a disk knows about a range of sectors without reading it.

use crate::DiskError;
use smallvec::SmallVec;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

/// The stable name of a layer: unique in this process, and never used again while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId(NonZeroU64);

impl LayerId {
    /// A name that no other layer has.
    pub fn allocate() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(NonZeroU64::new(id).expect("2^64 layers are never made"))
    }

    /// The name as a number, never zero.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl inspect::Inspect for LayerId {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.value(self.get());
    }
}

/// What a run of sectors holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockState {
    /// Stored data, zero or not.
    Data,
    /// Reads zero (C12); space may be reserved for it.
    Zero,
    /// Reads zero (C12), and takes no space.
    Hole,
}

/// A run of sectors of which the same is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockExtent {
    /// The length of the run, in sectors; never zero.
    pub sector_count: u64,
    /// What it holds.
    pub state: BlockState,
    /// The layer that answers for it; none if it is absent from all layers, or if the disk has no layers.
    pub layer: Option<LayerId>,
}

/// The extents of a range, in order, without a gap, from the range's first sector on.
///
/// An answer is bounded ([`EXTENTS_MAX`](Self::EXTENTS_MAX)) and may end before the range does: ask again from where it ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockStatus {
    extents: SmallVec<[BlockExtent; 4]>,
    sector_count: u64,
}

impl BlockStatus {
    /// The most extents of one answer.
    pub const EXTENTS_MAX: usize = 64;

    /// An answer of one extent.
    pub fn one(extent: BlockExtent) -> Self {
        let mut status = Self::default();
        status.push(extent);
        status
    }

    /// Adds a run at the end, joined to the last one if the same is known of both. Empty runs are left out.
    ///
    /// Returns whether there was room; without room nothing is added.
    pub fn push(&mut self, extent: BlockExtent) -> bool {
        if extent.sector_count == 0 {
            return true;
        }
        let is_full = self.extents.len() == Self::EXTENTS_MAX;
        match self.extents.last_mut() {
            Some(last) if (last.state, last.layer) == (extent.state, extent.layer) => {
                last.sector_count += extent.sector_count;
            }
            _ if is_full => return false,
            _ => self.extents.push(extent),
        }
        self.sector_count += extent.sector_count;
        true
    }

    /// The extents, first to last.
    pub fn extents(&self) -> &[BlockExtent] {
        &self.extents
    }

    /// How many sectors the answer covers.
    pub fn sector_count(&self) -> u64 {
        self.sector_count
    }

    /// Names `layer` as the one that answers for every extent that names none yet.
    pub fn name_layer(&mut self, layer: LayerId) {
        let named = std::mem::take(self).extents.into_iter().map(|extent| {
            let layer = extent.layer.or(Some(layer));
            BlockExtent { layer, ..extent }
        });
        for extent in named {
            // Naming only joins extents, so there is room.
            self.push(extent);
        }
    }

    /// What was answered for `sector_count` sectors, at least one: not more than that, and something. An empty answer would
    /// make those who ask again from where it ends ask for ever.
    ///
    /// # Errors
    /// [`DiskError::Io`] for an empty answer, which is a mistake of whoever gave it.
    pub fn checked(self, sector_count: u64) -> Result<Self, DiskError> {
        match self.sector_count {
            0 => Err(DiskError::Io(std::io::Error::other(
                "the block status of some sectors was answered with none",
            ))),
            _ => Ok(self.truncated(sector_count)),
        }
    }

    /// The answer's first `sector_count` sectors.
    #[must_use]
    pub fn truncated(self, sector_count: u64) -> Self {
        if self.sector_count <= sector_count {
            return self;
        }
        let mut kept = Self::default();
        for extent in self.extents {
            let room = sector_count - kept.sector_count;
            kept.push(BlockExtent {
                sector_count: extent.sector_count.min(room),
                ..extent
            });
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(sector_count: u64, state: BlockState) -> BlockExtent {
        BlockExtent {
            sector_count,
            state,
            layer: None,
        }
    }

    #[test]
    fn equal_neighbours_are_one_extent() {
        let mut status = BlockStatus::default();
        for extent in [
            run(2, BlockState::Data),
            run(0, BlockState::Hole),
            run(3, BlockState::Data),
            run(1, BlockState::Zero),
        ] {
            assert!(status.push(extent));
        }
        assert_eq!(
            status.extents(),
            [run(5, BlockState::Data), run(1, BlockState::Zero)]
        );
        assert_eq!(status.sector_count(), 6);
    }

    #[test]
    fn a_full_answer_takes_no_further_extent_but_grows_its_last() {
        let mut status = BlockStatus::default();
        let states = [BlockState::Data, BlockState::Hole];
        for i in 0..BlockStatus::EXTENTS_MAX {
            assert!(status.push(run(1, states[i % 2])));
        }
        assert!(!status.push(run(1, BlockState::Data)));
        assert!(status.push(run(1, BlockState::Hole)));
        assert_eq!(status.extents().len(), BlockStatus::EXTENTS_MAX);
        assert_eq!(
            status.sector_count(),
            status.extents().iter().map(|e| e.sector_count).sum::<u64>()
        );
    }

    #[test]
    fn an_empty_answer_is_an_error() {
        assert!(matches!(
            BlockStatus::default().checked(1),
            Err(DiskError::Io(_))
        ));
        let status = BlockStatus::one(run(4, BlockState::Data));
        assert_eq!(status.checked(3).unwrap().sector_count(), 3);
    }

    #[test]
    fn a_truncated_answer_keeps_its_beginning() {
        let mut status = BlockStatus::one(run(4, BlockState::Data));
        status.push(run(4, BlockState::Hole));
        assert_eq!(
            status.clone().truncated(5).extents(),
            [run(4, BlockState::Data), run(1, BlockState::Hole)]
        );
        assert_eq!(status.clone().truncated(4).sector_count(), 4);
        assert_eq!(status.clone().truncated(100), status);
    }
}
