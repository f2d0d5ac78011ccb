//! Page-aligned anonymous memory that is resident only where it was touched.

use memmap2::MmapOptions;
use memmap2::MmapRaw;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::ops::DerefMut;
use std::ops::Range;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::AtomicU8;

/// The granule in which memory is aligned and given back, in bytes.
///
/// It is our choice, the same on every machine. Where the system's page is larger, [`Pages::give_back`] works in the system's pages.
pub const PAGE_SIZE_BYTES: usize = 4096;

/// Private zeroed memory: aligned to a page, and occupying only those pages that were written.
///
/// On Linux it declines huge pages, so that one written sector costs one page and not 2 MiB.
pub struct Pages {
    map: MmapRaw,
    len_bytes: usize,
}

impl Pages {
    /// Maps `len` zeroed bytes. Nothing is resident, and no swap is reserved, until bytes are touched.
    ///
    /// # Errors
    /// What the system says when it has no address space left, or when `len` is beyond what it can map.
    pub fn new(len: usize) -> io::Result<Pages> {
        if isize::try_from(len).is_err() {
            return Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                format!("cannot map {len} bytes: more than the address space"),
            ));
        }
        // The system maps nothing of length zero; one page stands in, so that the base is always valid and aligned.
        let map = MmapOptions::new()
            .len(len.max(1))
            .no_reserve_swap()
            .map_anon()?;
        #[cfg(target_os = "linux")]
        decline_huge_pages(&map)?;
        Ok(Pages {
            map: MmapRaw::from(map),
            len_bytes: len,
        })
    }

    /// The first byte. Non-null and aligned to a page also where there are no bytes.
    pub fn base(&self) -> NonNull<AtomicU8> {
        NonNull::new(self.map.as_mut_ptr().cast()).expect("the system maps nothing at address zero")
    }

    /// Makes the bytes of `range` read zero and returns the whole pages inside it to the system. Gives the number of
    /// bytes returned: 0 where the system cannot (the bytes are zero all the same).
    ///
    /// # Panics
    /// If `range` does not lie inside.
    pub fn give_back(&mut self, range: Range<usize>) -> usize {
        assert!(
            range.start <= range.end && range.end <= self.len_bytes,
            "range {range:?} is not inside {} bytes",
            self.len_bytes
        );
        let whole = self.whole_pages(&range);
        if !whole.is_empty() && self.drop_pages(&whole) {
            self[range.start..whole.start].fill(0);
            self[whole.end..range.end].fill(0);
            whole.len()
        } else {
            self[range].fill(0);
            0
        }
    }

    /// The part of `range` that covers pages from their first byte to their last. The last page of all counts as whole
    /// when `range` reaches the end: nobody owns the bytes after it.
    fn whole_pages(&self, range: &Range<usize>) -> Range<usize> {
        let page = system_page_bytes();
        let start = range.start.next_multiple_of(page);
        let end = if range.end == self.len_bytes {
            range.end
        } else {
            range.end - range.end % page
        };
        start.min(end)..end
    }

    /// Tells the system to drop whole pages; they then read zero. `false` where it cannot or would not.
    #[cfg(target_os = "linux")]
    fn drop_pages(&mut self, whole: &Range<usize>) -> bool {
        // SAFETY: we hold `&mut self`, so nothing borrows the bytes that change; the range lies inside the mapping, which is private and anonymous: dropped pages read zero.
        unsafe {
            self.map.unchecked_advise_range(
                memmap2::UncheckedAdvice::DontNeed,
                whole.start,
                whole.len(),
            )
        }
        .is_ok()
    }

    #[cfg(not(target_os = "linux"))]
    fn drop_pages(&mut self, _whole: &Range<usize>) -> bool {
        false
    }
}

/// The system's page size, in bytes: a multiple of our granule on everything we know.
#[cfg(target_os = "linux")]
fn system_page_bytes() -> usize {
    rustix::param::page_size().max(PAGE_SIZE_BYTES)
}

/// Where nothing is given back, any granule will do.
#[cfg(not(target_os = "linux"))]
fn system_page_bytes() -> usize {
    PAGE_SIZE_BYTES
}

/// Asks for small pages, whatever the system's default.
#[cfg(target_os = "linux")]
fn decline_huge_pages(map: &memmap2::MmapMut) -> io::Result<()> {
    match map.advise(memmap2::Advice::NoHugePage) {
        // A kernel built without huge pages knows nothing of the advice: there is nothing to decline.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping is at least `len_bytes` long, initialised (zeroed by the system), and changes only through `&mut self`,
        // or by those who were told, by an unsafe contract, that no slice may live meanwhile.
        unsafe { slice::from_raw_parts(self.map.as_ptr(), self.len_bytes) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`, and `&mut self` is exclusive.
        unsafe { slice::from_raw_parts_mut(self.map.as_mut_ptr(), self.len_bytes) }
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pages({} bytes)", self.len_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_pages_are_aligned_and_zero() {
        for len in [1, 4095, 4096, 4097, 100_000] {
            let mut pages = Pages::new(len).unwrap();
            assert_eq!(pages.len(), len);
            assert_eq!(pages.base().as_ptr().addr() % PAGE_SIZE_BYTES, 0);
            assert!(pages.iter().all(|&byte| byte == 0));
            pages.fill(7);
            assert!(pages.iter().all(|&byte| byte == 7));
        }
    }

    #[test]
    fn no_bytes_are_fine() {
        let mut pages = Pages::new(0).unwrap();
        assert_eq!(pages.len(), 0);
        assert_eq!(pages.base().as_ptr().addr() % PAGE_SIZE_BYTES, 0);
        assert_eq!(pages.give_back(0..0), 0);
    }

    #[test]
    fn more_than_the_address_space_is_an_error() {
        assert!(Pages::new(usize::MAX).is_err());
        assert!(Pages::new(isize::MAX as usize).is_err());
    }

    #[test]
    fn bytes_given_back_read_zero_and_the_rest_stay() {
        let len = 5 * PAGE_SIZE_BYTES + 100;
        for range in [
            0..len,
            1..len - 1,
            10..20,
            4000..4200,
            4096..8192,
            4095..8193,
            5000..5000,
            4096..len,
            len..len,
            len - 1..len,
        ] {
            let mut pages = Pages::new(len).unwrap();
            pages.fill(9);
            let returned = pages.give_back(range.clone());
            assert!(returned <= range.len());
            for (i, &byte) in pages.iter().enumerate() {
                assert_eq!(
                    byte,
                    if range.contains(&i) { 0 } else { 9 },
                    "byte {i} after {range:?}"
                );
            }
        }
    }

    #[test]
    #[should_panic = "is not inside"]
    fn giving_back_what_is_not_there_panics() {
        let mut pages = Pages::new(100).unwrap();
        pages.give_back(50..101);
    }

    #[cfg(target_os = "linux")]
    mod residency {
        use super::*;
        use std::io::Read;
        use std::io::Seek;
        use std::io::SeekFrom;

        /// How many of the pages are resident, by the kernel's own account.
        fn resident_page_count(pages: &Pages) -> usize {
            let page = system_page_bytes();
            let first = pages.base().as_ptr().addr() / page;
            let mut entries = vec![0; pages.len().div_ceil(page) * 8];
            let mut pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
            pagemap.seek(SeekFrom::Start(first as u64 * 8)).unwrap();
            pagemap.read_exact(&mut entries).unwrap();
            // Bit 63 of each little-endian entry: present in memory.
            entries
                .iter()
                .skip(7)
                .step_by(8)
                .filter(|&&byte| byte & 0x80 != 0)
                .count()
        }

        #[test]
        fn only_touched_pages_are_resident() {
            let mut pages = Pages::new(64 << 20).unwrap();
            assert_eq!(resident_page_count(&pages), 0);
            for offset in (0..pages.len()).step_by(4 << 20) {
                pages[offset] = 1;
            }
            assert_eq!(resident_page_count(&pages), 16);
        }

        #[test]
        fn whole_pages_given_back_are_no_longer_resident() {
            let page = system_page_bytes();
            let mut pages = Pages::new(8 * page).unwrap();
            pages.fill(1);
            assert_eq!(resident_page_count(&pages), 8);
            assert_eq!(pages.give_back(page / 2..4 * page + page / 2), 3 * page);
            assert_eq!(resident_page_count(&pages), 5);
        }

        #[test]
        fn the_last_page_is_given_back_though_it_is_not_full() {
            let page = system_page_bytes();
            let mut pages = Pages::new(page + 10).unwrap();
            pages.fill(1);
            assert_eq!(pages.give_back(page..page + 10), 10);
            assert_eq!(resident_page_count(&pages), 1);
        }
    }
}
