//! Which layers may hold a part of the disk, so that a read asks these alone and its cost does not grow with the depth.
//!
//! The index is about the layers below those that take writes. It knows of each *region*, a stretch of the disk, the layers that
//! are worth a look there, and for each of these in which sixteenths of the region; it learns that when the region is first read
//! below the written layers, by asking each layer what it knows of itself.
//!
//! Invariants:
//! - N1: only a *still* layer is ever left out: one that this stack neither writes nor fills, and that promised to say so when it
//!   changes by other means ([`LayerWatch`]).
//! - N2: a layer that is left out of a part of a region reached to its end or beyond, and had nothing of the part, when it was asked;
//!   and no still layer was changing between the making of the index and the asking, or no request that begins later uses it (N3).
//! - N3: an index is for the changes that had begun when it was made, none of which was under way. A request that finds that another
//!   has begun makes a new index first, and trusts nothing of the old one; while one is under way it does without.
//! - N4: what is not known is no reason to leave out a layer: regions that nobody asked about yet, and what lies beyond the end that the
//!   disk had. Where more than four layers have something of a region the fourth is not named, and of each part only the topmost is known
//!   from there on: below it all are asked.
//! - N5: of a region one answer is kept whole, the first. Two who ask at once may hear different things of a layer that fails, or makes
//!   sectors absent; either is right, and a mixture is not.

use crate::LayerStatus;
use crate::stacked::StackedLayer;
use entry::{Found, LEAF_REGIONS, Leaf, NO_LAYER, PARTS, Parts};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

mod entry;
mod watch;

pub(crate) use watch::Moment;
pub use watch::{LayerChange, LayerWatch};

/// The smallest region, in bytes.
const REGION_BYTES_MIN: u64 = 64 << 10;

/// The most regions: 64 MiB of memory, if each was read, and 128 MiB more for tables. A disk above 256 GiB has larger regions.
const REGIONS_MAX: u64 = 1 << 22;

/// A small disk has at least so many regions.
const REGIONS_MIN: u64 = 16;

/// So many layers must be still for an index to be worth its memory.
const STILL_LAYERS_MIN: usize = 2;

/// So many layers are asked about a region before others run.
const ASKED_AT_ONCE: usize = 256;

/// See the head of this module.
pub(crate) struct Index {
    /// The first layer that it knows of.
    first: usize,
    layer_count: usize,
    /// The binary logarithm of a region's length in sectors.
    region_shift: u32,
    sector_count: u64,
    leaves: Box<[OnceLock<Box<Leaf>>]>,
}

impl Index {
    /// An index of the layers from `first` on, the place below those that take writes; none if it is not worth it.
    pub(crate) fn new(
        layers: &[Arc<StackedLayer>],
        first: usize,
        sector_shift: u32,
    ) -> Option<Self> {
        let still = layers.get(first..)?.iter().filter(|layer| layer.is_still());
        if still.count() < STILL_LAYERS_MIN || layers.len() >= usize::from(NO_LAYER) {
            return None;
        }
        let sector_count = layers[0].backing().sector_count();
        let mut region_shift = REGION_BYTES_MIN
            .trailing_zeros()
            .saturating_sub(sector_shift);
        while region_shift > 0 && sector_count >> region_shift < REGIONS_MIN {
            region_shift -= 1;
        }
        while sector_count >> region_shift > REGIONS_MAX {
            region_shift += 1;
        }
        let regions = (sector_count >> region_shift) + 1;
        let leaf_count = regions.div_ceil(LEAF_REGIONS as u64);
        Some(Self {
            first,
            layer_count: layers.len(),
            region_shift,
            sector_count,
            leaves: (0..leaf_count).map(|_| OnceLock::new()).collect(),
        })
    }

    /// The first layer that it knows of.
    pub(crate) fn first(&self) -> usize {
        self.first
    }

    /// The first layer at or below `from` that may hold any of these sectors; the number of layers if none may. Nothing if there is
    /// something to [`learn`](Self::learn) about them first.
    pub(crate) fn next(&self, sectors: &Range<u64>, from: usize) -> Option<usize> {
        if from >= self.layer_count || sectors.end > self.sector_count {
            return Some(from);
        }
        let mut next = self.layer_count;
        for region in self.regions(sectors) {
            let (leaf, slot) = self.slot(region);
            let parts = self.parts(region, sectors);
            let of_region = leaf.get()?.next(slot, parts, from, self.layer_count)?;
            next = next.min(of_region);
        }
        Some(next)
    }

    /// Asks the layers about the regions of these sectors that nobody has asked about.
    pub(crate) async fn learn(&self, layers: &[Arc<StackedLayer>], sectors: Range<u64>) {
        let sectors = sectors.start..sectors.end.min(self.sector_count);
        for region in self.regions(&sectors) {
            let (leaf, slot) = self.slot(region);
            let leaf = leaf.get_or_init(Leaf::new);
            if !leaf.is_known(slot) {
                leaf.store(slot, &self.ask(layers, region).await);
            }
        }
    }

    /// Which layers are worth a look in a region.
    async fn ask(&self, layers: &[Arc<StackedLayer>], region: u64) -> Found {
        let start = region << self.region_shift;
        let sectors = start..(start + (1 << self.region_shift)).min(self.sector_count);
        let mut found = Found::new();
        for (asked, index) in (self.first..self.layer_count).enumerate() {
            if asked % ASKED_AT_ONCE == ASKED_AT_ONCE - 1 {
                futures_lite::future::yield_now().await;
            }
            let (parts, is_all) = self.ask_layer(&layers[index], region, &sectors).await;
            // `new` refuses more layers than fit.
            found.add(index as u16, parts);
            if is_all || found.is_full() {
                break;
            }
        }
        found
    }

    /// What a layer may have of a region, and whether it is certain to have all of it.
    async fn ask_layer(
        &self,
        layer: &StackedLayer,
        region: u64,
        sectors: &Range<u64>,
    ) -> (Parts, bool) {
        const UNCERTAIN: (Parts, bool) = (Parts::MAX, false);
        if !layer.is_still() || layer.visible_sector_count() < sectors.end {
            return UNCERTAIN;
        }
        let (mut parts, mut at, mut is_all) = (0, sectors.start, true);
        while at < sectors.end {
            match layer.backing().layer_status(at, sectors.end - at).await {
                Ok(LayerStatus::Absent { sector_count }) if sector_count > 0 => {
                    is_all = false;
                    at += sector_count;
                }
                Ok(LayerStatus::Present(status)) if status.sector_count() > 0 => {
                    let end = (at + status.sector_count()).min(sectors.end);
                    parts |= self.parts(region, &(at..end));
                    at = end;
                }
                // An answer about nothing is none.
                Ok(_) | Err(_) => return UNCERTAIN,
            }
        }
        (parts, is_all)
    }

    /// The parts of a region that these sectors touch.
    fn parts(&self, region: u64, sectors: &Range<u64>) -> Parts {
        let start = region << self.region_shift;
        let part_shift = self.region_shift.saturating_sub(PARTS.trailing_zeros());
        let within = |sector: u64| sector.clamp(start, start + (1 << self.region_shift)) - start;
        let first = within(sectors.start) >> part_shift;
        // Below 16, or 16 at the end of the region.
        let end = (within(sectors.end) + (1 << part_shift) - 1) >> part_shift;
        let below = |part: u64| (1_u32 << part) - 1;
        (below(end) & !below(first)) as Parts
    }

    fn regions(&self, sectors: &Range<u64>) -> impl Iterator<Item = u64> + use<> {
        let last = sectors.end.max(sectors.start + 1) - 1;
        sectors.start >> self.region_shift..(last >> self.region_shift) + 1
    }

    /// The leaf of a region, once somebody has asked, and which slot of it is the region's.
    fn slot(&self, region: u64) -> (&OnceLock<Box<Leaf>>, usize) {
        let leaf = &self.leaves[region as usize / LEAF_REGIONS];
        (leaf, region as usize % LEAF_REGIONS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Parts = Parts::MAX;

    fn index(region_shift: u32) -> Index {
        Index {
            first: 1,
            layer_count: 3,
            region_shift,
            sector_count: 1000,
            leaves: Box::new([]),
        }
    }

    #[test]
    fn a_part_is_a_sixteenth_of_a_region_and_at_least_a_sector() {
        let of_128 = index(7);
        assert_eq!(of_128.parts(2, &(256..257)), 1);
        assert_eq!(of_128.parts(2, &(263..265)), 0b11);
        assert_eq!(of_128.parts(2, &(0..1000)), ALL);
        assert_eq!(of_128.parts(2, &(383..500)), 1 << 15);
        assert_eq!(of_128.parts(2, &(384..500)), 0);
        let of_2 = index(1);
        assert_eq!(of_2.parts(3, &(6..7)), 0b01);
        assert_eq!(of_2.parts(3, &(7..9)), 0b10);
    }
}
