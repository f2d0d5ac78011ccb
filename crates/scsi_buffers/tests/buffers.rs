//! What the memory of a request is and is not, case by case.

use guestmem::AccessError;
use guestmem::GuestMemory;
use guestmem::GuestRegion;
use guestmem::MemoryRead;
use guestmem::MemoryWrite;
use guestmem::Pages;
use scsi_buffers::BounceBuffer;
use scsi_buffers::GuestRange;
use scsi_buffers::HostBuffers;
use scsi_buffers::IOVEC_COUNT_MAX;
use scsi_buffers::OwnedRequestBuffers;
use scsi_buffers::PinnedBuffers;
use scsi_buffers::RequestBuffers;

fn out_of_range<T>(address: u64, len: u64) -> Result<T, AccessError> {
    Err(AccessError::OutOfRange { address, len })
}

/// All bytes of a request.
fn bytes_of(buffers: &RequestBuffers<'_>) -> Vec<u8> {
    let mut bytes = vec![0; buffers.len()];
    buffers.reader().read(&mut bytes).unwrap();
    bytes
}

/// What `call` says when it panics.
fn panic_of(call: impl FnOnce()) -> String {
    let payload =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).expect_err("a panic");
    payload.downcast_ref::<String>().expect("a message").clone()
}

fn segment_lens(buffers: &RequestBuffers<'_>) -> Vec<usize> {
    buffers
        .segments()
        .map(|segment| segment.unwrap().len())
        .collect()
}

#[test]
fn descriptions_cross_threads_and_lifetimes_shrink() {
    fn assert_shared<T: Send + Sync + Clone>() {}
    fn assert_static<T: 'static>() {}
    assert_shared::<RequestBuffers<'_>>();
    assert_shared::<PinnedBuffers>();
    assert_static::<PinnedBuffers>();
    fn shrink<'short>(long: RequestBuffers<'static>, _: &'short u8) -> RequestBuffers<'short> {
        long
    }
    assert!(shrink(RequestBuffers::empty(), &0).is_empty());
}

#[test]
fn mutable_host_memory_is_written_and_read() {
    let mut memory = [0; 8];
    let host = HostBuffers::from_mut(&mut memory);
    let buffers = host.buffers();
    assert!(buffers.is_writable());
    assert_eq!(buffers.check_writable(), Ok(()));
    buffers.subrange(2, 3).writer().write(&[1, 2, 3]).unwrap();
    assert_eq!(bytes_of(&buffers), [0, 0, 1, 2, 3, 0, 0, 0]);
    drop(host);
    assert_eq!(memory, [0, 0, 1, 2, 3, 0, 0, 0]);
}

#[test]
fn memory_lent_for_reading_refuses_every_write() {
    let memory = [7; 8];
    let host = HostBuffers::from_ref(&memory);
    let buffers = host.buffers();
    assert!(!buffers.is_writable());
    assert_eq!(buffers.check_readable(), Ok(()));
    assert_eq!(buffers.check_writable(), Err(AccessError::ReadOnly));
    let mut writer = buffers.writer();
    assert_eq!(writer.write(&[1]), Err(AccessError::ReadOnly));
    assert_eq!(writer.write(&[]), Err(AccessError::ReadOnly));
    assert_eq!(writer.zero(1), Err(AccessError::ReadOnly));
    assert_eq!(writer.len(), 8);
    assert_eq!(buffers.copy_from(&buffers), Err(AccessError::ReadOnly));
    assert_eq!(bytes_of(&buffers), memory);
}

#[test]
fn empty_segments_leave_no_trace() {
    let slices: [&[u8]; 6] = [&[], &[1, 2], &[], &[], &[3], &[]];
    let host = HostBuffers::from_slices(slices);
    let buffers = host.buffers();
    assert_eq!(buffers.len(), 3);
    assert_eq!(segment_lens(&buffers), [2, 1]);
    assert_eq!(bytes_of(&buffers), [1, 2, 3]);
    for offset in 0..=3 {
        assert_eq!(buffers.subrange(offset, 0).segments().count(), 0);
        assert!(buffers.subrange(offset, 0).iovecs(0).unwrap().is_empty());
    }
    assert_eq!(HostBuffers::from_slices([]).buffers().len(), 0);
    assert_eq!(
        HostBuffers::from_slices([&[][..], &[]])
            .buffers()
            .segments()
            .count(),
        0
    );
}

#[test]
fn a_subrange_of_a_subrange_trims_both_ends() {
    let mut parts = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]];
    let host = HostBuffers::from_mut_slices(parts.iter_mut().map(|part| &mut part[..]));
    let inner = host.buffers().subrange(1, 10).subrange(1, 7);
    assert_eq!(segment_lens(&inner), [2, 4, 1]);
    assert_eq!(bytes_of(&inner), [2, 3, 4, 5, 6, 7, 8]);
    inner.writer().fill(0xFF, 7).unwrap();
    drop(host);
    assert_eq!(
        parts.as_flattened(),
        [0, 1, 255, 255, 255, 255, 255, 255, 255, 9, 10, 11]
    );
}

#[test]
fn a_subrange_outside_panics() {
    let buffers = RequestBuffers::zeros(10).unwrap();
    for (offset, len) in [(0, 11), (11, 0), (10, 1), (usize::MAX, 1), (1, usize::MAX)] {
        let result = panic_of(|| _ = buffers.subrange(offset, len));
        assert!(result.contains("is not inside 10 bytes"), "{result}");
    }
}

#[test]
fn a_call_beyond_the_end_moves_nothing_and_stays() {
    let mut memory = [1, 2, 3, 4];
    let host = HostBuffers::from_mut(&mut memory);
    let mut reader = host.buffers().reader();
    let mut data = [9; 5];
    assert_eq!(reader.read(&mut data), out_of_range(0, 5));
    assert_eq!(data, [9; 5]);
    assert_eq!(reader.skip(5), out_of_range(0, 5));
    assert_eq!(reader.len(), 4);
    reader.skip(3).unwrap();
    assert_eq!(reader.read_plain::<u8>(), Ok(4));
    assert!(reader.is_empty());
    assert_eq!(reader.read(&mut []), Ok(()));

    let mut writer = host.buffers().writer();
    assert_eq!(writer.write(&[8; 5]), out_of_range(0, 5));
    assert_eq!(writer.fill(8, 5), out_of_range(0, 5));
    assert_eq!(writer.skip(5), out_of_range(0, 5));
    writer.skip(3).unwrap();
    writer.write_plain(&8_u8).unwrap();
    assert_eq!(writer.len(), 0);
    drop(host);
    assert_eq!(memory, [1, 2, 3, 8]);
}

#[test]
fn a_linear_request_needs_no_page_alignment() {
    let memory = GuestMemory::allocate(8192);
    let request = OwnedRequestBuffers::linear(100, 4096, true);
    assert_eq!(request.len(), 4096);
    let buffers = request.buffer(&memory);
    assert_eq!(buffers.check_writable(), Ok(()));
    buffers.writer().fill(3, 4096).unwrap();
    assert_eq!(memory.read_plain::<[u8; 2]>(99), Ok([0, 3]));
    assert_eq!(memory.read_plain::<[u8; 2]>(4195), Ok([3, 0]));
    assert_eq!(segment_lens(&buffers), [4096]);
}

#[test]
fn the_direction_of_a_guest_request_is_kept() {
    let memory = GuestMemory::allocate(4096);
    let request = OwnedRequestBuffers::linear(0, 512, false);
    assert_eq!(
        request.buffer(&memory).check_writable(),
        Err(AccessError::ReadOnly)
    );
    assert_eq!(request.buffer(&memory).check_readable(), Ok(()));
    assert!(OwnedRequestBuffers::new(&[0]).buffer(&memory).is_writable());
    let pin = request.buffer(&memory).pin().unwrap();
    assert_eq!(
        pin.buffers().writer().write(&[1]),
        Err(AccessError::ReadOnly)
    );
}

#[test]
fn ranges_that_are_no_memory_are_errors_and_never_panics() {
    let memory = GuestMemory::allocate(8192);
    for (address, len) in [
        (8192, 1),
        (8191, 2),
        (u64::MAX, 1),
        (u64::MAX, usize::MAX),
        (u64::MAX - 1, 3),
        (0, usize::MAX),
        (1 << 63, 512),
    ] {
        let request = OwnedRequestBuffers::linear(address, len, true);
        let buffers = request.buffer(&memory);
        assert_eq!(buffers.len(), len);
        assert_eq!(buffers.check_readable(), out_of_range(address, len as u64));
        assert_eq!(buffers.check_writable(), out_of_range(address, len as u64));
        let tail = buffers.subrange(len - 1, 1);
        assert!(tail.check_readable().is_err());
        assert!(tail.reader().read(&mut [0]).is_err());
        assert!(tail.writer().write(&[0]).is_err());
        assert!(!tail.is_aligned(1));
        assert!(tail.iovecs(0).is_err());
        assert_eq!(tail.segments().filter(Result::is_err).count(), 1);
        assert!(tail.pin().unwrap().buffers().check_readable().is_err());
    }
}

#[test]
fn a_call_that_meets_a_bad_range_moves_nothing() {
    let memory = GuestMemory::allocate(4096);
    memory.fill_at(0, 1, 4096).unwrap();
    let ranges =
        [(0, 100), (4090, 10), (100, 100)].map(|(address, len)| GuestRange { address, len });
    let request = OwnedRequestBuffers::from_ranges(ranges, true);
    let buffers = request.buffer(&memory);
    let mut data = [9; 150];
    assert_eq!(buffers.reader().read(&mut data), out_of_range(4090, 10));
    assert_eq!(data, [9; 150]);
    let mut writer = buffers.writer();
    assert_eq!(writer.write(&[2; 107]), out_of_range(4090, 10));
    assert_eq!(writer.fill(2, 210), out_of_range(4090, 10));
    assert_eq!(writer.len(), 210);
    assert_eq!(bytes_of(&buffers.subrange(0, 100)), [1; 100]);
    let source = BounceBuffer::unpooled(210).unwrap();
    assert_eq!(
        buffers.copy_from(&source.buffers(false)),
        out_of_range(4090, 10)
    );
    assert_eq!(memory.read_plain::<[u8; 200]>(0), Ok([1; 200]));
    // What does not touch the bad range is not held up by it.
    assert_eq!(buffers.subrange(110, 100).check_writable(), Ok(()));
}

#[test]
fn a_rom_is_read_and_not_written() {
    let rom = GuestRegion::new(4096, Pages::new(4096).unwrap()).read_only();
    let ram = GuestRegion::new(0, Pages::new(4096).unwrap());
    let memory = GuestMemory::from_regions(vec![ram, rom]).unwrap();
    let request = OwnedRequestBuffers::linear(4000, 200, true);
    let buffers = request.buffer(&memory);
    assert_eq!(buffers.check_readable(), Ok(()));
    assert_eq!(buffers.check_writable(), Err(AccessError::ReadOnly));
    assert_eq!(
        buffers.writer().write(&[1; 200]),
        Err(AccessError::ReadOnly)
    );
    assert_eq!(bytes_of(&buffers), [0; 200]);
    assert_eq!(segment_lens(&buffers), [96, 104]);
}

#[test]
fn pages_by_number_are_laid_end_to_end() {
    let memory = GuestMemory::allocate(8 * 4096);
    for page in 0..8 {
        memory.fill_at(page * 4096, page as u8, 4096).unwrap();
    }
    let request = OwnedRequestBuffers::new(&[5, 2, 3, 7]);
    assert_eq!(request.len(), 4 * 4096);
    let bytes = bytes_of(&request.buffer(&memory));
    for (chunk, page) in bytes.chunks(4096).zip([5, 2, 3, 7]) {
        assert!(chunk.iter().all(|&byte| byte == page));
    }
    // Pages 2 and 3 follow each other in the guest too.
    assert_eq!(segment_lens(&request.buffer(&memory)), [4096, 8192, 4096]);
    assert!(request.buffer(&memory).is_aligned(4096));
    assert_eq!(OwnedRequestBuffers::new(&[]).len(), 0);
}

#[test]
fn unaligned_pages_begin_inside_the_first_and_end_inside_the_last() {
    let memory = GuestMemory::allocate(8 * 4096);
    let request = OwnedRequestBuffers::new_unaligned(&[5, 2, 7], 4000, 4300);
    let buffers = request.buffer(&memory);
    assert_eq!(buffers.len(), 4300);
    assert_eq!(segment_lens(&buffers), [96, 4096, 108]);
    buffers.writer().fill(1, 4300).unwrap();
    let edges = [
        (5 * 4096 + 3999, [0, 1]),
        (2 * 4096 - 1, [0, 1]),
        (3 * 4096 - 1, [1, 0]),
        (7 * 4096 + 107, [1, 0]),
    ];
    for (address, expected) in edges {
        assert_eq!(
            memory.read_plain::<[u8; 2]>(address),
            Ok(expected),
            "at {address}"
        );
    }
    // An offset beyond the first page begins in a later one.
    let later = OwnedRequestBuffers::new_unaligned(&[5, 2, 7], 4096 + 10, 20);
    assert_eq!(segment_lens(&later.buffer(&memory)), [20]);
    later.buffer(&memory).writer().fill(9, 20).unwrap();
    assert_eq!(memory.read_plain::<[u8; 2]>(2 * 4096 + 9), Ok([1, 9]));
}

#[test]
fn bytes_that_the_pages_do_not_cover_are_out_of_range() {
    let memory = GuestMemory::allocate(8 * 4096);
    for (gpns, offset, len) in [
        (&[1_u64][..], 4000, 97),
        (&[1], 8192, 1),
        (&[], 0, 1),
        (&[1, 1 << 52], 0, 4097),
        (&[u64::MAX], 1, 5),
    ] {
        let request = OwnedRequestBuffers::new_unaligned(gpns, offset, len);
        let buffers = request.buffer(&memory);
        assert_eq!(buffers.len(), len);
        assert!(buffers.check_readable().is_err(), "{gpns:?} at {offset}");
        assert!(buffers.subrange(len - 1, 1).check_readable().is_err());
    }
    assert!(OwnedRequestBuffers::new_unaligned(&[], usize::MAX, 0).is_empty());
}

#[test]
fn a_total_beyond_every_memory_is_cut_and_out_of_range() {
    let huge = GuestRange {
        address: 0,
        len: usize::MAX,
    };
    let request =
        OwnedRequestBuffers::from_ranges([huge, huge, GuestRange { address: 0, len: 1 }], true);
    let memory = GuestMemory::allocate(4096);
    assert_eq!(request.len(), usize::MAX);
    assert!(request.buffer(&memory).check_readable().is_err());
    assert_eq!(
        request.buffer(&memory).subrange(0, 4096).check_readable(),
        Ok(())
    );
    assert!(
        request
            .buffer(&memory)
            .pin()
            .unwrap()
            .buffers()
            .check_writable()
            .is_err()
    );
}

#[test]
fn alignment_is_that_of_every_address_and_length() {
    let buffer = BounceBuffer::unpooled(8192).unwrap();
    let buffers = buffer.buffers(true);
    assert!(buffers.is_aligned(4096));
    assert!(buffers.subrange(512, 1024).is_aligned(512));
    assert!(!buffers.subrange(512, 1024).is_aligned(1024));
    assert!(!buffers.subrange(512, 1000).is_aligned(512));
    assert!(buffers.subrange(512, 1000).is_aligned(8));
    assert!(buffers.subrange(1, 0).is_aligned(4096));

    let memory = GuestMemory::allocate(8192);
    let ranges = [(0, 512), (513, 512)].map(|(address, len)| GuestRange { address, len });
    let request = OwnedRequestBuffers::from_ranges(ranges, true);
    assert!(!request.buffer(&memory).is_aligned(512));
    assert!(request.buffer(&memory).subrange(0, 512).is_aligned(512));
}

#[test]
fn borrowed_memory_cannot_be_pinned() {
    let mut memory = [0; 8];
    assert!(HostBuffers::from_ref(&memory).buffers().pin().is_none());
    let host = HostBuffers::from_mut(&mut memory);
    assert!(host.buffers().subrange(3, 2).pin().is_none());
    // Nothing can be taken back where there is nothing.
    let pin = host.buffers().subrange(3, 0).pin().unwrap();
    assert_eq!(
        (pin.buffers().len(), pin.buffers().check_writable()),
        (0, Ok(()))
    );
}

#[test]
fn a_pin_keeps_guest_memory_when_all_else_is_gone() {
    let memory = GuestMemory::allocate(65536);
    let ranges = [(0, 10), (100, 10), (300, 0), (200, 10), (60000, 10)]
        .map(|(address, len)| GuestRange { address, len });
    let request = OwnedRequestBuffers::from_ranges(ranges, true);
    memory.fill_at(100, 1, 10).unwrap();
    memory.fill_at(200, 2, 10).unwrap();
    let pin = request.buffer(&memory).subrange(15, 10).pin().unwrap();
    let whole = request.buffer(&memory).pin().unwrap();
    drop((memory, request));
    assert_eq!(bytes_of(&pin.buffers()), [1, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
    assert_eq!(segment_lens(&pin.buffers()), [5, 5]);
    pin.buffers().writer().fill(7, 10).unwrap();
    assert_eq!(
        bytes_of(&whole.buffers().subrange(14, 12)),
        [1, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 2]
    );
    assert_eq!(
        bytes_of(&pin.clone().buffers().pin().unwrap().buffers()),
        [7; 10]
    );
}

#[test]
fn zeros_read_zero_up_to_their_bound_and_can_be_pinned() {
    let max = RequestBuffers::zeros_max_len();
    assert!(max >= 1 << 20);
    assert!(RequestBuffers::zeros(max + 1).is_none());
    for len in [0, 1, 65535, 65536, 65537, max] {
        let zeros = RequestBuffers::zeros(len).unwrap();
        assert!(bytes_of(&zeros).iter().all(|&byte| byte == 0));
        assert_eq!(zeros.check_writable(), Err(AccessError::ReadOnly));
        assert_eq!(bytes_of(&zeros.pin().unwrap().buffers()).len(), len);
    }
    assert!(RequestBuffers::zeros(8192).unwrap().is_aligned(4096));
}

#[test]
fn a_batch_for_the_kernel_stops_at_its_limits() {
    let bytes = vec![1; 3000];
    let host = HostBuffers::from_slices(bytes.chunks(1));
    let buffers = host.buffers();
    let (mut offset, mut batches) = (0, Vec::new());
    while offset < buffers.len() {
        let batch = buffers.iovecs(offset).unwrap();
        assert!(batch.len() <= IOVEC_COUNT_MAX);
        assert_eq!(
            batch.iter().map(|segment| segment.len()).sum::<usize>(),
            batch.len_bytes()
        );
        offset += batch.len_bytes();
        batches.push(batch.as_slice().len());
    }
    assert_eq!(batches, [1024, 1024, 952]);
    assert!(buffers.iovecs(3000).unwrap().is_empty());
    let panic = panic_of(|| drop(buffers.iovecs(3001)));
    assert!(panic.contains("is not inside"), "{panic}");
}

#[test]
fn a_batch_for_the_kernel_trims_both_ends() {
    let slices: [&[u8]; 3] = [&[1; 10], &[], &[2; 10]];
    let host = HostBuffers::from_slices(slices);
    let batch = host.buffers().subrange(4, 12).iovecs(2).unwrap();
    let lens: Vec<_> = batch.iter().map(|segment| segment.len()).collect();
    assert_eq!((lens, batch.len_bytes()), (vec![4, 6], 10));
}

#[test]
fn a_batch_for_the_kernel_stops_at_the_most_bytes_it_transfers() {
    // One sparse page of memory, seen through ranges that together are longer than one call transfers.
    let memory = GuestMemory::allocate(1 << 30);
    let range = GuestRange {
        address: 0,
        len: 1 << 30,
    };
    let request = OwnedRequestBuffers::from_ranges([range; 3], false);
    let first = request.buffer(&memory).iovecs(0).unwrap();
    assert_eq!(first.len_bytes(), scsi_buffers::IOVEC_BYTES_MAX);
    assert_eq!(first.len(), 2);
    let second = request.buffer(&memory).iovecs(first.len_bytes()).unwrap();
    assert_eq!(second.len_bytes(), (3 << 30) - first.len_bytes());
}

#[test]
fn a_copy_between_requests_meets_at_any_segments() {
    let from: Vec<u8> = (0..100).collect();
    let slices: [&[u8]; 4] = [&from[..33], &from[33..33], &from[33..40], &from[40..]];
    let from_host = HostBuffers::from_slices(slices);
    let mut to = [0; 100];
    let to_host = HostBuffers::from_mut_slices(to.chunks_mut(7));
    to_host.buffers().copy_from(&from_host.buffers()).unwrap();
    drop(to_host);
    assert_eq!(to[..], from[..]);
}

#[test]
fn a_copy_between_different_lengths_panics() {
    let buffer = BounceBuffer::unpooled(2).unwrap();
    let zeros = RequestBuffers::zeros(3).unwrap();
    let panic = panic_of(|| _ = buffer.buffers(true).copy_from(&zeros));
    assert!(panic.contains("a copy has one length"), "{panic}");
}

#[test]
fn many_threads_write_their_parts_of_one_request() {
    let memory = GuestMemory::allocate(1 << 16);
    let request = OwnedRequestBuffers::new(&(0..16).rev().collect::<Vec<_>>());
    let buffers = request.buffer(&memory);
    std::thread::scope(|scope| {
        for part in 0..16 {
            let part_buffers = buffers.subrange(part * 4096, 4096);
            scope.spawn(move || part_buffers.writer().fill(part as u8, 4096).unwrap());
        }
    });
    for page in 0..16 {
        assert_eq!(
            memory.read_plain::<u8>(page * 4096 + 77),
            Ok(15 - page as u8)
        );
    }
}

#[test]
fn what_is_one_segment_is_had_as_one_and_checked() {
    let memory = GuestMemory::allocate(8192);
    let one = OwnedRequestBuffers::linear(512, 4096, true);
    let buffers = one.buffer(&memory);
    for is_to_be_written in [false, true] {
        let segment = buffers.one_segment(is_to_be_written).expect("memory");
        let segments: Vec<_> = buffers
            .segments()
            .map(|segment| segment.expect("memory"))
            .collect();
        assert_eq!(segments.len(), 1);
        let segment = segment.expect("it is one");
        assert_eq!(segment.as_ptr(), segments[0].as_ptr());
        assert_eq!(segment.len(), 4096);
        let part = buffers.subrange(100, 7).one_segment(is_to_be_written);
        let part = part.expect("memory").expect("it is one");
        assert_eq!(part.as_ptr().addr(), segment.as_ptr().addr() + 100);
        assert_eq!(part.len(), 7);
        let none = buffers.subrange(7, 0).one_segment(is_to_be_written);
        assert!(none.expect("nothing is wrong with nothing").is_none());
    }
    let ranges = [(0, 512), (4096, 512)].map(|(address, len)| GuestRange { address, len });
    let two = OwnedRequestBuffers::from_ranges(ranges, true);
    assert!(
        two.buffer(&memory)
            .one_segment(true)
            .expect("memory")
            .is_none()
    );
    let read_only = OwnedRequestBuffers::linear(0, 512, false);
    assert!(matches!(
        read_only.buffer(&memory).one_segment(true),
        Err(AccessError::ReadOnly)
    ));
    assert!(
        read_only
            .buffer(&memory)
            .one_segment(false)
            .expect("memory")
            .is_some()
    );
    let nowhere = OwnedRequestBuffers::linear(8192, 512, true);
    for is_to_be_written in [false, true] {
        let segment = nowhere.buffer(&memory).one_segment(is_to_be_written);
        assert!(matches!(
            segment,
            Err(AccessError::OutOfRange { address: 8192, .. })
        ));
    }
}
