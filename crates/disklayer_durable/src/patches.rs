//! Data that the log has a copy of, and that may not be in its place: what the last entry that a crash left says of it.
//!
//! Where the flush that wrote the entry ended, the data is in its place, or what was written over it since, which nobody has flushed. So the
//! copy is what the sector holds, in either case, until the first change puts it there.

use crate::format::{
    CopyOf, Layout, PageContent, State, States, Superblock, Whole, blocks, decode_page,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// By sector of the layer, what it holds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Patches(BTreeMap<u64, Box<[u8]>>);

impl Patches {
    /// The copies of an entry, as far as it says itself that the sector is data: another may have been cleared since.
    pub(crate) fn of(last: &Whole<'_>, superblock: &Superblock) -> Self {
        let layout = &superblock.layout;
        let states: BTreeMap<u64, States> = last
            .entry
            .stripes
            .iter()
            .zip(blocks(last.images))
            .filter_map(|(stripe, image)| {
                match decode_page(image, superblock.epoch, *stripe, layout) {
                    PageContent::Image(image) => Some((*stripe, image.states)),
                    PageContent::Never { .. } | PageContent::Damaged(_) => None,
                }
            })
            .collect();
        let mut patches = Self::default();
        for (copy, mixed) in last.entry.copies.iter().zip(last.copies.iter().flatten()) {
            let mut data = mixed.to_vec();
            CopyOf::mix(&mut data, last.entry.sequence);
            let sectors = data.chunks_exact(layout.sector_size as usize);
            for (sector, bytes) in (copy.sector..last.entry.sector_count).zip(sectors) {
                let stripe = sector / u64::from(layout.stripe_sectors);
                let within = (sector % u64::from(layout.stripe_sectors)) as u32;
                let states = states.get(&stripe);
                if states.is_some_and(|states| states.get(within) == State::Data) {
                    patches.0.insert(sector, bytes.into());
                }
            }
        }
        patches
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of some sectors.
    pub(crate) fn within(&self, sectors: Range<u64>) -> impl Iterator<Item = (u64, &[u8])> {
        let range = self.0.range(sectors);
        range.map(|(sector, bytes)| (*sector, &bytes[..]))
    }

    /// All of them, with their places on the store, in bytes.
    pub(crate) fn places(&self, layout: &Layout) -> impl Iterator<Item = (u64, &[u8])> {
        self.0.iter().map(|(sector, bytes)| {
            let length = u64::from(layout.stripe_sectors);
            let offset = layout.data_offset(sector / length, (sector % length) as u32);
            (offset, &bytes[..])
        })
    }

    /// The stripes of which there is something.
    pub(crate) fn stripes(&self, layout: &Layout) -> BTreeSet<u64> {
        let sectors = self.0.keys();
        sectors
            .map(|sector| sector / u64::from(layout.stripe_sectors))
            .collect()
    }
}
