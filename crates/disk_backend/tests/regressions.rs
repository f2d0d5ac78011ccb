//! Mistakes that handles of disks have made before, each as a test. `docs/testing.md` lists them.

mod recording;

use disk_backend::{Disk, DiskError};
use futures_lite::future::block_on;
use recording::{Record, RecordingDisk};
use scsi_buffers::{HostBuffers, RequestBuffers};

/// The answers to a read and to a write of so many bytes.
fn answers(disk: &Disk, sector: u64, len: usize) -> [Result<(), DiskError>; 2] {
    let mut bytes = vec![0; len];
    let host = HostBuffers::from_mut(&mut bytes);
    let both = |buffers: &RequestBuffers<'_>| {
        [
            block_on(disk.read_vectored(buffers, sector)),
            block_on(disk.write_vectored(buffers, sector, false)),
        ]
    };
    both(&host.buffers())
}

#[test]
fn a_request_that_is_not_whole_sectors_is_refused_as_a_whole() {
    let (disk, record) = RecordingDisk::disk(Record::default());
    let sector_bytes = disk.sector_size() as usize;
    for len in [1, sector_bytes - 1, sector_bytes + 1, 3 * sector_bytes + 7] {
        for answer in answers(&disk, 0, len) {
            assert!(matches!(answer, Err(DiskError::InvalidInput)), "{len}");
        }
    }
    assert_eq!(record.take(), [""; 0], "none reached the backend");
}

#[test]
fn a_request_of_no_sectors_beyond_the_end_is_refused_whatever_it_is() {
    let (disk, record) = RecordingDisk::disk(Record::default());
    let end = disk.sector_count();
    for sector in [end + 1, u64::MAX] {
        for answer in answers(&disk, sector, 0) {
            assert!(matches!(answer, Err(DiskError::IllegalBlock)), "{sector}");
        }
    }
    for answer in answers(&disk, end, 0) {
        answer.expect("the end is inside");
    }
    assert_eq!(record.take(), [""; 0], "none reached the backend");
}
