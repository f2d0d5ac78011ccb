//! Where a chunk is kept, and a hint where its memory is.

use crate::chunk::{CHUNK_PAGES, PAGE_BYTES, Slot};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use sync::RwLock;

/// The place of one chunk.
#[derive(Debug, Default)]
pub(crate) struct Place {
    slot: RwLock<Slot>,
    hint: Hint,
}

/// Where the memory of a chunk was, and which of its pages were resident, when it was last noted.
///
/// It needs no lock, because nobody accesses what it points at: it may be gone, or another chunk's. So what a read will need is fetched
/// before the lock is asked for, and comes while the request is checked.
#[derive(Debug, Default)]
struct Hint {
    memory: AtomicPtr<u8>,
    /// A bit for each page. Whoever asks for a page that is not there waits for the processor to find that out, line by line.
    resident: [AtomicU64; CHUNK_PAGES / u64::BITS as usize],
}

impl Place {
    pub(crate) fn read(&self) -> impl Deref<Target = Slot> + '_ {
        self.slot.read()
    }

    pub(crate) fn write(&self) -> impl DerefMut<Target = Slot> + '_ {
        self.slot.write()
    }

    /// Has the processor fetch the beginning of `len` bytes at `offset` inside the chunk, if they are in memory.
    #[inline]
    pub(crate) fn prefetch(&self, offset: usize, len: usize) {
        let page = offset / PAGE_BYTES;
        let word = self.hint.resident[page / 64].load(Ordering::Relaxed);
        if word & (1 << (page % 64)) != 0 {
            let memory = self.hint.memory.load(Ordering::Relaxed);
            let len = len.min(PAGE_BYTES - offset % PAGE_BYTES);
            guestmem::copy::prefetch(memory.wrapping_add(offset), len);
        }
    }

    /// Notes what memory a slot has that is locked, and gained some or lost some.
    pub(crate) fn note_memory(&self, slot: &Slot) {
        for (hint, word) in self.hint.resident.iter().zip(slot.resident_words()) {
            hint.store(word, Ordering::Relaxed);
        }
        if let Some(memory) = slot.memory() {
            let memory = memory.as_ptr().cast_mut();
            self.hint.memory.store(memory, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::CHUNK_BYTES;
    use scsi_buffers::HostBuffers;

    const SECTOR_SHIFT: u32 = 9;

    fn resident_pages(place: &Place) -> u32 {
        let words = place.hint.resident.iter();
        words
            .map(|word| word.load(Ordering::Relaxed).count_ones())
            .sum()
    }

    #[test]
    fn the_hint_follows_the_pages() {
        let place = Place::default();
        place.prefetch(CHUNK_BYTES - 1, 4096);
        let data = [7; 3 * PAGE_BYTES];
        let host = HostBuffers::from_ref(&data);
        let mut slot = place.write();
        slot.write(SECTOR_SHIFT, 8..32, &mut host.buffers().reader())
            .expect("there is memory");
        place.note_memory(&slot);
        assert_eq!(resident_pages(&place), 3);
        slot.clear(SECTOR_SHIFT, 8..16, true);
        place.note_memory(&slot);
        assert_eq!(resident_pages(&place), 2);
        slot.clear(SECTOR_SHIFT, 0..CHUNK_BYTES >> SECTOR_SHIFT, false);
        place.note_memory(&slot);
        assert_eq!(resident_pages(&place), 0);
        // The memory is gone, and so is what the hint points at.
        place.prefetch(2 * PAGE_BYTES, PAGE_BYTES);
    }
}
