//! Sectors change at one instant (C2), seen from several threads at once; random requests against a byte array.

mod common;

use common::{places, read};
use disk_backend::{Disk, UnmapBehavior};
use disk_file::FileDiskOptions;
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;

const SECTOR_SIZE: usize = 4096;
const SECTOR_COUNT: u64 = 24;

/// A small generator of pseudo-random numbers (SplitMix64): the same sequence for the same seed.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A first sector and a count, inside a disk of `sector_count` sectors.
    fn extent(&mut self, sector_count: u64) -> (u64, u64) {
        let first = self.below(sector_count);
        (first, 1 + self.below(sector_count - first))
    }
}

/// Writes, zeroes, unmaps and reads at random; each sector read must be of one piece.
fn disturb(disk: &Disk, seed: u64, rounds: u64) {
    let mut numbers = Numbers(seed);
    for round in 0..rounds {
        let (sector, count) = numbers.extent(SECTOR_COUNT);
        let len = count as usize * SECTOR_SIZE;
        match numbers.below(8) {
            0..3 => {
                let stamp = 1 + (seed.wrapping_mul(31) + round) as u8 % 255;
                let bytes = vec![stamp; len];
                let source = HostBuffers::from_ref(&bytes);
                block_on(disk.write_vectored(&source.buffers(), sector, false)).expect("it writes");
            }
            3 => block_on(disk.unmap(sector, count, false)).expect("it unmaps"),
            4 => {
                let may_unmap = numbers.below(2) == 0;
                block_on(disk.write_zeroes(sector, count, false, may_unmap, false))
                    .expect("it zeroes");
            }
            _ => {
                for (index, bytes) in read(disk, sector, count).chunks(SECTOR_SIZE).enumerate() {
                    let is_whole = bytes.iter().all(|&byte| byte == bytes[0]);
                    assert!(
                        is_whole,
                        "sector {} is torn (seed {seed}, round {round})",
                        sector + index as u64
                    );
                }
            }
        }
    }
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "the runner keeps it for those that fail"
)]
fn no_thread_ever_sees_half_a_change() {
    for place in places() {
        for (name, way) in place.ways() {
            let way = FileDiskOptions {
                sector_size: SECTOR_SIZE as u32,
                ..way
            };
            println!("{}, {name}", place.file_system);
            let path = format!("{name}.raw");
            let disk = place.new_disk_by(&way, &path, SECTOR_COUNT * SECTOR_SIZE as u64);
            std::thread::scope(|scope| {
                for seed in 1..=4 {
                    let disk = &disk;
                    scope.spawn(move || disturb(disk, seed, 1500));
                }
            });
        }
    }
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "the runner keeps it for those that fail"
)]
fn random_requests_agree_with_a_byte_array() {
    for place in places() {
        for (name, way) in place.ways() {
            println!("{}, {name}", place.file_system);
            for sector_size in [512, 4096, 65536] {
                if sector_size >= way.sector_size {
                    let path = format!("{name}-{sector_size}.raw");
                    let way = FileDiskOptions {
                        sector_size,
                        ..way.clone()
                    };
                    agree_with_a_byte_array(&place.new_disk_by(&way, &path, SIZE_BYTES));
                }
            }
        }
    }
}

const SIZE_BYTES: u64 = 3 << 20;

fn agree_with_a_byte_array(disk: &Disk) {
    let sector_size = u64::from(disk.sector_size());
    let seed = sector_size + 5;
    let mut numbers = Numbers(seed);
    let sector_count = SIZE_BYTES / sector_size;
    let mut model = vec![0; SIZE_BYTES as usize];
    for round in 0..300 {
        let (sector, count) = numbers.extent(sector_count);
        let range = (sector * sector_size) as usize..((sector + count) * sector_size) as usize;
        match numbers.below(6) {
            0 | 1 => {
                let bytes: Vec<u8> = (0..range.len())
                    .map(|i| (i / 512) as u8 ^ numbers.0 as u8)
                    .collect();
                let source = HostBuffers::from_ref(&bytes);
                let fua = numbers.below(8) == 0;
                block_on(disk.write_vectored(&source.buffers(), sector, fua)).expect("it writes");
                model[range].copy_from_slice(&bytes);
            }
            2 => {
                block_on(disk.unmap(sector, count, false)).expect("it unmaps");
                if disk.unmap_behavior() == UnmapBehavior::Zeroes {
                    model[range].fill(0);
                }
            }
            3 => {
                let may_unmap = numbers.below(2) == 0;
                block_on(disk.write_zeroes(sector, count, false, may_unmap, false))
                    .expect("it zeroes");
                model[range].fill(0);
            }
            4 => {
                let status = block_on(disk.block_status(sector, count)).expect("status");
                let mut at = range.start;
                for extent in status.extents() {
                    let end = at + (extent.sector_count * sector_size) as usize;
                    let is_zero = model[at..end].iter().all(|&byte| byte == 0);
                    let is_data = extent.state == disk_backend::BlockState::Data;
                    assert!(
                        is_data || is_zero,
                        "{extent:?} at byte {at} (seed {seed}, round {round})"
                    );
                    at = end;
                }
            }
            _ => assert!(
                read(disk, sector, count) == model[range],
                "sectors {sector}+{count} of {sector_size} (seed {seed}, round {round})"
            ),
        }
    }
    assert!(read(disk, 0, sector_count) == model, "seed {seed}");
}
