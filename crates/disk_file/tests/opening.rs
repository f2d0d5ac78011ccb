//! What can be opened, what is refused, and what the refusal says.

mod common;

use common::{inspected, open, places, read, refusal, write};
use disk_backend::resolve::{DiskHandleKind, ResolveDiskParameters};
use disk_backend::{DiskError, Persistence, UnmapBehavior};
use disk_file::{FileDiskHandle, FileDiskOptions, OpenError};
use futures_lite::future::block_on;
use resource::{Resource, ResourceResolver};
use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::path::Path;

fn read_only() -> FileDiskOptions {
    FileDiskOptions {
        read_only: true,
        ..Default::default()
    }
}

fn create(size_bytes: u64) -> FileDiskOptions {
    FileDiskOptions {
        create: true,
        size_bytes: Some(size_bytes),
        ..Default::default()
    }
}

fn file_of_size(path: &Path, size_bytes: u64) {
    File::create(path)
        .and_then(|file| file.set_len(size_bytes))
        .expect("a file");
}

#[test]
fn a_missing_file_is_refused_with_the_way_to_make_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("missing.raw");
    let message = refusal(&path, &FileDiskOptions::default());
    assert!(
        message.contains("missing.raw") && message.contains("create=true,size="),
        "{message}"
    );
    assert!(!path.exists());
}

#[test]
fn what_is_no_file_is_refused_by_its_kind() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .expect("a pipe");
    let socket = folder.path().join("socket");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    for (path, kind) in [
        (folder.path(), "directory"),
        (&pipe, "pipe"),
        (&socket, "socket"),
        (Path::new("/dev/null"), "character device"),
    ] {
        for options in [FileDiskOptions::default(), read_only()] {
            let message = refusal(path, &options);
            assert!(message.contains(&format!("this is a {kind}")), "{message}");
        }
    }
}

#[test]
fn a_size_that_is_no_multiple_of_the_sector_size_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("odd.raw");
    file_of_size(&path, 10_000);
    let message = refusal(&path, &FileDiskOptions::default());
    assert!(
        message.contains("10000 bytes are no multiple of the sector size of 512"),
        "{message}"
    );
    assert!(message.contains("truncate -s %512"), "{message}");
    file_of_size(&path, 512 * 7);
    let message = refusal(
        &path,
        &FileDiskOptions {
            sector_size: 4096,
            ..Default::default()
        },
    );
    assert!(message.contains("4096"), "{message}");
    assert_eq!(
        open(&path, &FileDiskOptions::default())
            .expect("it fits now")
            .sector_count(),
        7
    );
}

#[test]
fn an_empty_file_is_no_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("empty.raw");
    file_of_size(&path, 0);
    let message = refusal(&path, &FileDiskOptions::default());
    assert!(message.contains("it is empty"), "{message}");
}

#[test]
fn sector_sizes_that_no_disk_has_are_refused() {
    for sector_size in [0, 1, 256, 513, 131_072, u32::MAX] {
        let message = refusal(
            Path::new("any"),
            &FileDiskOptions {
                sector_size,
                ..Default::default()
            },
        );
        assert!(
            message.contains(&format!("sector size {sector_size} is invalid")),
            "{message}"
        );
    }
}

#[test]
fn a_file_is_created_once_and_then_used_as_it_is() {
    for place in places() {
        let path = place.path("new.raw");
        let disk = open(&path, &create(1 << 20)).expect("created");
        assert_eq!(disk.sector_count(), 2048);
        assert_eq!(read(&disk, 0, 2048), vec![0; 1 << 20]);
        write(&disk, 5, &[7; 512]);
        drop(disk);
        let disk = open(&path, &create(1 << 20)).expect("used");
        assert_eq!(read(&disk, 5, 1), [7; 512]);
        drop(disk);
        let message = refusal(&path, &create(2 << 20));
        assert!(
            message.contains("it exists with 1048576 bytes"),
            "{message}"
        );
        assert_eq!(fs::metadata(&path).expect("it is there").len(), 1 << 20);
        let same_for_reading = FileDiskOptions {
            read_only: true,
            ..create(1 << 20)
        };
        assert!(
            open(&path, &same_for_reading)
                .expect("nothing to create")
                .is_read_only()
        );
    }
}

#[test]
fn a_crash_between_creating_and_sizing_is_made_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("half.raw");
    file_of_size(&path, 0);
    assert_eq!(open(&path, &create(4096)).expect("sized").sector_count(), 8);
}

#[test]
fn wishes_that_contradict_each_other_are_refused_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("none.raw");
    let wishes = [
        (
            FileDiskOptions {
                create: true,
                ..Default::default()
            },
            "needs size=",
        ),
        (
            FileDiskOptions {
                size_bytes: Some(512),
                ..Default::default()
            },
            "add create=true",
        ),
        (
            FileDiskOptions {
                read_only: true,
                ..create(512)
            },
            "read-only disk is not created",
        ),
        (create(0), "size 0 is invalid"),
        (create(1000), "size 1000 is invalid"),
        (create(1 << 63), "above 2^63 - 1"),
        // No file system has room for this; none is asked to allocate it either.
        (create((1 << 63) - 512), "cannot give it its size"),
    ];
    for (options, reason) in wishes {
        let message = refusal(&path, &options);
        assert!(message.contains(reason), "{message}");
        assert!(!path.exists(), "{message}");
    }
}

#[test]
fn a_file_in_a_missing_folder_is_not_created() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("missing/disk.raw");
    assert!(matches!(
        open(&path, &create(512)),
        Err(OpenError::Io { .. })
    ));
}

#[test]
fn the_same_file_is_not_written_twice_in_one_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("disk.raw");
    file_of_size(&path, 4096);
    let writing = open(&path, &FileDiskOptions::default()).expect("nobody uses it");
    for options in [FileDiskOptions::default(), read_only()] {
        let message = refusal(&path, &options);
        assert!(
            message.contains("in use by another disk of this process"),
            "{message}"
        );
    }
    drop(writing);
    let readers = [open(&path, &read_only()), open(&path, &read_only())]
        .map(|reader| reader.expect("readers coexist"));
    let message = refusal(&path, &FileDiskOptions::default());
    assert!(
        message.contains("in use by another disk of this process, which does not share it"),
        "{message}"
    );
    drop(readers);
    open(&path, &FileDiskOptions::default()).expect("all locks are gone");
}

#[test]
fn a_refused_open_leaves_no_lock_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("disk.raw");
    file_of_size(&path, 1000);
    refusal(&path, &FileDiskOptions::default());
    file_of_size(&path, 1024);
    open(&path, &FileDiskOptions::default()).expect("nobody uses it");
}

#[test]
fn metadata_tells_what_the_file_is() {
    for place in places() {
        let disk = place.new_disk("disk.raw", 1 << 20, 4096);
        assert_eq!(
            (disk.disk_type(), disk.sector_size(), disk.sector_count()),
            ("file", 4096, 256)
        );
        assert!(disk.physical_sector_size() >= 4096);
        assert_eq!(
            (disk.persistence(), disk.is_fua_respected()),
            (Persistence::Persistent, true)
        );
        assert_eq!((disk.disk_id(), disk.is_read_only()), (None, false));
        if ["ext4", "tmpfs", "xfs", "btrfs"].contains(&place.file_system.as_str()) {
            assert_eq!(
                disk.unmap_behavior(),
                UnmapBehavior::Zeroes,
                "on {}",
                place.file_system
            );
        }
        assert_eq!(
            inspected(&disk, "path"),
            place.path("disk.raw").display().to_string()
        );
        assert_eq!(inspected(&disk, "size_bytes"), 1 << 20);
        assert_eq!(
            inspected(&disk, "kind"),
            if place.file_system == "tmpfs" {
                "memory_file"
            } else {
                "file"
            }
        );
        assert_eq!(inspected(&disk, "is_locked"), true);
        assert_eq!(inspected(&disk, "counters/reads"), 0);
        read(&disk, 0, 2);
        assert_eq!(inspected(&disk, "counters/reads"), 1);
        assert_eq!(inspected(&disk, "counters/read_bytes"), 8192);
    }
}

#[test]
fn what_is_done_to_the_open_file_is_counted() {
    for place in places() {
        let disk = place.new_disk("disk.raw", 4 << 20, 512);
        let count = |name: &str| {
            let count = inspected(&disk, &format!("counters/file/{name}"));
            count.as_u64().expect("a number")
        };
        // More than is done at once, so it may take several calls.
        let bytes = vec![1; (2 << 20) - 512];
        write(&disk, 1, &bytes);
        assert_eq!(count("written_bytes"), bytes.len() as u64);
        assert!(count("writes") >= 1);
        read(&disk, 1, 4095);
        assert_eq!(count("read_bytes"), bytes.len() as u64);
        assert!(count("reads") >= 1);
        let before = count("allocations");
        block_on(disk.unmap(8, 64, false)).expect("it unmaps");
        let is_punched = disk.unmap_behavior() == UnmapBehavior::Zeroes;
        assert_eq!(count("allocations"), before + u64::from(is_punched));
        assert_eq!([count("read_failures"), count("write_failures")], [0, 0]);
    }
}

#[test]
fn a_read_only_disk_is_never_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("disk.raw");
    fs::write(&path, [3; 4096]).expect("a file");
    let disk = open(&path, &read_only()).expect("it opens");
    assert!(matches!(
        common::try_write(&disk, 0, &[0; 512]),
        Err(DiskError::ReadOnly)
    ));
    assert!(matches!(
        block_on(disk.unmap(0, 1, false)),
        Err(DiskError::ReadOnly)
    ));
    block_on(disk.sync_cache()).expect("there is nothing to flush");
    assert_eq!(read(&disk, 0, 8), [3; 4096]);
}

#[test]
fn waiting_for_another_size_compares_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("disk.raw");
    file_of_size(&path, 4096);
    let disk = open(&path, &FileDiskOptions::default()).expect("it opens");
    assert_eq!(block_on(disk.wait_resize(7)), 8);
    assert!(block_on(futures_lite::future::poll_once(disk.wait_resize(8))).is_none());
}

#[test]
fn a_description_becomes_a_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let resolver = ResourceResolver::linked();
    let resolve = |json: &str, read_only| {
        let described: Resource<DiskHandleKind> = resource::from_str(json).expect("a description");
        block_on(
            resolver
                .context(folder.path())
                .resolve(described, ResolveDiskParameters::new(read_only)),
        )
    };
    let disk = resolve(
        r#"{ "type": "file", "path": "d.raw", "create": true, "size": "1M" }"#,
        false,
    )
    .expect("created")
    .0;
    assert_eq!((disk.sector_count(), disk.is_read_only()), (2048, false));
    drop(disk);
    assert!(
        folder.path().join("d.raw").exists(),
        "relative to the description"
    );
    let disk = resolve(
        r#"{ "type": "file", "path": "d.raw", "sector_size": 4096 }"#,
        true,
    )
    .expect("opened")
    .0;
    assert_eq!((disk.sector_count(), disk.is_read_only()), (256, true));
    let wrong = [
        (r#"{ "type": "file", "path": "nope.raw" }"#, "path: "),
        (
            r#"{ "type": "file", "path": "d.raw", "sector_size": 100 }"#,
            "sector_size: ",
        ),
        (
            r#"{ "type": "file", "path": "new.raw", "create": true }"#,
            "create: ",
        ),
        (
            r#"{ "type": "file", "path": "d.raw", "size": 512 }"#,
            "size: ",
        ),
        (
            r#"{ "type": "file", "path": "d.raw", "readonly": true }"#,
            "read_only",
        ),
    ];
    for (json, named) in wrong {
        let message = resolve(json, true).expect_err("it is wrong").to_string();
        assert!(message.contains(named), "{json}: {message}");
    }
    let described = Resource::new(&FileDiskHandle::new("d.raw"));
    block_on(
        resolver
            .context(folder.path())
            .resolve(described, ResolveDiskParameters::new(true)),
    )
    .expect("opened");
}
