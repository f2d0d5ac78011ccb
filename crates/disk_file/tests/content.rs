//! What is written is read, what is unmapped or zeroed reads zero, and holes are where they should be.

mod common;

use common::{Place, inspected, open, places, read, try_write, write};
use disk_backend::{BlockState, Disk, DiskError, UnmapBehavior};
use disk_file::FileDiskOptions;
use futures_lite::future::{block_on, poll_once};
use guestmem::GuestMemory;
use scsi_buffers::{HostBuffers, OwnedRequestBuffers};
use std::fs;
use std::os::unix::fs::MetadataExt;

const SIZE_BYTES: u64 = 8 << 20;

/// Bytes that tell where they belong.
fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|i| (i / 512) as u8 ^ (i as u8).rotate_left(3) ^ seed)
        .collect()
}

/// All extents, as (first sector, sectors, state).
fn map(disk: &Disk) -> Vec<(u64, u64, BlockState)> {
    let mut extents = Vec::new();
    let mut at = 0;
    while at < disk.sector_count() {
        let status = block_on(disk.block_status(at, disk.sector_count() - at)).expect("status");
        for extent in status.extents() {
            extents.push((at, extent.sector_count, extent.state));
            at += extent.sector_count;
        }
    }
    extents
}

fn allocated_bytes(place: &Place, name: &str) -> u64 {
    fs::metadata(place.path(name))
        .expect("it is there")
        .blocks()
        * 512
}

#[test]
fn what_is_written_is_read_and_is_in_the_file() {
    for place in places() {
        for sector_size in [512, 4096] {
            let name = format!("{sector_size}.raw");
            let disk = place.new_disk(&name, SIZE_BYTES, sector_size);
            let sectors = SIZE_BYTES / u64::from(sector_size);
            let content = pattern(SIZE_BYTES as usize, 1);
            write(&disk, 0, &content);
            assert!(read(&disk, 0, sectors) == content);
            let part = pattern(3 * sector_size as usize, 2);
            write(&disk, sectors - 3, &part);
            assert!(read(&disk, sectors - 3, 3) == part);
            block_on(disk.sync_cache()).expect("it flushes");
            drop(disk);
            let file = fs::read(place.path(&name)).expect("it is there");
            let cut = content.len() - part.len();
            assert!(file[..cut] == content[..cut] && file[cut..] == part);
        }
    }
}

#[test]
fn scattered_guest_memory_is_transferred_without_gaps() {
    for place in places() {
        let disk = place.new_disk("disk.raw", SIZE_BYTES, 512);
        let memory = GuestMemory::allocate(1 << 20);
        let content = pattern(1 << 20, 3);
        memory.write_at(0, &content).expect("inside");
        let pages: Vec<u64> = (0..64).map(|page| page * 37 % 256).collect();
        let request = OwnedRequestBuffers::new_unaligned(&pages, 100, 63 * 4096);
        block_on(disk.write_vectored(&request.buffer(&memory), 9, false)).expect("it writes");
        let bytes: Vec<u8> = pages
            .iter()
            .flat_map(|&page| content[page as usize * 4096..][..4096].to_vec())
            .collect();
        assert!(read(&disk, 9, 63 * 8) == bytes[100..][..63 * 4096]);
        memory.fill_at(0, 0, 1 << 20).expect("inside");
        block_on(disk.read_vectored(&request.buffer(&memory), 9)).expect("it reads");
        let mut back = vec![0; 4096 - 100];
        memory.read_at(100, &mut back).expect("inside");
        assert!(back == bytes[100..4096]);
    }
}

#[test]
fn unmapped_sectors_read_zero_and_give_their_space_back() {
    for place in places() {
        let disk = place.new_disk("disk.raw", SIZE_BYTES, 512);
        if disk.unmap_behavior() != UnmapBehavior::Zeroes {
            assert!(!["ext4", "tmpfs"].contains(&place.file_system.as_str()));
            continue;
        }
        let content = pattern(SIZE_BYTES as usize, 1);
        write(&disk, 0, &content);
        block_on(disk.sync_cache()).expect("it flushes");
        let full = allocated_bytes(&place, "disk.raw");
        // Neither end on a page of the file system.
        block_on(disk.unmap(3, 8000, false)).expect("it unmaps");
        assert!(read(&disk, 0, 3) == content[..3 * 512]);
        assert!(read(&disk, 3, 8000) == vec![0; 8000 * 512]);
        assert!(read(&disk, 8003, 100) == content[8003 * 512..][..100 * 512]);
        block_on(disk.sync_cache()).expect("it flushes");
        assert!(allocated_bytes(&place, "disk.raw") <= full - 7900 * 512);
        assert_eq!(
            fs::metadata(place.path("disk.raw"))
                .expect("it is there")
                .len(),
            SIZE_BYTES
        );
        // The whole disk at once, and then anew.
        block_on(disk.unmap(0, disk.sector_count(), true)).expect("it unmaps");
        assert!(read(&disk, 0, disk.sector_count()) == vec![0; SIZE_BYTES as usize]);
        assert_eq!(map(&disk), [(0, disk.sector_count(), BlockState::Hole)]);
        write(&disk, 4000, &[5; 512]);
        assert!(read(&disk, 4000, 1) == [5; 512]);
    }
}

#[test]
fn zeroes_read_zero_whichever_way_they_came_about() {
    for place in places() {
        let disk = place.new_disk("disk.raw", SIZE_BYTES, 512);
        for (may_unmap, fua) in [(false, false), (false, true), (true, false), (true, true)] {
            let content = pattern(SIZE_BYTES as usize, 7);
            write(&disk, 0, &content);
            block_on(disk.write_zeroes(1, 12_001, fua, may_unmap, false)).expect("it zeroes");
            assert!(read(&disk, 0, 1) == content[..512]);
            assert!(read(&disk, 1, 12_001) == vec![0; 12_001 * 512]);
            assert!(read(&disk, 12_002, 9) == content[12_002 * 512..][..9 * 512]);
        }
        // Zeroes that keep their space, over sectors that were holes.
        block_on(disk.unmap(0, disk.sector_count(), false)).expect("it unmaps");
        block_on(disk.write_zeroes(0, disk.sector_count(), false, false, false))
            .expect("it zeroes");
        assert!(read(&disk, 0, disk.sector_count()) == vec![0; SIZE_BYTES as usize]);
        assert!(
            allocated_bytes(&place, "disk.raw") >= SIZE_BYTES,
            "the space is kept"
        );
    }
}

#[test]
fn zeroes_without_fallback_are_quick_or_refused() {
    for place in places() {
        let disk = place.new_disk("disk.raw", SIZE_BYTES, 512);
        let content = pattern(SIZE_BYTES as usize, 7);
        write(&disk, 0, &content);
        let kept = block_on(disk.write_zeroes(0, 64, false, false, true));
        match place.file_system.as_str() {
            // It only knows how to punch holes, and here the space was to be kept.
            "tmpfs" => {
                assert!(matches!(kept, Err(DiskError::Unsupported)), "{kept:?}");
                assert!(
                    read(&disk, 0, 64) == content[..64 * 512],
                    "a refusal changes nothing"
                );
            }
            "ext4" | "xfs" => kept.expect("it zeroes"),
            _ => assert!(
                kept.is_ok() || matches!(kept, Err(DiskError::Unsupported)),
                "{kept:?}"
            ),
        }
        if disk.unmap_behavior() == UnmapBehavior::Zeroes {
            block_on(disk.write_zeroes(64, 64, false, true, true)).expect("a hole is quick");
            assert!(read(&disk, 64, 64) == vec![0; 64 * 512]);
        }
    }
}

#[test]
fn the_map_of_a_sparse_file_shows_its_holes() {
    for place in places() {
        let disk = place.new_disk("disk.raw", SIZE_BYTES, 512);
        let sectors = disk.sector_count();
        if !["ext4", "tmpfs", "xfs"].contains(&place.file_system.as_str()) {
            continue;
        }
        assert_eq!(map(&disk), [(0, sectors, BlockState::Hole)]);
        write(&disk, 2048, &[1; 4096]);
        assert_eq!(
            map(&disk),
            [
                (0, 2048, BlockState::Hole),
                (2048, 8, BlockState::Data),
                (2056, sectors - 2056, BlockState::Hole)
            ]
        );
        let status = block_on(disk.block_status(2050, 3)).expect("status");
        assert_eq!(status.sector_count(), 3, "no more than was asked for");
        write(&disk, sectors - 1, &[1; 512]);
        assert_eq!(
            map(&disk).last().map(|extent| extent.2),
            Some(BlockState::Data)
        );
    }
}

#[test]
fn what_was_cut_off_behind_our_back_is_no_hole() {
    for place in places() {
        let disk = place.new_disk("disk.raw", 1 << 20, 512);
        write(&disk, 0, &pattern(4096, 1));
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(place.path("disk.raw"))
            .expect("it is there");
        file.set_len(64 << 10).expect("it is cut");
        // Nothing there reads zero, so nothing may be said to (C12): a copy would hide the loss.
        let status = block_on(disk.block_status(0, 2048));
        assert!(matches!(status, Err(DiskError::IllegalBlock)), "{status:?}");
        let last = map(&disk).pop().expect("there is some left");
        assert_eq!(last.0 + last.1, 128);
    }
}

#[test]
fn a_sector_that_holds_some_data_is_data() {
    for place in places() {
        drop(place.new_disk("disk.raw", SIZE_BYTES, 512));
        let path = place.path("disk.raw");
        // One page of data, inside a sector of 64 KiB.
        let small = open(&path, &FileDiskOptions::default()).expect("it opens");
        write(&small, 136, &[1; 4096]);
        drop(small);
        let disk = open(
            &path,
            &FileDiskOptions {
                sector_size: 65536,
                ..Default::default()
            },
        )
        .expect("it opens");
        if ["ext4", "tmpfs", "xfs"].contains(&place.file_system.as_str()) {
            let extents = map(&disk);
            assert_eq!(
                extents,
                [
                    (0, 1, BlockState::Hole),
                    (1, 1, BlockState::Data),
                    (2, 126, BlockState::Hole)
                ]
            );
        }
    }
}

#[test]
fn a_map_is_answered_in_bounded_batches() {
    let place = places().remove(0);
    let disk = place.new_disk("disk.raw", 64 << 20, 512);
    for piece in 0..200 {
        write(&disk, piece * 256, &[1; 4096]);
    }
    let first = block_on(disk.block_status(0, disk.sector_count())).expect("status");
    assert!(first.extents().len() <= disk_backend::BlockStatus::EXTENTS_MAX);
    let data: u64 = map(&disk)
        .iter()
        .filter(|extent| extent.2 == BlockState::Data)
        .map(|extent| extent.1)
        .sum();
    assert!((200 * 8..=disk.sector_count()).contains(&data));
}

#[test]
fn cached_reads_are_done_at_the_first_poll() {
    for place in places() {
        let disk = place.new_disk("disk.raw", SIZE_BYTES, 512);
        write(&disk, 0, &pattern(SIZE_BYTES as usize, 1));
        read(&disk, 0, disk.sector_count());
        let before = inspected(&disk, "counters/reads_at_once")
            .as_u64()
            .expect("a number");
        let mut bytes = vec![0; 4096];
        let target = HostBuffers::from_mut(&mut bytes);
        let buffers = target.buffers();
        let outcome = block_on(poll_once(disk.read_vectored(&buffers, 64)));
        if ["ext4", "tmpfs", "xfs"].contains(&place.file_system.as_str()) {
            outcome.expect("the page cache has it").expect("it reads");
            assert_eq!(inspected(&disk, "counters/reads_at_once"), before + 1);
        }
        if place.file_system == "tmpfs" {
            let outcome = block_on(poll_once(disk.write_vectored(&buffers, 0, false)));
            outcome.expect("memory has room").expect("it writes");
        }
    }
}

#[test]
fn what_the_page_cache_has_not_is_read_by_the_pool() {
    let place = places().remove(0);
    let disk = place.new_disk("disk.raw", SIZE_BYTES, 512);
    let content = pattern(SIZE_BYTES as usize, 1);
    write(&disk, 0, &content);
    block_on(disk.sync_cache()).expect("it flushes");
    let file = fs::File::open(place.path("disk.raw")).expect("it is there");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("a hint");
    // Into borrowed memory and into memory that can be pinned.
    assert!(read(&disk, 1000, 500) == content[1000 * 512..][..500 * 512]);
    let memory = GuestMemory::allocate(1 << 20);
    let request = OwnedRequestBuffers::linear(512, 256 * 512, true);
    block_on(disk.read_vectored(&request.buffer(&memory), 9000)).expect("it reads");
    let mut bytes = vec![0; 256 * 512];
    memory.read_at(512, &mut bytes).expect("inside");
    assert!(bytes == content[9000 * 512..][..256 * 512]);
}

#[test]
fn requests_outside_are_refused_by_the_handle() {
    let place = places().remove(0);
    let disk = place.new_disk("disk.raw", 4096, 512);
    assert!(matches!(
        try_write(&disk, 8, &[0; 512]),
        Err(DiskError::IllegalBlock)
    ));
    assert!(matches!(
        try_write(&disk, 0, &[0; 100]),
        Err(DiskError::InvalidInput)
    ));
}

#[test]
fn a_write_into_the_page_cache_is_done_at_once_unless_all_are_to_be_handed_over() {
    for place in places() {
        for hand_over_writes in [false, true] {
            let way = FileDiskOptions {
                hand_over_writes,
                ..Default::default()
            };
            let disk = place.new_disk_by(&way, &format!("{hand_over_writes}.raw"), SIZE_BYTES);
            let at_once = || inspected(&disk, "counters/writes_at_once");
            // A page; pages and parts of some; and so much that the copying takes longer than handing it over.
            write(&disk, 8, &[1; 4096]);
            let expected = match place.file_system.as_str() {
                "ext4" => u64::from(!hand_over_writes),
                "tmpfs" => 1,
                _ => continue, // They may have writes that refuse to wait, and use them.
            };
            assert_eq!(at_once(), expected, "{}", place.file_system);
            assert!(read(&disk, 0, 24) == [[0; 4096], [1; 4096], [0; 4096]].concat());
            write(&disk, 9, &[2; 8192]);
            assert_eq!(at_once(), 2 * expected, "{}", place.file_system);
            assert!(read(&disk, 9, 16) == [2; 8192]);
            write(&disk, 16, &[3; 256 << 10]);
            let is_memory = place.file_system == "tmpfs";
            assert_eq!(at_once(), 2 * expected + u64::from(is_memory));
            assert!(read(&disk, 16, 512) == [3; 256 << 10]);
            assert_eq!(inspected(&disk, "counters/writes"), 3);
            let written = 4096 + 8192 + (256 << 10);
            assert_eq!(inspected(&disk, "counters/written_bytes"), written);
            assert_eq!(inspected(&disk, "counters/file/written_bytes"), written);
        }
    }
}
