//! The rules in the inspection tree: what it shows, and what can be set.

mod common;

use common::World;
use disk_fault::{Action, Operation, Rule};
use futures_lite::future::{block_on, poll_once};
use serde_json::{Value, json};
use std::pin::pin;

fn show(world: &World, path: &str) -> Value {
    block_on(inspect::inspect(path, None, &world.disk)).unwrap()
}

fn set(world: &World, path: &str, value: &str) -> Result<Value, String> {
    block_on(inspect::update(path, value, &world.disk)).map_err(|error| error.to_string())
}

#[test]
fn the_tree_shows_the_seed_the_rules_and_the_disk_below() {
    let world = World::new([Rule::new(Action::Drop).on([Operation::Unmap])]);
    block_on(world.disk.unmap(0, 1, false)).unwrap();
    block_on(world.disk.sync_cache()).unwrap();
    assert_eq!(show(&world, "seed"), 1);
    assert_eq!(
        show(&world, "rules"),
        json!({
            "add": null,
            "0": {
                "rule": { "action": "drop", "operations": ["unmap"] },
                "concerned": 1,
                "struck": 1,
                "held": 0,
                "release": null,
                "remove": null,
            },
        })
    );
    assert_eq!(show(&world, "unflushed_sector_count"), 0);
    assert_eq!(show(&world, "disk/probed"), true);
    assert_eq!(show(&world, "disk_type"), "fault");
}

#[test]
fn rules_are_added_changed_and_removed_by_their_paths() {
    let world = World::new([]);
    let rule = r#"{ "action": { "error": "no_space" }, "operations": ["flush"], "times": 1 }"#;
    assert_eq!(set(&world, "rules/add", rule).unwrap(), 0);
    block_on(world.disk.sync_cache()).unwrap_err();
    block_on(world.disk.sync_cache()).unwrap();
    let changed = r#"{ "action": { "delay": { "fixed_ms": 0 } }, "probability": 0.5 }"#;
    assert_eq!(
        set(&world, "rules/0/rule", changed).unwrap(),
        json!({ "action": { "delay": { "fixed_ms": 0.0 } }, "probability": 0.5 })
    );
    assert_eq!(show(&world, "rules/0/struck"), 0);
    assert_eq!(set(&world, "rules/0/remove", "true").unwrap(), true);
    assert_eq!(show(&world, "rules"), json!({ "add": null }));
    assert_eq!(
        set(&world, "rules/0/remove", "true").unwrap_err(),
        "\"rules/0/remove\": \"rules\" has no \"0\"; it has: add"
    );
}

#[test]
fn what_a_rule_holds_is_released_by_its_path() {
    let world = World::new([Rule::new(Action::Hold).on([Operation::Flush])]);
    let mut flush = pin!(world.disk.sync_cache());
    assert!(block_on(poll_once(&mut flush)).is_none());
    assert_eq!(show(&world, "rules/0/held"), 1);
    assert_eq!(
        set(&world, "rules/0/release", "yes").unwrap_err(),
        "\"rules/0/release\" was not changed to \"yes\": set it to true to have it done"
    );
    assert!(block_on(poll_once(&mut flush)).is_none());
    assert_eq!(set(&world, "rules/0/release", "true").unwrap(), 1);
    block_on(poll_once(&mut flush)).unwrap().unwrap();
}

#[test]
fn what_is_kept_back_is_thrown_away_by_its_path() {
    let world = World::new([Rule::new(Action::Reorder(8))]);
    block_on(common::write(&world.disk, 3, 2, 7)).unwrap();
    assert_eq!(show(&world, "unflushed_sector_count"), 2);
    set(&world, "drop_unflushed", "1").unwrap_err();
    assert_eq!(set(&world, "drop_unflushed", "true").unwrap(), 2);
    assert_eq!(show(&world, "unflushed_sector_count"), 0);
    assert_eq!(common::stamps(&world.disk, 3, 2), [0, 0]);
}

#[test]
fn a_wrong_rule_is_refused_with_its_place() {
    let world = World::new([]);
    for (rule, expected) in [
        (
            r#"{ "action": "partial", "operations": ["write", "unmap"] }"#,
            "operations[1]: \"partial\" cannot be done to unmap; it can be done to: write, write_zeroes",
        ),
        (
            r#"{ "action": "drop", "evry": 3 }"#,
            "evry: unknown key; did you mean \"every\"?",
        ),
        (r#"{ "times": 3 }"#, "action: this key is missing"),
        (
            r#"{ "action": { "delay": { "uniform_ms": [1] } } }"#,
            "action.delay.uniform_ms: this should be an array of length 2, but has 1 elements",
        ),
    ] {
        let error = set(&world, "rules/add", rule).unwrap_err();
        assert!(error.ends_with(&format!("\": {expected}")), "{error}");
    }
    assert_eq!(show(&world, "rules"), json!({ "add": null }));
}
