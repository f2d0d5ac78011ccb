//! The size of the file, changed by us and behind our back.

mod common;

use common::{Place, inspected, open, places, read, try_write, write};
use disk_backend::{BlockState, Disk, DiskError};
use disk_contract::{LayerSpec, ReferenceLayer};
use disk_file::FileDiskOptions;
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use futures_lite::future::{block_on, poll_once};
use scsi_buffers::HostBuffers;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::pin::pin;

const MIB: u64 = 1 << 20;
const SECTORS_PER_MIB: u64 = MIB / 512;

/// The file, as somebody has it who takes no locks.
fn outside(place: &Place, name: &str) -> File {
    let mut options = File::options();
    options.read(true).write(true);
    options
        .open(place.path(name))
        .expect("no lock keeps it shut")
}

fn try_read(disk: &Disk, sector: u64, count: u64) -> Result<Vec<u8>, DiskError> {
    let mut bytes = vec![0xee; (count * u64::from(disk.sector_size())) as usize];
    let host = HostBuffers::from_mut(&mut bytes);
    let result = block_on(disk.read_vectored(&host.buffers(), sector));
    drop(host);
    result.map(|()| bytes)
}

#[track_caller]
fn assert_illegal<T: std::fmt::Debug>(result: Result<T, DiskError>) {
    assert!(matches!(result, Err(DiskError::IllegalBlock)), "{result:?}");
}

#[test]
fn growth_from_outside_is_reported_and_can_be_used() {
    for place in places() {
        let disk = place.new_disk("disk.raw", MIB, 512);
        let file = outside(&place, "disk.raw");
        // The file stays open: only the change itself tells. Again while the first change is still fresh.
        for mib in 2..5 {
            let before = disk.sector_count();
            file.set_len(mib * MIB).expect("it grows");
            assert_eq!(
                block_on(disk.wait_resize(before)),
                mib * SECTORS_PER_MIB,
                "on {}",
                place.file_system
            );
            assert_eq!(disk.sector_count(), mib * SECTORS_PER_MIB);
            assert_eq!(inspected(&disk, "size_bytes"), mib * MIB);
            let last = disk.sector_count() - 1;
            assert!(read(&disk, last, 1) == [0; 512]);
            write(&disk, last, &[7; 512]);
            assert!(read(&disk, last, 1) == [7; 512]);
        }
    }
}

#[test]
fn a_waiter_that_was_there_before_learns_of_the_change() {
    for place in places() {
        let disk = place.new_disk("disk.raw", MIB, 512);
        let mut waiting = pin!(disk.wait_resize(SECTORS_PER_MIB));
        assert!(block_on(poll_once(&mut waiting)).is_none());
        outside(&place, "disk.raw")
            .set_len(3 * MIB)
            .expect("it grows");
        assert_eq!(block_on(waiting), 3 * SECTORS_PER_MIB);
    }
}

#[test]
fn what_was_cut_off_from_outside_is_beyond_the_end_for_every_request() {
    for place in places() {
        let disk = place.new_disk("disk.raw", 2 * MIB, 512);
        write(&disk, 0, &vec![3; 2 * MIB as usize]);
        outside(&place, "disk.raw").set_len(MIB).expect("it is cut");
        assert_eq!(
            block_on(disk.wait_resize(2 * SECTORS_PER_MIB)),
            SECTORS_PER_MIB
        );
        let (end, across) = (SECTORS_PER_MIB, SECTORS_PER_MIB - 1);
        for sector in [across, end, end + 5] {
            assert_illegal(try_read(&disk, sector, 2));
            assert_illegal(try_write(&disk, sector, &[1; 1024]));
            assert_illegal(block_on(disk.unmap(sector, 2, false)));
            assert_illegal(block_on(disk.write_zeroes(sector, 2, false, true, false)));
            assert_illegal(block_on(disk.block_status(sector, 2)));
        }
        assert!(read(&disk, 0, end) == vec![3; MIB as usize]);
        let len = outside(&place, "disk.raw").metadata().expect("there").len();
        assert_eq!(len, MIB, "no request made it longer");
    }
}

#[test]
fn a_read_that_meets_the_end_of_the_file_is_beyond_the_end_of_the_disk() {
    for place in places() {
        for (sector, count) in [(2047, 2), (2048, 1), (3000, 1)] {
            let disk = place.new_disk("disk.raw", 2 * MIB, 512);
            write(&disk, 0, &vec![3; 2 * MIB as usize]);
            // Whether the kernel's message is here first or not, the answer is the same.
            outside(&place, "disk.raw").set_len(MIB).expect("it is cut");
            assert_illegal(try_read(&disk, sector, count));
            assert_eq!(disk.sector_count(), SECTORS_PER_MIB);
            drop(disk);
            std::fs::remove_file(place.path("disk.raw")).expect("it is there");
        }
    }
}

#[test]
fn a_file_that_is_cut_under_reads_never_yields_zeros() {
    const SECTOR_COUNT: u64 = 4 * SECTORS_PER_MIB;
    for place in places() {
        let disk = place.new_disk("disk.raw", 4 * MIB, 512);
        write(&disk, 0, &vec![3; 4 * MIB as usize]);
        let file = outside(&place, "disk.raw");
        let until_refused = |sector: u64| {
            let content = vec![3; 64 * 512];
            loop {
                match try_read(&disk, sector, 64) {
                    Ok(bytes) => assert!(bytes == content, "not what was written"),
                    error => return assert_illegal(error),
                }
            }
        };
        std::thread::scope(|scope| {
            let readers = [SECTOR_COUNT - 64, SECTOR_COUNT / 2, SECTOR_COUNT / 2 + 7]
                .map(|sector| scope.spawn(move || until_refused(sector)));
            for mib in [3, 2, 1] {
                file.set_len(mib * MIB + 100 * 512 * (mib - 1))
                    .expect("it is cut");
            }
            for reader in readers {
                reader.join().expect("it saw nothing wrong");
            }
        });
    }
}

#[test]
fn what_lies_behind_the_last_whole_sector_is_left_out_and_shown() {
    for place in places() {
        let disk = place.new_disk("disk.raw", MIB, 512);
        assert_eq!(inspected(&disk, "tail_bytes"), 0);
        let file = outside(&place, "disk.raw");
        file.write_all_at(&[9; 700], MIB).expect("it grows");
        assert_eq!(
            block_on(disk.wait_resize(SECTORS_PER_MIB)),
            SECTORS_PER_MIB + 1
        );
        assert_eq!(inspected(&disk, "tail_bytes"), 700 - 512);
        assert!(read(&disk, SECTORS_PER_MIB, 1) == [9; 512]);
        assert_illegal(try_read(&disk, SECTORS_PER_MIB, 2));
        // The tail does not turn up inside a sector that is added.
        block_on(disk.resize(SECTORS_PER_MIB + 3)).expect("it grows");
        assert!(read(&disk, SECTORS_PER_MIB, 1) == [9; 512]);
        assert!(read(&disk, SECTORS_PER_MIB + 1, 2) == [0; 1024]);
        assert_eq!(inspected(&disk, "tail_bytes"), 0);
    }
}

#[test]
fn a_resize_adds_zeros_that_take_no_space_and_cuts_for_good() {
    for place in places() {
        let disk = place.new_disk("disk.raw", MIB, 512);
        write(&disk, 0, &vec![5; MIB as usize]);
        let mut waiting = pin!(disk.wait_resize(SECTORS_PER_MIB));
        assert!(block_on(poll_once(&mut waiting)).is_none());
        block_on(disk.resize(8 * SECTORS_PER_MIB)).expect("it grows");
        assert_eq!(block_on(waiting), 8 * SECTORS_PER_MIB);
        assert_eq!(disk.sector_count(), 8 * SECTORS_PER_MIB);
        assert!(read(&disk, 0, SECTORS_PER_MIB) == vec![5; MIB as usize]);
        assert!(read(&disk, SECTORS_PER_MIB, SECTORS_PER_MIB) == vec![0; MIB as usize]);
        let status = block_on(disk.block_status(SECTORS_PER_MIB, 8)).expect("inside");
        assert_eq!(status.extents()[0].state, BlockState::Hole);
        block_on(disk.sync_cache()).expect("it flushes");
        let metadata = outside(&place, "disk.raw").metadata().expect("there");
        assert_eq!(metadata.len(), 8 * MIB);
        assert!(metadata.blocks() * 512 < 2 * MIB, "the rest is a hole");

        block_on(disk.resize(SECTORS_PER_MIB / 2)).expect("it shrinks");
        assert_illegal(try_read(&disk, SECTORS_PER_MIB / 2, 1));
        block_on(disk.resize(SECTORS_PER_MIB)).expect("it grows");
        let half = vec![0; MIB as usize / 2];
        assert!(read(&disk, SECTORS_PER_MIB / 2, SECTORS_PER_MIB / 2) == half);
        assert!(read(&disk, 0, SECTORS_PER_MIB / 2) == vec![5; MIB as usize / 2]);
    }
}

#[test]
fn a_resize_is_flushed_by_the_next_flush() {
    for place in places() {
        let disk = place.new_disk("disk.raw", MIB, 512);
        block_on(disk.sync_cache()).expect("it flushes");
        let syncs = || inspected(&disk, "syncs").as_u64().expect("a number");
        for sector_count in [4096, 100] {
            let before = syncs();
            block_on(disk.resize(sector_count)).expect("it is resized");
            block_on(disk.sync_cache()).expect("it flushes");
            assert_eq!(syncs(), before + 1);
        }
    }
}

#[test]
fn sizes_that_cannot_be_are_refused_and_change_nothing() {
    for place in places() {
        let disk = place.new_disk("disk.raw", MIB, 512);
        let refused = |sector_count| block_on(disk.resize(sector_count)).expect_err("refused");
        assert!(matches!(refused(0), DiskError::InvalidInput));
        for sector_count in [u64::MAX, u64::MAX / 512, 1 << 55] {
            assert!(matches!(refused(sector_count), DiskError::NoSpace));
        }
        assert_eq!(disk.sector_count(), SECTORS_PER_MIB);
        drop(disk);
        let read_only = FileDiskOptions {
            read_only: true,
            ..Default::default()
        };
        let disk = open(&place.path("disk.raw"), &read_only).expect("it opens");
        let refusal = block_on(disk.resize(1)).expect_err("refused");
        assert!(matches!(refusal, DiskError::ReadOnly));
        let len = outside(&place, "disk.raw").metadata().expect("there").len();
        assert_eq!(len, MIB);
    }
}

#[test]
fn all_disks_on_one_file_learn_of_its_size_until_they_are_dropped() {
    for place in places() {
        drop(place.new_disk("disk.raw", MIB, 512));
        let options = FileDiskOptions {
            read_only: true,
            ..Default::default()
        };
        let path = place.path("disk.raw");
        let mut disks: Vec<_> = (0..3)
            .map(|_| open(&path, &options).expect("readers go together"))
            .collect();
        let file = outside(&place, "disk.raw");
        for mib in 2.. {
            file.set_len(mib * MIB).expect("it grows");
            for disk in &disks {
                let before = (mib - 1) * SECTORS_PER_MIB;
                assert_eq!(block_on(disk.wait_resize(before)), mib * SECTORS_PER_MIB);
            }
            if disks.pop().is_none() {
                break;
            }
        }
    }
}

#[test]
fn a_disk_that_is_dropped_keeps_no_file_open_whoever_writes_to_it() {
    for place in places() {
        drop(place.new_disk("disk.raw", MIB, 512));
        let file = outside(&place, "disk.raw");
        for round in 0..200_u8 {
            // It would be locked still if the watching thread held it.
            let disk = open(&place.path("disk.raw"), &FileDiskOptions::default());
            let disk = disk.expect("nobody uses it");
            file.write_all_at(&[round], 5).expect("no lock forbids it");
            drop(disk);
        }
    }
}

#[test]
fn a_stack_over_a_file_that_was_cut_reads_zero_from_there_on() {
    for place in places() {
        let lower = place.new_disk("disk.raw", 2 * MIB, 512);
        write(&lower, 0, &vec![3; 2 * MIB as usize]);
        let top = ReferenceLayer::new(LayerSpec::new(2 * SECTORS_PER_MIB, 512));
        let layers = [DiskLayer::new(top), DiskLayer::from_disk(lower)];
        let layers = layers.map(LayerConfiguration::new).into();
        let stack = block_on(LayeredDisk::new(false, layers)).expect("a legal stack");
        let stack = Disk::new(stack).expect("valid metadata");
        assert!(read(&stack, 2 * SECTORS_PER_MIB - 1, 1) == [3; 512]);
        let file = outside(&place, "disk.raw");
        file.set_len(MIB).expect("it is cut");
        let (end, ones) = (SECTORS_PER_MIB, [3; 512]);
        let across = read(&stack, end - 1, 2);
        assert!(across[..512] == ones && across[512..] == [0; 512]);
        // What comes back is no longer part of the stack (L5).
        file.set_len(2 * MIB).expect("it grows");
        file.write_all_at(&ones, MIB).expect("it is written");
        assert!(read(&stack, end, 1) == [0; 512]);
    }
}
