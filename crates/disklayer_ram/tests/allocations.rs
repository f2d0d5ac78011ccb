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

/// The heap allocations of a read, an overwrite and an unmap of `len` bytes that cross into a second chunk, and of a flush.
fn allocations(disk: &Disk, len: usize) -> [u64; 4] {
    let sector = 2 * MIB / 512 - 4;
    let mut data = vec![1; len];
    let write = |data: &[u8]| {
        let host = HostBuffers::from_ref(data);
        let buffers = host.buffers();
        measure(|| block_on(disk.write_vectored(&buffers, sector, true)).unwrap()).count_total
    };
    // The first write takes memory, the second only fills it; the first flush looks at every layer.
    write(&data);
    block_on(disk.sync_cache()).unwrap();
    let written = write(&data);
    let host = HostBuffers::from_mut(&mut data);
    let buffers = host.buffers();
    let read = measure(|| block_on(disk.read_vectored(&buffers, sector)).unwrap()).count_total;
    let flushed = measure(|| block_on(disk.sync_cache()).unwrap()).count_total;
    let count = (len / 512) as u64;
    let unmap = || block_on(disk.unmap(sector, count, false)).unwrap();
    [read, written, flushed, measure(unmap).count_total]
}

#[test]
fn requests_up_to_128_kib_do_not_allocate_in_flat_stacks() {
    for depth in [1, 2, 3, 8, 32] {
        let disk = stack(depth);
        for len in [512, 4096, 128 * 1024] {
            assert_eq!(
                allocations(&disk, len),
                [0; 4],
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
            let [read, written, ..] = allocations(&disk, len);
            assert_eq!(read, 0, "{len} bytes, write_through: {write_through}");
            // A change of two layers is an object of its own, with a copy of what is written.
            assert!(written == 0 || write_through, "{written}, {len} bytes");
        }
    }
}

/// A stack over a disk that is a stack over a disk, and so on; all is written to the lowest, and kept by none of the others.
fn nested(depth: usize) -> Disk {
    let mut disk = ram_disk(4 * MIB, false).unwrap();
    for _ in 1..depth {
        let layers = vec![LayerConfiguration::new(DiskLayer::from_disk(disk))];
        disk = Disk::new(block_on(LayeredDisk::new(false, layers)).unwrap()).unwrap();
    }
    disk
}

#[test]
fn reads_writes_and_flushes_through_nested_disks_do_not_allocate() {
    for depth in [2, 3] {
        for len in [512, 4096, 128 * 1024] {
            let [done_at_once @ .., unmapped] = allocations(&nested(depth), len);
            assert_eq!(done_at_once, [0; 3], "{depth} disks, {len} bytes");
            // The future of a nested disk has no place in that of the disk around it.
            assert!(unmapped < depth as u64, "{unmapped}, {depth} disks");
        }
    }
}

#[test]
fn reads_through_nested_overlays_do_not_allocate() {
    let mut disk = nested(1);
    let mut data = vec![1; 4 * MIB as usize];
    let host = HostBuffers::from_ref(&data);
    block_on(disk.write_vectored(&host.buffers(), 0, false)).unwrap();
    drop(host);
    for depth in [2, 3] {
        let overlay = DiskLayer::new(LazyRamDiskLayer::new());
        let layers = [overlay, DiskLayer::from_disk(disk)].map(LayerConfiguration::new);
        disk = Disk::new(block_on(LayeredDisk::new(false, layers.into())).unwrap()).unwrap();
        let host = HostBuffers::from_mut(&mut data[..128 * 1024]);
        let buffers = host.buffers();
        let read = || block_on(disk.read_vectored(&buffers, 2 * MIB / 512 - 4)).unwrap();
        read();
        assert_eq!(measure(read).count_total, 0, "{depth} disks");
    }
}
