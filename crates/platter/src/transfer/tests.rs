//! The engine over disks in memory.

mod comparing;
mod copying;
mod listing;
mod probe;
mod random;

use super::{Comparison, Copied, Copy, Differences, Effort, Fault, Side, Tail, View, Watch};
use disk_backend::Disk;
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disklayer_ram::RamDiskLayer;
use futures_lite::future::block_on;
use probe::{Probe, Traits};
use scsi_buffers::HostBuffers;
use std::cell::Cell;

const KIB: u64 = 1024;

/// Small chunks, so that small disks have many.
const EFFORT: Effort = Effort {
    depth: 3,
    chunk_bytes: 16 * KIB,
};

/// Counts, and stops at a given number of bytes.
struct Counter {
    done_bytes: Cell<u64>,
    stop_bytes: u64,
}

impl Counter {
    fn new(stop_bytes: u64) -> Self {
        Self {
            done_bytes: Cell::new(0),
            stop_bytes,
        }
    }
}

impl Watch for Counter {
    fn is_stopped(&self) -> bool {
        self.done_bytes.get() >= self.stop_bytes
    }

    fn advance(&self, bytes: u64) {
        self.done_bytes.set(self.done_bytes.get() + bytes);
    }
}

/// A disk that holds `content`, with holes where sectors are zero.
fn disk(content: &[u8], sector_size: u32) -> Probe {
    probe(content, sector_size, Traits::default())
}

fn probe(content: &[u8], sector_size: u32, traits: Traits) -> Probe {
    let layer = RamDiskLayer::new_with_sector_size(content.len() as u64, sector_size).unwrap();
    let layers = vec![LayerConfiguration::new(DiskLayer::new(layer))];
    let disk = Disk::new(block_on(LayeredDisk::new(false, layers)).unwrap()).unwrap();
    for (index, sector) in content.chunks(sector_size as usize).enumerate() {
        if sector.iter().any(|byte| *byte != 0) {
            put(&disk, index as u64, sector);
        }
    }
    Probe::new(disk, traits)
}

fn put(disk: &Disk, sector: u64, bytes: &[u8]) {
    let memory = HostBuffers::from_ref(bytes);
    block_on(disk.write_vectored(&memory.buffers(), sector, false)).unwrap();
}

/// Bytes without a zero among them.
fn noise(seed: u8, len: u64) -> Vec<u8> {
    (0..len)
        .map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed) | 1)
        .collect()
}

fn content(probe: &Probe) -> Vec<u8> {
    let mut bytes = vec![0; size(probe) as usize];
    let memory = HostBuffers::from_mut(&mut bytes);
    block_on(probe.inner().read_vectored(&memory.buffers(), 0)).unwrap();
    drop(memory);
    bytes
}

fn size(probe: &Probe) -> u64 {
    View::new(probe.disk(), Side::First).size_bytes()
}

/// Copies over whatever the destination holds.
fn copy(source: &Probe, destination: &Probe) -> Result<Copied, Fault> {
    copy_as(source, destination, false, Tail::Zero)
}

fn copy_as(
    source: &Probe,
    destination: &Probe,
    is_blank: bool,
    tail: Tail,
) -> Result<Copied, Fault> {
    let copy = Copy {
        source: source.disk(),
        destination: destination.disk(),
        is_blank,
        tail,
    };
    let watch = Counter::new(u64::MAX);
    let copied = block_on(copy.run(EFFORT, &watch))?;
    assert_eq!(copied.tally.covered_bytes(), copy.end(), "P3");
    assert_eq!(watch.done_bytes.get(), copy.end(), "P3");
    assert!(copied.is_complete);
    Ok(copied)
}

/// Compares both to their ends.
fn compare(first: &Probe, second: &Probe) -> Result<Differences, Fault> {
    let comparison = Comparison {
        first: first.disk(),
        second: Some(second.disk()),
        end: size(first).max(size(second)),
        only_first: false,
    };
    block_on(comparison.run(EFFORT, &Counter::new(u64::MAX)))
}
