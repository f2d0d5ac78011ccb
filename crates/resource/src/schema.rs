//! The JSON schema of everything registered.

use crate::handle::{ResourceHandle, ResourceKind};
use crate::registry::Kind;
use crate::resource::TYPE_KEY;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use std::any::TypeId;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

/// Where the schema of a kind is found.
pub(crate) fn kind_ref(kind: &str) -> String {
    format!("#/$defs/{kind}")
}

pub(crate) fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12()
        .for_deserialize()
        .into_generator()
}

/// The names of the keys that `K` reserves.
pub(crate) fn reserved_names<K: ResourceKind>() -> &'static [String] {
    // Worked out once for each kind: there are few, and each description asks.
    static NAMES: Mutex<Option<HashMap<TypeId, &'static [String]>>> = Mutex::new(None);
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    names
        .get_or_insert_default()
        .entry(TypeId::of::<K>())
        .or_insert_with(|| Vec::leak(field_names::<K::Reserved>()))
}

/// Panics if the handle's fields collide with keys that are not its own.
pub(crate) fn check_fields<K: ResourceKind, H: ResourceHandle<K>>() {
    let reserved = reserved_names::<K>();
    for name in field_names::<H>() {
        assert!(
            name != TYPE_KEY && !reserved.contains(&name),
            "the type {:?} of {} has a field named {name:?}, which is a reserved key",
            H::ID,
            K::NAME
        );
    }
}

fn field_names<T: JsonSchema>() -> Vec<String> {
    let schema = T::json_schema(&mut generator());
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.map_or_else(Vec::new, |properties| properties.keys().cloned().collect())
}

/// The whole schema: the definitions, around what `root` makes.
pub(crate) fn schema(
    kinds: &BTreeMap<&'static str, Kind>,
    root: Option<fn(&mut SchemaGenerator) -> Schema>,
) -> Schema {
    let mut generator = generator();
    let root = root.map(|root| root(&mut generator));
    let mut definitions = Map::new();
    for (&kind_name, kind) in kinds {
        let mut alternatives = Vec::new();
        for (name, schema) in type_schemas(kinds, kind_name, kind, &mut generator) {
            let name = format!("{kind_name}.{name}");
            alternatives.push(json!({ "$ref": kind_ref(&name) }));
            definitions.insert(name, schema.to_value());
        }
        definitions.insert(kind_name.to_owned(), json!({ "oneOf": alternatives }));
    }
    let mut all = generator.take_definitions(true);
    all.extend(definitions);
    let mut schema = Schema::default();
    schema.insert(
        "$schema".to_owned(),
        "https://json-schema.org/draft/2020-12/schema".into(),
    );
    if let Some(Value::Object(root)) = root.map(Schema::to_value) {
        schema.ensure_object().extend(root);
    }
    schema.insert("$defs".to_owned(), Value::Object(all));
    schema
}

/// The schema of each type that can stand where `kind` is expected: its own types first, then the stand-ins.
fn type_schemas(
    kinds: &BTreeMap<&'static str, Kind>,
    kind_name: &str,
    kind: &Kind,
    generator: &mut SchemaGenerator,
) -> Vec<(&'static str, Schema)> {
    let reserved = (kind.reserved_schema)(generator);
    let mut schemas = Vec::new();
    for (&id, entry) in &kind.types {
        let own = (entry.schema)(generator);
        schemas.push((id, described(id, own, &[&reserved])));
    }
    for other_name in kind.stand_ins.keys().filter(|&&name| name != kind_name) {
        let other = &kinds[other_name];
        let other_reserved = (other.reserved_schema)(generator);
        for (&id, entry) in &other.types {
            if !kind.types.contains_key(id) {
                let own = (entry.schema)(generator);
                schemas.push((id, described(id, own, &[&reserved, &other_reserved])));
            }
        }
    }
    schemas
}

/// The schema of a description: the handle's own, with `type` in front and reserved keys behind.
fn described(id: &str, mut own: Schema, reserved: &[&Schema]) -> Schema {
    let mut properties = Map::new();
    properties.insert(TYPE_KEY.to_owned(), json!({ "const": id }));
    for schema in std::iter::once(&own).chain(reserved.iter().copied()) {
        if let Some(more) = schema.get("properties").and_then(Value::as_object) {
            properties.extend(more.clone());
        }
    }
    let mut required = vec![Value::from(TYPE_KEY)];
    if let Some(more) = own.get("required").and_then(Value::as_array) {
        required.extend(more.iter().cloned());
    }
    own.insert("type".to_owned(), "object".into());
    own.insert("properties".to_owned(), Value::Object(properties));
    own.insert("required".to_owned(), Value::Array(required));
    own.insert("unevaluatedProperties".to_owned(), false.into());
    own.remove("additionalProperties");
    own
}
