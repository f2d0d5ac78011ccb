//! An entry of the log: its header. Images of pages follow it, and then copies of data.

use super::table::{CopyBytes, EntryBytes};
use super::{BLOCK_BYTES, Block, ENTRY_MAGIC, is_sealed, seal, seal_of};
use planted::Bug;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// The most images that an entry has.
pub(crate) const IMAGES_MAX: usize = 336;

/// The most images that an entry with copies has: these are named where the names of others would be.
pub(crate) const IMAGES_BESIDE_COPIES_MAX: usize = 256;

/// The most copies that an entry has.
pub(crate) const COPIES_MAX: usize =
    (IMAGES_MAX - IMAGES_BESIDE_COPIES_MAX) * size_of::<U64>() / size_of::<CopyBytes>();

/// What an entry says of data that it has a copy of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CopyOf {
    /// The first sector of the layer.
    pub(crate) sector: u64,
    /// In bytes, at least one.
    pub(crate) len: u32,
    pub(crate) checksum: u32,
}

/// Where each piece of a copy is mixed with the number of its entry; the pieces are as short as what a crash tears apart can be.
const MIXED: std::ops::Range<usize> = 8..16;
const MIXED_PIECE_BYTES: usize = 512;

impl CopyOf {
    /// What there is to say of a copy, which is already [mixed](Self::mix).
    pub(crate) fn new(sector: u64, mixed: &[u8]) -> Self {
        Self {
            sector,
            len: mixed.len() as u32,
            checksum: crc32c::crc32c(mixed),
        }
    }

    /// Makes data into a copy of an entry, or back: the checksum must not be that of what another entry left in the same place, and that of data which
    /// ends with its own crc does not depend on the data. Its beginning stays, by which it would be taken for an entry.
    pub(crate) fn mix(data: &mut [u8], sequence: u64) {
        for piece in data.chunks_mut(MIXED_PIECE_BYTES) {
            for (byte, with) in piece[MIXED].iter_mut().zip(sequence.to_le_bytes()) {
                *byte ^= with;
            }
        }
    }

    /// How many blocks of the log it takes.
    pub(crate) fn block_count(&self) -> usize {
        (self.len as usize).div_ceil(BLOCK_BYTES)
    }

    fn is_of(&self, mixed: &[u8]) -> bool {
        crc32c::crc32c(mixed) == self.checksum
    }
}

/// An entry whose header and images are whole, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Whole<'a> {
    pub(crate) entry: Entry,
    /// In the order of the stripes.
    pub(crate) images: &'a [u8],
    /// The copies, as they lie there; none if one of them is not whole. Then the entry is not, unless it was durable.
    pub(crate) copies: Option<Vec<&'a [u8]>>,
    /// The log behind it.
    pub(crate) rest: &'a [u8],
}

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
    /// What the copies are of, in their order.
    pub(crate) copies: Vec<CopyOf>,
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
        bytes.copy_count = (self.copies.len() as u32).into();
        for (place, copy) in bytes.copies_mut().iter_mut().zip(&self.copies) {
            *place = CopyBytes {
                sector: copy.sector.into(),
                length: copy.len.into(),
                checksum: copy.checksum.into(),
            };
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

    /// How many blocks of the log it takes.
    pub(crate) fn block_count(&self) -> usize {
        1 + self.stripes.len() + self.copies.iter().map(CopyOf::block_count).sum::<usize>()
    }

    /// The entry that begins at `log`, if one does whose header and images are whole.
    pub(crate) fn decode(log: &[u8]) -> Option<Whole<'_>> {
        let (block, behind) = log.split_first_chunk::<BLOCK_BYTES>()?;
        let entry = Self::decode_header(block)?;
        let (images, mut rest) = behind.split_at_checked(entry.stripes.len() * BLOCK_BYTES)?;
        let is_checked = !planted::is_active(Bug::ChecksumNotChecked);
        let mut images_are_whole = (0..).zip(blocks(images));
        if is_checked && !images_are_whole.all(|(at, image)| Self::is_image(block, at, image)) {
            return None;
        }
        let mut copies = Some(Vec::new());
        for copy in &entry.copies {
            let (there, behind) = rest.split_at_checked(copy.block_count() * BLOCK_BYTES)?;
            let data = &there[..copy.len as usize];
            match &mut copies {
                Some(copies) if !is_checked || copy.is_of(data) => copies.push(data),
                _ => copies = None,
            }
            rest = behind;
        }
        Some(Whole {
            entry,
            images,
            copies,
            rest,
        })
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
        let copies = bytes.copies().get(..bytes.copy_count.get() as usize)?;
        let images_max = match copies {
            [] => IMAGES_MAX,
            _ => IMAGES_BESIDE_COPIES_MAX,
        };
        let stripes = bytes.stripes[..images_max].get(..bytes.image_count.get() as usize)?;
        Some(Self {
            log_generation: bytes.log_generation.get(),
            sequence: bytes.sequence.get(),
            epoch: bytes.epoch.get(),
            sector_count: bytes.sector_count.get(),
            shown_below: bytes.shown_below.get(),
            durable_blocks: bytes.durable_blocks.get(),
            stripes: stripes.iter().map(|stripe| stripe.get()).collect(),
            copies: copies
                .iter()
                .map(|copy| CopyOf {
                    sector: copy.sector.get(),
                    len: copy.length.get(),
                    checksum: copy.checksum.get(),
                })
                .collect(),
        })
    }
}

/// The blocks that bytes are made of.
pub(crate) fn blocks(bytes: &[u8]) -> impl Iterator<Item = &Block> {
    bytes
        .chunks_exact(BLOCK_BYTES)
        .map(|block| block.try_into().expect("of this length"))
}
