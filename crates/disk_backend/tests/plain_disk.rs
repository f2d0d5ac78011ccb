//! What the handle, the default methods and the blocking adapter make of a disk that implements no more than it must.

use disk_backend::sync_wrapper::BlockingDisk;
use disk_backend::{Disk, DiskError, DiskIo, Persistence, UnmapBehavior};
use futures_lite::future::{block_on, poll_once};
use guestmem::{MemoryRead, MemoryWrite};
use scsi_buffers::RequestBuffers;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Every byte of it is the one that was written last.
#[derive(Clone)]
struct PlainDisk {
    sector_count: u64,
    content: Arc<AtomicU8>,
    writes: Arc<AtomicUsize>,
}

impl PlainDisk {
    fn new(sector_count: u64) -> Self {
        Self {
            sector_count,
            content: Arc::new(AtomicU8::new(7)),
            writes: Arc::default(),
        }
    }

    fn disk(&self) -> Disk {
        Disk::new(self.clone()).unwrap()
    }
}

impl inspect::Inspect for PlainDisk {
    fn inspect(&self, _request: inspect::Request<'_>) {}
}

impl DiskIo for PlainDisk {
    fn disk_type(&self) -> &str {
        "plain"
    }

    fn sector_count(&self) -> u64 {
        self.sector_count
    }

    fn sector_size(&self) -> u32 {
        512
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        None
    }

    fn physical_sector_size(&self) -> u32 {
        512
    }

    fn is_fua_respected(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn persistence(&self) -> Persistence {
        Persistence::Volatile
    }

    async fn unmap(&self, _: u64, _: u64, _: bool) -> Result<(), DiskError> {
        Ok(())
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        UnmapBehavior::Ignored
    }

    async fn read_vectored(&self, buffers: &RequestBuffers<'_>, _: u64) -> Result<(), DiskError> {
        let byte = self.content.load(Ordering::Relaxed);
        Ok(buffers.writer().fill(byte, buffers.len())?)
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        _: u64,
        _: bool,
    ) -> Result<(), DiskError> {
        let byte: u8 = buffers.reader().read_plain()?;
        self.content.store(byte, Ordering::Relaxed);
        self.writes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        Ok(())
    }

    async fn wait_resize(&self, _: u64) -> u64 {
        std::future::pending().await
    }
}

#[test]
fn zeros_that_are_one_write_are_written_when_first_polled() {
    let plain = PlainDisk::new(2048);
    let disk = plain.disk();
    let zeroing = disk.write_zeroes(0, 8, false, true, false);
    block_on(poll_once(zeroing))
        .expect("nothing waits")
        .unwrap();
    assert_eq!(plain.writes.load(Ordering::Relaxed), 1);
}

#[test]
fn long_zeroings_let_others_run_between_the_writes() {
    let plain = PlainDisk::new(2048);
    let disk = plain.disk();
    assert!(block_on(poll_once(disk.write_zeroes(0, 2048, false, true, false))).is_none());
    block_on(disk.write_zeroes(0, 2048, false, true, false)).unwrap();
    assert_eq!(plain.content.load(Ordering::Relaxed), 0);
}

#[test]
fn a_disk_beyond_2_to_the_64_bytes_is_cut_there_for_code_that_counts_bytes() {
    // 2^55 sectors are exactly 2^64 bytes: shifted, nothing of that is left.
    let mut file = BlockingDisk::new(PlainDisk::new(1 << 55).disk());
    assert_eq!(file.seek(SeekFrom::End(0)).unwrap(), u64::MAX);
    let mut bytes = [0; 1000];
    file.seek(SeekFrom::Start(100)).unwrap();
    file.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, [7; 1000]);
    file.seek(SeekFrom::Start(u64::MAX - 100)).unwrap();
    assert_eq!(file.read(&mut bytes).unwrap(), 100);
    assert_eq!(file.read(&mut bytes).unwrap(), 0);
}

#[test]
fn after_a_flush_the_disk_is_looked_at_again() {
    let plain = PlainDisk::new(8);
    let mut file = BlockingDisk::new(plain.disk());
    let mut byte = [0];
    file.read_exact(&mut byte).unwrap();
    assert_eq!(byte, [7]);
    // Another user of the disk writes to the sector that is kept.
    plain.content.store(9, Ordering::Relaxed);
    file.flush().unwrap();
    file.read_exact(&mut byte).unwrap();
    assert_eq!(byte, [9]);
}
