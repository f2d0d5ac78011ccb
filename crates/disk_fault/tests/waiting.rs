//! Requests that wait for time or for a release: they hold up nobody, and end with their futures.

mod common;

use clock::Clock;
use common::{World, plain, request, write};
use disk_fault::{Action, Delay, DelayStep, FaultOptions, InjectedError, Operation, Rule};
use futures_lite::future::{block_on, poll_once};
use std::pin::pin;
use std::time::Duration;

fn delay_ms(ms: f64) -> Action {
    Action::Delay(Delay::FixedMs(ms))
}

#[test]
fn a_delayed_request_takes_its_time_and_then_succeeds() {
    for operation in Operation::ALL {
        let (clock, time) = Clock::simulated();
        let rule = Rule::new(delay_ms(2.5)).on([operation]);
        let world = World::with(FaultOptions::new(1, clock), [rule]);
        let mut delayed = pin!(request(&world.disk, operation));
        assert!(block_on(poll_once(&mut delayed)).is_none());
        time.advance(Duration::from_micros(2499));
        assert!(block_on(poll_once(&mut delayed)).is_none());
        assert_eq!(world.log.take(), [""; 0], "{operation} has not begun");
        time.advance(Duration::from_micros(1));
        block_on(poll_once(&mut delayed)).unwrap().unwrap();
        assert_eq!(world.log.take(), [plain(operation)]);
    }
}

#[test]
fn a_held_request_waits_for_its_release_alone() {
    for operation in Operation::ALL {
        let world = World::new([Rule::new(Action::Hold).on([operation])]);
        let mut held = pin!(request(&world.disk, operation));
        assert!(block_on(poll_once(&mut held)).is_none());
        assert_eq!(world.control.list()[0].held, 1);
        for other in Operation::ALL
            .into_iter()
            .filter(|other| *other != operation)
        {
            block_on(request(&world.disk, other)).unwrap();
            assert_eq!(world.log.take(), [plain(other)]);
        }
        assert!(block_on(poll_once(&mut held)).is_none());
        assert_eq!(world.control.release(0), Ok(1));
        block_on(poll_once(&mut held)).unwrap().unwrap();
        assert_eq!(world.log.take(), [plain(operation)]);
        assert_eq!(world.control.list()[0].held, 0);
        let mut next = pin!(request(&world.disk, operation));
        assert!(
            block_on(poll_once(&mut next)).is_none(),
            "the rule holds on"
        );
    }
}

#[test]
fn whoever_changes_or_removes_a_rule_releases_what_it_holds() {
    let world = World::new([Rule::new(Action::Hold).on([Operation::Flush])]);
    let mut held = pin!(world.disk.sync_cache());
    assert!(block_on(poll_once(&mut held)).is_none());
    world
        .control
        .change(0, Rule::new(Action::Hold).on([Operation::Flush]))
        .unwrap();
    block_on(poll_once(&mut held)).unwrap().unwrap();
    let mut held = pin!(world.disk.sync_cache());
    assert!(block_on(poll_once(&mut held)).is_none());
    world.control.remove(0).unwrap();
    block_on(poll_once(&mut held)).unwrap().unwrap();
}

#[test]
fn a_request_that_is_dropped_while_it_waits_never_happens_and_a_drain_ends() {
    let (clock, time) = Clock::simulated();
    for action in [Action::Hold, delay_ms(5.0)] {
        let options = FaultOptions::new(1, clock.clone());
        let world = World::with(options, [Rule::new(action).on([Operation::Write])]);
        {
            let mut waiting = pin!(write(&world.disk, 2, 2, 9));
            assert!(block_on(poll_once(&mut waiting)).is_none());
            let mut drain = pin!(world.disk.drain());
            assert!(block_on(poll_once(&mut drain)).is_none());
        }
        block_on(world.disk.drain());
        assert_eq!(time.sleeper_count(), 0);
        assert_eq!(world.control.list()[0].held, 0);
        assert_eq!(world.log.take(), ["drain"]);
    }
}

#[test]
fn a_drain_ends_when_what_is_held_was_released() {
    let world = World::new([Rule::new(Action::Hold).on([Operation::Write])]);
    let mut held = pin!(write(&world.disk, 2, 2, 9));
    assert!(block_on(poll_once(&mut held)).is_none());
    let mut drain = pin!(world.disk.drain());
    assert!(block_on(poll_once(&mut drain)).is_none());
    world.control.release(0).unwrap();
    block_on(&mut held).unwrap();
    block_on(&mut drain);
}

#[test]
fn a_request_that_is_forgotten_while_it_waits_blocks_nobody() {
    let (clock, time) = Clock::simulated();
    for action in [Action::Hold, delay_ms(5.0)] {
        let options = FaultOptions::new(1, clock.clone());
        let rule = Rule::new(action).times(1);
        let world = World::with(options, [rule]);
        let disk = world.disk.clone();
        let mut forgotten = Box::pin(async move { write(&disk, 2, 2, 9).await });
        assert!(block_on(poll_once(&mut forgotten)).is_none());
        std::mem::forget(forgotten);
        for operation in Operation::ALL {
            block_on(request(&world.disk, operation)).unwrap();
        }
        time.advance(Duration::from_secs(1));
        world.control.release(0).unwrap();
        assert_eq!(
            world.stamps()[2],
            0,
            "the write never happened; zeroes and an unmap did"
        );
        world.control.remove(0).unwrap();
    }
}

#[test]
fn waiting_comes_before_whatever_else_is_done() {
    let (clock, time) = Clock::simulated();
    let rules = [
        Rule::new(Action::Error(InjectedError::Io)),
        Rule::new(delay_ms(1.0)),
        Rule::new(delay_ms(2.0)),
        Rule::new(Action::Error(InjectedError::NoSpace)),
    ];
    let world = World::with(FaultOptions::new(1, clock), rules);
    let mut flush = pin!(world.disk.sync_cache());
    assert!(block_on(poll_once(&mut flush)).is_none());
    time.advance(Duration::from_millis(1));
    assert!(block_on(poll_once(&mut flush)).is_none());
    time.advance(Duration::from_millis(2));
    let error = block_on(poll_once(&mut flush)).unwrap().unwrap_err();
    assert!(
        matches!(error, disk_backend::DiskError::Io(_)),
        "the first decides"
    );
    let struck: Vec<u64> = world
        .control
        .list()
        .iter()
        .map(|rule| rule.struck)
        .collect();
    assert_eq!(struck, [1, 1, 1, 0]);
}

/// How long a flush is delayed, 1000 times, in milliseconds.
fn delays(delay: Delay) -> Vec<f64> {
    let (clock, time) = Clock::simulated();
    let world = World::with(
        FaultOptions::new(1, clock.clone()),
        [Rule::new(Action::Delay(delay))],
    );
    let measure = |_| {
        let begin = clock.now();
        let mut flush = pin!(world.disk.sync_cache());
        while block_on(poll_once(&mut flush)).is_none() {
            time.advance_to_next();
        }
        clock.now().since(begin).as_secs_f64() * 1000.0
    };
    (0..1000).map(measure).collect()
}

#[test]
fn delays_have_the_distribution_that_was_asked_for() {
    let uniform = delays(Delay::UniformMs([2.0, 6.0]));
    assert!(uniform.iter().all(|ms| (2.0..=6.0).contains(ms)));
    let mean = uniform.iter().sum::<f64>() / 1000.0;
    assert!((3.8..4.2).contains(&mean), "{mean}");

    let step = |to_ms, weight| DelayStep { to_ms, weight };
    let steps = delays(Delay::HistogramMs(vec![
        step(1.0, 9),
        step(50.0, 0),
        step(100.0, 1),
    ]));
    let fast = steps.iter().filter(|ms| **ms <= 1.0).count();
    let slow = steps
        .iter()
        .filter(|ms| (50.0..=100.0).contains(*ms))
        .count();
    assert_eq!(fast + slow, 1000);
    assert!((70..130).contains(&slow), "{slow}");

    assert_eq!(delays(Delay::FixedMs(0.25))[999], 0.25);
}
