//! The checksums of a stripe's data, as far as they are known.

use guestmem::{AccessError, MemoryRead};
use scsi_buffers::RequestBuffers;
use std::ops::Range;

/// A mark for each of so many sectors, none of them set at first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marks(Box<[u64]>);

impl Marks {
    pub(crate) fn new(len: u32) -> Self {
        Self(vec![0; len.div_ceil(64) as usize].into())
    }

    pub(crate) fn has(&self, sector: u32) -> bool {
        self.0[(sector / 64) as usize] >> (sector % 64) & 1 != 0
    }

    pub(crate) fn set(&mut self, sector: u32) {
        self.0[(sector / 64) as usize] |= 1 << (sector % 64);
    }

    pub(crate) fn clear(&mut self, sectors: Range<u32>) {
        for sector in sectors {
            self.0[(sector / 64) as usize] &= !(1 << (sector % 64));
        }
    }

    pub(crate) fn has_any(&self, mut sectors: Range<u32>) -> bool {
        sectors.any(|sector| self.has(sector))
    }

    pub(crate) fn add_all(&mut self, others: &Self) {
        for (word, other) in self.0.iter_mut().zip(&others.0) {
            *word |= other;
        }
    }
}

/// See the head of this module. Known at most of sectors that are data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sums {
    values: Box<[u32]>,
    known: Marks,
}

impl Sums {
    pub(crate) fn new(len: u32) -> Self {
        Self {
            values: vec![0; len as usize].into(),
            known: Marks::new(len),
        }
    }

    /// None known, of as many sectors.
    pub(crate) fn new_like(other: &Self) -> Self {
        Self::new(other.values.len() as u32)
    }

    pub(crate) fn get(&self, sector: u32) -> Option<u32> {
        self.known.has(sector).then(|| self.values[sector as usize])
    }

    pub(crate) fn set(&mut self, sector: u32, sum: u32) {
        self.values[sector as usize] = sum;
        self.known.set(sector);
    }

    pub(crate) fn forget(&mut self, sectors: Range<u32>) {
        self.known.clear(sectors);
    }

    pub(crate) fn known(&self) -> &Marks {
        &self.known
    }
}

/// The checksums of memory, for each of its sectors, of which `first` is the first of the layer. Each byte is read once.
///
/// The number of the sector goes into it: what belongs elsewhere is not right.
pub(crate) fn sums_of(
    memory: &RequestBuffers<'_>,
    first: u64,
    sector_size: usize,
) -> Result<Vec<u32>, AccessError> {
    let mut reader = memory.reader();
    let mut copy = [0; super::BLOCK_BYTES];
    let copy = &mut copy[..sector_size];
    let count = (memory.len() / sector_size) as u64;
    (first..first + count)
        .map(|sector| {
            reader.read(copy)?;
            Ok(crc32c::crc32c_append(
                crc32c::crc32c(&sector.to_le_bytes()),
                copy,
            ))
        })
        .collect()
}
