//! A file system without room, where one can be mounted.

mod common;

use common::{have, inspected, read, report_skipped, try_write, write};
use disk_backend::{Disk, DiskError};
use disk_file::{FileDisk, FileDiskOptions};
use futures_lite::future::block_on;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A file system in memory, until it is dropped. Declared before the disks in it, so that they are closed by then.
struct SmallFileSystem {
    folder: TempDir,
}

impl SmallFileSystem {
    /// None where this is not allowed, which has been reported then.
    #[track_caller]
    fn new(size_bytes: u64) -> Option<Self> {
        if !have("mount") {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size_bytes}"), "tmpfs"])
            .arg(folder.path())
            .output()
            .expect("mount starts");
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            report_skipped(&format!("needs to mount: {}", said.trim_end()));
            return None;
        }
        Some(Self { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        // Not before it is idle: what other tests start has our files open, too, until it has become another program.
        let output = Command::new("umount")
            .arg("--lazy")
            .arg(self.path())
            .output();
        // In a failing test, its own message is the one to see.
        assert!(
            output.is_ok_and(|output| output.status.success()) || std::thread::panicking(),
            "{} stays behind",
            self.path().display()
        );
    }
}

/// A disk that is larger than its file system has room for.
fn large_disk(place: &SmallFileSystem, sector_size: u32) -> Disk {
    let options = FileDiskOptions {
        create: true,
        size_bytes: Some(16 << 20),
        sector_size,
        ..Default::default()
    };
    let disk = FileDisk::open(&place.path().join("disk.raw"), &options).expect("it is sparse");
    Disk::new(disk).expect("valid metadata")
}

#[test]
fn a_write_without_room_changes_each_sector_wholly_or_not_at_all() {
    for sector_size in [512, 4096, 16384, 65536] {
        let Some(place) = SmallFileSystem::new(164 << 10) else {
            return;
        };
        let disk = large_disk(&place, sector_size);
        let count = (256 << 10) / sector_size;
        let bytes = vec![7; (count * sector_size) as usize];
        let refused = try_write(&disk, 0, &bytes);
        assert!(matches!(refused, Err(DiskError::NoSpace)), "{refused:?}");
        let found = read(&disk, 0, count.into());
        for (sector, content) in found.chunks(sector_size as usize).enumerate() {
            let first = content[0];
            assert!(
                content.iter().all(|byte| *byte == first) && [0, 7].contains(&first),
                "sector {sector} of {sector_size} bytes is torn"
            );
        }
    }
}

#[test]
fn a_disk_without_room_heals_when_space_returns() {
    let Some(place) = SmallFileSystem::new(164 << 10) else {
        return;
    };
    let disk = large_disk(&place, 65536);
    for sector in [0, 1] {
        write(&disk, sector, &[7; 65536]);
    }
    let refused = try_write(&disk, 2, &[8; 65536]);
    assert!(matches!(refused, Err(DiskError::NoSpace)), "{refused:?}");
    assert_eq!(read(&disk, 2, 1), [0; 65536]);
    write(&disk, 1, &[9; 65536]);
    block_on(disk.sync_cache()).expect("what was refused is in nobody's way");
    block_on(disk.unmap(0, 1, false)).expect("it gives space back");
    write(&disk, 2, &[8; 65536]);
    assert_eq!(read(&disk, 0, 1), [0; 65536]);
    assert_eq!(read(&disk, 1, 1), [9; 65536]);
    assert_eq!(read(&disk, 2, 1), [8; 65536]);
}

#[test]
fn a_write_without_room_has_failed_once() {
    let Some(place) = SmallFileSystem::new(164 << 10) else {
        return;
    };
    let disk = large_disk(&place, 512);
    // By the page, which is tried first, until there are no more.
    let refused = (0..100).find_map(|page| try_write(&disk, page * 8, &[7; 4096]).err());
    assert!(matches!(refused, Some(DiskError::NoSpace)), "{refused:?}");
    assert_eq!(inspected(&disk, "counters/file/write_failures"), 1);
    // More than a page.
    let refused = try_write(&disk, 4096, &[7; 8192]);
    assert!(matches!(refused, Err(DiskError::NoSpace)), "{refused:?}");
    assert_eq!(inspected(&disk, "counters/file/write_failures"), 2);
}
