//! Requests wait as long as they should, hold up nobody meanwhile, and end with their futures.

mod common;

use clock::{Clock, SimulatedTime};
use common::{REQUESTS, Request, Running, SECTORS, probe, request};
use disk_backend::Disk;
use disk_contract::ProbeLog;
use disk_delay::{DelayControl, DelayDisk};
use futures_lite::future::{block_on, poll_once};
use std::pin::pin;
use std::time::Duration;

struct World {
    disk: Disk,
    control: DelayControl,
    log: ProbeLog,
    time: SimulatedTime,
}

impl World {
    fn new(delay: Duration) -> Self {
        Self::with(delay, true)
    }

    fn with(delay: Duration, respects_fua: bool) -> Self {
        let (clock, time) = Clock::simulated();
        let log = ProbeLog::default();
        let below = match respects_fua {
            true => probe(&log),
            false => probe(&log).without_fua(),
        };
        let (disk, control) = DelayDisk::new(Disk::new(below).unwrap(), delay, clock).unwrap();
        let disk = Disk::new(disk).unwrap();
        World {
            disk,
            control,
            log,
            time,
        }
    }
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_request_begins_after_the_delay_and_not_before() {
    for (kind, below) in REQUESTS {
        let world = World::new(MS * 5);
        let mut running = Running::begin(&world.disk, kind);
        world.time.advance(MS * 5 - Duration::from_nanos(1));
        running.expect_waiting();
        assert_eq!(world.log.take(), [""; 0], "{kind:?} has not begun");
        assert_eq!(world.control.waiting(), 1);
        world.time.advance(Duration::from_nanos(1));
        running.expect_done();
        assert_eq!(world.log.take(), [below]);
        assert_eq!(world.control.waiting(), 0);
    }
}

#[test]
fn any_number_of_requests_wait_side_by_side() {
    let world = World::new(MS * 5);
    let kinds = [Request::Read; 100];
    let running: Vec<_> = kinds.map(|kind| Running::begin(&world.disk, kind)).into();
    world.time.advance(MS * 5);
    running.into_iter().for_each(Running::expect_done);
}

#[test]
fn without_a_delay_a_request_is_complete_at_its_first_poll() {
    let world = World::new(Duration::ZERO);
    for (kind, below) in REQUESTS {
        block_on(poll_once(pin!(request(&world.disk, kind))))
            .unwrap()
            .unwrap();
        assert_eq!(world.log.take(), [below]);
    }
    assert_eq!(world.time.sleeper_count(), 0);
}

#[test]
fn metadata_is_not_delayed() {
    let world = World::new(MS);
    block_on(world.disk.block_status(0, 1)).unwrap();
    block_on(world.disk.resize(SECTORS)).unwrap();
    block_on(world.disk.eject()).unwrap();
    assert_eq!(block_on(world.disk.wait_resize(SECTORS + 1)), SECTORS);
    block_on(world.disk.close()).unwrap();
    block_on(world.disk.drain());
    let seen = [
        "status 0+1",
        "resize 16",
        "eject",
        "wait_resize 17",
        "close",
        "drain",
    ];
    assert_eq!(world.log.take(), seen);
    assert_eq!(world.disk.disk_type(), "delay");
    assert_eq!(world.disk.physical_sector_size(), 4096);
    assert_eq!(world.disk.disk_id(), Some([7; 16]));
    assert_eq!(world.disk.atomic_write_sectors(), 8);
    assert_eq!(world.disk.optimal_unmap_sectors(), 4);
    assert!(world.disk.is_fua_respected());
}

#[test]
fn the_content_is_what_it_is_of_below() {
    let below = Disk::new(probe(&ProbeLog::default()).read_only()).unwrap();
    assert!(below.content_stamp().is_some());
    let (disk, _) = DelayDisk::new(below.clone(), MS, Clock::real()).unwrap();
    assert_eq!(
        Disk::new(disk).unwrap().content_stamp(),
        below.content_stamp()
    );
}

#[test]
fn a_durable_write_to_a_disk_that_knows_none_is_a_write_and_a_flush_with_a_delay_each() {
    for (respects_fua, expected) in [
        (true, vec!["zero 0+1 true false false"]),
        (false, vec!["zero 0+1 false false false", "flush"]),
    ] {
        let world = World::with(MS, respects_fua);
        let mut zeroed = pin!(world.disk.write_zeroes(0, 1, true, false, false));
        for _ in &expected {
            assert!(block_on(poll_once(&mut zeroed)).is_none());
            world.time.advance(MS);
        }
        block_on(poll_once(&mut zeroed)).unwrap().unwrap();
        assert_eq!(world.log.take(), expected);
    }
}

#[test]
fn another_delay_is_for_requests_that_begin_later() {
    let world = World::new(MS * 10);
    let mut long = Running::begin(&world.disk, Request::Write);
    world.control.set(MS).unwrap();
    let short = Running::begin(&world.disk, Request::Read);
    world.time.advance(MS);
    short.expect_done();
    long.expect_waiting();
    world.control.set(Duration::ZERO).unwrap();
    block_on(request(&world.disk, Request::Flush)).unwrap();
    long.expect_waiting();
    world.time.advance(MS * 9);
    long.expect_done();
}

#[test]
fn a_request_that_is_dropped_while_it_waits_never_happens_and_a_drain_ends() {
    let world = World::new(MS);
    let running = Running::begin(&world.disk, Request::Write);
    {
        let mut drain = pin!(world.disk.drain());
        assert!(block_on(poll_once(&mut drain)).is_none());
    }
    drop(running);
    block_on(world.disk.drain());
    world.time.advance(MS * 2);
    assert_eq!(world.log.take(), ["drain"]);
    assert_eq!(
        (world.control.waiting(), world.time.sleeper_count()),
        (0, 0)
    );
}

#[test]
fn a_request_that_is_forgotten_while_it_waits_blocks_nobody() {
    let world = World::new(MS);
    Running::begin(&world.disk, Request::Write).forget();
    for (kind, below) in REQUESTS {
        let running = Running::begin(&world.disk, kind);
        world.time.advance(MS);
        running.expect_done();
        assert_eq!(world.log.take(), [below]);
    }
}
