//! What only the inside can arrange: ranges in use, flushes that fail.

mod at_once;

use crate::counters::Count;
use crate::flush::{Flusher, Reach, SyncPlace};
use crate::image::Image;
use crate::pool;
use crate::shared::Shared;
use crate::transfer::Intent;
use crate::work::{End, Held};
use crate::{FileDisk, FileDiskOptions};
use disk_backend::{Disk, DiskError, DiskIo};
use futures_lite::future::{block_on, poll_once};
use guestmem::GuestMemory;
use posio::{Durability, Mode, Outcome, TransferError};
use range_lock::RangeGuard;
use scsi_buffers::{HostBuffers, OwnedRequestBuffers, RequestBuffers};
use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const SECTOR_SIZE: usize = 512;

/// Has the kernel take less of a write that may not wait than it was given, and the disk wait in the next one, or fail.
#[derive(Debug, Default)]
pub(crate) struct Obstacle {
    taken_bytes_max: Option<usize>,
    wait: Duration,
    errno: Option<i32>,
}

impl Obstacle {
    pub(crate) fn cut_short(
        &self,
        shared: &Shared,
        buffers: &RequestBuffers<'_>,
        offset: u64,
    ) -> Option<Result<Outcome, TransferError>> {
        let done = self.taken_bytes_max?.min(buffers.len());
        let taken = buffers.subrange(0, done);
        let file = shared.image.file();
        let outcome = posio::write_at(file, &taken, offset, Mode::Wait, Durability::Cached);
        Some(outcome.map(|_| Outcome::WouldBlock { done }))
    }

    /// What comes of a write that may wait, if not what the kernel makes of it.
    pub(crate) fn wait(&self) -> Option<Result<Outcome, TransferError>> {
        std::thread::sleep(self.wait);
        let error = io::Error::from_raw_os_error(self.errno?);
        Some(Err(error.into()))
    }
}

/// A new disk of 1 MiB, on a medium, and the folder that goes with it.
fn file_disk() -> (TempDir, FileDisk) {
    let folder = tempfile::tempdir().expect("a folder");
    let options = FileDiskOptions {
        create: true,
        size_bytes: Some(1 << 20),
        hand_over_writes: true,
        ..Default::default()
    };
    let disk = FileDisk::open(&folder.path().join("disk.raw"), &options).expect("a new file");
    (folder, disk)
}

/// The same twice: with io_uring, and without.
fn file_disks() -> [(TempDir, FileDisk); 2] {
    let (folder, mut disk) = file_disk();
    let shared = Arc::get_mut(&mut disk.shared).expect("nothing runs");
    shared.may_use_ring = false;
    [file_disk(), (folder, disk)]
}

/// The same, whose flushes end as this says.
fn disk_flushed_by(
    sync: impl Fn(Reach) -> io::Result<()> + Send + Sync + 'static,
) -> (TempDir, Disk) {
    let (folder, disk) = file_disk();
    let path = disk.shared.image.path.clone();
    drop(disk);
    let image =
        Arc::new(Image::open(&path, &FileDiskOptions::default()).expect("it was just closed"));
    let flusher = Flusher::new(SyncPlace::InPool, sync);
    let disk = FileDisk {
        shared: Arc::new(Shared::new(image, flusher)),
    };
    (folder, Disk::new(disk).expect("valid metadata"))
}

/// The same, whose every flush fails.
fn unflushable_disk() -> (TempDir, Disk) {
    disk_flushed_by(|_| Err(io::Error::from_raw_os_error(nix::libc::EIO)))
}

fn sector_of(byte: u8) -> [u8; SECTOR_SIZE] {
    [byte; SECTOR_SIZE]
}

async fn read_sector(disk: &FileDisk, sector: u64) -> [u8; SECTOR_SIZE] {
    let mut bytes = sector_of(0xee);
    disk.read_vectored(&HostBuffers::from_mut(&mut bytes).buffers(), sector)
        .await
        .expect("it reads");
    bytes
}

#[test]
fn a_request_that_waits_for_its_range_needs_no_polling() {
    for (_folder, disk) in file_disks() {
        let in_the_way = disk.shared.locks.try_write(0..512).expect("nobody has it");
        let memory = GuestMemory::allocate(4096);
        memory.write_at(0, &sector_of(7)).expect("inside");
        let request = OwnedRequestBuffers::linear(0, SECTOR_SIZE, false);
        block_on(async {
            let buffers = request.buffer(&memory);
            let mut write = pin!(disk.write_vectored(&buffers, 0, false));
            assert!(poll_once(&mut write).await.is_none());
            drop(in_the_way);
            // The write came first, is never polled again, and still is in nobody's way.
            assert_eq!(read_sector(&disk, 0).await, sector_of(7));
            write.await.expect("it has long been done");
        });
    }
}

#[test]
fn a_dropped_request_lets_later_ones_through_and_is_done_wholly_or_not_at_all() {
    for (_folder, disk) in file_disks() {
        for round in 1..=50 {
            let mut in_the_way = disk.shared.locks.try_write(0..512);
            assert!(in_the_way.is_some(), "the round before has ended");
            block_on(async {
                let memory = GuestMemory::allocate(4096);
                memory.write_at(0, &sector_of(round)).expect("inside");
                let request = OwnedRequestBuffers::linear(0, SECTOR_SIZE, false);
                {
                    let buffers = request.buffer(&memory);
                    let mut write = pin!(disk.write_vectored(&buffers, 0, false));
                    let outcome = poll_once(&mut write).await;
                    assert!(outcome.is_none_or(|outcome| outcome.is_ok()));
                    // On even rounds it gets its range, and is dropped wherever it is then; on odd ones it still waits.
                    if round % 2 == 0 {
                        in_the_way = None;
                    }
                }
                drop(in_the_way);
                let found = read_sector(&disk, 0).await;
                assert!(found == sector_of(found[0]), "torn");
                disk.write_vectored(&HostBuffers::from_ref(&sector_of(0)).buffers(), 0, false)
                    .await
                    .expect("it writes");
            });
            assert_eq!(
                block_on(read_sector(&disk, 0)),
                sector_of(0),
                "a dropped write came after a later one"
            );
        }
    }
}

#[test]
fn what_the_ring_is_refused_is_done_by_the_pool_though_nobody_waits() {
    let (_folder, disk) = file_disk();
    let memory = GuestMemory::allocate(4096);
    memory.write_at(0, &sector_of(7)).expect("inside");
    let request = OwnedRequestBuffers::linear(0, SECTOR_SIZE, false);
    let pinned = request.buffer(&memory).pin().expect("guest memory");
    let shared = &disk.shared;
    let guard = shared.locks.try_write(512..1024).expect("nobody has it");
    let held = Held::new(Arc::clone(shared), guard, shared.in_pool.begin_owned());
    let refused = io::Error::other(uring::Refused { memory: pinned });
    let end = held.leave_ring(Intent::Change, 512..1024, Err(refused));
    assert!(matches!(end, End::InPool(_)));
    drop(end);
    // It still has its range, so this comes after it.
    assert_eq!(block_on(read_sector(&disk, 1)), sector_of(7));
}

#[test]
fn a_read_that_the_file_was_too_short_for_looks_at_it_on_the_pool() {
    let (_folder, disk) = file_disk();
    let held = |range| {
        let shared = &disk.shared;
        let guard = shared.locks.try_read(range).expect("nobody has it");
        Held::new(Arc::clone(shared), guard, shared.in_pool.begin_owned())
    };
    let ended = held(0..512).leave_ring(
        Intent::Read,
        0..512,
        Err(io::ErrorKind::UnexpectedEof.into()),
    );
    assert!(matches!(ended, End::InPool(_)), "it asks for the size");
    let ended = held(512..1024).leave_ring(Intent::Read, 512..1024, Ok(()));
    assert!(matches!(ended, End::Here(Ok(()))));
    drop(ended);
}

#[test]
fn what_is_woken_on_a_thread_of_the_pool_knows_it() {
    let (_folder, disk) = file_disk();
    let shared = Arc::clone(&disk.shared);
    let in_the_way = shared.locks.try_write(0..512).expect("nobody has it");
    let woken = pool::spawn_here(async move {
        let guard = shared.locks.read(0..512).await;
        drop(guard);
        pool::is_this_thread()
    });
    block_on(pool::spawn(move || drop(in_the_way)));
    assert!(block_on(woken));
    assert!(!pool::is_this_thread());
}

#[test]
fn a_thread_that_ends_may_let_others_have_its_range() {
    thread_local! {
        static OF_THE_THREAD: RefCell<Option<RangeGuard>> = const { RefCell::new(None) };
    }
    for (_folder, disk) in file_disks() {
        let in_the_way = disk.shared.locks.try_write(0..512).expect("nobody has it");
        let memory = GuestMemory::allocate(4096);
        memory.write_at(0, &sector_of(7)).expect("inside");
        let request = OwnedRequestBuffers::linear(0, SECTOR_SIZE, false);
        let buffers = request.buffer(&memory);
        block_on(async {
            let mut write = pin!(disk.write_vectored(&buffers, 0, false));
            assert!(poll_once(&mut write).await.is_none());
            let ends = std::thread::spawn(move || {
                OF_THE_THREAD.set(Some(in_the_way));
                // Made later, and gone before the guard.
                block_on(pool::spawn_here(futures_lite::future::yield_now()));
            });
            ends.join().expect("nothing panics");
            write.await.expect("it writes");
        });
    }
}

/// What the kernel has taken of a sector at once, and what the pool was still to write, are one change (C2).
#[test]
fn a_dropped_write_of_which_a_part_is_done_is_completed() {
    for (_folder, disk) in file_disks() {
        let memory = GuestMemory::allocate(4096);
        memory.write_at(0, &sector_of(7)).expect("inside");
        let in_guest = OwnedRequestBuffers::linear(0, SECTOR_SIZE, false);
        let content = sector_of(7);
        let in_host = HostBuffers::from_ref(&content);
        for (buffers, sector) in [(in_guest.buffer(&memory), 0), (in_host.buffers(), 1)] {
            let range = sector * 512..(sector + 1) * 512;
            let in_the_way = disk.shared.locks.try_write(range.clone());
            block_on(async {
                {
                    let claim = disk.shared.try_claim(range.clone(), Intent::Change);
                    let mut rest = pin!(disk.write_rest(claim, &buffers, range.start, true));
                    assert!(poll_once(&mut rest).await.is_none());
                }
                drop(in_the_way);
                assert_eq!(read_sector(&disk, sector).await, sector_of(7));
            });
        }
    }
}

#[test]
fn a_drain_waits_for_what_a_dropped_future_left_in_the_pool() {
    let (_folder, disk) = file_disk();
    let disk = Arc::new(disk);
    // The work stands still in the pool until the test lets it go on.
    let (go, gone) = std::sync::mpsc::channel();
    let (begin, begun) = std::sync::mpsc::channel();
    let claim = disk.shared.try_claim(0..512, Intent::Change);
    let work = disk.in_pool(claim, move |_| {
        begin.send(()).expect("the test listens");
        gone.recv().expect("the test answers")
    });
    begun.recv().expect("it begins");
    drop(work);
    block_on(async {
        let mut drain = pin!(disk.drain());
        assert!(poll_once(&mut drain).await.is_none());
        go.send(()).expect("it waits");
        drain.await;
    });
    assert!(disk.shared.locks.try_write(0..512).is_some());
}

#[test]
fn a_drain_waits_for_what_waits_for_its_range() {
    let (_folder, disk) = file_disk();
    let zeroing = |sector| disk.write_zeroes(sector, 1, false, false, false);
    let in_the_way = disk.shared.locks.try_write(0..512).expect("nobody has it");
    block_on(async {
        let mut zeroing = Box::pin(zeroing(0));
        assert!(poll_once(&mut zeroing).await.is_none());
        let mut drain = pin!(disk.drain());
        assert!(poll_once(&mut drain).await.is_none());
        // It is taken out of the queue, or goes on; either way it ends.
        drop(zeroing);
        drop(in_the_way);
        drain.await;
    });
}

/// It may be the write of a dropped future, which comes before what is asked later (C9).
#[test]
fn a_map_waits_for_the_changes_in_flight_and_for_nothing_else() {
    let (_folder, disk) = file_disk();
    let in_the_way = disk.shared.locks.try_write(0..512).expect("nobody has it");
    block_on(async {
        let beside = disk.block_status(1, 1).await.expect("nobody has that");
        assert_eq!(beside.sector_count(), 1);
        let mut status = pin!(disk.block_status(0, 2));
        assert!(poll_once(&mut status).await.is_none());
        drop(in_the_way);
        status.await.expect("nobody has it any more");
        let _reading = disk.shared.locks.try_read(0..512).expect("nobody has it");
        disk.block_status(0, 2).await.expect("reads change nothing");
    });
}

#[test]
fn borrowed_memory_of_any_length_is_copied_piece_by_piece() {
    for (_folder, disk) in file_disks() {
        let content: Vec<u8> = (0..1 << 20).map(|i: u32| (i / 512 * 3) as u8).collect();
        block_on(async {
            // A piece that somebody else is reading: nothing can be done at once, and borrowed memory cannot be pinned.
            let reading = disk.shared.locks.try_read(0..1).expect("nobody writes");
            let source = HostBuffers::from_ref(&content);
            let buffers = source.buffers();
            let mut write = pin!(disk.write_vectored(&buffers, 0, false));
            assert!(poll_once(&mut write).await.is_none());
            drop(reading);
            write.await.expect("it writes");

            let writing = disk.shared.locks.try_write(0..1).expect("nobody uses it");
            let mut bytes = vec![0; content.len()];
            {
                let target = HostBuffers::from_mut(&mut bytes);
                let buffers = target.buffers();
                let mut read = pin!(disk.read_vectored(&buffers, 0));
                assert!(poll_once(&mut read).await.is_none());
                drop(writing);
                read.await.expect("it reads");
            }
            assert!(bytes == content);
        });
    }
}

#[test]
fn after_a_failed_flush_writes_and_flushes_are_refused_and_reads_go_on() {
    let (_folder, disk) = unflushable_disk();
    let bytes = sector_of(1);
    let source = HostBuffers::from_ref(&bytes);
    block_on(async {
        disk.write_vectored(&source.buffers(), 0, false)
            .await
            .expect("nothing has failed yet");
        disk.sync_cache().await.expect_err("it fails");
        let refusals = [
            disk.write_vectored(&source.buffers(), 0, false).await,
            disk.write_zeroes(0, 1, false, true, false).await,
            disk.unmap(0, 1, false).await,
            disk.sync_cache().await,
        ];
        for refusal in refusals {
            let Err(DiskError::Io(error)) = refusal else {
                panic!("not refused: {refusal:?}")
            };
            assert!(error.to_string().contains("reopen"), "{error}");
        }
        let mut found = sector_of(0);
        disk.read_vectored(&HostBuffers::from_mut(&mut found).buffers(), 0)
            .await
            .expect("reads go on");
        assert_eq!(found, bytes);
    });
}

#[test]
fn a_durable_write_fails_if_it_cannot_be_flushed() {
    let (_folder, disk) = unflushable_disk();
    let bytes = sector_of(1);
    let refusal = block_on(disk.write_vectored(&HostBuffers::from_ref(&bytes).buffers(), 0, true));
    assert!(matches!(refusal, Err(DiskError::Io(_))), "{refusal:?}");
    let (_folder, disk) = unflushable_disk();
    let refusal = block_on(disk.write_zeroes(0, 1, true, false, false));
    assert!(matches!(refusal, Err(DiskError::Io(_))), "{refusal:?}");
}

#[test]
fn flushes_and_durable_writes_reach_the_file() {
    let (_folder, disk) = file_disk();
    let disk = Disk::new(disk).expect("valid metadata");
    let bytes = sector_of(9);
    let source = HostBuffers::from_ref(&bytes);
    let syncs = || {
        let tree = block_on(inspect::inspect("syncs", None, &disk)).expect("it is there");
        tree.as_u64().expect("a number")
    };
    block_on(disk.write_vectored(&source.buffers(), 0, true)).expect("it writes");
    assert_eq!(syncs(), 1);
    block_on(disk.write_vectored(&source.buffers(), 0, false)).expect("it writes");
    assert_eq!(syncs(), 1, "nobody asked for durability");
    block_on(disk.sync_cache()).expect("it flushes");
    assert_eq!(syncs(), 2);
    block_on(disk.write_zeroes(0, 1, true, true, false)).expect("it zeroes");
    assert_eq!(syncs(), 3);
    block_on(disk.sync_cache()).expect("it flushes");
    assert_eq!(syncs(), 3, "nothing has changed since");
}

#[test]
fn a_resize_waits_for_the_requests_before_it_and_those_after_it_see_it() {
    let (_folder, disk) = file_disk();
    let in_the_way = disk
        .shared
        .locks
        .try_read(4096..8192)
        .expect("nobody writes");
    block_on(async {
        let mut resize = pin!(disk.resize(4));
        assert!(poll_once(&mut resize).await.is_none());
        assert_eq!(disk.sector_count(), 2048);
        // It was begun inside the disk, behind the resize.
        let bytes = sector_of(1);
        let source = HostBuffers::from_ref(&bytes);
        let buffers = source.buffers();
        let mut write = pin!(disk.write_vectored(&buffers, 10, false));
        assert!(poll_once(&mut write).await.is_none());
        drop(in_the_way);
        resize.await.expect("it shrinks");
        assert!(matches!(write.await, Err(DiskError::IllegalBlock)));
    });
    assert_eq!(disk.sector_count(), 4);
    let len = disk.shared.image.file().metadata().expect("open").len();
    assert_eq!(len, 4 * 512, "no write made it longer");
}

#[test]
fn after_a_failed_flush_there_is_no_resize() {
    let (_folder, disk) = unflushable_disk();
    let bytes = sector_of(1);
    let source = HostBuffers::from_ref(&bytes);
    block_on(async {
        let write = disk.write_vectored(&source.buffers(), 0, true).await;
        assert!(write.is_err());
        assert!(matches!(disk.resize(4096).await, Err(DiskError::Io(_))));
    });
    let failures = block_on(inspect::inspect("counters/flush_failures", None, &disk));
    assert_eq!(failures.expect("it is there"), 1);
}

/// A disk on a file that the kernel tells nothing about, in a time of its own.
fn unwatched_disk() -> (TempDir, FileDisk, clock::SimulatedTime) {
    let (folder, disk) = file_disk();
    let path = disk.shared.image.path.clone();
    drop(disk);
    let image = Image::open(&path, &FileDiskOptions::default()).expect("it was just closed");
    let mut shared = Shared::new(Arc::new(image), Flusher::new(SyncPlace::AtOnce, |_| Ok(())));
    shared.watch = None;
    let (clock, time) = clock::Clock::simulated();
    shared.clock.set(clock).expect("nobody has used it");
    let shared = Arc::new(shared);
    (folder, FileDisk { shared }, time)
}

#[test]
fn what_is_not_watched_is_looked_at_while_somebody_waits_and_only_then() {
    let (_folder, disk, time) = unwatched_disk();
    let grow = |size| disk.shared.image.file().set_len(size).expect("it grows");
    assert_eq!(time.sleeper_count(), 0);
    block_on(async {
        let mut waiting = pin!(disk.wait_resize(2048));
        // It looks first, on the pool, and sleeps then.
        while time.sleeper_count() == 0 {
            assert!(poll_once(&mut waiting).await.is_none());
            futures_lite::future::yield_now().await;
        }
        grow(2 << 20);
        assert!(poll_once(&mut waiting).await.is_none());
        assert_eq!(disk.sector_count(), 2048, "nobody has looked");
        time.advance(crate::resize::LOOK_INTERVAL);
        assert_eq!(waiting.await, 4096);
    });
    assert_eq!(time.sleeper_count(), 0);
    // Whoever asks anew is told at once what is so.
    grow(3 << 20);
    assert_eq!(block_on(disk.wait_resize(4096)), 6144);
}

#[test]
fn copies_of_borrowed_memory_are_bounded_and_nobody_waits_for_anothers() {
    let (_folder, mut disk) = file_disk();
    let pool = scsi_buffers::BouncePool::new(1 << 20);
    let shared = Arc::get_mut(&mut disk.shared).expect("nothing runs");
    shared.bounce = pool.clone();
    // Somebody who never polls again has all of it.
    let _held = pool
        .try_allocate(1 << 20)
        .expect("within the bound")
        .expect("it is free");
    let content: Vec<u8> = (0..300 << 10).map(|at: u32| (at / 512 * 5) as u8).collect();
    block_on(async {
        let reading = disk.shared.locks.try_read(512..513).expect("nobody writes");
        let source = HostBuffers::from_ref(&content);
        let buffers = source.buffers();
        let mut write = pin!(disk.write_vectored(&buffers, 1, false));
        assert!(poll_once(&mut write).await.is_none());
        drop(reading);
        write.await.expect("it writes");
        let writing = disk
            .shared
            .locks
            .try_write(512..513)
            .expect("nobody uses it");
        let mut found = vec![0; content.len()];
        {
            let target = HostBuffers::from_mut(&mut found);
            let buffers = target.buffers();
            let mut read = pin!(disk.read_vectored(&buffers, 1));
            assert!(poll_once(&mut read).await.is_none());
            drop(writing);
            read.await.expect("it reads");
        }
        assert!(found == content);
    });
    let in_use = block_on(inspect::inspect(
        "bounce_pool/bytes_in_use_max",
        None,
        &disk,
    ));
    assert_eq!(in_use.expect("it is there"), 1 << 20);
}

#[test]
fn the_first_flush_and_the_one_that_closes_reach_the_time_of_the_last_change() {
    let (seen, calls) = std::sync::mpsc::channel();
    let (_folder, disk) = disk_flushed_by(move |reach| {
        seen.send(reach).expect("the test looks");
        Ok(())
    });
    let sector = sector_of(1);
    let source = HostBuffers::from_ref(&sector);
    let write = |fua| block_on(disk.write_vectored(&source.buffers(), 0, fua)).expect("it writes");
    write(true);
    write(true);
    write(false);
    block_on(disk.close()).expect("it closes");
    let calls: Vec<_> = calls.try_iter().collect();
    assert_eq!(calls, [Reach::DataAndTime, Reach::Data, Reach::DataAndTime]);
}
