//! How much begins: rates over a long time, bursts, debts, and what is free.

#[path = "../../disk_delay/tests/common/mod.rs"]
mod common;
mod world;

use common::{REQUESTS, Request, Running};
use disk_backend::{Disk, DiskError, DiskIo};
use disk_contract::ProbeLog;
use disk_throttle::{Limits, ThrottleDisk};
use futures_lite::future::block_on;
use std::time::Duration;
use world::{Begun, World, bytes, load, operations};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn in_a_day_begins_exactly_what_flows_in_and_what_the_bucket_held() {
    let world = World::new(operations(2, 3));
    let disk = world.disk();
    let done = load(&world, &[&|| Begun::unmap(&disk)], 5, DAY);
    assert_eq!(done, [2 * DAY.as_secs() + 3]);

    let world = World::new(bytes(199, 5000));
    let disk = world.disk();
    let done = load(&world, &[&|| Begun::write(&disk, 2)], 5, DAY);
    assert_eq!(done, [(199 * DAY.as_secs() + 5000) / 1024]);
}

#[test]
fn the_limit_that_allows_less_decides() {
    for (sectors, expected_per_second) in [(1, 10), (20, 1)] {
        let mut limits = bytes(10_240, 1);
        limits.operations_per_second = Some(10);
        let world = World::new(limits);
        let disk = world.disk();
        let end = Duration::from_secs(1000);
        let done = load(&world, &[&|| Begun::write(&disk, sectors)], 4, end);
        let expected = expected_per_second * end.as_secs();
        assert!((expected..=expected + 2).contains(&done[0]), "{done:?}");
    }
}

#[test]
fn after_a_pause_a_burst_begins_at_once_and_no_more() {
    let world = World::new(operations(2, 5));
    let disk = world.disk();
    for _ in 0..3 {
        let mut begun: Vec<Begun> = (0..7).map(|_| Begun::unmap(&disk)).collect();
        let done = begun.iter_mut().map(Begun::is_done);
        assert_eq!(done.filter(|is_done| *is_done).count(), 5);
        drop(begun);
        world.time.advance(DAY);
    }
}

#[test]
fn without_a_burst_a_tenth_of_a_second_is_one() {
    let mut limits = Limits::default();
    limits.operations_per_second = Some(100);
    let world = World::new(limits);
    assert_eq!(world.group.status().available_operations, Some(10));
    limits.operations_per_second = Some(3);
    limits.bytes_per_second = Some(10_000);
    let world = World::new(limits);
    assert_eq!(world.group.status().available_operations, Some(1));
    assert_eq!(world.group.status().available_bytes, Some(1000));
}

#[test]
fn a_request_larger_than_the_bucket_begins_and_its_debt_is_repaid_before_the_next() {
    let world = World::new(bytes(512, 1024));
    let disk = world.disk();
    assert!(Begun::write(&disk, 100).is_done(), "the bucket is full");
    assert_eq!(world.group.status().available_bytes, Some(1024 - 51_200));
    let mut next = Begun::write(&disk, 1);
    assert!(!next.is_done());
    // 98 sectors are owed, and one is asked for.
    world
        .time
        .advance(Duration::from_secs(99) - Duration::from_nanos(1));
    assert!(!next.is_done());
    world.time.advance(Duration::from_nanos(1));
    assert!(next.is_done());
    // Now it is empty: a large one waits until it is full.
    let mut large = Begun::write(&disk, 100);
    assert!(!large.is_done());
    world
        .time
        .advance(Duration::from_secs(2) - Duration::from_nanos(1));
    assert!(!large.is_done());
    world.time.advance(Duration::from_nanos(1));
    assert!(large.is_done());
}

#[test]
fn a_debt_of_bytes_does_not_hold_up_what_takes_none() {
    let mut limits = bytes(1, 1);
    limits.operations_per_second = Some(1000);
    let world = World::new(limits);
    let disk = world.disk();
    assert!(Begun::write(&disk, 100).is_done());
    assert!(Begun::unmap(&disk).is_done());
    block_on(disk.write_zeroes(0, 8, false, true, true)).unwrap();
    assert!(!Begun::write(&disk, 1).is_done());
}

#[test]
fn the_content_is_what_it_is_of_below() {
    let world = World::new(operations(1, 1));
    let below = Disk::new(common::probe(&ProbeLog::default()).read_only()).unwrap();
    assert!(below.content_stamp().is_some());
    let disk = Disk::new(ThrottleDisk::new(below.clone(), &world.group)).unwrap();
    assert_eq!(disk.content_stamp(), below.content_stamp());
}

#[test]
fn flushes_and_metadata_are_free_and_all_else_takes_an_operation() {
    let world = World::new(operations(1, 1));
    let (disk, log) = world.probe();
    assert!(Begun::unmap(&disk).is_done());
    log.take();
    for (kind, below) in REQUESTS {
        if kind == Request::Flush {
            block_on(disk.sync_cache()).unwrap();
        } else {
            let mut running = Running::begin(&disk, kind);
            assert_eq!(log.take(), [""; 0], "{kind:?} has not begun");
            world.time.advance(Duration::from_millis(999));
            running.expect_waiting();
            world.time.advance(Duration::from_millis(1));
            running.expect_done();
        }
        assert_eq!(log.take(), [below]);
    }
    block_on(disk.block_status(0, 1)).unwrap();
    block_on(disk.resize(16)).unwrap();
    block_on(disk.eject()).unwrap();
    block_on(disk.wait_resize(17));
    block_on(disk.close()).unwrap();
    block_on(disk.drain());
    let seen = [
        "status 0+1",
        "resize 16",
        "eject",
        "wait_resize 17",
        "close",
        "drain",
    ];
    assert_eq!(log.take(), seen);
    assert_eq!(disk.disk_type(), "throttle");
    assert_eq!(
        (disk.physical_sector_size(), disk.disk_id()),
        (4096, Some([7; 16]))
    );
    assert_eq!(
        (disk.atomic_write_sectors(), disk.optimal_unmap_sectors()),
        (8, 4)
    );
}

#[test]
fn reads_writes_and_zeroes_take_their_bytes() {
    for kind in [Request::Read, Request::Write, Request::WriteZeroes] {
        let world = World::new(bytes(1024, 1024));
        let (disk, _log) = world.probe();
        block_on(common::request(&disk, kind)).unwrap();
        let mut running = Running::begin(&disk, kind);
        world.time.advance(Duration::from_nanos(999_999_999));
        running.expect_waiting();
        world.time.advance(Duration::from_nanos(1));
        running.expect_done();
    }
}

#[test]
fn a_request_that_is_longer_than_the_disk_owes_no_more_than_the_disk_is_long() {
    let world = World::new(bytes(1, 1));
    let available = || world.group.status().available_bytes.unwrap();
    let through_handle = world.disk();
    let below = disklayer_ram::ram_disk(1 << 20, false).unwrap();
    let direct = ThrottleDisk::new(below, &world.group);
    let refused = |result| assert!(matches!(result, Err(DiskError::IllegalBlock)), "{result:?}");
    refused(block_on(through_handle.unmap(0, u64::MAX, false)));
    refused(block_on(through_handle.write_zeroes(
        0,
        u64::MAX,
        false,
        false,
        false,
    )));
    refused(block_on(direct.unmap(0, u64::MAX, false)));
    refused(block_on(direct.unmap(u64::MAX, u64::MAX, false)));
    refused(block_on(direct.write_zeroes(
        u64::MAX,
        u64::MAX,
        false,
        false,
        false,
    )));
    assert_eq!(
        available(),
        1,
        "what no sector of the disk is in moves nothing"
    );
    refused(block_on(direct.write_zeroes(
        2047,
        u64::MAX,
        false,
        false,
        false,
    )));
    assert_eq!(available(), 1 - 512);
    // The bytes of so many sectors are a multiple of 2^64.
    world.time.advance(Duration::from_secs(512));
    refused(block_on(direct.write_zeroes(
        0,
        1 << 55,
        false,
        false,
        false,
    )));
    assert_eq!(available(), 1 - (1 << 20));
}

#[test]
fn no_limit_is_too_large_or_too_small_for_the_arithmetic() {
    for rate in [1, u64::MAX] {
        for burst in [1, u64::MAX] {
            let mut limits = bytes(rate, burst);
            limits.operations_per_second = Some(rate);
            limits.burst_operations = Some(burst);
            let world = World::new(limits);
            let disk = world.disk();
            assert!(Begun::write(&disk, 2048).is_done());
            let mut next = Begun::write(&disk, 2048);
            next.is_done();
            world.time.advance(Duration::MAX);
            world.group.set_limits(bytes(u64::MAX, u64::MAX)).unwrap();
            assert!(next.is_done());
        }
    }
}
