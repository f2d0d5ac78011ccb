//! The blocking adapter at the edges: of sectors, of the disk, of its own life.

mod recording;

use disk_backend::sync_wrapper::BlockingDisk;
use disk_backend::{Disk, DiskError};
use disk_contract::{DiskSpec, ReferenceDisk};
use futures_lite::future::block_on;
use recording::{Record, RecordingDisk};
use scsi_buffers::HostBuffers;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::sync::atomic::Ordering;

const SECTOR_SIZE: usize = 512;
const SECTOR_COUNT: usize = 16;
const LEN: usize = SECTOR_SIZE * SECTOR_COUNT;

/// A disk whose bytes all differ from their neighbours, and those bytes.
fn patterned() -> (Disk, Vec<u8>) {
    let bytes: Vec<u8> = (0..LEN).map(|at| (at * 7 + at / 256) as u8).collect();
    let mut spec = DiskSpec::new(SECTOR_COUNT as u64, SECTOR_SIZE as u32);
    spec.content.copy_from_slice(&bytes);
    (Disk::new(ReferenceDisk::new(spec)).unwrap(), bytes)
}

/// What the disk holds, past the adapter.
fn content(disk: &Disk) -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    let host = HostBuffers::from_mut(&mut bytes);
    block_on(disk.read_vectored(&host.buffers(), 0)).unwrap();
    drop(host);
    bytes
}

fn at(disk: &Disk, position: u64) -> BlockingDisk {
    let mut file = BlockingDisk::new(disk.clone());
    file.seek(SeekFrom::Start(position)).unwrap();
    file
}

#[test]
fn whole_sectors_of_bytes_from_inside_a_sector_are_the_right_ones() {
    for (position, len) in [(1, 512), (511, 512), (100, 1024), (700, 4096), (513, 512)] {
        let (disk, mut bytes) = patterned();
        let range = position..position + len;
        let mut found = vec![0; len];
        at(&disk, position as u64).read_exact(&mut found).unwrap();
        assert!(found == bytes[range.clone()], "reading {len} at {position}");

        let new: Vec<u8> = (0..len).map(|at| (at * 3 + 1) as u8).collect();
        at(&disk, position as u64).write_all(&new).unwrap();
        bytes[range].copy_from_slice(&new);
        assert!(content(&disk) == bytes, "writing {len} at {position}");
    }
}

#[test]
fn calls_that_end_or_begin_at_the_edge_of_a_sector_leave_its_neighbours_alone() {
    for range in [
        0..512,
        512..1024,
        0..1,
        511..512,
        512..513,
        511..513,
        0..LEN,
    ] {
        let (disk, mut bytes) = patterned();
        let new = vec![0xa5; range.len()];
        at(&disk, range.start as u64).write_all(&new).unwrap();
        bytes[range.clone()].fill(0xa5);
        assert!(content(&disk) == bytes, "writing {range:?}");
    }
}

#[test]
fn the_end_of_the_disk_is_no_error_and_what_lies_before_it_is_moved() {
    let (disk, mut bytes) = patterned();
    let mut file = at(&disk, LEN as u64 - 3);
    let mut found = [0; 10];
    assert_eq!(file.read(&mut found).unwrap(), 3);
    assert_eq!(found[..3], bytes[LEN - 3..]);
    assert_eq!(file.read(&mut found).unwrap(), 0);
    file.seek(SeekFrom::End(-2)).unwrap();
    assert_eq!(file.write(&[1; 10]).unwrap(), 2);
    assert_eq!(file.write(&[1; 10]).unwrap(), 0);
    let error = file.write_all(&[1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WriteZero);
    drop(file);
    bytes[LEN - 2..].fill(1);
    assert!(content(&disk) == bytes);
}

#[test]
fn seeking_before_the_beginning_is_refused_and_the_position_stays() {
    let (disk, _) = patterned();
    let mut file = BlockingDisk::new(disk);
    for (from, to) in [
        (0, SeekFrom::Current(-1)),
        (5, SeekFrom::Current(-6)),
        (5, SeekFrom::Current(i64::MIN)),
        (5, SeekFrom::End(-(LEN as i64) - 1)),
        (5, SeekFrom::End(i64::MIN)),
    ] {
        file.seek(SeekFrom::Start(from)).unwrap();
        let error = file.seek(to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(file.stream_position().unwrap(), from);
    }
    assert_eq!(file.seek(SeekFrom::End(-(LEN as i64))).unwrap(), 0);
}

#[test]
fn a_sector_changed_in_part_survives_a_seek() {
    let (disk, mut bytes) = patterned();
    let mut file = at(&disk, 10);
    file.write_all(&[1, 2, 3]).unwrap();
    file.seek(SeekFrom::Start(5000)).unwrap();
    file.write_all(&[4, 5]).unwrap();
    file.seek(SeekFrom::Start(10)).unwrap();
    let mut found = [0; 3];
    file.read_exact(&mut found).unwrap();
    assert_eq!(found, [1, 2, 3]);
    drop(file);
    bytes[10..13].copy_from_slice(&[1, 2, 3]);
    bytes[5000..5002].copy_from_slice(&[4, 5]);
    assert!(content(&disk) == bytes);
}

#[test]
fn whole_sectors_read_what_was_changed_in_part() {
    let (disk, mut bytes) = patterned();
    let mut file = at(&disk, 600);
    file.write_all(&[9; 5]).unwrap();
    bytes[600..605].fill(9);
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut found = vec![0; LEN];
    file.read_exact(&mut found).unwrap();
    assert!(found == bytes);
}

#[test]
fn dropping_it_writes_the_sector_that_was_changed_in_part() {
    let (disk, mut bytes) = patterned();
    let mut file = at(&disk, 1000);
    file.write_all(&[7]).unwrap();
    assert!(content(&disk) == bytes, "it is kept as yet");
    drop(file);
    bytes[1000] = 7;
    assert!(content(&disk) == bytes);
}

#[test]
fn flushing_writes_what_is_kept_and_then_flushes_the_disk() {
    let (disk, record) = RecordingDisk::disk(Record::default());
    let mut file = BlockingDisk::new(disk);
    file.seek(SeekFrom::Start(3 * 1024 + 1)).unwrap();
    file.write_all(&[7]).unwrap();
    assert_eq!(record.take(), ["read 3"]);
    file.flush().unwrap();
    assert_eq!(record.take(), ["write 3 false", "flush"]);
    file.flush().unwrap();
    assert_eq!(record.take(), ["flush"]);
}

#[test]
fn a_flush_that_fails_says_so() {
    let (disk, record) = RecordingDisk::disk(Record::default());
    record.does_flush_fail.store(true, Ordering::Relaxed);
    let error = BlockingDisk::new(disk).flush().unwrap_err();
    let source = error.get_ref().expect("the disk's error");
    assert!(matches!(source.downcast_ref(), Some(DiskError::Io(_))));
}

#[test]
fn a_disk_that_became_smaller_ends_there_and_what_was_kept_beyond_is_an_error() {
    let (disk, record) = RecordingDisk::disk(Record::default());
    let mut file = BlockingDisk::new(disk);
    file.seek(SeekFrom::Start(99 * 1024 + 5)).unwrap();
    file.write_all(&[1]).unwrap();
    record.sector_count.store(50, Ordering::Relaxed);
    assert_eq!(
        file.write(&[1]).unwrap(),
        0,
        "the position lies beyond the end"
    );
    let error = file.flush().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
