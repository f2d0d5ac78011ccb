//! The bytes of a layer on its store, and nothing else: `docs/formats/durable-layer.md` says the same in words.
//!
//! Every structure is one block of 4096 bytes, little-endian, whose last four bytes are the crc32c of those before. The structs of
//! [`table`] are the one place that knows an offset.

mod entry;
mod layout;
mod page;
mod states;
mod sums;
mod superblock;
pub(crate) mod table;
#[cfg(test)]
mod tests;

pub(crate) use entry::{
    COPIES_MAX, CopyOf, Entry, IMAGES_BESIDE_COPIES_MAX, IMAGES_MAX, Whole, blocks,
};
pub use layout::Verify;
pub(crate) use layout::{Layout, Part};
pub(crate) use page::{PageContent, PageImage, decode_page, encode_page, sequence_of};
pub(crate) use states::{State, States};
pub(crate) use sums::{Marks, Sums, sums_of};
pub(crate) use superblock::{BadSuperblock, COUNT_MAX, Superblock, are_sizes};
pub use superblock::{Binding, LowerDisk, Role};

/// The length of every structure, in bytes.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// A structure's bytes.
pub(crate) type Block = [u8; BLOCK_BYTES];

/// What the superblocks begin with.
pub(crate) const MAGIC: [u8; 16] = *b"platter durable\n";

/// What an entry of the log begins with.
pub(crate) const ENTRY_MAGIC: [u8; 8] = *b"plt.log\n";

/// What a page begins with.
pub(crate) const PAGE_MAGIC: [u8; 4] = *b"page";

/// The version of the format.
pub(crate) const VERSION: u32 = 1;

/// The feature of layers whose pages have checksums of the data.
pub(crate) const VERIFY_DATA: u64 = 1;

/// The feature of layers whose log has copies of data.
pub(crate) const LOGS_DATA: u64 = 2;

/// The features that a reader must know, and this version does.
pub(crate) const INCOMPATIBLE_KNOWN: u64 = VERIFY_DATA | LOGS_DATA;

/// Where the two superblocks are, in bytes.
pub(crate) const SUPERBLOCK_OFFSETS: [u64; 2] = [0, BLOCK_BYTES as u64];

/// Where the log begins, in bytes.
pub(crate) const LOG_OFFSET: u64 = 2 * BLOCK_BYTES as u64;

/// Where the checksum of a structure is.
pub(crate) const CHECKSUM_AT: usize = BLOCK_BYTES - 4;

/// Puts the checksum into a block's last bytes.
fn seal(block: &mut Block) {
    let checksum = crc32c::crc32c(&block[..CHECKSUM_AT]);
    block[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
}

/// Whether a block is as it was sealed.
pub(crate) fn is_sealed(block: &Block) -> bool {
    crc32c::crc32c(&block[..CHECKSUM_AT]) == seal_of(block)
}

/// The checksum that a block was sealed with.
fn seal_of(block: &Block) -> u32 {
    u32::from_le_bytes(*block.last_chunk().expect("it is longer"))
}
