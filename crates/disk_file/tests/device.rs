//! Block devices, where a loop device can be had.

mod common;

use common::{have, open, read, refusal, report_skipped, write};
use disk_backend::DiskError;
use disk_file::FileDiskOptions;
use futures_lite::future::block_on;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const SIZE_BYTES: u64 = 16 << 20;

/// A loop device over a file, until it is dropped.
struct LoopDevice {
    device: PathBuf,
    folder: TempDir,
}

impl LoopDevice {
    /// With sectors of 512 bytes. None where this is not allowed, which has been reported then.
    #[track_caller]
    fn new() -> Option<Self> {
        Self::with_sectors("512")
    }

    /// As [`new`](Self::new).
    #[track_caller]
    fn with_sectors(sector_size: &str) -> Option<Self> {
        if !have("losetup") {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("backing");
        std::fs::File::create(&file)
            .and_then(|file| file.set_len(SIZE_BYTES))
            .expect("a file");
        let output = Command::new("losetup")
            .args(["--find", "--show", "--sector-size", sector_size])
            .arg(&file)
            .output()
            .expect("losetup starts");
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            report_skipped(&format!(
                "needs a loop device: {}",
                said.trim_end().replace('\n', "; ")
            ));
            return None;
        }
        let device = PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim_end());
        Some(Self { device, folder })
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let is_gone = run("losetup", &[Path::new("--detach"), &self.device]);
        // In a failing test, its own message is the one to see.
        assert!(
            is_gone || std::thread::panicking(),
            "{} stays behind",
            self.device.display()
        );
    }
}

fn run(program: &str, arguments: &[&Path]) -> bool {
    Command::new(program)
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}

#[test]
fn a_device_is_read_written_unmapped_and_zeroed() {
    let Some(device) = LoopDevice::new() else {
        return;
    };
    let disk = open(&device.device, &FileDiskOptions::default()).expect("nobody uses it");
    assert_eq!(disk.sector_count(), SIZE_BYTES / 512);
    assert_eq!(common::inspected(&disk, "kind"), "block_device");
    // Whoever serves it may need the thread that polls.
    assert_eq!(common::inspected(&disk, "may_write_here"), false);
    let content: Vec<u8> = (0..1_u32 << 20).map(|i| (i / 512 * 5) as u8).collect();
    write(&disk, 8, &content);
    assert!(read(&disk, 8, 2048) == content);
    block_on(disk.sync_cache()).expect("it flushes");
    if disk.unmap_behavior() == disk_backend::UnmapBehavior::Zeroes {
        block_on(disk.unmap(8, 1024, false)).expect("it unmaps");
        assert!(read(&disk, 8, 1024) == vec![0; 1024 * 512]);
        assert!(read(&disk, 1032, 1024) == content[1024 * 512..]);
    }
    let quick = block_on(disk.write_zeroes(1032, 512, true, true, true));
    assert!(
        quick.is_ok() || matches!(quick, Err(DiskError::Unsupported)),
        "{quick:?}"
    );
    block_on(disk.write_zeroes(1032, 512, true, false, false)).expect("it zeroes");
    assert!(read(&disk, 1032, 512) == vec![0; 512 * 512]);
    assert!(read(&disk, 1544, 512) == content[1536 * 512..]);
    // A device does not say where its holes are.
    let status = block_on(disk.block_status(0, disk.sector_count())).expect("status");
    assert_eq!(status.sector_count(), disk.sector_count());
}

#[test]
fn a_device_that_grows_is_noticed_and_is_not_resized_by_us() {
    let Some(device) = LoopDevice::new() else {
        return;
    };
    let disk = open(&device.device, &FileDiskOptions::default()).expect("nobody uses it");
    assert_eq!(common::inspected(&disk, "is_watched"), false);
    let refusal = block_on(disk.resize(8));
    assert!(
        matches!(refusal, Err(DiskError::Unsupported)),
        "{refusal:?}"
    );
    let backing = std::fs::File::options()
        .write(true)
        .open(device.folder.path().join("backing"))
        .expect("it is there");
    backing.set_len(2 * SIZE_BYTES).expect("it grows");
    assert!(run(
        "losetup",
        &[Path::new("--set-capacity"), &device.device]
    ));
    let before = SIZE_BYTES / 512;
    assert_eq!(block_on(disk.wait_resize(before)), 2 * before);
    write(&disk, 2 * before - 1, &[7; 512]);
    assert!(read(&disk, 2 * before - 1, 1) == [7; 512]);
}

#[test]
fn a_device_is_written_by_one_or_read_by_many() {
    let Some(device) = LoopDevice::new() else {
        return;
    };
    let read_only = FileDiskOptions {
        read_only: true,
        ..Default::default()
    };
    let writer = open(&device.device, &FileDiskOptions::default()).expect("nobody uses it");
    refusal(&device.device, &FileDiskOptions::default());
    refusal(&device.device, &read_only);
    drop(writer);
    let _readers = [(); 2].map(|()| open(&device.device, &read_only).expect("readers coexist"));
    refusal(&device.device, &FileDiskOptions::default());
}

#[test]
fn a_mounted_device_is_refused() {
    let Some(device) = LoopDevice::new() else {
        return;
    };
    if !have("mke2fs") {
        return;
    }
    assert!(run("mke2fs", &[Path::new("-q"), &device.device]));
    let mount_point = device.folder.path().join("mounted");
    std::fs::create_dir(&mount_point).expect("a folder");
    if !run("mount", &[&device.device, &mount_point]) {
        report_skipped("needs the right to mount");
        return;
    }
    let messages = [true, false].map(|read_only| {
        open(
            &device.device,
            &FileDiskOptions {
                read_only,
                ..Default::default()
            },
        )
        .map_err(|error| error.to_string())
    });
    assert!(run("umount", &[&mount_point]), "the mount stays behind");
    for message in messages {
        let message = message.expect_err("it is mounted");
        assert!(
            message.contains(&format!("mounted at {}", mount_point.display())),
            "{message}"
        );
    }
    open(&device.device, &FileDiskOptions::default()).expect("it is mounted no longer");
}

/// The ways to use what is no memory: through the page cache and past it, with and without io_uring.
fn ways(sector_size: u32) -> impl Iterator<Item = FileDiskOptions> {
    [false, true].into_iter().flat_map(move |direct| {
        [(true, false), (true, true), (false, true)].map(|(io_uring, hand_over_writes)| {
            FileDiskOptions {
                sector_size,
                direct,
                io_uring,
                hand_over_writes,
                ..Default::default()
            }
        })
    })
}

/// Writes and reads whole sectors here and there, from memory that begins at an odd address, and unmaps some.
fn use_all_over(path: &Path, way: &FileDiskOptions) {
    let disk = open(path, way).expect("nobody uses it");
    assert_eq!(common::inspected(&disk, "is_direct"), way.direct);
    let sector_bytes = way.sector_size as usize;
    let mut expected = vec![0; (disk.sector_count() as usize * sector_bytes).min(1 << 20)];
    let sector_count = (expected.len() / sector_bytes) as u64;
    write(&disk, 0, &expected);
    for round in 1..40_u64 {
        let sector = (round * 37) % sector_count;
        let count = (1 + round % 9).min(sector_count - sector);
        let range = sector as usize * sector_bytes..(sector + count) as usize * sector_bytes;
        let content: Vec<u8> = (0..=range.len())
            .map(|at| (at as u64 / 7 + round) as u8)
            .collect();
        write(&disk, sector, &content[1..]);
        expected[range].copy_from_slice(&content[1..]);
        if round % 8 == 0 && disk.unmap_behavior() == disk_backend::UnmapBehavior::Zeroes {
            block_on(disk.unmap(sector, 1, false)).expect("it unmaps");
            expected[sector as usize * sector_bytes..][..sector_bytes].fill(0);
        }
    }
    block_on(disk.sync_cache()).expect("it flushes");
    assert!(read(&disk, 0, sector_count) == expected, "{way:?}");
    drop(disk);
    let again = open(path, way).expect("nobody uses it");
    assert!(read(&again, 0, sector_count) == expected, "{way:?}");
}

#[test]
fn a_device_of_large_sectors_is_used_in_those_and_no_smaller_ones() {
    let Some(device) = LoopDevice::with_sectors("4096") else {
        return;
    };
    for direct in [false, true] {
        let way = FileDiskOptions {
            direct,
            ..Default::default()
        };
        let message = refusal(&device.device, &way);
        assert!(message.contains("4096"), "{message}");
    }
    for sector_size in [4096, 8192] {
        for way in ways(sector_size) {
            use_all_over(&device.device, &way);
        }
    }
}

#[test]
fn a_file_system_of_small_blocks_is_used_in_any_sectors() {
    let Some(device) = LoopDevice::new() else {
        return;
    };
    if !have("mke2fs") {
        return;
    }
    let mount_point = device.folder.path().join("mounted");
    std::fs::create_dir(&mount_point).expect("a folder");
    let arguments = ["-q", "-t", "ext4", "-b", "1024"].map(Path::new);
    assert!(run("mke2fs", &[&arguments[..], &[&device.device]].concat()));
    if !run("mount", &[&device.device, &mount_point]) {
        report_skipped("needs the right to mount");
        return;
    }
    let path = mount_point.join("image");
    let outcome = std::panic::catch_unwind(|| {
        for sector_size in [512, 1024, 4096, 16384] {
            for way in ways(sector_size) {
                // A hole, so that space is given out as it is written.
                let file = std::fs::File::create(&path).expect("a file");
                file.set_len(1 << 20).expect("it is sparse");
                drop(file);
                use_all_over(&path, &way);
            }
        }
    });
    assert!(run("umount", &[&mount_point]), "the mount stays behind");
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}
