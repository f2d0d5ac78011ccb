//! Guest memory, its regions and its edges.

use guestmem::AccessError;
use guestmem::BackingMemory;
use guestmem::GuestMemory;
use guestmem::GuestRegion;
use guestmem::InvalidGuestMemory;
use guestmem::Pages;
use guestmem::RegionInfo;

fn region(address: u64, len: usize) -> GuestRegion {
    GuestRegion::new(address, Pages::new(len).unwrap())
}

fn out_of_range<T>(address: u64, len: u64) -> Result<T, AccessError> {
    Err(AccessError::OutOfRange { address, len })
}

#[test]
fn what_is_written_is_read() {
    let memory = GuestMemory::allocate(10_000);
    memory.write_at(4090, &[7; 20]).unwrap();
    memory.fill_at(4095, 9, 2).unwrap();
    let mut bytes = [0xEE; 22];
    memory.read_at(4089, &mut bytes).unwrap();
    assert_eq!(bytes[..8], [0, 7, 7, 7, 7, 7, 9, 9]);
    assert_eq!(bytes[8..21], [7; 13]);
    assert_eq!(bytes[21], 0);
}

#[test]
fn plain_values_need_no_alignment() {
    let memory = GuestMemory::allocate(64);
    memory.write_plain(3, &0x1122_3344_5566_7788_u64).unwrap();
    assert_eq!(memory.read_plain::<u64>(3), Ok(0x1122_3344_5566_7788));
    assert_eq!(memory.read_plain::<u64>(57), out_of_range(57, 8));
    assert_eq!(memory.write_plain(57, &0_u64), out_of_range(57, 8));
}

#[test]
fn an_access_that_does_not_fit_changes_nothing() {
    let memory = GuestMemory::allocate(4096);
    memory.fill_at(0, 1, 4096).unwrap();
    let mut bytes = [5; 10];
    assert_eq!(memory.read_at(4090, &mut bytes), out_of_range(4090, 10));
    assert_eq!(bytes, [5; 10]);
    assert_eq!(memory.write_at(4090, &bytes), out_of_range(4090, 10));
    assert_eq!(memory.fill_at(4090, 5, 10), out_of_range(4090, 10));
    assert_eq!(memory.read_plain::<[u8; 6]>(4090), Ok([1; 6]));
}

#[test]
fn nothing_is_memory_at_the_end_of_the_address_space() {
    let memory = GuestMemory::from_regions(vec![region(u64::MAX - 4096, 4096)]).unwrap();
    assert_eq!(memory.read_plain::<u8>(u64::MAX - 1), Ok(0));
    assert_eq!(memory.read_plain::<u8>(u64::MAX), out_of_range(u64::MAX, 1));
    assert_eq!(
        memory.read_plain::<u16>(u64::MAX - 1),
        out_of_range(u64::MAX - 1, 2)
    );
    assert_eq!(
        memory.fill_at(u64::MAX - 1, 0, usize::MAX),
        out_of_range(u64::MAX - 1, u64::MAX)
    );
    assert_eq!(memory.fill_at(1, 0, usize::MAX), out_of_range(1, u64::MAX));
    assert_eq!(
        GuestMemory::from_regions(vec![region(u64::MAX - 4095, 4096)]).unwrap_err(),
        InvalidGuestMemory::BeyondAddressSpace {
            address: u64::MAX - 4095,
            len: 4096
        }
    );
}

#[test]
fn an_empty_access_succeeds_anywhere() {
    for memory in [GuestMemory::allocate(0), GuestMemory::allocate(100)] {
        for address in [0, 100, 5000, u64::MAX] {
            memory.read_at(address, &mut []).unwrap();
            memory.write_at(address, &[]).unwrap();
            memory.fill_at(address, 1, 0).unwrap();
            memory.check_writable(address, 0).unwrap();
            assert_eq!(memory.segments(address, 0).count(), 0);
        }
    }
}

#[test]
fn memory_of_no_bytes_has_no_address() {
    let memory = GuestMemory::allocate(0);
    assert!(memory.is_empty());
    assert_eq!(memory.regions().len(), 0);
    assert_eq!(memory.read_plain::<u8>(0), out_of_range(0, 1));
}

#[test]
fn an_access_crosses_regions_that_touch_and_stops_at_a_hole() {
    let memory = GuestMemory::from_regions(vec![
        region(0x3000, 0x1000),
        region(0x1000, 0x1000),
        region(0x2000, 0x800),
    ])
    .unwrap();
    assert_eq!(memory.len(), 0x2800);
    let places: Vec<_> = memory
        .regions()
        .map(|region| (region.address, region.len))
        .collect();
    assert_eq!(
        places,
        [(0x1000, 0x1000), (0x2000, 0x800), (0x3000, 0x1000)]
    );

    memory.write_at(0x1FFE, &[1, 2, 3, 4]).unwrap();
    assert_eq!(memory.read_plain::<[u8; 4]>(0x1FFE), Ok([1, 2, 3, 4]));
    let lens: Vec<_> = memory
        .segments(0x1FFE, 4)
        .map(|segment| segment.unwrap().len())
        .collect();
    assert_eq!(lens, [2, 2]);

    assert_eq!(
        memory.write_at(0x1FFF, &[9; 0x802]),
        out_of_range(0x1FFF, 0x802)
    );
    assert_eq!(memory.read_plain::<[u8; 4]>(0x1FFE), Ok([1, 2, 3, 4]));
    assert_eq!(memory.read_plain::<u8>(0xFFF), out_of_range(0xFFF, 1));
    assert_eq!(memory.read_plain::<u8>(0x2800), out_of_range(0x2800, 1));
    let mut segments = memory.segments(0x1FFF, 0x802);
    assert_eq!(segments.next().unwrap().unwrap().len(), 1);
    assert_eq!(segments.next().unwrap().unwrap().len(), 0x800);
    assert_eq!(
        segments.next().unwrap().unwrap_err(),
        AccessError::OutOfRange {
            address: 0x1FFF,
            len: 0x802
        }
    );
    assert!(segments.next().is_none());
}

#[test]
fn overlapping_regions_are_refused() {
    assert_eq!(
        GuestMemory::from_regions(vec![region(0x2000, 1), region(0x1000, 0x1001)]).unwrap_err(),
        InvalidGuestMemory::Overlap {
            first: 0x1000,
            second: 0x2000
        }
    );
    assert!(GuestMemory::from_regions(vec![region(5, 10), region(5, 10)]).is_err());
}

#[test]
fn empty_regions_are_left_out_and_overlap_nothing() {
    let memory =
        GuestMemory::from_regions(vec![region(10, 0), region(0, 20), region(u64::MAX, 0)]).unwrap();
    assert_eq!(memory.regions().len(), 1);
    assert_eq!(memory.read_plain::<[u8; 20]>(0), Ok([0; 20]));
}

#[test]
fn a_read_only_region_is_read_and_never_written() {
    let memory =
        GuestMemory::from_regions(vec![region(0, 4096), region(4096, 4096).read_only()]).unwrap();
    assert_eq!(memory.check_readable(4000, 200), Ok(()));
    assert_eq!(memory.check_writable(4000, 200), Err(AccessError::ReadOnly));
    assert_eq!(memory.write_at(4000, &[1; 200]), Err(AccessError::ReadOnly));
    assert_eq!(memory.fill_at(5000, 1, 1), Err(AccessError::ReadOnly));
    assert_eq!(memory.read_plain::<[u8; 200]>(4000), Ok([0; 200]));
    assert_eq!(
        memory
            .writable_segments(4000, 200)
            .filter(Result::is_err)
            .count(),
        1
    );
    assert_eq!(
        memory.regions().last().unwrap(),
        RegionInfo {
            address: 4096,
            len: 4096,
            is_writable: false
        }
    );
}

/// Foreign memory that tells when it goes.
struct Foreign {
    bytes: &'static [std::sync::atomic::AtomicU8],
    dropped: std::sync::mpsc::Sender<()>,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.dropped.send(()).unwrap();
    }
}

#[allow(unsafe_code)]
// SAFETY: the bytes are static atomics, readable and writable for ever.
unsafe impl BackingMemory for Foreign {
    fn range(&mut self) -> (std::ptr::NonNull<std::sync::atomic::AtomicU8>, usize) {
        (std::ptr::NonNull::from(&self.bytes[0]), self.bytes.len())
    }
}

#[test]
fn a_clone_keeps_foreign_memory_alive() {
    static BYTES: [std::sync::atomic::AtomicU8; 4] =
        [const { std::sync::atomic::AtomicU8::new(3) }; 4];
    let (dropped, is_dropped) = std::sync::mpsc::channel();
    let foreign = Foreign {
        bytes: &BYTES,
        dropped,
    };
    let memory = GuestMemory::from_regions(vec![GuestRegion::new(0, foreign)]).unwrap();
    let clone = memory.clone();
    drop(memory);
    assert!(is_dropped.try_recv().is_err());
    clone.write_at(1, &[4]).unwrap();
    assert_eq!(clone.read_plain::<[u8; 4]>(0), Ok([3, 4, 3, 3]));
    assert_eq!(BYTES[1].load(std::sync::atomic::Ordering::Relaxed), 4);
    drop(clone);
    is_dropped.try_recv().unwrap();
}

#[test]
fn guest_memory_crosses_threads() {
    let memory = GuestMemory::allocate(1 << 16);
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let memory = memory.clone();
            scope.spawn(move || {
                for i in 0..64 {
                    memory
                        .fill_at(i * 1024 + u64::from(thread) * 256, thread + 1, 256)
                        .unwrap();
                }
            });
        }
    });
    for address in 0..1_u64 << 16 {
        assert_eq!(
            memory.read_plain::<u8>(address),
            Ok((address % 1024 / 256) as u8 + 1)
        );
    }
}
