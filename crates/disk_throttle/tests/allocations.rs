//! What a throttled disk costs the heap, where nothing waits: what a nested disk costs.

use allocation_counter::measure;
use clock::Clock;
use disk_backend::Disk;
use disk_throttle::{Limits, ThrottleDisk, ThrottleGroup};
use disklayer_ram::ram_disk;
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;

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

fn expect_one_more(limits: Limits) {
    let ram = ram_disk(1 << 20, false).unwrap();
    let below = allocations(&ram);
    let group = ThrottleGroup::new(limits, Clock::real()).unwrap();
    let through = allocations(&Disk::new(ThrottleDisk::new(ram, &group)).unwrap());
    for (through, below) in through.into_iter().zip(below) {
        assert!(through <= below + 1, "{through} allocations, {below} below");
    }
}

#[test]
fn without_limits_a_request_costs_the_one_allocation_of_a_nested_disk() {
    expect_one_more(Limits::default());
}

#[test]
fn a_request_that_need_not_wait_costs_no_more() {
    let mut limits = Limits::default();
    limits.bytes_per_second = Some(1 << 30);
    limits.operations_per_second = Some(1_000_000);
    expect_one_more(limits);
}
