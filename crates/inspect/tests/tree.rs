//! Paths, depth, changes and errors, on objects written by hand.

use futures_lite::future::block_on;
use inspect::{Inspect, InspectError, LEVELS_MAX, Request, adhoc, inspect, is_not_shown, update};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

fn show(path: &str, depth: Option<usize>, obj: &dyn Inspect) -> Result<Value, InspectError> {
    block_on(inspect(path, depth, obj))
}

fn message(path: &str, obj: &dyn Inspect) -> String {
    show(path, None, obj).unwrap_err().to_string()
}

/// A little disk: three levels, one value that can be changed, one that is broken.
struct Disk {
    size: AtomicU64,
}

impl Inspect for Disk {
    fn inspect(&self, req: Request<'_>) {
        let mut resp = req.respond();
        resp.field("type", "ram")
            .field_with("layers", |req| req.list([self.layer(), self.layer()]))
            .field_mut_with("broken", |_| Err::<u8, _>("the drive is gone"))
            .field_with("absent", |req| req.ignore())
            .field("a/b~", &1);
    }
}

impl Disk {
    fn new() -> Self {
        Disk {
            size: AtomicU64::new(8),
        }
    }

    fn layer(&self) -> impl Inspect + '_ {
        adhoc(|req| {
            req.respond().field_with("backing", |req| {
                req.respond()
                    .field_mut_with("sector_count", |new| self.resize(new))
                    .hex("flags", 0x10_u32);
            });
        })
    }

    fn resize(&self, new: Option<&str>) -> Result<u64, Box<dyn Error + Send + Sync>> {
        if let Some(new) = new {
            match new.parse()? {
                0 => return Err("a disk has at least one sector".into()),
                count => self.size.store(count, Ordering::Relaxed),
            }
        }
        Ok(self.size.load(Ordering::Relaxed))
    }
}

#[test]
fn a_path_leads_to_its_part() {
    let disk = Disk::new();
    for (path, expected) in [
        ("type", json!("ram")),
        ("/type/", json!("ram")),
        ("layers/1/backing/sector_count", json!(8)),
        (
            "layers/0",
            json!({ "backing": { "sector_count": 8, "flags": "0x10" } }),
        ),
        ("a~1b~0", json!(1)),
    ] {
        assert_eq!(show(path, None, &disk).unwrap(), expected, "{path}");
    }
    assert_eq!(
        show("", None, &disk).unwrap(),
        json!({
            "type": "ram",
            "layers": [
                { "backing": { "sector_count": 8, "flags": "0x10" } },
                { "backing": { "sector_count": 8, "flags": "0x10" } },
            ],
            "broken": { "error": "the drive is gone" },
            "a/b~": 1,
        })
    );
}

#[test]
fn depth_counts_levels_below_the_part_asked_for() {
    let disk = Disk::new();
    let hidden = json!({ "...": "not shown" });
    assert_eq!(show("", Some(0), &disk).unwrap(), hidden);
    assert_eq!(
        show("", Some(1), &disk).unwrap(),
        json!({ "type": "ram", "layers": hidden, "broken": { "error": "the drive is gone" }, "a/b~": 1 })
    );
    assert_eq!(
        show("layers", Some(1), &disk).unwrap(),
        json!([hidden, hidden])
    );
    assert_eq!(show("type", Some(0), &disk).unwrap(), json!("ram"));
    let with_all = show("", Some(4), &disk).unwrap();
    assert_eq!(with_all, show("", None, &disk).unwrap());
    assert!(!is_not_shown(&with_all));
}

#[test]
fn a_wrong_name_is_answered_with_those_that_exist() {
    let disk = Disk::new();
    assert_eq!(
        message("layers/0/backng/flags", &disk),
        "\"layers/0/backng/flags\": \"layers/0\" has no \"backng\"; it has: backing"
    );
    assert_eq!(
        message("laiers", &disk),
        "\"laiers\": the object has no \"laiers\"; it has: type, layers, broken, absent, a/b~"
    );
    assert_eq!(
        message("type/x", &disk),
        "\"type/x\": \"type\" has no parts, so no \"x\""
    );
    let InspectError::NotFound {
        path,
        nearest,
        missing,
        names,
        names_left_off_count,
    } = show("layers/2/x", None, &disk).unwrap_err()
    else {
        panic!("a missing item is not found");
    };
    assert_eq!((path.as_str(), nearest.as_str()), ("layers/2/x", "layers"));
    assert_eq!((missing.as_str(), names_left_off_count), ("2", 0));
    assert_eq!(names, ["0", "1"]);
}

#[test]
fn a_message_lists_a_bounded_number_of_names() {
    let numbers: Vec<u32> = (0..100).collect();
    let text = message("x", &numbers);
    assert!(text.ends_with("30, 31 and 68 more"), "{text}");
}

#[test]
fn hostile_paths_are_refused_without_harm() {
    let disk = Disk::new();
    for path in [
        "layers/18446744073709551616",
        "layers/-1",
        "layers/+0",
        "layers/00",
        "layers//",
        "//",
        "~",
        "~2",
        "\u{1b}[2J",
        "a/b~",
        "layers/0/backing/sector_count/x/y",
    ] {
        let error = show(path, None, &disk).unwrap_err();
        assert!(matches!(error, InspectError::NotFound { .. }), "{error}");
        assert!(!error.to_string().contains('\u{1b}'));
        assert!(block_on(update(path, "1", &disk)).is_err());
    }
    let long = "layers/".repeat(100_000);
    let error = show(&long, None, &disk).unwrap_err();
    assert!(matches!(error, InspectError::TooDeep { .. }));
    assert!(error.to_string().len() < 100, "{error}");
}

#[test]
fn a_change_reaches_its_value_and_replies_with_what_is_there_then() {
    let disk = Disk::new();
    let path = "layers/0/backing/sector_count";
    assert_eq!(block_on(update(path, "16", &disk)).unwrap(), json!(16));
    assert_eq!(show(path, None, &disk).unwrap(), json!(16));
}

#[test]
fn a_change_that_is_refused_says_where_and_why() {
    let disk = Disk::new();
    let path = "layers/0/backing/sector_count";
    for (value, expected) in [
        (
            "0",
            "was not changed to \"0\": a disk has at least one sector",
        ),
        (
            "many",
            "was not changed to \"many\": invalid digit found in string",
        ),
    ] {
        let error = block_on(update(path, value, &disk)).unwrap_err();
        assert_eq!(error.to_string(), format!("{path:?} {expected}"));
        assert!(error.source().is_some());
    }
    assert_eq!(show(path, None, &disk).unwrap(), json!(8));
}

#[test]
fn what_is_not_made_to_be_changed_is_not() {
    let disk = Disk::new();
    for path in ["type", "layers", "layers/0", "", "a~1b~0"] {
        let error = block_on(update(path, "1", &disk)).unwrap_err();
        assert!(matches!(error, InspectError::NotMutable { .. }), "{error}");
    }
    let error = block_on(update("absent", "1", &disk)).unwrap_err();
    assert!(matches!(error, InspectError::NotFound { .. }), "{error}");
}

#[test]
fn a_value_that_fails_to_read_is_an_error_only_when_asked_for() {
    let error = show("broken", None, &Disk::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"broken\" cannot be read: the drive is gone"
    );
}

#[test]
fn nothing_is_computed_for_parts_that_were_not_asked_for() {
    let trap = adhoc(|req| {
        let mut resp = req.respond();
        resp.field_with("trap", |_| panic!("computed"))
            .field_mut_with("changeable", |_| -> Result<u8, String> {
                panic!("computed")
            })
            .field_with("list", |req| {
                req.list(std::iter::from_fn(|| -> Option<u8> { panic!("computed") }));
            })
            .field_with("ok", |req| {
                req.respond()
                    .field("leaf", &1)
                    .field_with("trap", |_| panic!("computed"));
            })
            .merge_with(|_| panic!("computed after the part was found"));
    });
    assert_eq!(show("ok/leaf", None, &trap).unwrap(), json!(1));
    assert!(is_not_shown(&show("ok", Some(0), &trap).unwrap()));
    assert!(is_not_shown(&show("list", Some(0), &trap).unwrap()));
    assert!(is_not_shown(&show("", Some(0), &trap).unwrap()));
    assert!(block_on(update("ok/leaf", "2", &trap)).is_err());
    assert!(block_on(update("list", "2", &trap)).is_err());
}

#[test]
fn an_item_is_found_without_computing_those_behind_it() {
    let list = adhoc(|req| {
        req.list((0..).inspect(|&index| assert!(index <= 3, "behind the one asked for")));
    });
    assert_eq!(show("3", None, &list).unwrap(), json!(3));
}

#[test]
fn the_first_part_of_a_name_counts() {
    let twice = adhoc(|req| {
        req.respond()
            .field("x", &1)
            .field("x", &2)
            .merge(&adhoc(|req| {
                req.respond().field("x", &3).field("y", &4);
            }))
            .field("y", &5);
    });
    assert_eq!(show("", None, &twice).unwrap(), json!({ "x": 1, "y": 4 }));
    assert_eq!(show("x", None, &twice).unwrap(), json!(1));
    assert_eq!(show("y", None, &twice).unwrap(), json!(4));
}

#[test]
fn flattened_objects_lose_their_level_whatever_they_answer() {
    let flat = adhoc(|req| {
        req.respond()
            .merge(&Some(7))
            .merge(&None::<u8>)
            .merge(&adhoc(|req| req.list(["a", "b"])))
            .merge(&adhoc(|req| req.ignore()));
    });
    assert_eq!(
        show("", None, &flat).unwrap(),
        json!({ "value": 7, "0": "a", "1": "b" })
    );
    assert_eq!(show("value", None, &flat).unwrap(), json!(7));
    assert_eq!(show("1", None, &flat).unwrap(), json!("b"));
    let none = adhoc(|req| {
        req.respond().merge(&None::<u8>);
    });
    assert_eq!(show("", None, &none).unwrap(), json!({}));
    // Not showing itself does not take away what another part shows.
    let beside = adhoc(|req| {
        req.respond()
            .field("value", &None::<u8>)
            .merge(&None::<u8>)
            .merge(&Some(7));
    });
    assert_eq!(show("", None, &beside).unwrap(), json!({ "value": null }));
}

/// Contains itself.
struct Endless;

impl Inspect for Endless {
    fn inspect(&self, req: Request<'_>) {
        req.respond().field("again", self);
    }
}

#[test]
fn an_object_that_contains_itself_ends_at_the_level_limit() {
    // A small stack, as worker threads may have.
    let thread = std::thread::Builder::new().stack_size(512 << 10);
    let check = || {
        let mut value = show("", None, &Endless).unwrap();
        for _ in 0..LEVELS_MAX {
            value = value["again"].take();
        }
        assert!(is_not_shown(&value), "{value}");
        let deepest = vec!["again"; LEVELS_MAX].join("/");
        assert!(is_not_shown(&show(&deepest, None, &Endless).unwrap()));
    };
    thread.spawn(check).unwrap().join().unwrap();
}

#[test]
fn types_of_the_standard_library_show_themselves() {
    let parts: Vec<(&str, Box<dyn Inspect>)> = vec![
        ("none", Box::new(None::<u8>)),
        ("seconds", Box::new(Duration::from_millis(1500))),
        ("path", Box::new(std::path::PathBuf::from("/a/b"))),
        ("shared", Box::new(Arc::new(Mutex::new(3)))),
        ("atomic", Box::new(AtomicU64::new(u64::MAX))),
        ("lock", Box::new(RwLock::new("x"))),
        ("json", Box::new(json!({ "a": [1, null] }))),
        ("unit", Box::new(())),
        ("nan", Box::new(f64::NAN)),
        ("map", Box::new(HashMap::from([("b", 1), ("a", 2)]))),
    ];
    let all = adhoc(|req| req.entries(parts.iter().map(|(name, part)| (name, part))));
    let shown = show("", None, &all).unwrap();
    assert_eq!(
        shown,
        json!({
            "none": null, "seconds": 1.5, "path": "/a/b", "shared": 3, "atomic": u64::MAX,
            "lock": "x", "json": { "a": [1, null] }, "nan": null, "map": { "a": 2, "b": 1 },
        })
    );
    assert_eq!(
        shown["map"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!(show("json/a/0", None, &all).unwrap(), json!(1));
}

#[test]
fn a_poisoned_lock_still_shows_its_content() {
    let lock = Arc::new(Mutex::new(3));
    let poisoner = lock.clone();
    let panicked = std::thread::spawn(move || {
        let _guard = poisoner.lock().unwrap();
        std::panic::resume_unwind(Box::new("poison"));
    });
    assert!(panicked.join().is_err());
    assert_eq!(show("", None, &lock).unwrap(), json!(3));
}

#[test]
fn an_object_that_ignores_the_request_is_null() {
    assert_eq!(show("", None, &()).unwrap(), Value::Null);
    assert!(show("x", None, &()).is_err());
}

#[test]
fn the_functions_are_usable_from_any_executor() {
    fn is_send<T: Send>(future: T) -> T {
        future
    }
    let disk: Arc<dyn Inspect + Send + Sync> = Arc::new(Disk::new());
    block_on(is_send(inspect("type", None, &*disk))).unwrap();
    block_on(is_send(update("type", "x", &disk))).unwrap_err();
}
