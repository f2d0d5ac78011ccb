//! What the schema and the documentation say of the registered types.

mod shapes;

use resource::Resource;
use schemars::JsonSchema;
use serde_json::json;
use shapes::{Paper, resolver};

#[test]
fn the_schema_has_every_kind_and_type() {
    let schema = resolver().schema().to_value();
    let definitions = &schema["$defs"];
    assert_eq!(
        definitions["shape"],
        json!({ "oneOf": [
            { "$ref": "#/$defs/shape.circle" },
            { "$ref": "#/$defs/shape.group" },
            { "$ref": "#/$defs/shape.stored" },
            { "$ref": "#/$defs/shape.sheet" },
        ] })
    );
    let circle = &definitions["shape.circle"];
    assert_eq!(circle["properties"]["type"], json!({ "const": "circle" }));
    assert_eq!(circle["properties"]["filled"]["type"], json!("boolean"));
    assert_eq!(circle["required"], json!(["type", "radius"]));
    assert_eq!(circle["unevaluatedProperties"], json!(false));
    assert_eq!(
        definitions["shape.group"]["properties"]["shapes"]["items"],
        json!({ "$ref": "#/$defs/shape" })
    );
    assert!(definitions["shape.sheet"]["properties"]["filled"].is_object());
    assert!(definitions["paper.sheet"]["properties"]["filled"].is_null());
    check_references(&schema, definitions);
}

#[test]
fn the_schema_of_a_document_stands_around_the_definitions() {
    /// A book.
    #[derive(JsonSchema)]
    struct Book {
        #[allow(dead_code, reason = "only its type matters")]
        pages: Vec<Page>,
    }
    #[derive(JsonSchema)]
    struct Page {
        #[allow(dead_code, reason = "only its type matters")]
        paper: Resource<Paper>,
    }
    let schema = resolver().schema_of::<Book>().to_value();
    assert_eq!(schema["description"], json!("A book."));
    let page = &schema["$defs"]["Page"]["properties"];
    assert_eq!(page["paper"], json!({ "$ref": "#/$defs/paper" }));
    check_references(&schema, &schema["$defs"]);
}

/// Every reference leads somewhere.
fn check_references(value: &serde_json::Value, definitions: &serde_json::Value) {
    match value {
        serde_json::Value::Object(object) => {
            if let Some(reference) = object.get("$ref").and_then(|text| text.as_str()) {
                let name = reference.strip_prefix("#/$defs/").unwrap();
                assert!(definitions[name].is_object(), "{reference}");
            }
            object
                .values()
                .for_each(|value| check_references(value, definitions));
        }
        serde_json::Value::Array(array) => array
            .iter()
            .for_each(|value| check_references(value, definitions)),
        _ => {}
    }
}

#[test]
fn the_documentation_comes_from_doc_comments_types_and_defaults() {
    let kinds = resolver().documentation();
    let names: Vec<_> = kinds.iter().map(|kind| kind.name).collect();
    assert_eq!(names, ["paper", "shape"]);
    let shape = &kinds[1];
    assert_eq!(shape.stand_ins, ["paper"]);
    assert_eq!(shape.reserved[0].name, "filled");
    assert_eq!(shape.reserved[0].description, "Whether it is filled.");
    assert_eq!(shape.reserved[0].default, Some(json!(false)));
    let circle = &shape.types[0];
    assert_eq!(
        (circle.id, circle.summary.as_str()),
        ("circle", "A round shape.")
    );
    assert!(circle.description.ends_with("more to say about it."));
    let fields: Vec<_> = circle
        .fields
        .iter()
        .map(|field| {
            (
                field.name.as_str(),
                field.value_type.as_str(),
                field.is_required,
            )
        })
        .collect();
    assert_eq!(
        fields,
        [("radius", "integer", true), ("weight", "size", false)]
    );
    assert_eq!(shape.types[1].fields[0].value_type, "array of shape");
}
