//! Who waits: several disks, dropped and forgotten requests, other limits.

#[path = "../../disk_delay/tests/common/mod.rs"]
mod common;
mod world;

use common::{Request, Running};
use disk_throttle::Limits;
use futures_lite::future::{block_on, poll_once};
use std::pin::pin;
use std::time::Duration;
use world::{Begun, World, bytes, load, operations};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn disks_of_a_group_share_alike_however_many_requests_each_has() {
    let world = World::new(bytes(1 << 20, 1));
    let (first, second, third) = (world.disk(), world.disk(), world.disk());
    let many = || Begun::write(&first, 8);
    let waiting: Vec<Begun> = (0..500).map(|_| many()).map(polled).collect();
    let large = || Begun::write(&second, 256);
    let small = || Begun::write(&third, 1);
    let end = 200 * SECOND;
    // With 500 more, which are never polled again.
    let done = load(&world, &[&many, &large, &small], 4, end);
    let sectors = [(done[0] + 500) * 8, done[1] * 256, done[2]];
    let share = end.as_secs() * 2048 / 3;
    for sectors in sectors {
        assert!(
            sectors.abs_diff(share) <= 512,
            "{sectors} of {share}: {done:?}"
        );
    }
    drop(waiting);
}

fn polled(mut begun: Begun) -> Begun {
    begun.is_done();
    begun
}

#[test]
fn who_was_idle_is_not_repaid_and_who_was_busy_is_not_punished() {
    let world = World::new(operations(10, 1));
    let (first, second) = (world.disk(), world.disk());
    load(&world, &[&|| Begun::unmap(&first)], 4, 1000 * SECOND);
    let both: [&dyn Fn() -> Begun; 2] = [&|| Begun::unmap(&first), &|| Begun::unmap(&second)];
    let done = load(&world, &both, 4, 1100 * SECOND);
    assert!(done.iter().all(|done| done.abs_diff(500) <= 5), "{done:?}");
}

#[test]
fn requests_of_one_disk_begin_in_the_order_in_which_they_came() {
    let world = World::new(bytes(512, 1));
    let (disk, log) = world.probe();
    let sizes = [3_u64, 1, 2, 1, 4];
    let mut begun: Vec<Begun> = sizes
        .map(|sectors| polled(Begun::write(&disk, sectors)))
        .into();
    while world.time.advance_to_next().is_some() {
        begun.retain_mut(|one| !one.is_done());
    }
    let expected = sizes.map(|sectors| format!("write 0+{sectors}"));
    assert_eq!(log.take(), expected);
}

#[test]
fn what_takes_nothing_of_a_limit_does_not_wait_for_the_debt_of_another_disk() {
    let world = World::new(bytes(512, 1));
    let (debtor, first, other) = (world.disk(), world.disk(), world.disk());
    assert!(Begun::write(&debtor, 100).is_done());
    let mut in_debt = polled(Begun::write(&first, 1));
    assert!(Begun::unmap(&other).is_done());
    // Of one disk the order stays: it waits for what came before it, and for no more than that.
    let mut behind_it = polled(Begun::unmap(&first));
    let write = polled(Begun::write(&other, 1));
    let mut after_write = polled(Begun::unmap(&other));
    assert!(!behind_it.is_done() && !after_write.is_done());
    drop(write);
    assert!(after_write.is_done());
    let mut other_write = polled(Begun::write(&other, 1));
    world.time.advance(100 * SECOND);
    assert!(in_debt.is_done() && behind_it.is_done() && !other_write.is_done());
}

#[test]
fn an_unmap_waits_for_operations_and_not_for_the_bytes_that_another_disk_waits_for() {
    let mut limits = bytes(512, 1);
    limits.operations_per_second = Some(10);
    limits.burst_operations = Some(2);
    let world = World::new(limits);
    let (debtor, first, other) = (world.disk(), world.disk(), world.disk());
    assert!(Begun::write(&debtor, 100).is_done());
    assert_eq!(world.group.status().available_bytes, Some(1 - 51_200));
    world.time.advance(SECOND);
    let mut in_debt = polled(Begun::write(&first, 1));
    assert!(Begun::unmap(&other).is_done());
    // Now there is no operation left: the next one comes in a tenth of a second, and not after a hundred.
    let mut next = polled(Begun::unmap(&other));
    assert!(!next.is_done());
    world.time.advance(SECOND / 10);
    assert!(next.is_done() && !in_debt.is_done());
    // Of one disk the order stays.
    let mut behind_it = polled(Begun::unmap(&first));
    world.time.advance(98 * SECOND);
    assert!(!behind_it.is_done());
    world.time.advance(SECOND);
    assert!(in_debt.is_done() && behind_it.is_done());
}

#[test]
fn who_gives_up_waiting_for_bytes_gives_its_operation_back() {
    let mut limits = bytes(512, 1);
    limits.operations_per_second = Some(1);
    let world = World::new(limits);
    let (first, other) = (world.disk(), world.disk());
    assert!(Begun::write(&first, 100).is_done());
    world.time.advance(SECOND);
    for _ in 0..3 {
        let waits_for_bytes = polled(Begun::write(&first, 1));
        assert_eq!(world.group.status().available_operations, Some(0));
        let mut waits_for_an_operation = polled(Begun::unmap(&other));
        assert!(!waits_for_an_operation.is_done());
        drop(waits_for_an_operation);
        drop(waits_for_bytes);
        assert_eq!(world.group.status().available_operations, Some(1));
    }
    let waits_for_bytes = polled(Begun::write(&first, 1));
    let mut waits_for_an_operation = polled(Begun::unmap(&other));
    drop(waits_for_bytes);
    assert!(waits_for_an_operation.is_done());
}

#[test]
fn who_waits_for_bytes_and_who_waits_for_operations_share_each_alike() {
    let mut limits = bytes(1 << 20, 1);
    limits.operations_per_second = Some(1000);
    let world = World::new(limits);
    let (large, small, unmaps) = (world.disk(), world.disk(), world.disk());
    let makes: [&dyn Fn() -> Begun; 3] = [
        &|| Begun::write(&large, 256),
        &|| Begun::write(&small, 8),
        &|| Begun::unmap(&unmaps),
    ];
    let end = 100 * SECOND;
    let done = load(&world, &makes, 4, end);
    // Bytes are short for the writers, and operations for who needs nothing else: he gets all that they leave.
    let share = end.as_secs() * 2048 / 2;
    for sectors in [done[0] * 256, done[1] * 8] {
        assert!(sectors.abs_diff(share) <= 1024, "{sectors}: {done:?}");
    }
    let all: u64 = done.iter().sum();
    assert!(all.abs_diff(1000 * end.as_secs()) <= 200, "{done:?}");
}

#[test]
fn where_only_operations_are_short_disks_share_those_whatever_bytes_they_move() {
    let mut limits = bytes(1 << 30, 1 << 20);
    limits.operations_per_second = Some(10);
    let world = World::new(limits);
    let (large, small, unmaps) = (world.disk(), world.disk(), world.disk());
    let makes: [&dyn Fn() -> Begun; 3] = [
        &|| Begun::write(&large, 256),
        &|| Begun::write(&small, 8),
        &|| Begun::unmap(&unmaps),
    ];
    let done = load(&world, &makes, 4, 300 * SECOND);
    assert!(done.iter().all(|done| done.abs_diff(1000) <= 2), "{done:?}");
}

#[test]
fn a_dropped_request_takes_nothing_and_holds_up_nobody() {
    let world = World::new(operations(1, 1));
    let (disk, log) = world.probe();
    let other = world.disk();
    assert!(Begun::unmap(&disk).is_done());
    log.take();
    for order in [false, true] {
        let mut waiting: Vec<Begun> = (0..1000).map(|_| polled(Begun::unmap(&disk))).collect();
        let mut last = polled(Begun::unmap(&other));
        if order {
            waiting.reverse();
        }
        waiting.into_iter().for_each(drop);
        assert_eq!(world.group.status().waiting, 1);
        world.time.advance(SECOND);
        assert!(last.is_done());
        assert_eq!(log.take(), [""; 0]);
    }
    // Nor do they push back later ones of the same disk.
    let both: [&dyn Fn() -> Begun; 2] = [&|| Begun::unmap(&disk), &|| Begun::unmap(&other)];
    let done = load(&world, &both, 1, world.now() + 100 * SECOND);
    assert!(done[0].abs_diff(done[1]) <= 1, "{done:?}");
    assert_eq!(
        world.time.sleeper_count(),
        0,
        "nobody waits, so nothing sleeps"
    );
}

#[test]
fn a_forgotten_request_uses_its_turn_and_holds_up_nobody() {
    let world = World::new(operations(1, 1));
    let (disk, log) = world.probe();
    assert!(Begun::unmap(&disk).is_done());
    log.take();
    let forgotten = polled(Begun::write(&disk, 1));
    let never_polled_again = polled(Begun::write(&disk, 2));
    forgotten.forget();
    let mut last = polled(Begun::unmap(&disk));
    world.time.advance(3 * SECOND);
    assert!(last.is_done());
    assert_eq!(log.take(), ["unmap 0+1 false"]);
    drop(never_polled_again);
}

#[test]
fn a_drain_waits_for_those_who_wait_until_they_are_dropped() {
    let world = World::new(operations(1, 1));
    let (disk, log) = world.probe();
    assert!(Begun::unmap(&disk).is_done());
    log.take();
    let waiting = Running::begin(&disk, Request::Write);
    {
        let mut drain = pin!(disk.drain());
        assert!(block_on(poll_once(&mut drain)).is_none());
    }
    drop(waiting);
    block_on(disk.drain());
    assert_eq!(log.take(), ["drain"]);
}

#[test]
fn a_waker_is_called_once_it_may_begin_and_not_before() {
    let world = World::new(operations(1, 1));
    let disk = world.disk();
    assert!(Begun::unmap(&disk).is_done());
    let thread = std::thread::spawn(move || block_on(disk.unmap(0, 1, false)));
    while world.group.status().waiting == 0 {
        std::thread::yield_now();
    }
    world.time.advance(SECOND);
    thread.join().unwrap().unwrap();
}

#[test]
fn other_limits_are_for_those_who_wait_too_and_what_is_owed_stays_owed() {
    let world = World::new(bytes(1, 1));
    let disk = world.disk();
    assert!(Begun::write(&disk, 2).is_done());
    let mut waiting = polled(Begun::write(&disk, 2));
    let mut behind = polled(Begun::write(&disk, 1));
    // 1023 bytes are owed, and a full bucket is one more: at 512 per second that is two seconds.
    world.group.set_limits(bytes(512, 1)).unwrap();
    world.time.advance(2 * SECOND - Duration::from_nanos(1));
    assert!(!waiting.is_done());
    world.time.advance(Duration::from_nanos(1));
    assert!(waiting.is_done());
    world.time.advance(2 * SECOND);
    assert!(behind.is_done());
    // Slower is for them as well.
    let mut waiting = polled(Begun::write(&disk, 1));
    world.group.set_limits(bytes(1, 1)).unwrap();
    world.time.advance(100 * SECOND);
    assert!(!waiting.is_done());
    // Without limits all begin, and a limit that comes begins with a full bucket.
    world.group.set_limits(Limits::default()).unwrap();
    assert!(waiting.is_done());
    assert!(Begun::write(&disk, 2048).is_done());
    assert_eq!(world.group.status().available_bytes, None);
    world.group.set_limits(operations(1, 4)).unwrap();
    assert_eq!(world.group.status().available_operations, Some(4));
}

#[test]
fn who_waited_long_under_one_limit_shares_alike_under_another() {
    let world = World::new(bytes(1, 1));
    let (first, second) = (world.disk(), world.disk());
    let waiting: Vec<Begun> = (0..10)
        .map(|_| polled(Begun::write(&first, 2048)))
        .collect();
    world.group.set_limits(bytes(1 << 20, 1)).unwrap();
    let both: [&dyn Fn() -> Begun; 2] = [&|| Begun::write(&first, 8), &|| Begun::write(&second, 8)];
    let done = load(&world, &both, 4, 100 * SECOND);
    let sectors = [(done[0] * 8) + 10 * 2048, done[1] * 8];
    assert!(sectors[0].abs_diff(sectors[1]) <= 3 * 2048, "{sectors:?}");
    drop(waiting);
}

#[test]
fn a_group_ends_with_its_disks_also_when_requests_were_forgotten() {
    let world = World::new(operations(1, 1));
    let disk = world.disk();
    assert!(Begun::unmap(&disk).is_done());
    assert_eq!(world.group.status().disks, 1);
    drop(disk);
    assert_eq!(world.group.status().disks, 0);
}
