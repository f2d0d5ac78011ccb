//! What a delayed disk costs the heap: without a delay, what a nested disk costs.

use allocation_counter::measure;
use clock::Clock;
use disk_backend::Disk;
use disk_delay::DelayDisk;
use disklayer_ram::ram_disk;
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;
use std::time::Duration;

/// The allocations of a read, a write, a flush, an unmap and a zeroing of 4 KiB.
fn allocations(disk: &Disk) -> [u64; 5] {
    let mut data = vec![1; 4096];
    let host = HostBuffers::from_ref(&data);
    let buffers = host.buffers();
    // The first write takes memory.
    block_on(disk.write_vectored(&buffers, 8, false)).unwrap();
    let write = measure(|| block_on(disk.write_vectored(&buffers, 8, false)).unwrap());
    drop(host);
    let host = HostBuffers::from_mut(&mut data);
    let buffers = host.buffers();
    let read = measure(|| block_on(disk.read_vectored(&buffers, 8)).unwrap());
    let flush = measure(|| block_on(disk.sync_cache()).unwrap());
    let unmap = measure(|| block_on(disk.unmap(16, 8, false)).unwrap());
    let zeroes = measure(|| block_on(disk.write_zeroes(24, 8, false, true, false)).unwrap());
    [read, write, flush, unmap, zeroes].map(|measured| measured.count_total)
}

#[test]
fn without_a_delay_a_request_costs_the_one_allocation_of_a_nested_disk() {
    let ram = ram_disk(1 << 20, false).unwrap();
    let below = allocations(&ram);
    let (delayed, _control) = DelayDisk::new(ram, Duration::ZERO, Clock::real()).unwrap();
    let through = allocations(&Disk::new(delayed).unwrap());
    for (through, below) in through.into_iter().zip(below) {
        assert!(through <= below + 1, "{through} allocations, {below} below");
    }
}
