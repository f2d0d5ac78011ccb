//! Requests that need no waiting: they are done on another way, which must not differ.

mod common;

use common::{SECTOR_BYTES, SECTORS, cache, counter, disk, plain, read, through, write};
use disk_backend::Disk;
use disk_layered::{DiskLayer, LayerConfiguration};
use disklayer_ram::{RamDiskLayer, ram_disk};
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;

fn ram() -> RamDiskLayer {
    RamDiskLayer::new(SECTORS * SECTOR_BYTES as u64).unwrap()
}

/// A disk of ones.
fn ones() -> Disk {
    let disk = ram_disk(SECTORS * SECTOR_BYTES as u64, false).unwrap();
    block_on(write(&disk, 0, &[1; SECTORS as usize])).unwrap();
    disk
}

fn lower(disk: &Disk) -> LayerConfiguration {
    LayerConfiguration::new(DiskLayer::from_disk(disk.clone()))
}

/// Whether sectors can be read without waiting, and what is there.
fn try_read(disk: &Disk, sector: u64, count: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0xee; count * SECTOR_BYTES];
    let host = HostBuffers::from_mut(&mut bytes);
    let is_done = disk.try_read(&host.buffers(), sector);
    drop(host);
    let first_bytes = bytes.chunks(SECTOR_BYTES).map(|sector| sector[0]);
    is_done.then(|| first_bytes.collect())
}

fn try_write(disk: &Disk, sector: u64, bytes: &[u8], fua: bool) -> bool {
    let bytes: Vec<u8> = bytes
        .iter()
        .flat_map(|byte| [*byte; SECTOR_BYTES])
        .collect();
    let host = HostBuffers::from_ref(&bytes);
    disk.try_write(&host.buffers(), sector, fua)
}

#[test]
fn what_one_layer_has_is_read_at_once_wherever_it_lies() {
    let base = ones();
    let disk = disk(vec![plain(ram()), plain(ram()), lower(&base)]);
    assert!(try_write(&disk, 4, &[5, 6], true));
    // The first read learns what the layers have.
    assert_eq!(block_on(read(&disk, 0, 1)).unwrap(), [1]);
    assert_eq!(try_read(&disk, 4, 2), Some(vec![5, 6]));
    assert_eq!(try_read(&disk, 6, 3), Some(vec![1; 3]));
    assert_eq!(try_read(&disk, 5, 2), None, "two layers have a part");
    assert_eq!(block_on(read(&disk, 5, 2)).unwrap(), [6, 1]);
    assert!(try_write(&base, 6, &[9], false));
    assert_eq!(block_on(read(&disk, 6, 1)).unwrap(), [9]);
}

#[test]
fn what_no_layer_has_is_zero_at_once() {
    let disk = disk(vec![plain(ram()), plain(ram())]);
    assert_eq!(block_on(read(&disk, 0, 1)).unwrap(), [0]);
    assert_eq!(try_read(&disk, 2, 3), Some(vec![0; 3]));
    assert_eq!(counter(&disk, 0, "bytes_missed"), 4 * 512);
}

#[test]
fn each_layer_counts_what_it_was_asked() {
    let disk = disk(vec![plain(ram()), lower(&ones())]);
    assert!(try_write(&disk, 0, &[7; 2], false));
    for sector in 0..4 {
        block_on(read(&disk, sector, 1)).unwrap();
    }
    assert_eq!(counter(&disk, 0, "bytes_written"), 2 * 512);
    assert_eq!(counter(&disk, 0, "bytes_hit"), 2 * 512);
    assert_eq!(counter(&disk, 0, "bytes_missed"), 2 * 512);
    assert_eq!(counter(&disk, 1, "bytes_hit"), 2 * 512);
}

#[test]
fn a_cache_that_has_nothing_is_filled() {
    let base = ones();
    let disk = disk(vec![cache(ram()), lower(&base)]);
    assert_eq!(try_read(&disk, 2, 3), Some(vec![1; 3]));
    assert_eq!(counter(&disk, 0, "bytes_filled"), 3 * 512);
    block_on(write(&base, 0, &[9; 8])).unwrap();
    assert_eq!(try_read(&disk, 2, 3), Some(vec![1; 3]), "it is kept");
    assert_eq!(counter(&disk, 0, "bytes_hit"), 3 * 512);
    assert_eq!(counter(&disk, 0, "bytes_missed"), 3 * 512);
    assert_eq!(counter(&disk, 1, "bytes_hit"), 3 * 512);
}

#[test]
fn a_fill_at_once_brings_nothing_back() {
    let disk = disk(vec![cache(ram()), lower(&ones())]);
    assert!(try_write(&disk, 2, &[7], false));
    block_on(disk.unmap(4, 1, false)).unwrap();
    for (sector, expected) in [(1, 1), (2, 7), (3, 1), (4, 0)] {
        assert_eq!(try_read(&disk, sector, 1), Some(vec![expected]));
    }
    assert_eq!(counter(&disk, 0, "bytes_filled"), 2 * 512);
    assert_eq!(try_read(&disk, 4, 2), None, "half of it is there");
}

#[test]
fn two_caches_above_each_other_are_filled_on_the_other_way() {
    let disk = disk(vec![cache(ram()), cache(ram()), lower(&ones())]);
    assert_eq!(try_read(&disk, 0, 2), None);
    assert_eq!(block_on(read(&disk, 0, 2)).unwrap(), [1; 2]);
    for layer in [0, 1] {
        assert_eq!(counter(&disk, layer, "bytes_filled"), 2 * 512);
    }
}

#[test]
fn a_write_through_takes_the_way_on_which_changes_are_ordered() {
    let base = ones();
    let disk = disk(vec![through(ram()), lower(&base)]);
    assert!(!try_write(&disk, 0, &[2], false));
    assert_eq!(try_read(&disk, 0, 1), None);
    block_on(write(&disk, 0, &[2])).unwrap();
    assert_eq!(block_on(read(&base, 0, 1)).unwrap(), [2]);
}

#[test]
fn a_lower_disk_that_was_shorter_shows_no_more_than_it_did() {
    let base = ones();
    let disk = disk(vec![plain(ram()), lower(&base)]);
    block_on(base.resize(4)).unwrap();
    assert_eq!(block_on(read(&disk, 6, 1)).unwrap(), [0]);
    block_on(base.resize(SECTORS)).unwrap();
    block_on(write(&base, 4, &[3; 8])).unwrap();
    // What somebody else wrote there was never a part of this disk (L5).
    for sector in 3..8 {
        let expected = u8::from(sector == 3);
        assert_eq!(block_on(read(&disk, sector, 1)).unwrap(), [expected]);
        assert_ne!(try_read(&disk, sector, 1), Some(vec![3]));
    }
}

#[test]
fn what_is_wrong_with_a_request_is_said_on_the_other_way() {
    let disk = disk(vec![plain(ram())]);
    for sector in [SECTORS, SECTORS - 1, u64::MAX] {
        assert_eq!(try_read(&disk, sector, 2), None);
        assert!(!try_write(&disk, sector, &[1, 1], false));
    }
    assert_eq!(try_read(&disk, 0, 0), None);
    let mut odd = [0; SECTOR_BYTES + 1];
    let host = HostBuffers::from_mut(&mut odd);
    assert!(!disk.try_read(&host.buffers(), 0));
    assert!(!disk.try_write(&host.buffers(), 0, false));
    let read_only = ram_disk(4096, true).unwrap();
    assert!(!try_write(&read_only, 0, &[1], false));
}
