//! The delay in the inspection tree and in descriptions, and the words with which wrong ones are refused.

use clock::Clock;
use disk_backend::Disk;
use disk_backend::resolve::DiskHandleKind;
use disk_delay::{DELAY_SECONDS_MAX, DelayDisk, DelayDiskHandle};
use disklayer_ram::ram_disk;
use futures_lite::future::block_on;
use resource::{Resource, ResourceResolver};
use serde_json::{Value, json};
use std::time::Duration;

fn delayed(delay: Duration) -> Disk {
    let ram = ram_disk(1 << 20, false).unwrap();
    let (disk, _control) = DelayDisk::new(ram, delay, Clock::simulated().0).unwrap();
    Disk::new(disk).unwrap()
}

fn show(disk: &Disk, path: &str) -> Value {
    block_on(inspect::inspect(path, None, disk)).unwrap()
}

fn set(disk: &Disk, path: &str, value: &str) -> Result<Value, String> {
    block_on(inspect::update(path, value, disk)).map_err(|error| error.to_string())
}

#[test]
fn the_delay_is_seen_and_changed_by_its_path() {
    let disk = delayed(Duration::from_millis(100));
    assert_eq!(show(&disk, "seconds"), 0.1);
    assert_eq!(show(&disk, "waiting"), 0);
    assert_eq!(show(&disk, "disk_type"), "delay");
    assert_eq!(show(&disk, "disk/sector_count"), 2048);
    assert_eq!(set(&disk, "seconds", "0").unwrap(), 0.0);
    block_on(disk.sync_cache()).unwrap();
    assert_eq!(set(&disk, "seconds", "1.5e-3").unwrap(), 0.0015);
    assert_eq!(set(&disk, "seconds", "86400").unwrap(), 86400.0);
}

#[test]
fn what_is_no_delay_is_refused_in_text_for_a_terminal_and_the_old_one_stays() {
    let disk = delayed(Duration::from_millis(100));
    for (new, expected) in [
        (
            "-1",
            "a delay of -1 seconds is not between 0 and a day (86400 seconds)",
        ),
        (
            "86400.5",
            "a delay of 86400.5 seconds is not between 0 and a day (86400 seconds)",
        ),
        (
            "NaN",
            "a delay of NaN seconds is not between 0 and a day (86400 seconds)",
        ),
        (
            "inf",
            "a delay of inf seconds is not between 0 and a day (86400 seconds)",
        ),
        (
            "1e300",
            "seconds is not between 0 and a day (86400 seconds)",
        ),
        ("", "\"\" is no number of seconds"),
        ("1s", "\"1s\" is no number of seconds"),
        ("\u{1b}[2J", "\"\\u{1b}[2J\" is no number of seconds"),
    ] {
        let error = set(&disk, "seconds", new).unwrap_err();
        assert!(error.ends_with(expected), "{error}");
        assert!(!error.contains(char::is_control), "{error:?}");
    }
    assert_eq!(show(&disk, "seconds"), 0.1);
    let too_long = Duration::from_secs(u64::from(DELAY_SECONDS_MAX) + 1);
    let error = DelayDisk::new(ram_disk(512, false).unwrap(), too_long, Clock::real()).unwrap_err();
    assert_eq!(error.seconds, "86401");
    let longest = Duration::from_secs(DELAY_SECONDS_MAX.into());
    assert!(DelayDisk::new(ram_disk(512, false).unwrap(), longest, Clock::real()).is_ok());
    assert!(DelayDisk::new(ram_disk(512, false).unwrap(), Duration::MAX, Clock::real()).is_err());
}

#[test]
fn a_wrong_description_is_refused_with_its_path() {
    let mut resolver = ResourceResolver::new();
    resolver.add::<DiskHandleKind, DelayDiskHandle>();
    let check = |rest: Value| -> Vec<String> {
        let mut description = json!({ "type": "delay", "disk": { "type": "delay", "seconds": 0, "disk": { "type": "nothing" } } });
        for (key, value) in rest.as_object().unwrap() {
            description[key] = value.clone();
        }
        let disk: Resource<DiskHandleKind> = resource::from_value(&description).unwrap();
        let mistakes = resolver.check(&disk);
        mistakes.iter().map(ToString::to_string).collect()
    };
    for (rest, expected) in [
        (
            json!({ "seconds": -0.5 }),
            "seconds: a delay of -0.5 seconds is not between 0 and a day (86400 seconds): give one that is",
        ),
        (
            json!({ "seconds": 1e300 }),
            "is not between 0 and a day (86400 seconds): give one that is",
        ),
        (json!({ "seconds": "1" }), "seconds: this should be"),
        (json!({}), "seconds: this key is missing"),
        (
            json!({ "seconds": 1, "secnds": 1 }),
            "secnds: unknown key; did you mean \"seconds\"?",
        ),
        (
            json!({ "seconds": 1 }),
            "disk.disk.type: unknown type of disk \"nothing\"",
        ),
    ] {
        let found = check(rest);
        assert!(found[0].contains(expected), "{found:?}");
    }
}
