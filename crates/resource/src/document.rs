//! What a manual says of everything registered.

use crate::registry::Kind;
use crate::schema::generator;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One kind.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct KindDoc {
    /// Its name, in the singular.
    pub name: &'static str,
    /// Its types, in the order of their ids.
    pub types: Vec<TypeDoc>,
    /// Keys that every description of this kind may have.
    pub reserved: Vec<FieldDoc>,
    /// Other kinds that may stand in its place.
    pub stand_ins: Vec<&'static str>,
}

/// One type.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TypeDoc {
    /// The value of the key `type`.
    pub id: &'static str,
    /// The first paragraph of the doc comment, in one line.
    pub summary: String,
    /// The whole doc comment.
    pub description: String,
    /// Its keys, in the order of the fields.
    pub fields: Vec<FieldDoc>,
}

/// One key.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FieldDoc {
    /// The key.
    pub name: String,
    /// The type of the value, in words: `string`, `size`, `array of layer`.
    pub value_type: String,
    /// Whether a description without it is refused.
    pub is_required: bool,
    /// What holds if the key is not given, where that is not nothing.
    pub default: Option<Value>,
    /// The doc comment.
    pub description: String,
}

pub(crate) fn documentation(kinds: &BTreeMap<&'static str, Kind>) -> Vec<KindDoc> {
    let mut generator = generator();
    kinds
        .iter()
        .map(|(&name, kind)| KindDoc {
            name,
            types: kind
                .types
                .iter()
                .map(|(&id, entry)| type_doc(id, entry.schema, &mut generator))
                .collect(),
            reserved: fields(&(kind.reserved_schema)(&mut generator)),
            stand_ins: kind.stand_ins.keys().copied().collect(),
        })
        .collect()
}

fn type_doc(
    id: &'static str,
    schema: fn(&mut SchemaGenerator) -> Schema,
    generator: &mut SchemaGenerator,
) -> TypeDoc {
    let schema = schema(generator);
    let description = text(schema.get("description"));
    let paragraph = description.split("\n\n").next().unwrap_or_default();
    let summary = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    TypeDoc {
        id,
        summary,
        description,
        fields: fields(&schema),
    }
}

fn fields(schema: &Schema) -> Vec<FieldDoc> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Vec::new();
    };
    let required = schema.get("required").and_then(Value::as_array);
    let is_required =
        |name: &str| required.is_some_and(|names| names.iter().any(|known| known == name));
    properties
        .iter()
        .map(|(name, property)| FieldDoc {
            name: name.clone(),
            value_type: value_type(property),
            is_required: is_required(name),
            default: property
                .get("default")
                .filter(|value| !value.is_null())
                .cloned(),
            description: text(property.get("description")),
        })
        .collect()
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The type that a schema describes, in words.
fn value_type(schema: &Value) -> String {
    let Some(schema) = schema.as_object() else {
        return "any".to_owned();
    };
    let keyword = |name: &str| schema.get(name);
    if let Some(name) = keyword("title").and_then(Value::as_str) {
        return name.to_owned();
    }
    if let Some(reference) = keyword("$ref").and_then(Value::as_str) {
        return reference.rsplit('/').next().unwrap_or_default().to_owned();
    }
    if let Some(values) = keyword("enum").and_then(Value::as_array) {
        let values: Vec<String> = values.iter().map(Value::to_string).collect();
        return values.join(" or ");
    }
    if let Some(value) = keyword("const") {
        return value.to_string();
    }
    for combination in ["anyOf", "oneOf"] {
        if let Some(alternatives) = keyword(combination).and_then(Value::as_array) {
            let names = alternatives.iter().map(value_type);
            return names
                .filter(|name| name != "null")
                .collect::<Vec<_>>()
                .join(" or ");
        }
    }
    match keyword("type") {
        Some(Value::String(name)) => named_type(name, schema),
        Some(Value::Array(names)) => {
            let names = names.iter().filter_map(Value::as_str);
            let names = names.filter(|&name| name != "null");
            let names: Vec<String> = names.map(|name| named_type(name, schema)).collect();
            names.join(" or ")
        }
        _ => "any".to_owned(),
    }
}

fn named_type(name: &str, schema: &Map<String, Value>) -> String {
    match (name, schema.get("items")) {
        ("array", Some(items)) => format!("array of {}", value_type(items)),
        _ => name.to_owned(),
    }
}
