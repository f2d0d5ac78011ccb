//! The blocking adapter, proved by what it is for: a file system library formats a disk through it and keeps files there, and
//! mtools and fsck.fat, which know nothing of it, find them over NBD.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use disk_backend::sync_wrapper::BlockingDisk;
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use futures_lite::future::block_on;

use crate::support::{Daemon, KIB, MIB, Random, assert_same_bytes, peers, read, run, write};

/// Files by their path, `/` between its parts.
type Files = BTreeMap<String, Vec<u8>>;

/// Folders of several levels, files that are empty, end inside a sector, at the end of one and far beyond a cluster, and more of
/// them in one folder than a cluster of it can name. Their names are such that all agree on how they are shown.
fn files(volume: &Volume) -> Files {
    let mut files = Files::new();
    let mut random = Random::new(7);
    let mut add = |name: String, len: u64| {
        let bytes = random.bytes(len);
        files.insert(name, bytes);
    };
    add("EMPTY.TXT".into(), 0);
    add("ONEBYTE".into(), 1);
    add("A/B/C/D/DEEPDOWN.BIN".into(), 511);
    add("A/SECTOR".into(), 512);
    add("A/ABITMORE.BIN".into(), 513);
    add(
        "LARGE/REST.BIN".into(),
        (volume.size_bytes / 3).min(2 * MIB) + 5,
    );
    for number in 0..120 {
        add(format!("MANY/FILE{number}.TXT"), number * 7);
    }
    let readme = "A disk is a list of sectors.\n".repeat(40);
    files.insert("A/README".into(), readme.into());
    if volume.fat_type == FatType::Fat32 {
        // The library gives a folder below the root of FAT32 a `..` that fsck.fat rejects.
        let last = |name: &str| name.rsplit('/').next().expect("there is one").to_owned();
        files = files
            .into_iter()
            .map(|(name, bytes)| (last(&name), bytes))
            .collect();
    }
    files
}

/// What is made, and of what.
struct Volume {
    size_bytes: u64,
    /// Of the disk; the file system's sectors have 512 bytes, so larger ones are changed by parts.
    sector_size: u32,
    fat_type: FatType,
}

const VOLUMES: [Volume; 4] = [
    Volume {
        size_bytes: 1440 * KIB,
        sector_size: 512,
        fat_type: FatType::Fat12,
    },
    Volume {
        size_bytes: 16 * MIB,
        sector_size: 512,
        fat_type: FatType::Fat16,
    },
    Volume {
        size_bytes: 16 * MIB,
        sector_size: 4096,
        fat_type: FatType::Fat16,
    },
    Volume {
        size_bytes: 40 * MIB,
        sector_size: 65536,
        fat_type: FatType::Fat32,
    },
];

impl Volume {
    /// The image at `path` as a file of bytes.
    fn open(&self, path: &Path, create: bool) -> BlockingDisk {
        let mut json = serde_json::json!({
            "type": "file",
            "path": path,
            "sector_size": self.sector_size,
        });
        if create {
            json["create"] = true.into();
            json["size"] = self.size_bytes.into();
        }
        let disk = block_on(disk_resolver::open_disk(&json.to_string(), "/", false));
        BlockingDisk::new(disk.expect("it opens"))
    }

    /// Formats it, and fills it with `files`.
    fn make(&self, path: &Path, files: &Files) {
        let mut device = self.open(path, true);
        let options = FormatVolumeOptions::new()
            .fat_type(self.fat_type)
            .bytes_per_cluster(if self.fat_type == FatType::Fat16 {
                2048
            } else {
                512
            })
            .volume_id(0x1234_5678)
            .volume_label(*b"PLATTER    ");
        fatfs::format_volume(&mut device, options).expect("it is formatted");
        device.seek(SeekFrom::Start(0)).expect("there is a start");
        let file_system = FileSystem::new(device, FsOptions::new()).expect("it was formatted");
        assert_eq!(file_system.fat_type(), self.fat_type);
        for (name, bytes) in files {
            let mut folder = file_system.root_dir();
            let (folders, name) = name.rsplit_once('/').unwrap_or(("", name));
            for one in folders.split('/').filter(|one| !one.is_empty()) {
                folder = folder.create_dir(one).expect("a folder can be made");
            }
            let mut file = folder.create_file(name).expect("a file can be made");
            // Lengths that never meet the end of a sector, but by chance.
            for piece in bytes.chunks(3001) {
                file.write_all(piece).expect("there is room");
            }
            file.flush().expect("it is flushed");
        }
        file_system.unmount().expect("it is unmounted");
    }
}

/// All files, as mtools finds them in `image`.
fn files_by_mtools(mcopy: &Path, image: &Path, folder: &Path) -> Files {
    std::fs::create_dir(folder).expect("a folder can be made");
    run(Command::new(mcopy)
        .env("LC_ALL", "C.UTF-8")
        .args(["-s", "-n", "-Q", "-i"])
        .arg(image)
        .arg("::/")
        .arg(folder));
    let mut files = Files::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(next).expect("a folder can be listed") {
            let path = entry.expect("a folder can be listed").path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("it is below");
                let name = name.to_str().expect("all names are UTF-8");
                files.insert(name.to_owned(), read(&path));
            }
        }
    }
    files
}

#[track_caller]
fn assert_same_files(found: &Files, expected: &Files) {
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (name, bytes) in expected {
        assert!(&found[name] == bytes, "{name} has other bytes");
    }
}

/// Fills a volume through the adapter, and lets others judge it.
fn check(volume: &Volume, [mdir, mcopy, mtype, fsck, nbdcopy]: &[PathBuf; 5]) {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("fat.raw");
    let files = files(volume);
    volume.make(&image, &files);

    let daemon = Daemon::serve_in(folder, ["--layer", "ram", "--layer", "file:fat.raw,ro"]);
    let back = daemon.folder().join("back.raw");
    run(Command::new(nbdcopy).arg(daemon.uri()).arg(&back));
    run(Command::new(fsck).arg("-n").arg(&back));
    let folder = if files.contains_key("README") {
        ""
    } else {
        "A/"
    };
    let listing = run(Command::new(mdir)
        .arg("-i")
        .arg(&back)
        .arg(format!("::/{folder}")));
    assert!(listing.contains("PLATTER"), "no label in:\n{listing}");
    let sizes = ["ABITMORE BIN       513", "SECTOR             512"];
    let is_listed = sizes.iter().all(|line| listing.contains(line));
    assert!(is_listed, "not these files:\n{listing}");
    let readme = format!("{folder}README");
    let typed = run(Command::new(mtype)
        .arg("-i")
        .arg(&back)
        .arg(format!("::/{readme}")));
    assert_eq!(typed.as_bytes(), files[&readme]);
    let found = files_by_mtools(mcopy, &back, &daemon.folder().join("found"));
    assert_same_files(&found, &files);

    // The other way round: what mtools adds, the library reads through the adapter.
    let (source, content) = (daemon.folder().join("source"), Random::new(8).bytes(10_007));
    write(&source, &content);
    run(Command::new(mcopy)
        .arg("-i")
        .arg(&back)
        .arg(&source)
        .arg(format!("::/{folder}ADDED.BIN")));
    let file_system = FileSystem::new(volume.open(&back, false), FsOptions::new());
    let file_system = file_system.expect("a file system");
    let mut added = Vec::new();
    file_system
        .root_dir()
        .open_file(&format!("{folder}ADDED.BIN"))
        .expect("it is there")
        .read_to_end(&mut added)
        .expect("it reads");
    assert_same_bytes(&added, &content);
    daemon.stop();
}

#[test]
fn a_file_system_made_through_the_blocking_adapter_is_sound_to_others_over_nbd() {
    let Some(tools) = peers(["mdir", "mcopy", "mtype", "fsck.fat", "nbdcopy"]) else {
        return;
    };
    for volume in &VOLUMES {
        check(volume, &tools);
    }
}
