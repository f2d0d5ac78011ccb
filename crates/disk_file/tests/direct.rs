//! Past the page cache.

mod common;

use common::{Place, inspected, open, places, read, report_skipped, write};
use disk_backend::resolve::{DiskHandleKind, ResolveDiskParameters};
use disk_file::FileDiskOptions;
use futures_lite::future::block_on;
use guestmem::GuestMemory;
use resource::{Resource, ResourceResolver};
use scsi_buffers::{GuestRange, OwnedRequestBuffers};
use std::fs::File;

fn direct(io_uring: bool, sector_size: u32) -> FileDiskOptions {
    FileDiskOptions {
        direct: true,
        io_uring,
        sector_size,
        ..Default::default()
    }
}

/// The places that have a medium and direct I/O, with the smallest sector; if there is none, that is reported.
#[track_caller]
fn direct_places() -> Vec<(Place, u32)> {
    let found: Vec<_> = places()
        .into_iter()
        .filter(|place| place.file_system != "tmpfs")
        .filter_map(|place| {
            let sector_size = place.direct_sector_size()?;
            Some((place, sector_size))
        })
        .collect();
    if found.is_empty() {
        report_skipped("needs a file system with direct I/O for temporary files");
    }
    found
}

/// Whether a byte of the file is in the page cache.
fn is_cached(file: &File, offset: u64) -> bool {
    use rustix::io::{Errno, IoSliceMut, ReadWriteFlags, preadv2};
    let mut byte = [0];
    match preadv2(
        file,
        &mut [IoSliceMut::new(&mut byte)],
        offset,
        ReadWriteFlags::NOWAIT,
    ) {
        Ok(count) => count == 1,
        Err(Errno::AGAIN) => false,
        Err(error) => panic!("the file system has no such read: {error}"),
    }
}

#[test]
fn direct_requests_leave_the_page_cache_alone() {
    for (place, sector_size) in direct_places() {
        for io_uring in [true, false] {
            let path = place.path(&format!("{io_uring}.raw"));
            let content: Vec<u8> = (0..1 << 20).map(|at: u32| (at / 512 * 3) as u8).collect();
            let file = File::create_new(&path).expect("a new file");
            drop(file);
            std::fs::write(&path, vec![0; content.len()]).expect("it is written");
            let file = File::open(&path).expect("it is there");
            file.sync_all().expect("it is written back");
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("a file");
            assert!(!is_cached(&file, 4096), "it was let go");
            let disk = open(&path, &direct(io_uring, sector_size)).expect("it opens");
            write(&disk, 0, &content);
            let count = content.len() as u64 / u64::from(sector_size);
            assert!(read(&disk, 0, count) == content);
            assert!(!is_cached(&file, 4096), "it was never wanted there");
            assert_eq!(inspected(&disk, "counters/reads_at_once"), 0);
            assert!(std::fs::read(&path).expect("it is there") == content);
        }
    }
}

/// Memory of a guest that lies as no kernel likes it, between some that lies well.
fn awkward(base: u64, sector: usize) -> Vec<GuestRange> {
    let sizes = [
        (0, 8 * sector),
        (1, sector),
        (0, sector),
        (0, sector - 3),
        (7, 3),
        (2, 5 * sector + 1),
        (0, sector - 1),
        (0, 4 * sector),
    ];
    let places = sizes.iter().enumerate();
    places
        .map(|(index, &(askew, len))| GuestRange {
            address: base + (index as u64) * (64 << 10) + askew,
            len,
        })
        .collect()
}

#[test]
fn memory_that_lies_askew_is_read_and_written_all_the_same() {
    for (place, sector_size) in direct_places() {
        for io_uring in [true, false] {
            let sector = sector_size as usize;
            let way = direct(io_uring, sector_size);
            let disk = place.new_disk_by(&way, &format!("{io_uring}.raw"), 4 << 20);
            let memory = GuestMemory::allocate(2 << 20);
            let content: Vec<u8> = (0..21 * sector)
                .map(|at| (at * 7 + at / 251) as u8)
                .collect();
            let out = OwnedRequestBuffers::from_ranges(awkward(0, sector), false);
            let back = OwnedRequestBuffers::from_ranges(awkward(1 << 20, sector), true);
            assert_eq!(out.len(), content.len());
            let mut at = 0;
            for range in awkward(0, sector) {
                let part = &content[at..at + range.len];
                memory.write_at(range.address, part).expect("inside");
                at += range.len;
            }
            block_on(disk.write_vectored(&out.buffer(&memory), 5, false)).expect("it writes");
            assert!(read(&disk, 5, 21) == content);
            block_on(disk.read_vectored(&back.buffer(&memory), 5)).expect("it reads");
            let mut found = Vec::new();
            for range in awkward(1 << 20, sector) {
                let mut part = vec![0; range.len];
                memory.read_at(range.address, &mut part).expect("inside");
                found.extend(part);
            }
            assert!(found == content);
        }
    }
}

#[test]
fn a_file_in_memory_can_be_called_direct_and_is_served_at_once() {
    for place in places() {
        if place.file_system != "tmpfs" {
            continue;
        }
        let disk = place.new_disk_by(&direct(true, 512), "disk.raw", 1 << 20);
        write(&disk, 3, &[7; 512]);
        assert_eq!(read(&disk, 3, 1), [7; 512]);
        assert_eq!(inspected(&disk, "counters/reads_at_once"), 1);
    }
}

#[test]
fn a_description_says_whether_it_is_direct_and_by_what() {
    for (place, sector_size) in direct_places() {
        std::fs::write(place.path("disk.raw"), vec![0; 1 << 20]).expect("an image");
        let json = format!(
            r#"{{ "type": "file", "path": "disk.raw", "direct": true, "io_uring": false, "sector_size": {sector_size} }}"#
        );
        let described: Resource<DiskHandleKind> = resource::from_str(&json).expect("a description");
        let resolver = ResourceResolver::linked();
        let context = resolver.context(place.folder.path());
        let wanted = ResolveDiskParameters::new(false);
        let disk = block_on(context.resolve(described, wanted))
            .expect("it is a disk")
            .0;
        assert_eq!(inspected(&disk, "is_direct"), true);
        assert_eq!(inspected(&disk, "io_uring"), false);
    }
}
