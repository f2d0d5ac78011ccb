//! The disks that are measured.

use crate::copies::WORKING_SET_BYTES;
use crate::measure::scattered;
use disk_backend::Disk;
use disk_layered::{DiskLayer, LayerConfiguration, LayerIo, LayeredDisk};
use disklayer_ram::RamDiskLayer;
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;

pub(crate) const SECTOR_BYTES: usize = 512;

/// The page that a write to a RAM layer takes.
const PAGE_BYTES: usize = 4096;

fn ram() -> RamDiskLayer {
    ram_of(WORKING_SET_BYTES as u64)
}

fn ram_of(size_bytes: u64) -> RamDiskLayer {
    RamDiskLayer::new(size_bytes).expect("a size of whole sectors")
}

fn stack(layers: Vec<LayerConfiguration>) -> Disk {
    let disk = block_on(LayeredDisk::new(false, layers)).expect("a legal stack");
    Disk::new(disk).expect("valid sector sizes")
}

fn plain(layer: RamDiskLayer) -> LayerConfiguration {
    LayerConfiguration::new(DiskLayer::new(layer))
}

/// A RAM disk without content.
pub(crate) fn empty() -> Disk {
    stack(vec![plain(ram())])
}

/// One of this size.
pub(crate) fn empty_of(size_bytes: u64) -> Disk {
    stack(vec![plain(ram_of(size_bytes))])
}

/// A RAM disk of which every sector is data.
pub(crate) fn full() -> Disk {
    full_of(WORKING_SET_BYTES)
}

/// One of this size.
pub(crate) fn full_of(size_bytes: usize) -> Disk {
    stack(vec![plain(full_layer(size_bytes))])
}

fn full_layer(size_bytes: usize) -> RamDiskLayer {
    let layer = ram_of(size_bytes as u64);
    let data = vec![1; 1 << 20];
    let host = HostBuffers::from_ref(&data);
    for offset in (0..size_bytes).step_by(data.len()) {
        let sector = (offset / SECTOR_BYTES) as u64;
        block_on(layer.write(&host.buffers(), sector, false)).expect("there is memory");
    }
    layer
}

/// A full layer below `depth - 1` others. One in 16 of the pages is in them, each in one that is chosen by its place.
pub(crate) fn deep(depth: u64, size_bytes: usize) -> Disk {
    deep_with(depth, size_bytes, |upper, page| {
        page.is_multiple_of(16) && layer_of(page, depth) == upper + 1
    })
}

/// A full layer below `depth - 1` others, each of which has one in 16 of the pages, at random, but for those whose number is 1 more
/// than a multiple of 16: these are in none of them.
pub(crate) fn deep_and_scattered(depth: u64, size_bytes: usize) -> Disk {
    deep_with(depth, size_bytes, |upper, page| {
        page % 16 != 1 && scattered(upper << 32 | page, 15) == 0
    })
}

/// A full layer below others: which has which page is asked with its number from the bottom, the first being 0.
fn deep_with(depth: u64, size_bytes: usize, has: impl Fn(u64, u64) -> bool) -> Disk {
    let data = [2; PAGE_BYTES];
    let host = HostBuffers::from_ref(&data);
    let pages = (size_bytes / PAGE_BYTES) as u64;
    let upper_layers = (0..depth - 1).map(|upper| {
        let layer = ram_of(size_bytes as u64);
        for page in (0..pages).filter(|page| has(upper, *page)) {
            let sector = page * (PAGE_BYTES / SECTOR_BYTES) as u64;
            block_on(layer.write(&host.buffers(), sector, false)).expect("there is memory");
        }
        plain(layer)
    });
    let lowest = plain(full_layer(size_bytes));
    stack(upper_layers.chain([lowest]).collect())
}

/// Which layer a page of [`deep`] is in if it is covered: 0 for the lowest, which has them all.
fn layer_of(page: u64, depth: u64) -> u64 {
    (page / 16) % depth
}

/// A cache in memory over a full RAM layer.
pub(crate) fn cached() -> Disk {
    let cache = LayerConfiguration {
        read_cache: true,
        ..plain(ram())
    };
    stack(vec![cache, plain(full_layer(WORKING_SET_BYTES))])
}

/// Two full RAM layers, the upper one a copy of the lower.
pub(crate) fn mirrored() -> Disk {
    let through = LayerConfiguration {
        write_through: true,
        ..plain(full_layer(WORKING_SET_BYTES))
    };
    stack(vec![through, plain(full_layer(WORKING_SET_BYTES))])
}
