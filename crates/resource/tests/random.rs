//! Random documents: every place is found on its line, every mistake is blamed on its place, and no text does harm.

use proptest::prelude::*;
use resource::{JsonPath, Problem, from_value, line_of, parse};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        // Exact in binary: what serde_json reads may be off by the last bit.
        any::<i32>().prop_map(|quarters| Value::from(f64::from(quarters) / 4.0)),
        any::<u64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Every place, with its line in the text that `to_string_pretty` makes; returns the last line of `value`.
fn places(
    path: &JsonPath,
    value: &Value,
    line: usize,
    found: &mut Vec<(JsonPath, usize)>,
) -> usize {
    found.push((path.clone(), line));
    let mut last = line;
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, part) in members {
                last = places(&path.key(key), part, last + 1, found);
            }
            last + 1
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, part) in items.iter().enumerate() {
                last = places(&path.index(index), part, last + 1, found);
            }
            last + 1
        }
        _ => last,
    }
}

/// Arrays and objects of whole numbers.
#[derive(Debug, PartialEq)]
enum Numbers {
    One(u64),
    Many(Vec<Numbers>),
    Named(BTreeMap<String, Numbers>),
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Numbers;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("numbers")
            }

            fn visit_u64<E>(self, number: u64) -> Result<Numbers, E> {
                Ok(Numbers::One(number))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<Numbers, A::Error> {
                let mut many = Vec::new();
                while let Some(item) = seq.next_element()? {
                    many.push(item);
                }
                Ok(Numbers::Many(many))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Numbers, A::Error> {
                let mut named = BTreeMap::new();
                while let Some((key, item)) = map.next_entry()? {
                    named.insert(key, item);
                }
                Ok(Numbers::Named(named))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// The first place, in the order of the document, that is no number, array or object.
fn first_mistake(path: &JsonPath, value: &Value) -> Option<JsonPath> {
    match value {
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(index, item)| first_mistake(&path.index(index), item))
        }
        Value::Object(members) => {
            let mut members = members.iter();
            members.find_map(|(key, item)| first_mistake(&path.key(key), item))
        }
        value if value.is_u64() => None,
        _ => Some(path.clone()),
    }
}

proptest! {
    #[test]
    fn every_place_is_found_on_its_line(document in documents()) {
        let text = serde_json::to_string_pretty(&document).unwrap();
        let mut found = Vec::new();
        places(&JsonPath::root(), &document, 1, &mut found);
        for (path, line) in found {
            prop_assert_eq!(line_of(&text, &path), Some(line), "{} in {}", path, text);
        }
    }

    #[test]
    fn the_first_mistake_is_blamed_on_its_place(document in documents()) {
        match (from_value::<Numbers>(&document), first_mistake(&JsonPath::root(), &document)) {
            (Ok(_), None) => {}
            (Err(error), Some(path)) => prop_assert_eq!(error.path(), &path),
            (result, expected) => prop_assert!(false, "{:?} but {:?}", result, expected),
        }
    }

    #[test]
    fn a_good_text_is_parsed_to_what_was_written(document in documents()) {
        prop_assert_eq!(parse(&document.to_string()).unwrap(), document);
    }

    #[test]
    fn a_broken_text_is_refused_on_one_of_its_lines(document in documents(), cut in any::<prop::sample::Index>()) {
        let text = serde_json::to_string_pretty(&document).unwrap();
        let text: String = text.chars().take(cut.index(text.chars().count())).collect();
        // A number cut short is a number.
        if let Err(error) = parse(&text) {
            let is_inside = match error.problem() {
                Problem::Syntax { line, .. } => *line <= text.split('\n').count(),
                _ => false,
            };
            prop_assert!(is_inside, "{}", error);
        }
    }

    #[test]
    fn no_text_does_harm(text in "[\\[\\]{}\",:\\\\ 0-9a-eu\n.-]{0,64}", key in "[a-e]{0,2}", index in 0_usize..4) {
        let path = JsonPath::root().key(&key).index(index).key(&key);
        let _ = parse(&text).map_err(|error| error.located("x", &text));
        if let Some(line) = line_of(&text, &path) {
            prop_assert!(line <= text.split('\n').count());
        }
    }
}

#[test]
fn a_number_with_a_fraction_is_written_as_it_was_read() {
    for text in [
        "131309760.7777777777777",
        "0.1",
        "1e-7",
        "123456.789012345678901",
    ] {
        let value = resource::parse(text).unwrap();
        let exact: f64 = text.parse().unwrap();
        assert_eq!(value.as_f64(), Some(exact), "{text}");
        let again = resource::parse(&value.to_string()).unwrap();
        assert_eq!(again, value, "{text}");
    }
}
