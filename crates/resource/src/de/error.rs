//! Errors of the deserializer, and the words for them.

use super::place::Place;
use crate::error::{Problem, ResolveError, shortened};
use crate::path::JsonPath;
use crate::suggest::nearest;
use serde::de::{self, Expected, Unexpected};
use serde_json::Value;
use std::fmt;

/// An error on its way up to the first caller that knows where it happened.
#[derive(Debug)]
pub(super) struct Error {
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

    pub(super) fn bad(message: String) -> Self {
        Self::new(Fault::Bad(message))
    }

    /// Sets the place, unless a deeper one is known.
    pub(super) fn at(mut self, place: &Place<'_>) -> Self {
        self.path.get_or_insert_with(|| place.to_path());
        self
    }

    /// `also_known` are keys that the object at `root` may have besides.
    pub(super) fn into_error(self, root: &JsonPath, also_known: &[String]) -> ResolveError {
        let path = self.path.unwrap_or_default();
        let also_known = if path == *root { also_known } else { &[] };
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

pub(super) fn plain_found(found: Unexpected<'_>) -> String {
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
