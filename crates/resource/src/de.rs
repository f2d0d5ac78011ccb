//! A serde deserializer over JSON values that knows where it is.
//!
//! Beyond serde_json's it gives: the path of every error; unknown keys refused for every struct, as structured errors; and
//! to each [`Resource`](crate::Resource) its own path, which serde has no way to say (see [`RESOURCE_MARK`]).

use crate::error::{Problem, ResolveError, shortened};
use crate::path::{JsonPath, Segment};
use crate::suggest::nearest;
use serde::de::value::{BorrowedStrDeserializer, StringDeserializer};
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected,
    IntoDeserializer, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde_json::{Map, Value};
use std::fmt;

/// The name of the newtype as which a resource asks to be deserialized. This deserializer answers with a sequence of two:
/// the path, as JSON text, and the value; others answer with the value alone.
pub(crate) const RESOURCE_MARK: &str = "$resource::Resource";

/// Deeper values than any text parses to; guards against values made by code.
const DEPTH_MAX: usize = 256;

/// Deserializes the value at `path`.
pub(crate) fn from_value<T: DeserializeOwned>(
    value: &Value,
    path: &JsonPath,
) -> Result<T, ResolveError> {
    let place = Place::Root(path);
    T::deserialize(Node::new(value, &place)).map_err(|error| error.at(&place).into_error(&[]))
}

/// Deserializes the object at `path`; `also_known` are keys that were taken out before, for suggestions.
pub(crate) fn from_map<T: DeserializeOwned>(
    fields: Map<String, Value>,
    path: &JsonPath,
    also_known: &[String],
) -> Result<T, ResolveError> {
    let place = Place::Root(path);
    let value = Value::Object(fields);
    T::deserialize(Node::new(&value, &place))
        .map_err(|error| error.at(&place).into_error(also_known))
}

/// Where we are, as a list from here upwards that lives on the stack.
#[derive(Clone, Copy)]
enum Place<'p> {
    Root(&'p JsonPath),
    Key(&'p Place<'p>, &'p str, usize),
    Index(&'p Place<'p>, usize, usize),
}

impl<'p> Place<'p> {
    fn key(&'p self, key: &'p str) -> Self {
        Place::Key(self, key, self.depth() + 1)
    }

    fn index(&'p self, index: usize) -> Self {
        Place::Index(self, index, self.depth() + 1)
    }

    fn depth(&self) -> usize {
        match self {
            Place::Root(_) => 0,
            Place::Key(_, _, depth) | Place::Index(_, _, depth) => *depth,
        }
    }

    fn to_path(self) -> JsonPath {
        let mut segments = Vec::with_capacity(self.depth());
        let mut place = &self;
        let root = loop {
            place = match place {
                Place::Root(root) => break *root,
                Place::Key(parent, key, _) => {
                    segments.push(Segment::Key((*key).to_owned()));
                    parent
                }
                Place::Index(parent, index, _) => {
                    segments.push(Segment::Index(*index));
                    parent
                }
            };
        };
        let below = segments.into_iter().rev();
        root.segments().iter().cloned().chain(below).collect()
    }
}

/// An error on its way up to the first caller that knows where it happened.
#[derive(Debug)]
pub(crate) struct Error {
    path: Option<JsonPath>,
    fault: Fault,
}

#[derive(Debug)]
enum Fault {
    UnknownField {
        field: String,
        known: &'static [&'static str],
    },
    MissingField(&'static str),
    Bad(String),
}

impl Error {
    fn new(fault: Fault) -> Self {
        Self { path: None, fault }
    }

    fn bad(message: String) -> Self {
        Self::new(Fault::Bad(message))
    }

    /// Sets the place, unless a deeper one is known.
    fn at(mut self, place: &Place<'_>) -> Self {
        self.path.get_or_insert_with(|| place.to_path());
        self
    }

    fn into_error(self, also_known: &[String]) -> ResolveError {
        let path = self.path.unwrap_or_default();
        match self.fault {
            Fault::UnknownField { field, known } => {
                let known: Vec<String> = known
                    .iter()
                    .map(|&name| name.to_owned())
                    .chain(also_known.iter().cloned())
                    .collect();
                let suggestion =
                    nearest(&field, known.iter().map(String::as_str)).map(str::to_owned);
                ResolveError::new(
                    path.key(&field),
                    Problem::UnknownField { suggestion, known },
                )
            }
            Fault::MissingField(field) => ResolveError::new(path.key(field), Problem::MissingField),
            Fault::Bad(message) => ResolveError::bad_value(path, message),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            Fault::UnknownField { field, .. } => write!(f, "unknown key {:?}", shortened(field)),
            Fault::MissingField(field) => write!(f, "the key {field:?} is missing"),
            Fault::Bad(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::bad(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::bad(format!(
            "this should be {}, not {}",
            plain_expected(expected),
            plain_found(found)
        ))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(len: usize, expected: &dyn Expected) -> Self {
        Self::bad(format!(
            "this should be {}, but has {len} elements",
            plain_expected(expected)
        ))
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        let variant_text = shortened(variant);
        let rest = match nearest(variant, known.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("it may be: {}", known.join(", ")),
        };
        Self::bad(format!("{variant_text:?} is not allowed here; {rest}"))
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        let field = field.to_owned();
        Self::new(Fault::UnknownField { field, known })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Fault::MissingField(field))
    }
}

/// The words of serde's visitors, which are Rust's, in words of the document.
fn plain_expected(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    let plain = match text.as_str() {
        "u64" | "u128" | "usize" => "a whole number from 0 on",
        "i64" | "i128" | "isize" => "a whole number",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "i8" => "a whole number from -128 to 127",
        "i16" => "a whole number from -32768 to 32767",
        "i32" => "a whole number from -2147483648 to 2147483647",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" | "path string" => "a string",
        "a sequence" => "an array",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        _ => return text,
    };
    plain.to_owned()
}

fn plain_found(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Str(text) => format!("{:?}", shortened(text)),
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(number) => number.to_string(),
        Unexpected::Signed(number) => number.to_string(),
        Unexpected::Float(number) => number.to_string(),
        Unexpected::Unit | Unexpected::Option => "null".to_owned(),
        Unexpected::Seq => "an array".to_owned(),
        Unexpected::Map => "an object".to_owned(),
        other => other.to_string(),
    }
}

pub(crate) fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), _, _) => Unexpected::Unsigned(number),
            (_, Some(number), _) => Unexpected::Signed(number),
            (_, _, number) => Unexpected::Float(number.unwrap_or(f64::NAN)),
        },
        Value::String(text) => Unexpected::Str(text),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    }
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
        visitor.visit_map(Members {
            members: object.iter(),
            value: None,
            place: self.place,
            fields,
        })
    }

    fn visit_array<V: Visitor<'de>>(
        self,
        array: &'de [Value],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.check_depth()?;
        let mut items = Items {
            items: array.iter(),
            index: 0,
            place: self.place,
        };
        let value = visitor.visit_seq(&mut items)?;
        match items.items.len() {
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
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
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
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name != RESOURCE_MARK {
            return visitor.visit_newtype_struct(self);
        }
        let path = self.place.to_path();
        let path = serde_json::to_string(path.segments()).map_err(de::Error::custom)?;
        visitor.visit_seq(Marked {
            path: Some(path),
            node: Some(self),
        })
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
                visitor.visit_enum(Variant { variant, node })
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

struct Members<'de, 'p> {
    members: serde_json::map::Iter<'de>,
    value: Option<(&'de str, &'de Value)>,
    place: &'p Place<'p>,
    fields: Option<&'static [&'static str]>,
}

impl<'de> MapAccess<'de> for Members<'de, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.members.next() else {
            return Ok(None);
        };
        self.value = Some((key, value));
        let key = seed.deserialize(BorrowedStrDeserializer::new(key));
        key.map(Some).map_err(|error: Error| error.at(self.place))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, value) = self
            .value
            .take()
            .expect("a value is asked for after its key");
        let place = self.place.key(key);
        let node = Node {
            value,
            place: &place,
            fields: self.fields,
        };
        seed.deserialize(node).map_err(|error| error.at(&place))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.members.len())
    }
}

struct Items<'de, 'p> {
    items: std::slice::Iter<'de, Value>,
    index: usize,
    place: &'p Place<'p>,
}

impl<'de> SeqAccess<'de> for &mut Items<'de, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some(value) = self.items.next() else {
            return Ok(None);
        };
        let place = self.place.index(self.index);
        self.index += 1;
        let item = seed.deserialize(Node::new(value, &place));
        item.map(Some).map_err(|error| error.at(&place))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// A resource's path and value.
struct Marked<'de, 'p> {
    path: Option<String>,
    node: Option<Node<'de, 'p>>,
}

impl<'de> SeqAccess<'de> for Marked<'de, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if let Some(path) = self.path.take() {
            let path: StringDeserializer<Error> = path.into_deserializer();
            return seed.deserialize(path).map(Some);
        }
        match self.node.take() {
            Some(node) => seed.deserialize(node).map(Some),
            None => Ok(None),
        }
    }
}

/// An enum written as an object with one member.
struct Variant<'de, 'p> {
    variant: &'de str,
    node: Node<'de, 'p>,
}

impl<'de, 'p> EnumAccess<'de> for Variant<'de, 'p> {
    type Error = Error;
    type Variant = VariantContent<'de, 'p>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), Error> {
        let variant = seed.deserialize(BorrowedStrDeserializer::<Error>::new(self.variant))?;
        Ok((variant, VariantContent(self.node)))
    }
}

struct VariantContent<'de, 'p>(Node<'de, 'p>);

impl VariantContent<'_, '_> {
    fn place<T>(self, f: impl FnOnce(Self) -> Result<T, Error>) -> Result<T, Error> {
        let place = *self.0.place;
        f(self).map_err(|error| error.at(&place))
    }
}

impl<'de> VariantAccess<'de> for VariantContent<'de, '_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.place(|content| <()>::deserialize(content.0))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        self.place(|content| seed.deserialize(content.0))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.place(|content| content.0.deserialize_tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.place(|content| content.0.deserialize_struct("", fields, visitor))
    }
}
