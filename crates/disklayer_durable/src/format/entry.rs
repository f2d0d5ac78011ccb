//! An entry of the log: its header. Images of pages follow it.

use super::table::EntryBytes;
use super::{BLOCK_BYTES, Block, ENTRY_MAGIC, is_sealed, seal, seal_of};
use planted::Bug;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// The most images that an entry has.
pub(crate) const IMAGES_MAX: usize = 336;

/// See the head of this module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) log_generation: u64,
    pub(crate) sequence: u64,
    pub(crate) epoch: u64,
    pub(crate) sector_count: u64,
    pub(crate) shown_below: u64,
    /// How many blocks of this log were durable when the entry was written.
    pub(crate) durable_blocks: u32,
    /// Whose pages the images are, in their order.
    pub(crate) stripes: Vec<u64>,
}

impl Entry {
    /// The header of an entry with these images.
    pub(crate) fn encode(&self, images: &[u8]) -> Block {
        debug_assert_eq!(images.len(), self.stripes.len() * BLOCK_BYTES);
        let mut bytes = EntryBytes::new_zeroed();
        bytes.magic = ENTRY_MAGIC;
        bytes.log_generation = self.log_generation.into();
        bytes.sequence = self.sequence.into();
        bytes.epoch = self.epoch.into();
        bytes.sector_count = self.sector_count.into();
        bytes.shown_below = self.shown_below.into();
        bytes.durable_blocks = self.durable_blocks.into();
        bytes.image_count = (self.stripes.len() as u32).into();
        for (place, stripe) in bytes.stripes.iter_mut().zip(&self.stripes) {
            *place = (*stripe).into();
        }
        // Not one checksum over all of them: that of blocks which end with their own checksum is the same whatever they hold.
        for (place, image) in bytes.checksums.iter_mut().zip(blocks(images)) {
            *place = seal_of(image).into();
        }
        let mut block = [0; BLOCK_BYTES];
        block.copy_from_slice(bytes.as_bytes());
        seal(&mut block);
        block
    }

    /// The entry that begins at `log`, if one does that is whole, and the rest of the log.
    pub(crate) fn decode(log: &[u8]) -> Option<(Self, &[u8])> {
        let (block, rest) = log.split_first_chunk::<BLOCK_BYTES>()?;
        let entry = Self::decode_header(block)?;
        let images = rest.get(..entry.stripes.len() * BLOCK_BYTES)?;
        let bytes = EntryBytes::ref_from_bytes(block).expect("a block has this length");
        let mut sealed = blocks(images).zip(&bytes.checksums);
        if !planted::is_active(Bug::ChecksumNotChecked)
            && !sealed.all(|(image, checksum)| is_sealed(image) && seal_of(image) == checksum.get())
        {
            return None;
        }
        Some((entry, &rest[images.len()..]))
    }

    /// Whether a block is the image of this number that an entry was written with, by its header, which is whole.
    pub(crate) fn is_image(header: &Block, index: usize, image: &Block) -> bool {
        let bytes = EntryBytes::ref_from_bytes(header).expect("a block has this length");
        let checksum = bytes.checksums.get(index);
        is_sealed(image) && checksum.is_some_and(|checksum| checksum.get() == seal_of(image))
    }

    /// An entry by its header, if that is whole; its images may not be.
    pub(crate) fn decode_header(block: &Block) -> Option<Self> {
        let bytes = EntryBytes::ref_from_bytes(block).expect("a block has this length");
        let is_checked = !planted::is_active(Bug::ChecksumNotChecked);
        if bytes.magic != ENTRY_MAGIC || is_checked && !is_sealed(block) {
            return None;
        }
        let stripes = bytes.stripes.get(..bytes.image_count.get() as usize)?;
        Some(Self {
            log_generation: bytes.log_generation.get(),
            sequence: bytes.sequence.get(),
            epoch: bytes.epoch.get(),
            sector_count: bytes.sector_count.get(),
            shown_below: bytes.shown_below.get(),
            durable_blocks: bytes.durable_blocks.get(),
            stripes: stripes.iter().map(|stripe| stripe.get()).collect(),
        })
    }
}

/// The blocks that bytes are made of.
pub(crate) fn blocks(bytes: &[u8]) -> impl Iterator<Item = &Block> {
    bytes
        .chunks_exact(BLOCK_BYTES)
        .map(|block| block.try_into().expect("of this length"))
}
