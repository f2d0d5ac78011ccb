//! A serde deserializer over JSON values that knows where it is.
//!
//! Beyond serde_json's it gives: the path of every error; unknown keys refused for every struct, as structured errors; and
//! to each [`Resource`](crate::Resource) its own path, which serde has no way to say (see [`RESOURCE_MARK`]).

mod access;
mod error;
mod place;

use crate::error::ResolveError;
use crate::path::JsonPath;
use access::{Items, Marked, Members, Variant};
pub(crate) use error::unexpected;
use error::{Error, plain_found};
use place::Place;
use serde::de::value::{BorrowedStrDeserializer, SeqAccessDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, Unexpected, Visitor};
use serde_json::{Map, Value};
use std::cell::RefCell;

/// The name of the struct as which a resource asks to be deserialized; its only "field" is the name of the kind. This
/// deserializer answers with a newtype of a pair: the path, as JSON text, and the value. Others answer with a map, as for
/// any struct.
pub(crate) const RESOURCE_MARK: &str = "$resource::Resource";

/// A description that was met inside another.
pub(crate) struct Nested {
    pub(crate) kind: &'static str,
    pub(crate) path: JsonPath,
    pub(crate) value: Value,
}

/// Deeper values than any text parses to; guards against values made by code.
const DEPTH_MAX: usize = 256;

/// Deserializes the value at `path`.
pub(crate) fn from_value<T: DeserializeOwned>(
    value: &Value,
    path: &JsonPath,
) -> Result<T, ResolveError> {
    let place = Place::Root(path, None);
    T::deserialize(Node::new(value, &place)).map_err(|error| error.at(&place).into_error(path, &[]))
}

/// Deserializes the object at `path`; `also_known` are keys that were taken out before, for suggestions.
pub(crate) fn from_map<T: DeserializeOwned>(
    fields: Map<String, Value>,
    path: &JsonPath,
    also_known: &[String],
) -> Result<T, ResolveError> {
    let place = Place::Root(path, None);
    let value = Value::Object(fields);
    T::deserialize(Node::new(&value, &place))
        .map_err(|error| error.at(&place).into_error(path, also_known))
}

/// As [`from_map`], for the sake of the errors and of the descriptions inside. What is read has a word in it too.
pub(crate) fn check_map<T: DeserializeOwned>(
    fields: Map<String, Value>,
    path: &JsonPath,
    also_known: &[String],
    check: impl FnOnce(&T, &JsonPath) -> Result<(), ResolveError>,
) -> Result<Vec<Nested>, ResolveError> {
    let nested = RefCell::default();
    let place = Place::Root(path, Some(&nested));
    let value = Value::Object(fields);
    let read = T::deserialize(Node::new(&value, &place))
        .map_err(|error| error.at(&place).into_error(path, also_known))?;
    check(&read, path)?;
    Ok(nested.into_inner())
}

/// A value and its place.
struct Node<'de, 'p> {
    value: &'de Value,
    place: &'p Place<'p>,
    /// Set for a member of a struct: the struct's fields. If the member is skipped, it is none of them.
    fields: Option<&'static [&'static str]>,
}

impl<'de, 'p> Node<'de, 'p> {
    fn new(value: &'de Value, place: &'p Place<'p>) -> Self {
        Self {
            value,
            place,
            fields: None,
        }
    }

    fn visit_object<V: Visitor<'de>>(
        self,
        object: &'de Map<String, Value>,
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.check_depth()?;
        visitor.visit_map(Members::new(object, self.place, fields))
    }

    fn visit_array<V: Visitor<'de>>(
        self,
        array: &'de [Value],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.check_depth()?;
        let mut items = Items::new(array, self.place);
        let value = visitor.visit_seq(&mut items)?;
        match items.left_count() {
            0 => Ok(value),
            excess => {
                let expected = array.len() - excess;
                Err(Error::bad(format!(
                    "this should have {expected} elements, not {}",
                    array.len()
                )))
            }
        }
    }

    fn visit_resource<V: Visitor<'de>>(
        self,
        kind: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let path = self.place.to_path();
        let text = serde_json::to_string(path.segments()).map_err(de::Error::custom)?;
        if let Some(nested) = self.place.nested() {
            let value = self.value.clone();
            nested.borrow_mut().push(Nested { kind, path, value });
        }
        let pair = SeqAccessDeserializer::new(Marked::new(text, self));
        visitor.visit_newtype_struct(pair)
    }

    fn check_depth(&self) -> Result<(), Error> {
        if self.place.depth() < DEPTH_MAX {
            return Ok(());
        }
        let text = format!("values may be nested at most {DEPTH_MAX} levels deep");
        Err(Error::bad(text).at(self.place))
    }
}

impl<'de> Deserializer<'de> for Node<'de, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(_) => match unexpected(self.value) {
                Unexpected::Unsigned(number) => visitor.visit_u64(number),
                Unexpected::Signed(number) => visitor.visit_i64(number),
                Unexpected::Float(number) => visitor.visit_f64(number),
                _ => unreachable!("a number is one of these"),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(array) => self.visit_array(array, visitor),
            Value::Object(object) => self.visit_object(object, None, visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(_) if name == RESOURCE_MARK => self.visit_resource(fields[0], visitor),
            Value::Object(object) => self.visit_object(object, Some(fields), visitor),
            // Serde would take an array for a struct, field by field. In a document that is a mistake.
            other => Err(de::Error::invalid_type(unexpected(other), &visitor)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let single = |object: &'de Map<String, Value>| match object.len() {
            1 => object.iter().next(),
            _ => None,
        };
        match self.value {
            Value::String(variant) => visitor.visit_enum(BorrowedStrDeserializer::new(variant)),
            Value::Object(object) if let Some((variant, value)) = single(object) => {
                let place = self.place.key(variant);
                let node = Node::new(value, &place);
                visitor.visit_enum(Variant::new(variant, node))
            }
            other => Err(Error::bad(format!(
                "this should be one of: {}; not {}",
                variants.join(", "),
                plain_found(unexpected(other))
            ))),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match (self.fields, self.place) {
            (Some(known), Place::Key(parent, field, _)) => {
                Err(<Error as de::Error>::unknown_field(field, known).at(parent))
            }
            _ => visitor.visit_unit(),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier
    }
}
