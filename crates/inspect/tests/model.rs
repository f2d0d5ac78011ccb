//! Any tree of JSON values, inspected at any path and depth, against a plain walk through the same values.

use futures_lite::future::block_on;
use inspect::{InspectError, inspect, update};
use proptest::prelude::*;
use serde_json::{Value, json};

fn trees() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z/~]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[ab/~]{0,2}", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Every part of the tree, with its path.
fn parts<'v>(path: &str, value: &'v Value, found: &mut Vec<(String, &'v Value)>) {
    found.push((path.to_owned(), value));
    match value {
        Value::Object(members) => members
            .iter()
            .for_each(|(name, part)| parts(&format!("{path}/{}", escaped(name)), part, found)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, part)| parts(&format!("{path}/{index}"), part, found)),
        _ => {}
    }
}

/// The tree with everything below `depth` levels cut off.
fn cut(value: &Value, depth: usize) -> Value {
    match (value, depth.checked_sub(1)) {
        (Value::Object(_) | Value::Array(_), None) => json!({ "...": "not shown" }),
        (Value::Object(members), Some(depth)) => members
            .iter()
            .map(|(name, part)| (name.clone(), cut(part, depth)))
            .collect(),
        (Value::Array(items), Some(depth)) => items.iter().map(|part| cut(part, depth)).collect(),
        (single, _) => single.clone(),
    }
}

proptest! {
    #[test]
    fn every_part_is_shown_as_it_is(tree in trees(), depth in 0_usize..6) {
        let mut found = Vec::new();
        parts("", &tree, &mut found);
        for (path, part) in found {
            // One slash at the end is ignored; needed behind an empty name.
            let path = format!("{path}/");
            prop_assert_eq!(&block_on(inspect(&path, None, &tree)).unwrap(), part);
            prop_assert_eq!(block_on(inspect(&path, Some(depth), &tree)).unwrap(), cut(part, depth));
            let refused = block_on(update(&path, "1", &tree)).unwrap_err();
            prop_assert!(matches!(refused, InspectError::NotMutable { .. }), "{}", refused);
        }
    }

    #[test]
    fn any_path_is_found_or_refused(tree in trees(), path in "[ab0-3/~]{0,8}") {
        let mut found = Vec::new();
        parts("", &tree, &mut found);
        match block_on(inspect(&path, None, &tree)) {
            Ok(shown) => prop_assert!(found.iter().any(|&(_, part)| *part == shown)),
            Err(InspectError::NotFound { nearest, missing, names, .. }) => {
                prop_assert!(!names.contains(&missing));
                prop_assert!(block_on(inspect(&nearest, None, &tree)).is_ok());
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
