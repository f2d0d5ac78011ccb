//! Limits in the inspection tree and in descriptions, and the words with which wrong ones are refused.

use clock::Clock;
use disk_backend::Disk;
use disk_backend::resolve::DiskHandleKind;
use disk_throttle::{Limits, ThrottleDisk, ThrottleDiskHandle, ThrottleGroup};
use disklayer_ram::ram_disk;
use futures_lite::future::block_on;
use resource::{Resource, ResourceResolver};
use serde_json::{Value, json};

fn disks() -> [Disk; 2] {
    let group = ThrottleGroup::named("a", Limits::default(), Clock::simulated().0).unwrap();
    [(), ()].map(|()| {
        let ram = ram_disk(1 << 20, false).unwrap();
        Disk::new(ThrottleDisk::new(ram, &group)).unwrap()
    })
}

fn show(disk: &Disk, path: &str) -> Value {
    block_on(inspect::inspect(path, None, disk)).unwrap()
}

fn set(disk: &Disk, path: &str, value: &str) -> Result<Value, String> {
    block_on(inspect::update(path, value, disk)).map_err(|error| error.to_string())
}

#[test]
fn limits_are_seen_added_changed_and_removed_through_each_disk() {
    let [first, second] = disks();
    assert_eq!(show(&first, "group"), "a");
    assert_eq!(show(&first, "disks"), 2);
    assert_eq!(show(&first, "disk_type"), "throttle");
    assert_eq!(show(&first, "disk/sector_count"), 2048);
    for path in [
        "bytes_per_second",
        "burst_bytes",
        "operations_per_second",
        "burst_operations",
    ] {
        assert_eq!(show(&first, path), Value::Null);
    }
    assert_eq!(set(&first, "bytes_per_second", "1M").unwrap(), 1 << 20);
    assert_eq!(show(&second, "burst_bytes"), 104_857);
    assert_eq!(set(&second, "burst_bytes", "2M").unwrap(), 2 << 20);
    assert_eq!(show(&first, "burst_bytes"), 2 << 20);
    assert_eq!(
        show(&first, "available_bytes"),
        104_857,
        "a bucket grows empty"
    );
    assert_eq!(set(&first, "operations_per_second", "30").unwrap(), 30);
    assert_eq!(set(&first, "burst_operations", "7").unwrap(), 7);
    assert_eq!(set(&first, "burst_operations", "null").unwrap(), 3);
    assert_eq!(show(&first, "available_operations"), 3);
    assert_eq!(show(&first, "waiting"), 0);
    assert_eq!(
        set(&second, "bytes_per_second", "null").unwrap(),
        Value::Null
    );
    assert_eq!(show(&first, "burst_bytes"), Value::Null);
}

#[test]
fn what_makes_no_sense_is_refused_in_text_for_a_terminal_and_changes_nothing() {
    let [disk, _other] = disks();
    for (path, new, expected) in [
        (
            "bytes_per_second",
            "0",
            "bytes_per_second: 0 would let nothing begin: give at least 1, or leave it out for no limit",
        ),
        (
            "burst_bytes",
            "5",
            "burst_bytes: there is nothing to burst above without bytes_per_second: give that as well, or leave this out",
        ),
        ("bytes_per_second", "-1", "is not a size"),
        ("bytes_per_second", "1.5", "is not a size"),
        (
            "operations_per_second",
            "-1",
            "\"-1\" is no whole number of operations; null is no limit",
        ),
        (
            "operations_per_second",
            "NaN",
            "\"NaN\" is no whole number of operations; null is no limit",
        ),
        (
            "operations_per_second",
            "18446744073709551616",
            "\"18446744073709551616\" is no whole number of operations; null is no limit",
        ),
        (
            "operations_per_second",
            "\u{1b}[2J",
            "\"\\u{1b}[2J\" is no whole number of operations; null is no limit",
        ),
        ("bytes_per_second", "\u{1b}[2J", "is not a size"),
    ] {
        let error = set(&disk, path, new).unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains(char::is_control), "{error:?}");
    }
    assert_eq!(show(&disk, "bytes_per_second"), Value::Null);
    assert_eq!(show(&disk, "operations_per_second"), Value::Null);
}

#[test]
fn a_wrong_description_is_refused_with_its_path() {
    let mut resolver = ResourceResolver::new();
    resolver.add::<DiskHandleKind, ThrottleDiskHandle>();
    let check = |rest: Value| -> Vec<String> {
        let mut description = json!({ "type": "throttle", "disk": { "type": "throttle", "disk": { "type": "nothing" } } });
        for (key, value) in rest.as_object().unwrap() {
            description[key] = value.clone();
        }
        let disk: Resource<DiskHandleKind> = resource::from_value(&description).unwrap();
        let mistakes = resolver.check(&disk);
        mistakes.iter().map(ToString::to_string).collect()
    };
    for (rest, expected) in [
        (
            json!({ "bytes_per_second": 0 }),
            "bytes_per_second: 0 would let nothing begin",
        ),
        (
            json!({ "operations_per_second": 0 }),
            "operations_per_second: 0 would let nothing begin",
        ),
        (
            json!({ "bytes_per_second": 1, "burst_bytes": 0 }),
            "burst_bytes: 0 would let nothing begin",
        ),
        (
            json!({ "operations_per_second": 1, "burst_operations": 0 }),
            "burst_operations: 0 would let nothing begin",
        ),
        (
            json!({ "burst_bytes": "1M" }),
            "burst_bytes: there is nothing to burst above",
        ),
        (
            json!({ "bytes_per_second": 1, "burst_operations": 1 }),
            "burst_operations: there is nothing to burst above without operations_per_second",
        ),
        (json!({ "bytes_per_second": -1 }), "bytes_per_second: "),
        (
            json!({ "operations_per_second": 0.5 }),
            "operations_per_second: ",
        ),
        (
            json!({ "operations_per_second": "10" }),
            "operations_per_second: ",
        ),
        (
            json!({ "bytes_per_sec": 1 }),
            "bytes_per_sec: unknown key; did you mean \"bytes_per_second\"?",
        ),
        (json!({ "group": "" }), "group: a group has a name"),
        (
            json!({ "group": "g".repeat(256) }),
            "group: a group's name has at most 255 bytes",
        ),
        (
            json!({ "group": "g" }),
            "disk.disk.type: unknown type of disk \"nothing\"",
        ),
    ] {
        let found = check(rest);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(expected), "{found:?}");
    }
}
