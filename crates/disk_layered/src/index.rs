//! Which layers may hold a part of the disk, so that a read asks these alone and its cost does not grow with the depth.
//!
//! The index is about the layers below those that take writes. It knows of each *region*, a stretch of the disk, the layers that
//! are worth a look there, and for each of these in which sixteenths of the region; it learns that when the region is first read
//! below the written layers, by asking each layer what it knows of itself.
//!
//! Invariants:
//! - N1: only a *still* layer is ever left out: one that this stack neither writes nor fills, and that promised to say so when it
//!   changes by other means ([`LayerWatch`]).
//! - N2: a layer that is left out of a part of a region reached beyond the region, and had nothing of the part, when it was asked;
//!   and no still layer was changing between the making of the index and the asking, or no request that begins later uses it (N3).
//! - N3: an index is for the changes that had begun when it was made, none of which was under way. A request that finds that another
//!   has begun makes a new index first, and trusts nothing of the old one; while one is under way it does without.
//! - N4: what is not known is no reason to leave out a layer: regions that nobody asked about yet, what lies beyond the end that the
//!   disk had, all layers from the fourth of a region on if there is a fifth.

use crate::LayerStatus;
use crate::stacked::StackedLayer;
use smallvec::SmallVec;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use sync::atomic::{AtomicU64, Ordering};

/// The smallest region, in bytes.
const REGION_BYTES_MIN: u64 = 64 << 10;

/// The most regions: 64 MiB of memory, if each was read. A disk above 256 GiB has larger regions.
const REGIONS_MAX: u64 = 1 << 22;

/// A small disk has at least so many regions.
const REGIONS_MIN: u64 = 16;

/// How many regions are made room for at once.
const LEAF_REGIONS: usize = 512;

/// So many layers must be still for an index to be worth its memory.
const STILL_LAYERS_MIN: usize = 2;

/// So many layers are asked about a region before others run.
const ASKED_AT_ONCE: usize = 256;

/// Tells a stack that one of its layers changes by other means than the stack's own requests.
#[derive(Clone, Default)]
pub struct LayerWatch(Arc<AtomicU64>);

/// A change that is under way, until this is dropped. If it is forgotten, the stack remembers nothing of its layers any more.
#[derive(Debug)]
#[must_use = "the change ends when this is dropped"]
pub struct LayerChange<'a>(&'a LayerWatch);

impl LayerWatch {
    /// How many changes are under way, in the low bits of the counter; above it, how many have begun.
    const UNDER_WAY_BITS: u32 = 16;

    /// The layer is about to come to hold sectors that were absent, or to change its size. Dropped when that is done, and before anybody
    /// is told so. Meanwhile no read relies on what is remembered, and none does afterwards on what was remembered before.
    pub fn begin_change(&self) -> LayerChange<'_> {
        self.0
            .fetch_add((1 << Self::UNDER_WAY_BITS) + 1, Ordering::AcqRel);
        LayerChange(self)
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment(self.0.load(Ordering::Acquire))
    }
}

impl Drop for LayerChange<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl fmt::Debug for LayerWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LayerWatch").field(&self.moment()).finish()
    }
}

/// What a [`LayerWatch`] had been told at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(u64);

impl Moment {
    /// Whether no change was under way.
    pub(crate) fn is_quiet(self) -> bool {
        self.0 & ((1 << LayerWatch::UNDER_WAY_BITS) - 1) == 0
    }
}

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

type Leaf = [Place; LEAF_REGIONS];

/// Where an entry is kept. Whoever writes one while the index may be used writes the same (N3), so the halves never contradict each other.
#[derive(Default)]
struct Place([AtomicU64; 2]);

impl Place {
    fn load(&self) -> Entry {
        let [first, last] = [0, 1].map(|half| self.0[half].load(Ordering::Acquire));
        match first {
            0 => Entry::UNKNOWN,
            _ => Entry([first, last]),
        }
    }

    fn store(&self, Entry(halves): Entry) {
        // The first half last: with it the entry is known.
        self.0[1].store(halves[1], Ordering::Release);
        self.0[0].store(halves[0], Ordering::Release);
    }
}

/// What a layer has of a region: a bit for each sixteenth of which it may have something.
type Parts = u16;

const PARTS: u32 = Parts::BITS;

/// The layers that are worth a look in a region, in four places of 32 bits: the layer, and above it its [`Parts`]. If the last
/// place has no parts, all layers are worth a look from there on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry([u64; 2]);

impl Entry {
    /// No entry has layer 0 without any parts in its first place.
    const UNKNOWN: Self = Self([0, 0]);
    const NO_LAYER: u16 = u16::MAX;
    const PLACES: usize = 4;

    /// Of layers in ascending order.
    fn new(found: &[(u16, Parts)]) -> Self {
        let place = |place: usize| {
            let (layer, parts) = match found.get(place) {
                Some(_) if place + 1 == Self::PLACES && found.len() > place + 1 => {
                    (found[place].0, 0)
                }
                Some(found) => *found,
                None => (Self::NO_LAYER, Parts::MAX),
            };
            u64::from(layer) | u64::from(parts) << 16
        };
        Self([place(0) | place(1) << 32, place(2) | place(3) << 32])
    }

    /// The first layer at or below `from` that may have something of these parts; `layer_count` if none may.
    fn next(self, parts: Parts, from: usize, layer_count: usize) -> usize {
        for place in self.0.iter().flat_map(|half| [*half, *half >> 32]) {
            let (layer, found) = (place as u16, (place >> 16) as u16);
            if layer == Self::NO_LAYER {
                break;
            }
            let layer = usize::from(layer);
            if found == 0 {
                return layer.max(from);
            }
            if layer >= from && found & parts != 0 {
                return layer;
            }
        }
        layer_count
    }
}

impl Index {
    /// An index of the layers from `first` on, the place below those that take writes; none if it is not worth it.
    pub(crate) fn new(
        layers: &[Arc<StackedLayer>],
        first: usize,
        sector_shift: u32,
    ) -> Option<Self> {
        let still = layers.get(first..)?.iter().filter(|layer| layer.is_still());
        if still.count() < STILL_LAYERS_MIN || layers.len() >= usize::from(Entry::NO_LAYER) {
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
            let entry = self.entry(region);
            if entry == Entry::UNKNOWN {
                return None;
            }
            let parts = self.parts(region, sectors);
            next = next.min(entry.next(parts, from, self.layer_count));
        }
        Some(next)
    }

    /// Asks the layers about the regions of these sectors that nobody has asked about.
    pub(crate) async fn learn(&self, layers: &[Arc<StackedLayer>], sectors: &Range<u64>) {
        for region in self.regions(sectors) {
            if self.entry(region) == Entry::UNKNOWN {
                let entry = self.ask(layers, region).await;
                self.place(region).store(entry);
            }
        }
    }

    /// Which layers are worth a look in a region.
    async fn ask(&self, layers: &[Arc<StackedLayer>], region: u64) -> Entry {
        let start = region << self.region_shift;
        let sectors = start..(start + (1 << self.region_shift)).min(self.sector_count);
        let mut found: SmallVec<[(u16, Parts); Entry::PLACES + 1]> = SmallVec::new();
        for (asked, index) in (self.first..self.layer_count).enumerate() {
            if found.len() > Entry::PLACES {
                break;
            }
            if asked % ASKED_AT_ONCE == ASKED_AT_ONCE - 1 {
                futures_lite::future::yield_now().await;
            }
            let (parts, is_all) = self.ask_layer(&layers[index], region, &sectors).await;
            if parts != 0 {
                // `new` refuses more layers than fit.
                found.push((index as u16, parts));
            }
            if is_all {
                break;
            }
        }
        Entry::new(&found)
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
                Ok(LayerStatus::Absent { sector_count }) => {
                    is_all = false;
                    at += sector_count.max(1);
                }
                Ok(LayerStatus::Present(status)) if status.sector_count() > 0 => {
                    let end = (at + status.sector_count()).min(sectors.end);
                    parts |= self.parts(region, &(at..end));
                    at = end;
                }
                Ok(LayerStatus::Present(_)) | Err(_) => return UNCERTAIN,
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

    fn entry(&self, region: u64) -> Entry {
        let leaf = self.leaves[region as usize / LEAF_REGIONS].get();
        leaf.map_or(Entry::UNKNOWN, |leaf| {
            leaf[region as usize % LEAF_REGIONS].load()
        })
    }

    fn place(&self, region: u64) -> &Place {
        let leaf = &self.leaves[region as usize / LEAF_REGIONS];
        let leaf = leaf.get_or_init(|| Box::new(std::array::from_fn(|_| Place::default())));
        &leaf[region as usize % LEAF_REGIONS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Parts = Parts::MAX;

    #[test]
    fn an_entry_leads_from_one_layer_to_the_next_that_it_names() {
        let entry = Entry::new(&[(3, 0b0110), (70, ALL)]);
        assert_eq!(entry.next(ALL, 1, 100), 3);
        assert_eq!(entry.next(0b0100, 3, 100), 3);
        assert_eq!(entry.next(0b1001, 3, 100), 70, "it has other parts");
        assert_eq!(entry.next(ALL, 4, 100), 70);
        assert_eq!(entry.next(ALL, 71, 100), 100);
        assert_eq!(Entry::new(&[]).next(ALL, 1, 100), 100);
    }

    #[test]
    fn of_four_layers_each_is_named() {
        let entry = Entry::new(&[(1, 1), (5, 2), (9, 4), (20, 8)]);
        for (parts, next) in [(1, 1), (2, 5), (4, 9), (8, 20), (16, 100)] {
            assert_eq!(entry.next(parts, 1, 100), next, "parts {parts:b}");
        }
        assert_eq!(entry.next(ALL, 21, 100), 100);
    }

    #[test]
    fn with_a_fifth_layer_nothing_is_left_out_from_the_fourth_on() {
        let entry = Entry::new(&[(1, 1), (5, 1), (9, 1), (20, 1), (30, 1)]);
        for (from, next) in [(2, 5), (6, 9), (10, 20), (21, 21), (22, 22)] {
            assert_eq!(entry.next(1, from, 100), next, "from {from}");
        }
        assert_eq!(entry.next(2, 1, 100), 20);
    }

    #[test]
    fn what_is_unknown_leaves_out_nothing() {
        for from in 0..5 {
            assert_eq!(Entry::UNKNOWN.next(ALL, from, 5), from);
        }
        assert_ne!(Entry::new(&[]), Entry::UNKNOWN);
        assert_eq!(Place::default().load(), Entry::UNKNOWN);
    }

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
