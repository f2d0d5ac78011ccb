//! From text to values, strictly.

use crate::de;
use crate::error::{Problem, ResolveError};
use crate::path::JsonPath;
use serde::de::{Deserialize, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Reads a description, or any document with descriptions in it, from JSON text.
///
/// # Errors
///
/// As [`parse`] and [`from_value`].
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, ResolveError> {
    from_value(&parse(text)?)
}

/// Reads a description, or any document with descriptions in it. Each description remembers its place in the document, and
/// errors in it will name that place.
///
/// # Errors
///
/// Unknown keys (also where `T` does not deny them), missing keys and bad values, with their path.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, ResolveError> {
    de::from_value(value, &JsonPath::root())
}

/// Parses JSON text. A key that occurs twice in one object is an error, because one of the two would be ignored.
///
/// # Errors
///
/// [`Problem::Syntax`]. Nesting is limited to 127 levels.
pub fn parse(text: &str) -> Result<Value, ResolveError> {
    match serde_json::from_str::<Unique>(text) {
        Ok(Unique(value)) => Ok(value),
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            let full = error.to_string();
            // Line and column are told apart from the message.
            let suffix = format!(" at line {line} column {column}");
            let message = match full.strip_suffix(&suffix).unwrap_or(&full) {
                "recursion limit exceeded" => "values are nested more than 127 levels deep",
                other => other,
            };
            Err(ResolveError::new(
                JsonPath::root(),
                Problem::Syntax {
                    line: line.max(1),
                    column: column.max(1),
                    message: message.to_owned(),
                },
            ))
        }
    }
}

/// A value in which no object has a key twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Unique)
    }
}

struct UniqueVisitor;

impl<'de> DeserializeSeed<'de> for UniqueVisitor {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("this number is too large"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(UniqueVisitor)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            if object.contains_key(&key) {
                let key = crate::error::shortened(&key);
                return Err(serde::de::Error::custom(format!(
                    "the key {key:?} occurs twice in this object"
                )));
            }
            object.insert(key, members.next_value_seed(UniqueVisitor)?);
        }
        Ok(Value::Object(object))
    }
}
