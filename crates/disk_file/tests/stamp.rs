//! What stands for the content of an image.

mod common;

use common::{open, places, write};
use disk_file::FileDiskOptions;
use std::fs::{self, File, FileTimes};
use std::path::Path;
use std::time::{Duration, SystemTime};

fn read_only() -> FileDiskOptions {
    FileDiskOptions {
        read_only: true,
        ..Default::default()
    }
}

fn stamp(path: &Path) -> String {
    let stamp = open(path, &read_only()).unwrap().content_stamp();
    stamp.expect("it has a stamp").to_string()
}

fn touch(path: &Path, since_1970: Duration) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + since_1970)
        .unwrap();
}

#[test]
fn it_is_the_time_of_the_last_change_to_the_nanosecond() {
    for place in places() {
        let path = place.path("disk.raw");
        fs::write(&path, [1; 4096]).unwrap();
        touch(&path, Duration::new(1_700_000_000, 1));
        assert_eq!(stamp(&path), "modified 1700000000.000000001");
        touch(&path, Duration::new(1_700_000_000, 2));
        assert_eq!(stamp(&path), "modified 1700000000.000000002");
    }
}

#[test]
fn it_stays_with_the_content_wherever_that_goes() {
    for place in places() {
        let (path, moved, copy) = (place.path("a"), place.path("b"), place.path("c"));
        fs::write(&path, [1; 4096]).unwrap();
        let before = stamp(&path);
        // Neither looking at it, nor another name or other rights.
        fs::read(&path).unwrap();
        fs::rename(&path, &moved).unwrap();
        let mut permissions = fs::metadata(&moved).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&moved, permissions).unwrap();
        assert_eq!(stamp(&moved), before);
        // A copy with its times.
        fs::write(&copy, [1; 4096]).unwrap();
        let modified = fs::metadata(&moved).unwrap().modified().unwrap();
        let times = FileTimes::new().set_modified(modified);
        let file = File::options().write(true).open(&copy).unwrap();
        file.set_times(times).unwrap();
        assert_eq!(stamp(&copy), before);
    }
}

#[test]
fn a_change_by_whatever_program_is_another_one() {
    for place in places() {
        let path = place.path("disk.raw");
        fs::write(&path, [1; 4096]).unwrap();
        touch(&path, Duration::from_secs(1));
        let before = stamp(&path);
        let disk = open(&path, &FileDiskOptions::default()).unwrap();
        write(&disk, 0, &[2; 512]);
        drop(disk);
        assert_ne!(stamp(&path), before);
    }
}

#[test]
fn it_stays_if_who_may_write_does_not() {
    for place in places() {
        let path = place.path("disk.raw");
        fs::write(&path, [1; 4096]).unwrap();
        touch(&path, Duration::from_secs(1));
        let before = stamp(&path);
        drop(open(&path, &FileDiskOptions::default()).unwrap());
        assert_eq!(stamp(&path), before);
    }
}

#[test]
fn what_may_be_written_has_none() {
    for place in places() {
        let path = place.path("disk.raw");
        fs::write(&path, [1; 4096]).unwrap();
        let disk = open(&path, &FileDiskOptions::default()).unwrap();
        assert_eq!(disk.content_stamp(), None);
    }
}
