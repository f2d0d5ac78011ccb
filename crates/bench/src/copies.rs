//! The limit: plain copies.

use guestmem::Pages;
use std::hint::black_box;

/// How much a case works on.
pub(crate) const WORKING_SET_BYTES: usize = 256 << 20;

/// As much memory of its own as a disk has, in chunks under the same page policy as a RAM layer's.
pub(crate) struct Memory(Vec<Pages>);

/// The length of a RAM layer's chunks.
const CHUNK_BYTES: usize = 2 << 20;

impl Memory {
    /// Memory that nobody has touched.
    pub(crate) fn fresh() -> Self {
        let chunks = WORKING_SET_BYTES / CHUNK_BYTES;
        let chunk = |_| Pages::new(CHUNK_BYTES).expect("there is memory");
        Self((0..chunks).map(chunk).collect())
    }

    /// Memory of which every page is there.
    pub(crate) fn full() -> Self {
        let mut memory = Self::fresh();
        memory.0.iter_mut().for_each(|chunk| chunk.fill(1));
        memory
    }

    /// Copies from the memory; a block does not cross a chunk.
    pub(crate) fn read(&self, offset: usize, block: &mut [u8]) {
        let from = offset % CHUNK_BYTES;
        block.copy_from_slice(&self.0[offset / CHUNK_BYTES][from..from + block.len()]);
        black_box(block);
    }

    /// Copies to the memory.
    pub(crate) fn write(&mut self, offset: usize, block: &[u8]) {
        let to = offset % CHUNK_BYTES;
        self.0[offset / CHUNK_BYTES][to..to + block.len()].copy_from_slice(black_box(block));
    }

    /// The memory in two halves.
    pub(crate) fn halves(mut self) -> [Self; 2] {
        let second = self.0.split_off(self.0.len() / 2);
        [self, Self(second)]
    }
}
