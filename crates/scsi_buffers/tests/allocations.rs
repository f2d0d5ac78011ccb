//! What a request does with its memory costs no heap allocation.
#![allow(unsafe_code)]

use guestmem::GuestMemory;
use guestmem::MemoryRead;
use guestmem::MemoryWrite;
use scsi_buffers::BounceBuffer;
use scsi_buffers::HostBuffers;
use scsi_buffers::OwnedRequestBuffers;
use scsi_buffers::RequestBuffers;
use std::alloc::GlobalAlloc;
use std::alloc::Layout;
use std::alloc::System;
use std::cell::Cell;
use std::hint::black_box;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting what each thread allocates.
struct Counting;

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps the allocator's contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_of<R>(work: impl FnOnce() -> R) -> usize {
    let before = COUNT.get();
    black_box(work());
    COUNT.get() - before
}

/// Everything a disk does with the memory of a request.
fn use_buffers(buffers: &RequestBuffers<'_>) {
    let mut sector = [0; 512];
    for offset in (0..buffers.len()).step_by(512) {
        let part = buffers.subrange(offset, 512);
        part.reader().read(&mut sector).unwrap();
        part.writer().write(&sector).unwrap();
    }
    buffers.check_readable().unwrap();
    buffers.check_writable().unwrap();
    black_box(buffers.is_aligned(512));
    assert_eq!(buffers.iovecs(0).unwrap().len_bytes(), buffers.len());
    buffers
        .copy_from(&RequestBuffers::zeros(buffers.len()).unwrap())
        .unwrap();
}

#[test]
fn a_request_of_128_kib_in_scattered_pages_is_used_without_allocation() {
    let memory = GuestMemory::allocate(1 << 20);
    let every_other_page: Vec<_> = (0..33).map(|page| page * 2).collect();
    let request = OwnedRequestBuffers::new_unaligned(&every_other_page, 100, 128 << 10);
    let buffers = request.buffer(&memory);
    assert_eq!(allocations_of(|| use_buffers(&buffers)), 0);
}

#[test]
fn describing_one_range_of_memory_allocates_nothing() {
    let memory = GuestMemory::allocate(1 << 20);
    let count = allocations_of(|| {
        use_buffers(&OwnedRequestBuffers::linear(4096, 4096, true).buffer(&memory))
    });
    assert_eq!(count, 0);
    let mut bytes = [0; 4096];
    let count = allocations_of(|| use_buffers(&HostBuffers::from_mut(&mut bytes).buffers()));
    assert_eq!(count, 0);
}

#[test]
fn a_pin_of_few_ranges_allocates_nothing() {
    let memory = GuestMemory::allocate(1 << 20);
    let request = OwnedRequestBuffers::new(&[1, 3, 5, 7]);
    let buffers = request.buffer(&memory);
    assert_eq!(allocations_of(|| buffers.pin()), 0);
    let bounce = BounceBuffer::unpooled(1 << 20).unwrap();
    assert_eq!(allocations_of(|| bounce.buffers(true).pin()), 0);
    assert_eq!(
        allocations_of(|| RequestBuffers::zeros(1 << 20).unwrap().pin()),
        0
    );
    // The counter does count.
    assert_eq!(allocations_of(|| Box::new(1)), 1);
}
