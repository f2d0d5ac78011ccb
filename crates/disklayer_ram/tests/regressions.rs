//! Mistakes that stores in memory have made before, each as a test. `docs/testing.md` lists them.

use disk_backend::{Disk, DiskError};
use disk_layered::LayerIo;
use disklayer_ram::{RamDiskLayer, ram_disk};
use futures_lite::future::block_on;
use guestmem::GuestMemory;
use scsi_buffers::{GuestRange, HostBuffers, OwnedRequestBuffers};

const SECTOR_BYTES: usize = 512;

fn write(disk: &Disk, sector: u64, byte: u8) {
    let bytes = [byte; SECTOR_BYTES];
    let host = HostBuffers::from_ref(&bytes);
    block_on(disk.write_vectored(&host.buffers(), sector, false)).unwrap();
}

fn read(disk: &Disk, sector: u64) -> [u8; SECTOR_BYTES] {
    let mut bytes = [0xee; SECTOR_BYTES];
    let host = HostBuffers::from_mut(&mut bytes);
    block_on(disk.read_vectored(&host.buffers(), sector)).unwrap();
    drop(host);
    bytes
}

/// What was cut off, or unmapped up to the end, is zero; what is written there afterwards is not.
#[test]
fn what_is_written_beyond_a_former_end_is_read_back() {
    let changes: [fn(&Disk); 3] = [
        |disk| block_on(disk.resize(32)).unwrap(),
        |disk| {
            block_on(disk.resize(4)).unwrap();
            block_on(disk.resize(32)).unwrap();
        },
        |disk| {
            block_on(disk.unmap(4, 12, false)).unwrap();
            block_on(disk.resize(32)).unwrap();
        },
    ];
    for change in changes {
        let disk = ram_disk(16 * SECTOR_BYTES as u64, false).unwrap();
        for sector in 0..16 {
            write(&disk, sector, 1);
        }
        change(&disk);
        for sector in [4, 5, 15, 16, 17, 31] {
            write(&disk, sector, 7);
            assert_eq!(read(&disk, sector), [7; SECTOR_BYTES], "sector {sector}");
        }
        assert_eq!(read(&disk, 20), [0; SECTOR_BYTES]);
    }
}

/// Asked by a stack that has not looked at the memory, too.
#[test]
fn a_write_whose_memory_ends_half_way_tears_no_sector_and_blocks_nobody() {
    let layer = RamDiskLayer::new(16 * SECTOR_BYTES as u64).unwrap();
    let ones = [1; 4 * SECTOR_BYTES];
    block_on(layer.write(&HostBuffers::from_ref(&ones).buffers(), 0, false)).unwrap();
    let memory = GuestMemory::allocate(4096);
    memory.fill_at(0, 2, 4096).unwrap();
    // A sector and a half, and then as much that is nowhere.
    let ranges = [
        GuestRange {
            address: 0,
            len: 768,
        },
        GuestRange {
            address: memory.len() + 4096,
            len: 768,
        },
    ];
    let broken = OwnedRequestBuffers::from_ranges(ranges, false);
    let result = block_on(layer.write(&broken.buffer(&memory), 0, false));
    assert!(matches!(result, Err(DiskError::MemoryAccess(_))));
    block_on(layer.write(&HostBuffers::from_ref(&ones[..512]).buffers(), 3, false)).unwrap();

    let mut found = [0xee; 4 * SECTOR_BYTES];
    let host = HostBuffers::from_mut(&mut found);
    let mut present = disk_layered::SectorBitmap::new(4);
    let marker = disk_layered::SectorMarker::new(&mut present, 0, 0..4);
    block_on(layer.read(&host.buffers(), 0, marker)).unwrap();
    drop(host);
    assert!(present.is_full());
    for sector in found.chunks_exact(SECTOR_BYTES) {
        assert!(
            sector == [1; SECTOR_BYTES] || sector == [2; SECTOR_BYTES],
            "torn"
        );
    }
}
