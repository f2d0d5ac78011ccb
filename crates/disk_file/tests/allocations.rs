//! A request that is done at once costs no heap allocation.

mod common;

use common::places;
use futures_lite::future::block_on;
use guestmem::GuestMemory;
use scsi_buffers::OwnedRequestBuffers;

const LEN_MAX: usize = 128 << 10;

#[test]
fn a_request_that_is_done_at_once_allocates_nothing() {
    for place in places() {
        let disk = place.new_disk("disk.raw", 4 << 20, 512);
        let memory = GuestMemory::allocate(LEN_MAX + 4096);
        for len in [512, 4096, LEN_MAX] {
            let read = OwnedRequestBuffers::linear(512, len, true);
            let write = OwnedRequestBuffers::linear(512, len, false);
            // The first request finds room for its lock, and brings the data into the page cache.
            block_on(disk.write_vectored(&write.buffer(&memory), 64, false)).expect("it writes");
            block_on(disk.read_vectored(&read.buffer(&memory), 64)).expect("it reads");
            let before = common::inspected(&disk, "counters/reads_at_once");
            let reading = allocation_counter::measure(|| {
                block_on(disk.read_vectored(&read.buffer(&memory), 64)).expect("it reads");
            });
            let was_at_once = common::inspected(&disk, "counters/reads_at_once") != before;
            assert!(was_at_once || place.file_system != "tmpfs");
            if was_at_once {
                assert_eq!(
                    reading.count_total, 0,
                    "a read of {len} bytes on {}",
                    place.file_system
                );
            }
            let before = common::inspected(&disk, "counters/writes_at_once");
            let writing = allocation_counter::measure(|| {
                block_on(disk.write_vectored(&write.buffer(&memory), 64, false))
                    .expect("it writes");
            });
            let was_at_once = common::inspected(&disk, "counters/writes_at_once") != before;
            assert!(was_at_once || place.file_system != "tmpfs");
            if was_at_once {
                assert_eq!(
                    writing.count_total, 0,
                    "a write of {len} bytes on {}",
                    place.file_system
                );
            }
        }
    }
}
