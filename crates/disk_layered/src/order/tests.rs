//! What waits for what.

use super::*;
use futures_lite::future::{block_on, pending, poll_once};
use std::pin::pin;

fn order() -> Order {
    Order::new(9)
}

fn ready() -> Body {
    Box::pin(async { Ok(()) })
}

fn stuck() -> Body {
    Box::pin(pending())
}

#[test]
fn a_turn_disturbs_no_observation_and_a_change_does() {
    let order = order();
    let observation = block_on(order.observe(&(0..4))).unwrap();
    let turn = block_on(order.turn(3..5, ready()));
    block_on(turn.run()).unwrap().unwrap();
    assert!(observation.end());

    let observation = block_on(order.observe(&(0..4))).unwrap();
    block_on(order.change(3..5, ready()));
    assert!(!observation.end());
}

#[test]
fn reads_never_wait_for_each_other() {
    let order = order();
    let slow = block_on(order.turn(0..4, stuck()));
    let mut slow = pin!(slow.run());
    assert!(block_on(poll_once(&mut slow)).is_none());
    let other = block_on(order.turn(0..4, ready()));
    assert!(block_on(poll_once(pin!(other.run()))).is_some());
    assert!(block_on(poll_once(pin!(order.observe(&(0..4))))).is_some());
}

#[test]
fn a_change_waits_for_every_older_turn_and_a_turn_for_every_older_change() {
    let order = order();
    let first = block_on(order.turn(0..4, stuck()));
    let change = block_on(order.change(3..8, ready()));
    let second = block_on(order.turn(7..9, ready()));
    for operation in [&change, &second] {
        assert!(block_on(poll_once(pin!(operation.finish()))).is_none());
    }
    assert!(!first.is_done() && !change.is_done() && !second.is_done());
    // What does not overlap goes on.
    let elsewhere = block_on(order.change(9..12, ready()));
    assert!(block_on(poll_once(pin!(elsewhere.run()))).is_some());
}

#[test]
fn ranges_at_the_end_of_all_sectors_are_ordered_like_others() {
    let order = order();
    let last = u64::MAX - 1..u64::MAX;
    let first = block_on(order.change(last.clone(), stuck()));
    let everything = block_on(order.change(EVERYTHING, ready()));
    assert!(block_on(poll_once(pin!(everything.finish()))).is_none());
    assert!(block_on(poll_once(pin!(order.observe(&last)))).is_none());
    assert!(!first.is_done());
}

/// A cache that answers no more must not make everything that is read pile up in memory (R5).
#[test]
fn fills_that_do_not_end_are_few() {
    let order = order();
    let range = 0..1;
    let observation = block_on(order.observe(&range)).unwrap();
    let begin = || observation.fill(&range, &Operation::new(Vec::new(), stuck()));
    for _ in 0..FILLS_MAX {
        assert!(begin());
    }
    assert!(!begin());
    assert!(!order.keep_fill(&range, &Operation::new(Vec::new(), stuck())));
    // Changes still have room.
    let change = block_on(order.change(1..2, ready()));
    assert!(block_on(poll_once(pin!(change.run()))).is_some());
}
