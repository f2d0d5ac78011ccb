//! What the derive macro makes of each attribute.

use futures_lite::future::block_on;
use inspect::{Inspect, Request, Response, inspect, update};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::num::ParseIntError;
use std::sync::atomic::{AtomicU32, Ordering};

fn tree(obj: &impl Inspect) -> Value {
    block_on(inspect("", None, obj)).unwrap()
}

#[derive(Inspect)]
struct Inner {
    depth: u8,
}

/// Not `Inspect`: only reached by attributes that do not need it.
#[derive(Debug)]
struct Opaque;

impl fmt::Display for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("shown")
    }
}

#[derive(Inspect)]
#[inspect(extra = "Outer::more")]
struct Outer {
    plain: u32,
    r#type: &'static str,
    #[inspect(skip)]
    _skipped: Opaque,
    #[inspect(rename = "other")]
    renamed: bool,
    #[inspect(hex)]
    mask: u16,
    #[inspect(display)]
    text: Opaque,
    #[inspect(debug)]
    raw: Opaque,
    #[inspect(flatten)]
    inner: Inner,
    #[inspect(with = "|text| text.len()")]
    length: String,
    #[inspect(with = "double")]
    doubled: u32,
    #[inspect(iter_by_index)]
    items: VecDeque<Inner>,
    #[inspect(iter_by_key)]
    by_name: BTreeMap<&'static str, u8>,
    #[inspect(flatten, iter_by_key)]
    flat: BTreeMap<&'static str, u8>,
    #[inspect(with = "|lock| inspect::as_deref(lock.lock())")]
    locked: parking_lot::Mutex<u8>,
}

fn double(number: &u32) -> u32 {
    number * 2
}

impl Outer {
    fn more(&self, resp: &mut Response<'_>) {
        resp.counter("more", self.plain);
    }
}

fn outer() -> Outer {
    Outer {
        plain: 1,
        r#type: "outer",
        _skipped: Opaque,
        renamed: true,
        mask: 0xbeef,
        text: Opaque,
        raw: Opaque,
        inner: Inner { depth: 2 },
        length: "four".to_owned(),
        doubled: 21,
        items: VecDeque::from([Inner { depth: 3 }, Inner { depth: 4 }]),
        by_name: BTreeMap::from([("a", 5)]),
        flat: BTreeMap::from([("b", 6)]),
        locked: parking_lot::Mutex::new(7),
    }
}

#[test]
fn each_field_attribute_shapes_its_part() {
    let expected = json!({
        "plain": 1,
        "type": "outer",
        "other": true,
        "mask": "0xbeef",
        "text": "shown",
        "raw": "Opaque",
        "depth": 2,
        "length": 4,
        "doubled": 42,
        "items": [{ "depth": 3 }, { "depth": 4 }],
        "by_name": { "a": 5 },
        "b": 6,
        "locked": 7,
        "more": 1,
    });
    let shown = tree(&outer());
    assert_eq!(shown, expected);
    let order: Vec<_> = shown.as_object().unwrap().keys().collect();
    assert_eq!(
        order,
        expected.as_object().unwrap().keys().collect::<Vec<_>>(),
        "parts keep the order of the fields"
    );
}

#[test]
fn each_part_is_reached_by_its_path() {
    for (path, expected) in [
        ("plain", json!(1)),
        ("other", json!(true)),
        ("mask", json!("0xbeef")),
        ("depth", json!(2)),
        ("items/1/depth", json!(4)),
        ("by_name/a", json!(5)),
        ("b", json!(6)),
        ("locked", json!(7)),
        ("more", json!(1)),
    ] {
        assert_eq!(
            block_on(inspect(path, None, &outer())).unwrap(),
            expected,
            "{path}"
        );
    }
}

#[derive(Inspect)]
enum State {
    Idle,
    ShuttingDown,
    #[inspect(rename = "gone!")]
    Gone,
}

#[test]
fn a_unit_variant_is_its_name_in_snake_case() {
    assert_eq!(
        tree(&[State::Idle, State::ShuttingDown, State::Gone]),
        json!(["idle", "shutting_down", "gone!"])
    );
}

#[derive(Inspect)]
#[inspect(tag = "kind")]
enum Backing {
    Empty,
    File {
        path: &'static str,
        #[inspect(hex)]
        offset: u64,
    },
    Nested(#[inspect(flatten)] Inner),
    Pair(u8, #[inspect(skip)] Opaque),
}

#[test]
fn a_tagged_enum_shows_its_variant_beside_the_fields() {
    let backings = [
        Backing::Empty,
        Backing::File {
            path: "a.raw",
            offset: 16,
        },
        Backing::Nested(Inner { depth: 1 }),
        Backing::Pair(8, Opaque),
    ];
    assert_eq!(
        tree(&backings),
        json!([
            { "kind": "empty" },
            { "kind": "file", "path": "a.raw", "offset": "0x10" },
            { "kind": "nested", "depth": 1 },
            { "kind": "pair", "0": 8 },
        ])
    );
}

#[derive(Inspect)]
#[inspect(transparent)]
struct Wrapper<T> {
    value: T,
    #[inspect(skip)]
    _other: u8,
}

#[derive(Inspect)]
#[inspect(display)]
enum Shown {
    #[allow(dead_code, reason = "only its Display matters")]
    WithData(u8),
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("as text")
    }
}

#[derive(Debug, Inspect)]
#[inspect(debug)]
struct Raw {
    #[allow(dead_code, reason = "only its Debug matters")]
    x: u8,
}

#[test]
fn a_transparent_struct_and_a_whole_text_answer_in_place_of_the_fields() {
    let value = Inner { depth: 9 };
    assert_eq!(tree(&Wrapper { value, _other: 0 }), json!({ "depth": 9 }));
    assert_eq!(tree(&Shown::WithData(1)), json!("as text"));
    assert_eq!(tree(&Raw { x: 1 }), json!("Raw { x: 1 }"));
}

#[derive(Inspect)]
struct Unit;

#[derive(Inspect)]
struct Tuple(u8, #[inspect(rename = "second")] u8);

#[test]
fn tuple_fields_are_named_by_index_and_a_unit_has_no_parts() {
    assert_eq!(tree(&Unit), json!({}));
    assert_eq!(tree(&Tuple(1, 2)), json!({ "0": 1, "second": 2 }));
}

#[derive(Inspect)]
struct Generic<'a, T, U, const N: usize>
where
    T: Copy,
{
    shown: &'a [T; N],
    #[inspect(skip)]
    _hidden: U,
}

#[derive(Inspect)]
#[inspect(bound = "T: Into<u32> + Copy")]
struct Bounded<T> {
    #[inspect(with = "|part| Into::<u32>::into(*part)")]
    part: T,
}

#[test]
fn only_parameters_that_are_shown_are_bounded() {
    let generic = Generic {
        shown: &[1, 2],
        _hidden: Opaque,
    };
    assert_eq!(tree(&generic), json!({ "shown": [1, 2] }));
    assert_eq!(tree(&Bounded { part: 3_u8 }), json!({ "part": 3 }));
}

#[derive(Inspect)]
struct Tunable {
    #[inspect(change = "change_limit")]
    limit: AtomicU32,
}

fn change_limit(limit: &AtomicU32, new: Option<&str>) -> Result<u32, ParseIntError> {
    if let Some(new) = new {
        limit.store(new.parse()?, Ordering::Relaxed);
    }
    Ok(limit.load(Ordering::Relaxed))
}

#[test]
fn a_field_with_change_can_be_read_and_changed() {
    let tunable = Tunable {
        limit: AtomicU32::new(5),
    };
    assert_eq!(tree(&tunable), json!({ "limit": 5 }));
    assert_eq!(block_on(update("limit", "6", &tunable)).unwrap(), json!(6));
    let error = block_on(update("limit", "many", &tunable)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"limit\" was not changed to \"many\": invalid digit found in string"
    );
    assert_eq!(tree(&tunable), json!({ "limit": 6 }));
}

struct Panics;

impl Inspect for Panics {
    fn inspect(&self, _: Request<'_>) {
        panic!("a part that was not asked for was computed");
    }
}

#[derive(Inspect)]
struct Lazy {
    cheap: u8,
    dear: Panics,
    #[inspect(with = "|_| -> u8 { panic!() }")]
    computed: u8,
    #[inspect(change = "|_, _| -> Result<u8, String> { panic!() }")]
    changeable: u8,
    #[inspect(flatten)]
    flat: Panics,
}

#[test]
fn fields_that_were_not_asked_for_are_not_computed() {
    let lazy = Lazy {
        cheap: 1,
        dear: Panics,
        computed: 0,
        changeable: 0,
        flat: Panics,
    };
    assert_eq!(block_on(inspect("cheap", None, &lazy)).unwrap(), 1);
    let shown = block_on(inspect("", Some(0), &lazy)).unwrap();
    assert!(inspect::is_not_shown(&shown));
}
