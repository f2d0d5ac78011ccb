//! What a request costs the heap: nothing, in a flat stack of RAM layers of any length.

use allocation_counter::measure;
use disk_backend::Disk;
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disklayer_ram::{LazyRamDiskLayer, RamDiskLayer, ram_disk};
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;

const MIB: u64 = 1 << 20;

fn stack(depth: usize) -> Disk {
    let upper = (1..depth).map(|_| DiskLayer::new(LazyRamDiskLayer::new()));
    let bottom = DiskLayer::new(RamDiskLayer::new(4 * MIB).unwrap());
    let layers = upper.chain([bottom]).map(LayerConfiguration::new).collect();
    Disk::new(block_on(LayeredDisk::new(false, layers)).unwrap()).unwrap()
}

/// The heap allocations of a read and of an overwrite of `len` bytes that cross into a second chunk.
fn allocations(disk: &Disk, len: usize) -> [u64; 2] {
    let sector = 2 * MIB / 512 - 4;
    let mut data = vec![1; len];
    let write = |data: &[u8]| {
        let host = HostBuffers::from_ref(data);
        let buffers = host.buffers();
        measure(|| block_on(disk.write_vectored(&buffers, sector, true)).unwrap()).count_total
    };
    // The first write takes memory, the second only fills it.
    write(&data);
    let written = write(&data);
    let host = HostBuffers::from_mut(&mut data);
    let buffers = host.buffers();
    let read = measure(|| block_on(disk.read_vectored(&buffers, sector)).unwrap()).count_total;
    [read, written]
}

#[test]
fn requests_up_to_128_kib_do_not_allocate_in_flat_stacks() {
    for depth in [1, 2, 3, 8, 32] {
        let disk = stack(depth);
        for len in [512, 4096, 128 * 1024] {
            assert_eq!(
                allocations(&disk, len),
                [0, 0],
                "{depth} layers, {len} bytes"
            );
        }
    }
}

#[test]
fn reads_that_go_all_the_way_down_do_not_allocate_however_deep_the_stack() {
    for depth in [2, 3, 64, 500] {
        let disk = stack(depth);
        for len in [512, 4096, 128 * 1024] {
            let mut data = vec![0; len];
            let host = HostBuffers::from_mut(&mut data);
            let buffers = host.buffers();
            let read = || block_on(disk.read_vectored(&buffers, 100)).unwrap();
            // What the layers have there is learnt once.
            read();
            assert_eq!(measure(read).count_total, 0, "{depth} layers, {len} bytes");
        }
    }
}

/// A cache in memory on top of a disk in memory, warm where the measured requests go.
fn warm_cache(write_through: bool) -> Disk {
    let cache = LayerConfiguration {
        read_cache: true,
        write_through,
        ..LayerConfiguration::new(DiskLayer::new(LazyRamDiskLayer::new()))
    };
    let bottom = LayerConfiguration::new(DiskLayer::new(RamDiskLayer::new(4 * MIB).unwrap()));
    let disk = LayeredDisk::new(false, vec![cache, bottom]);
    let disk = Disk::new(block_on(disk).unwrap()).unwrap();
    let mut data = vec![1; 4 * MIB as usize];
    let host = HostBuffers::from_ref(&data);
    block_on(disk.write_vectored(&host.buffers(), 0, false)).unwrap();
    drop(host);
    let host = HostBuffers::from_mut(&mut data);
    block_on(disk.read_vectored(&host.buffers(), 0)).unwrap();
    disk
}

#[test]
fn reads_that_hit_a_cache_do_not_allocate() {
    for write_through in [false, true] {
        let disk = warm_cache(write_through);
        for len in [512, 4096, 128 * 1024] {
            let [read, written] = allocations(&disk, len);
            assert_eq!(read, 0, "{len} bytes, write_through: {write_through}");
            // A change of two layers is an object of its own, with a copy of what is written.
            assert!(written == 0 || write_through, "{written}, {len} bytes");
        }
    }
}

#[test]
fn a_nested_disk_costs_one_allocation_at_most() {
    let base = ram_disk(4 * MIB, false).unwrap();
    let layers = [
        DiskLayer::new(LazyRamDiskLayer::new()),
        DiskLayer::from_disk(base),
    ];
    let layers = layers.map(LayerConfiguration::new).into();
    let disk = Disk::new(block_on(LayeredDisk::new(false, layers)).unwrap()).unwrap();
    let mut data = vec![0; 128 * 1024];
    let host = HostBuffers::from_mut(&mut data);
    let buffers = host.buffers();
    let read = measure(|| block_on(disk.read_vectored(&buffers, 0)).unwrap()).count_total;
    assert!(read <= 1, "{read} allocations");
}
