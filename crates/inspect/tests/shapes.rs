//! What the attributes of the derive make of each other: views inside variants, changes through every kind of level.

use futures_lite::future::block_on;
use inspect::{Histogram, Inspect, InspectError, inspect, update};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::num::ParseIntError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

fn tree(obj: &impl Inspect) -> Value {
    block_on(inspect("", None, obj)).unwrap()
}

/// Sets the value at `path` to 7, and expects it to be there then.
fn change(obj: &impl Inspect, path: &str) {
    assert_eq!(
        block_on(update(path, "7", obj)).unwrap(),
        json!(7),
        "{path}"
    );
    assert_eq!(
        block_on(inspect(path, None, obj)).unwrap(),
        json!(7),
        "{path}"
    );
}

fn limit(limit: &AtomicU32, new: Option<&str>) -> Result<u32, ParseIntError> {
    if let Some(new) = new {
        limit.store(new.parse()?, Ordering::Relaxed);
    }
    Ok(limit.load(Ordering::Relaxed))
}

#[derive(Inspect, Default)]
struct Tunable {
    #[inspect(change = "limit")]
    limit: AtomicU32,
}

#[derive(Inspect)]
#[inspect(tag = "state")]
enum Backing<'a, T> {
    Absent,
    #[inspect(rename = "mapped!")]
    Mapped {
        #[inspect(hex)]
        address: u64,
        #[inspect(with = "|parts| parts.len()")]
        parts: &'a [u8],
        #[inspect(iter_by_key)]
        names: BTreeMap<u8, T>,
    },
    Tuned(
        #[inspect(change = "limit")] AtomicU32,
        #[inspect(flatten)] Tunable,
        #[inspect(rename = "second", debug)] Option<u8>,
    ),
}

#[test]
fn fields_of_variants_take_every_view() {
    let mapped = Backing::Mapped {
        address: 4096,
        parts: &[1, 2],
        names: BTreeMap::from([(3, "three")]),
    };
    assert_eq!(
        tree(&mapped),
        json!({ "state": "mapped!", "address": "0x1000", "parts": 2, "names": { "3": "three" } })
    );
    assert_eq!(tree(&Backing::<u8>::Absent), json!({ "state": "absent" }));
}

#[test]
fn fields_of_variants_can_be_changed_and_the_tag_cannot() {
    let tuned = Backing::<u8>::Tuned(AtomicU32::new(1), Tunable::default(), Some(2));
    assert_eq!(
        tree(&tuned),
        json!({ "state": "tuned", "0": 1, "limit": 0, "second": "Some(2)" })
    );
    change(&tuned, "0");
    change(&tuned, "limit");
    for path in ["state", "second"] {
        let error = block_on(update(path, "7", &tuned)).unwrap_err();
        assert!(matches!(error, InspectError::NotMutable { .. }), "{error}");
    }
    let error = block_on(update("limit", "7", &Backing::<u8>::Absent)).unwrap_err();
    assert!(matches!(error, InspectError::NotFound { .. }), "{error}");
}

#[derive(Inspect)]
#[inspect(transparent)]
struct Mask(#[inspect(hex)] u8);

#[derive(Inspect)]
#[inspect(transparent)]
struct Limit(#[inspect(change = "limit")] AtomicU32);

#[derive(Inspect)]
#[inspect(transparent)]
struct ByName {
    #[inspect(iter_by_key)]
    parts: BTreeMap<&'static str, Tunable>,
    #[inspect(skip)]
    _count: usize,
}

#[derive(Inspect)]
#[inspect(transparent)]
struct Length<T>(#[inspect(with = "|items| items.len()")] Vec<T>);

fn by_name() -> ByName {
    ByName {
        parts: BTreeMap::from([("a", Tunable::default())]),
        _count: 1,
    }
}

#[test]
fn a_transparent_struct_shows_its_field_in_its_view() {
    struct NotInspect;
    assert_eq!(tree(&Mask(255)), json!("0xff"));
    assert_eq!(tree(&by_name()), json!({ "a": { "limit": 0 } }));
    assert_eq!(tree(&Length(vec![NotInspect, NotInspect])), json!(2));
    change(&Limit(AtomicU32::new(0)), "");
}

#[derive(Inspect, Default)]
struct Tree {
    option: Option<Tunable>,
    shared: Arc<Mutex<Tunable>>,
    #[inspect(iter_by_index)]
    list: Vec<Tunable>,
    #[inspect(iter_by_key)]
    map: BTreeMap<u16, Tunable>,
    #[inspect(with = "inspect::as_deref")]
    boxed: Box<Tunable>,
    #[inspect(flatten)]
    flat: Tunable,
    latency_ns: Histogram,
}

#[test]
fn a_change_finds_its_value_through_every_kind_of_level() {
    let tunables = || vec![Tunable::default(), Tunable::default()];
    let obj = Tree {
        option: Some(Tunable::default()),
        list: tunables(),
        map: (8..).zip(tunables()).collect(),
        ..Tree::default()
    };
    for path in [
        "option/limit",
        "shared/limit",
        "list/1/limit",
        "map/9/limit",
        "boxed/limit",
        "limit",
    ] {
        change(&obj, path);
    }
    change(&by_name(), "a/limit");
    let shown = tree(&obj);
    assert_eq!(
        (&shown["list"][0]["limit"], &shown["map"]["8"]["limit"]),
        (&json!(0), &json!(0))
    );
}

#[test]
fn a_histogram_is_a_part_like_any_other() {
    let obj = Tree::default();
    obj.latency_ns.record(300);
    let path = "latency_ns/p50";
    assert_eq!(block_on(inspect(path, None, &obj)).unwrap(), json!(300));
    let error = block_on(update(path, "1", &obj)).unwrap_err();
    assert!(matches!(error, InspectError::NotMutable { .. }), "{error}");
    let error = block_on(inspect("latency_ns/p51", None, &obj)).unwrap_err();
    assert!(error.to_string().contains("p50, p90, p99, p999"), "{error}");
}
