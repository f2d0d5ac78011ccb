//! When rules strike, how they change while the disk is used, and that a seed replays a run.

mod common;

use clock::Clock;
use common::{World, plain, read, request, write};
use disk_fault::{Action, FaultOptions, InjectedError, Operation, Rule, RuleError};
use futures_lite::future::block_on;
use std::time::Duration;

fn failing() -> Rule {
    Rule::new(Action::Error(InjectedError::Io))
}

/// Which of 12 flushes fail, by their number from 1.
fn failures(world: &World) -> Vec<u32> {
    let fails = |_: &u32| block_on(world.disk.sync_cache()).is_err();
    (1..=12).filter(fails).collect()
}

#[test]
fn a_rule_strikes_when_all_its_keys_agree() {
    let rule = |change: fn(&mut Rule)| {
        let mut rule = failing();
        change(&mut rule);
        failures(&World::new([rule]))
    };
    assert_eq!(rule(|rule| rule.every = Some(4)), [4, 8, 12]);
    assert_eq!(rule(|rule| rule.after_requests = 10), [11, 12]);
    assert_eq!(rule(|rule| rule.times = Some(2)), [1, 2]);
    assert_eq!(
        rule(|rule| (rule.every, rule.after_requests, rule.times) = (Some(3), 2, Some(2))),
        [5, 8]
    );
    assert_eq!(rule(|rule| rule.probability = Some(0.0)), [0; 0]);
    assert_eq!(rule(|rule| rule.probability = Some(1.0)).len(), 12);
    let some = rule(|rule| rule.probability = Some(0.5));
    assert!((2..11).contains(&some.len()), "{some:?}");
}

#[test]
fn a_rule_begins_after_its_time() {
    let (clock, time) = Clock::simulated();
    let mut rule = failing();
    rule.after_seconds = 1.5;
    let world = World::with(FaultOptions::new(1, clock), [rule]);
    block_on(world.disk.sync_cache()).unwrap();
    time.advance(Duration::from_millis(1499));
    block_on(world.disk.sync_cache()).unwrap();
    time.advance(Duration::from_millis(1));
    block_on(world.disk.sync_cache()).unwrap_err();
}

#[test]
fn a_rule_is_about_requests_that_touch_its_sectors() {
    let world = World::new([failing().sectors(4, 2)]);
    for (sector, count, is_hit) in [(0, 4, false), (0, 5, true), (5, 1, true), (6, 2, false)] {
        let read = block_on(read(&world.disk, sector, count));
        assert_eq!(read.is_err(), is_hit, "{sector}+{count}");
        let written = block_on(write(&world.disk, sector, count, 1));
        assert_eq!(written.is_err(), is_hit, "{sector}+{count}");
        let zeroed = block_on(world.disk.write_zeroes(sector, count, false, true, false));
        assert_eq!(zeroed.is_err(), is_hit, "{sector}+{count}");
        let unmapped = block_on(world.disk.unmap(sector, count, false));
        assert_eq!(unmapped.is_err(), is_hit, "{sector}+{count}");
        let status = block_on(world.disk.block_status(sector, count));
        assert_eq!(status.is_err(), is_hit, "{sector}+{count}");
    }
    block_on(world.disk.sync_cache()).unwrap();
    block_on(request(&world.disk, Operation::Resize)).unwrap();
    assert_eq!(world.control.list()[0].concerned, 10);
}

/// What becomes of 200 requests: what reaches the disk, and what bits are flipped.
fn run(seed: u64) -> Vec<String> {
    let mut flips = Rule::new(Action::FlipBits(2));
    flips.probability = Some(0.3);
    let mut lost = Rule::new(Action::Partial);
    lost.probability = Some(0.3);
    let mut misdirected = Rule::new(Action::Misdirect).on([Operation::Write]);
    misdirected.probability = Some(0.3);
    let rules = [flips, lost, misdirected];
    let world = World::with(FaultOptions::new(seed, Clock::real()), rules);
    let mut seen = Vec::new();
    for step in 0..100 {
        block_on(write(&world.disk, step % 12, 4, step as u8)).unwrap();
        let data = block_on(read(&world.disk, step % 12, 4)).unwrap();
        seen.append(&mut world.log.take());
        seen.push(format!("{data:?}"));
    }
    seen
}

#[test]
fn a_seed_replays_its_run_and_another_has_another() {
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}

#[test]
fn what_is_decided_for_a_request_does_not_depend_on_other_rules() {
    let some = || {
        let mut rule = failing().on([Operation::Flush]);
        rule.probability = Some(0.5);
        rule
    };
    let alone = failures(&World::new([some()]));
    let world = World::new([some()]);
    world.control.add(failing().on([Operation::Read])).unwrap();
    block_on(read(&world.disk, 0, 1)).unwrap_err();
    assert_eq!(failures(&world), alone);
}

#[test]
fn rules_are_added_changed_and_removed_while_the_disk_is_used() {
    let world = World::new([failing().on([Operation::Read])]);
    let control = &world.control;
    let id = control.add(failing().on([Operation::Flush])).unwrap();
    assert_eq!(id, 1);
    block_on(world.disk.sync_cache()).unwrap_err();
    control.change(1, failing().on([Operation::Unmap])).unwrap();
    block_on(world.disk.sync_cache()).unwrap();
    block_on(world.disk.unmap(0, 1, false)).unwrap_err();
    let list = control.list();
    assert_eq!((list[1].id, list[1].concerned, list[1].struck), (1, 1, 1));
    assert_eq!(list[1].rule, failing().on([Operation::Unmap]));
    control.remove(0).unwrap();
    block_on(read(&world.disk, 0, 1)).unwrap();
    assert_eq!(control.add(failing()).unwrap(), 2, "no id is used twice");
    control.remove(1).unwrap();
    control.remove(2).unwrap();
    world.log.take();
    for operation in Operation::ALL {
        block_on(request(&world.disk, operation)).unwrap();
        assert_eq!(world.log.take(), [plain(operation)]);
    }
    let unknown = RuleError::Unknown {
        id: 5,
        known: "none".to_owned(),
    };
    assert_eq!(control.remove(5), Err(unknown.clone()));
    assert_eq!(control.release(5), Err(unknown.clone()));
    assert_eq!(control.change(5, failing()), Err(unknown));
    assert_eq!(control.seed(), 1);
}

#[test]
fn threads_share_a_rule_without_losing_count() {
    let mut rule = failing();
    rule.every = Some(4);
    let world = World::new([rule]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..250 {
                    // Which of them fails is a matter of their order.
                    drop(block_on(world.disk.sync_cache()));
                }
            });
        }
    });
    let list = world.control.list();
    assert_eq!((list[0].concerned, list[0].struck), (1000, 250));
}
