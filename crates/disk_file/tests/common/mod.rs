//! Places to put images, and shorthand for requests.
#![allow(dead_code, reason = "each test program uses its part")]

use disk_backend::{Disk, DiskError};
use disk_file::{FileDisk, FileDiskOptions, OpenError};
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Once;
use tempfile::TempDir;

/// A folder on some file system.
pub(crate) struct Place {
    pub(crate) file_system: String,
    pub(crate) folder: TempDir,
}

impl Place {
    fn in_folder(parent: &Path) -> Self {
        let folder = tempfile::tempdir_in(parent).expect("a folder");
        Self {
            file_system: file_system_of(parent),
            folder,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The ways to open a file here, which differ in nothing but speed: through the page cache and past it, by io_uring and on
    /// threads, and at once where that can be. Each with what it is called, and the smallest sector it can have.
    pub(crate) fn ways(&self) -> Vec<(&'static str, FileDiskOptions)> {
        let usual = FileDiskOptions::default();
        if self.file_system == "tmpfs" {
            return vec![("in memory", usual)];
        }
        let handed_over = FileDiskOptions {
            hand_over_writes: true,
            ..usual.clone()
        };
        let threads = FileDiskOptions {
            io_uring: false,
            ..handed_over.clone()
        };
        let mut ways = vec![
            ("at once", usual.clone()),
            ("by io_uring", handed_over),
            ("on threads", threads),
        ];
        if let Some(sector_size) = self.direct_sector_size() {
            for (name, io_uring) in [("direct, by io_uring", true), ("direct, on threads", false)] {
                let way = FileDiskOptions {
                    direct: true,
                    io_uring,
                    sector_size,
                    ..usual.clone()
                };
                ways.push((name, way));
            }
        }
        for (name, way) in &ways {
            self.expect_to_go(name, way);
        }
        ways
    }

    /// Fails where a disk would not go the way it is said: then a test of it would be one of something else.
    fn expect_to_go(&self, name: &str, way: &FileDiskOptions) {
        let path = self.path("which-way.raw");
        std::fs::write(&path, [0; 4096]).expect("an image");
        let disk = open(&path, way).expect("it opens");
        assert_eq!(inspected(&disk, "io_uring"), way.io_uring, "{name}");
        assert_eq!(inspected(&disk, "is_direct"), way.direct, "{name}");
        let is_here = !way.hand_over_writes && !way.direct;
        assert_eq!(inspected(&disk, "may_write_here"), is_here, "{name}");
    }

    /// The smallest sector that a direct disk can have here, none if there are no direct disks.
    pub(crate) fn direct_sector_size(&self) -> Option<u32> {
        let path = self.path("direct-or-not.raw");
        std::fs::write(&path, [0; 4096]).expect("an image");
        [512, 4096].into_iter().find(|&sector_size| {
            let options = FileDiskOptions {
                direct: true,
                sector_size,
                ..Default::default()
            };
            match FileDisk::open(&path, &options) {
                Ok(_) => true,
                Err(
                    OpenError::DirectUnsupported(_) | OpenError::SectorSmallerThanDirect { .. },
                ) => false,
                Err(error) => panic!("{error}"),
            }
        })
    }

    /// Opens a new image of zeros.
    pub(crate) fn new_disk(&self, name: &str, size_bytes: u64, sector_size: u32) -> Disk {
        let way = FileDiskOptions {
            sector_size,
            ..Default::default()
        };
        self.new_disk_by(&way, name, size_bytes)
    }

    /// The same, the way it is said, sectors included.
    pub(crate) fn new_disk_by(&self, way: &FileDiskOptions, name: &str, size_bytes: u64) -> Disk {
        let options = FileDiskOptions {
            create: true,
            size_bytes: Some(size_bytes),
            ..way.clone()
        };
        open(&self.path(name), &options).expect("a new image")
    }
}

/// The folder for temporary files, and memory if the system has a folder there; each with its kind of file system.
pub(crate) fn places() -> Vec<Place> {
    let mut places = vec![Place::in_folder(&std::env::temp_dir())];
    let memory = Path::new("/dev/shm");
    if memory.is_dir() && file_system_of(memory) == "tmpfs" {
        places.push(Place::in_folder(memory));
    }
    // Once for each test program: what the facts that follow hold for.
    static ARE_NAMED: Once = Once::new();
    ARE_NAMED.call_once(|| {
        let names: Vec<_> = places
            .iter()
            .map(|place| place.file_system.as_str())
            .collect();
        say(&format!("images are put on: {}", names.join(", ")));
    });
    places
}

fn file_system_of(path: &Path) -> String {
    let magic = rustix::fs::statfs(path).expect("it exists").f_type;
    match magic {
        0x0102_1994 => "tmpfs".to_owned(),
        0xef53 => "ext4".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x9123_683e => "btrfs".to_owned(),
        0x794c_7630 => "overlayfs".to_owned(),
        other => format!("file system {other:#x}"),
    }
}

pub(crate) fn open(path: &Path, options: &FileDiskOptions) -> Result<Disk, OpenError> {
    FileDisk::open(path, options).map(|disk| Disk::new(disk).expect("valid metadata"))
}

/// The message of an open that must fail.
pub(crate) fn refusal(path: &Path, options: &FileDiskOptions) -> String {
    open(path, options)
        .expect_err("it must be refused")
        .to_string()
}

pub(crate) fn read(disk: &Disk, sector: u64, count: u64) -> Vec<u8> {
    let mut bytes = vec![0xee; (count * u64::from(disk.sector_size())) as usize];
    block_on(disk.read_vectored(&HostBuffers::from_mut(&mut bytes).buffers(), sector))
        .expect("it reads");
    bytes
}

pub(crate) fn write(disk: &Disk, sector: u64, bytes: &[u8]) {
    try_write(disk, sector, bytes).expect("it writes");
}

pub(crate) fn try_write(disk: &Disk, sector: u64, bytes: &[u8]) -> Result<(), DiskError> {
    block_on(disk.write_vectored(&HostBuffers::from_ref(bytes).buffers(), sector, false))
}

/// A value of the inspection tree.
pub(crate) fn inspected(disk: &Disk, path: &str) -> serde_json::Value {
    block_on(inspect::inspect(path, None, disk)).expect("it is in the tree")
}

/// Whether the program is there; if not, the calling test is to return, and has been reported as skipped. With `CI=true` that
/// is a failure.
#[track_caller]
pub(crate) fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !is_there {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "a peer is missing: {program}"
        );
        report_skipped(&format!("needs {program}: install it"));
    }
    is_there
}

/// Reports that the calling test did not run, to whoever collects such reports, and past the runner, which swallows the output
/// of what passes.
#[track_caller]
pub(crate) fn report_skipped(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test").to_owned();
    if let Some(report) = std::env::var_os("PLATTER_SKIP_REPORT") {
        let file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(report);
        file.and_then(|mut file| file.write_all(format!("{test} {reason}\n").as_bytes()))
            .expect("the report takes it");
    }
    say(&format!("skipped: {test} {reason}"));
}

/// Prints a line that the runner does not swallow.
fn say(line: &str) {
    std::io::stderr()
        .write_all(format!("{line}\n").as_bytes())
        .expect("standard error takes it");
}
