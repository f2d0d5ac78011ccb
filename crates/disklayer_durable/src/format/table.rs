//! The one table of offsets: structs as they lie on the store.

use super::BLOCK_BYTES;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A superblock.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SuperblockBytes {
    pub(crate) magic: [u8; 16],
    pub(crate) version: U32,
    pub(crate) sector_size: U32,
    pub(crate) incompatible: U64,
    pub(crate) compatible: U64,
    pub(crate) generation: U64,
    pub(crate) epoch: U64,
    pub(crate) layer_id: [u8; 16],
    pub(crate) sector_count: U64,
    pub(crate) shown_below: U64,
    pub(crate) stripe_sectors: U32,
    pub(crate) log_blocks: U32,
    pub(crate) log_generation: U64,
    pub(crate) log_sequence: U64,
    pub(crate) state: U32,
    pub(crate) role: U32,
    pub(crate) lower_kind: U32,
    pub(crate) lower_sector_size: U32,
    pub(crate) lower_sector_count: U64,
    pub(crate) lower_id: [u8; 16],
    pub(crate) lower_stamp: [u8; 32],
    pub(crate) sums_after: U64,
    pub(crate) unused: [u8; 3900],
    pub(crate) checksum: U32,
}

/// What an entry of the log begins with.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct EntryBytes {
    pub(crate) magic: [u8; 8],
    pub(crate) log_generation: U64,
    pub(crate) sequence: U64,
    pub(crate) epoch: U64,
    pub(crate) sector_count: U64,
    pub(crate) shown_below: U64,
    pub(crate) image_count: U32,
    pub(crate) durable_blocks: U32,
    pub(crate) stripes: [U64; super::IMAGES_MAX],
    pub(crate) checksums: [U32; super::IMAGES_MAX],
    pub(crate) copy_count: U32,
    pub(crate) checksum: U32,
}

/// What a header says of a copy of data.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct CopyBytes {
    pub(crate) sector: U64,
    pub(crate) length: U32,
    pub(crate) checksum: U32,
}

impl EntryBytes {
    /// All that there can be.
    pub(crate) fn copies(&self) -> &[CopyBytes] {
        let bytes = self.stripes[super::IMAGES_BESIDE_COPIES_MAX..].as_bytes();
        <[CopyBytes]>::ref_from_bytes(bytes).expect("a whole number of them")
    }

    pub(crate) fn copies_mut(&mut self) -> &mut [CopyBytes] {
        let bytes = self.stripes[super::IMAGES_BESIDE_COPIES_MAX..].as_mut_bytes();
        <[CopyBytes]>::mut_from_bytes(bytes).expect("a whole number of them")
    }
}

/// A page: what is known of the sectors of a stripe.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct PageBytes {
    pub(crate) magic: [u8; 4],
    pub(crate) kind: U32,
    pub(crate) epoch: U64,
    pub(crate) stripe: U64,
    pub(crate) sequence: U64,
    pub(crate) states: [u8; 2048],
    pub(crate) unused: [u8; 2012],
    pub(crate) checksum: U32,
}

/// A page with the checksums of the data that it speaks of.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SummedPageBytes {
    pub(crate) magic: [u8; 4],
    pub(crate) kind: U32,
    pub(crate) epoch: U64,
    pub(crate) stripe: U64,
    pub(crate) sequence: U64,
    pub(crate) states: [u8; 128],
    pub(crate) sums: [U32; 512],
    pub(crate) unused: [u8; 1884],
    pub(crate) checksum: U32,
}

const _: () = assert!(size_of::<SuperblockBytes>() == BLOCK_BYTES);
const _: () = assert!(size_of::<EntryBytes>() == BLOCK_BYTES);
const _: () = assert!(size_of::<PageBytes>() == BLOCK_BYTES);
const _: () = assert!(size_of::<SummedPageBytes>() == BLOCK_BYTES);

/// The rows of the tables in the document: structure, field, offset and length in bytes.
#[cfg(test)]
pub(crate) fn rows() -> Vec<(&'static str, &'static str, usize, usize)> {
    macro_rules! rows {
        ($structure:ident: $($field:ident),*) => {
            [$((stringify!($structure), stringify!($field), std::mem::offset_of!($structure, $field),
                length_of(|bytes: &$structure| size_of_val(&bytes.$field)))),*]
        };
    }
    fn length_of<T: FromBytes>(length: impl Fn(&T) -> usize) -> usize {
        length(&T::new_zeroed())
    }
    let superblock = rows!(SuperblockBytes: magic, version, sector_size, incompatible, compatible, generation, epoch,
        layer_id, sector_count, shown_below, stripe_sectors, log_blocks, log_generation, log_sequence, state, role,
        lower_kind, lower_sector_size, lower_sector_count, lower_id, lower_stamp, sums_after, unused, checksum);
    let entry = rows!(EntryBytes: magic, log_generation, sequence, epoch, sector_count, shown_below, image_count,
        durable_blocks, stripes, checksums, copy_count, checksum);
    let copy = rows!(CopyBytes: sector, length, checksum);
    let page = rows!(PageBytes: magic, kind, epoch, stripe, sequence, states, unused, checksum);
    let summed = rows!(SummedPageBytes: magic, kind, epoch, stripe, sequence, states, sums, unused, checksum);
    [&superblock[..], &entry, &copy, &page, &summed].concat()
}
