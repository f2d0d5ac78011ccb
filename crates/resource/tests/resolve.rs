//! Shapes resolved from JSON as a user would write it.

mod shapes;

use futures_lite::future::block_on;
use resource::{
    ByteSize, Failure, JsonPath, LEVELS_MAX, MISTAKES_MAX, Problem, ResolveContext, ResolveError,
    Resource, ResourceHandle, ResourceResolver, async_trait, from_str, from_value,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use shapes::{Circle, Group, Mode, NotThere, Paper, Shape, ShapeReserved, resolver};
use std::error::Error;

fn draw(text: &str) -> Result<String, ResolveError> {
    let shape: Resource<Shape> = from_str(text)?;
    block_on(resolver().context("/base").resolve(shape, 2))
}

fn refused(text: &str) -> String {
    draw(text).unwrap_err().to_string()
}

#[test]
fn a_nested_description_is_built_by_the_linked_types() {
    let text = r#"{ "type": "group", "shapes": [
        { "type": "circle", "radius": 1, "weight": "1K" },
        { "radius": 2, "filled": true, "type": "circle" },
        { "type": "group", "shapes": [], "mode": { "over": { "gap": 3 } } }
    ] }"#;
    assert_eq!(draw(text).unwrap(), "side: -circle 2 +circle 4 -over 3:");
}

#[test]
fn a_type_of_another_kind_stands_in_where_that_was_allowed() {
    let text = r#"{ "type": "group", "shapes": [
        { "type": "sheet", "filled": true, "drawn": { "type": "circle", "radius": 1 } } ] }"#;
    assert_eq!(draw(text).unwrap(), "side: +shape of sheet(circle 1)");
    let text = r#"{ "type": "group", "shapes": [
        { "type": "sheet", "drawn": { "type": "circle", "radius": 1, "x": 1 } } ] }"#;
    assert!(refused(text).starts_with("shapes[0].drawn.x: unknown key"));
    let text = r#"{ "type": "sheet", "filed": true, "drawn": { "type": "circle", "radius": 1 } }"#;
    assert_eq!(
        refused(text),
        "filed: unknown key; did you mean \"filled\"?"
    );
}

#[test]
fn a_wrong_description_is_refused_with_its_path() {
    for (text, expected) in [
        (
            r#"{ "type": "circel", "radius": 1 }"#,
            r#"type: unknown type of shape "circel"; did you mean "circle"?"#,
        ),
        (
            r#"{ "type": "blob" }"#,
            r#"type: unknown type of shape "blob"; there are: circle, group, sheet, stored"#,
        ),
        (
            r#"{ "type": "circle", "radus": 1 }"#,
            r#"radus: unknown key; did you mean "radius"?"#,
        ),
        (
            r#"{ "type": "circle", "radius": 1, "color": 1 }"#,
            "color: unknown key; the keys here are: radius, weight, filled",
        ),
        (
            r#"{ "type": "circle", "radius": 1, "fill": 1 }"#,
            r#"fill: unknown key; did you mean "filled"?"#,
        ),
        (r#"{ "type": "circle" }"#, "radius: this key is missing"),
        (r#"{ "radius": 1 }"#, "type: this key is missing"),
        (
            r#"{ "type": 3 }"#,
            "this should be an object whose key \"type\" is a string, not 3",
        ),
        (
            "[]",
            "this should be the description of a shape: an object with the key \"type\", not an array",
        ),
        (
            r#"{ "type": "circle", "radius": "1" }"#,
            r#"radius: this should be a whole number from 0 to 255, not "1""#,
        ),
        (
            r#"{ "type": "circle", "radius": 256 }"#,
            "radius: this should be a whole number from 0 to 255, not 256",
        ),
        (
            r#"{ "type": "circle", "radius": -1 }"#,
            "radius: this should be a whole number from 0 to 255, not -1",
        ),
        (
            r#"{ "type": "circle", "radius": 1.5 }"#,
            "radius: this should be a whole number from 0 to 255, not 1.5",
        ),
        (
            r#"{ "type": "circle", "radius": 1, "weight": "1KB" }"#,
            "weight: \"1KB\" is not a size: write a whole number of bytes, or one with a unit such as \"512M\" or \
             \"10G\" (K, M, G, T, P: powers of 1024)",
        ),
        (
            r#"{ "type": "circle", "radius": 1, "weight": -1 }"#,
            "weight: this should be a size: a whole number of bytes, or text such as \"10G\", not -1",
        ),
        (
            r#"{ "type": "circle", "radius": 1, "filled": "yes" }"#,
            r#"filled: this should be true or false, not "yes""#,
        ),
        (
            r#"{ "type": "group", "shapes": [{ "type": "circle", "radius": 0, "weight": 0 }] }"#,
            "shapes[0].weight: a circle weighs something, or nobody knows what",
        ),
        (
            r#"{ "type": "circle", "radius": 0 }"#,
            "radius: a circle needs a radius",
        ),
        (
            r#"{ "type": "group", "shapes": [{ "type": "circle", "radius": 1 }, { "type": "circle" }] }"#,
            "shapes[1].radius: this key is missing",
        ),
        (
            r#"{ "type": "group", "shapes": [{ "type": "group", "shapes": { } }] }"#,
            "shapes[0].shapes: this should be an array, not an object",
        ),
        (
            r#"{ "type": "group", "shapes": ["circle"] }"#,
            "shapes[0]: this should be the description of a shape: an object with the key \"type\", not \"circle\"",
        ),
        (
            r#"{ "type": "group", "shapes": [], "mode": "ovr" }"#,
            r#"mode: "ovr" is not allowed here; did you mean "over"?"#,
        ),
        (
            r#"{ "type": "group", "shapes": [], "mode": { "over": { "gap": 1, "gop": 2 } } }"#,
            r#"mode.over.gop: unknown key; did you mean "gap"?"#,
        ),
        (
            r#"{ "type": "group", "shapes": [], "mode": { "over": {} } }"#,
            "mode.over.gap: this key is missing",
        ),
        (
            r#"{ "type": "group", "shapes": [], "mode": 7 }"#,
            "mode: this should be one of: side, over; not 7",
        ),
        (
            "{ \"type\": \"circle\",\n  \"radius\": 1,\n  \"radius\": 2 }",
            "the key \"radius\" occurs twice in this object (column 10)",
        ),
        ("", "EOF while parsing a value (column 1)"),
        ("{} x", "trailing characters (column 4)"),
    ] {
        assert_eq!(refused(text), expected, "{text}");
    }
}

#[test]
fn a_check_finds_every_mistake_and_builds_nothing() {
    let text = r#"{ "type": "group", "shapes": [
        { "type": "stored", "path": "does not exist" },
        { "type": "circel" },
        { "type": "circle", "radius": 1, "filled": 7 },
        { "type": "group", "shapes": [ { "type": "circle" }, { "type": "circle", "radius": 0 },
            { "type": "circle", "radius": 1, "weight": 0 } ] },
        { "type": "sheet", "filled": true, "drawn": { "type": "circle", "radius": 1, "x": 1 } },
        { "type": "sheet", "drawn": { "type": "circle", "radius": 1 }, "pinned": { "type": "circle" } }
    ] }"#;
    let shape: Resource<Shape> = from_str(text).unwrap();
    let errors = resolver().check(&shape);
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            r#"shapes[1].type: unknown type of shape "circel"; did you mean "circle"?"#,
            "shapes[2].filled: this should be true or false, not 7",
            "shapes[3].shapes[0].radius: this key is missing",
            "shapes[3].shapes[2].weight: a circle weighs something, or nobody knows what",
            "shapes[4].drawn.x: unknown key; the keys here are: radius, weight, filled",
            "shapes[5].pinned.type: \"circle\" is a type of shape, not of paper; write {\"type\": \"sheet\", \"drawn\": ...}",
        ]
    );
    let good = r#"{ "type": "circle", "radius": 1, "filled": true }"#;
    assert!(
        resolver()
            .check(&from_str::<Resource<Shape>>(good).unwrap())
            .is_empty()
    );
}

#[test]
fn a_check_stops_at_as_many_mistakes_as_anybody_wants_to_read() {
    let many = |description: serde_json::Value| vec![description; 3 * MISTAKES_MAX];
    let wide = json!({ "type": "group", "shapes": many(json!({ "type": "circel" })) });
    let mut deep =
        json!({ "type": "group", "shapes": many(json!({ "type": "circle", "radius": 1 })) });
    for _ in 1..LEVELS_MAX {
        deep = json!({ "type": "group", "shapes": [deep] });
    }
    for value in [wide, deep] {
        let shape: Resource<Shape> = from_value(&value).unwrap();
        assert_eq!(resolver().check(&shape).len(), MISTAKES_MAX);
    }
}

#[test]
fn a_type_of_another_kind_is_refused_with_the_hint_for_it() {
    let paper: Resource<Paper> = from_str(r#"{ "type": "circle", "radius": 1 }"#).unwrap();
    let error = block_on(resolver().context("").resolve(paper, ())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "type: \"circle\" is a type of shape, not of paper; write {\"type\": \"sheet\", \"drawn\": ...}"
    );
}

#[test]
fn a_failure_of_the_handle_keeps_its_source_and_gets_the_path() {
    let error = draw(r#"{ "type": "group", "shapes": [{ "type": "stored", "path": "a/b" }] }"#)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "shapes[0].path: no shape at /base/a/b: No such file or directory (os error 2)"
    );
    let source = error.source().unwrap();
    assert!(source.downcast_ref::<NotThere>().is_some());
    assert!(matches!(error.problem(), Problem::Failed { .. }));
}

#[test]
fn a_description_inside_a_document_knows_its_place_in_it() {
    #[derive(Deserialize)]
    struct Document {
        pages: Vec<Page>,
    }
    #[derive(Debug, Deserialize)]
    struct Page {
        title: String,
        shape: Option<Resource<Shape>>,
    }
    let text = r#"{ "pages": [
        { "title": "empty" },
        { "title": "full",
          "shape": { "type": "group", "shapes": [
            { "type": "circle", "raduis": 1 }
          ] } } ] }"#;
    let mut document: Document = from_str(text).unwrap();
    let page = document.pages.pop().unwrap();
    assert_eq!(page.title, "full");
    let shape = page.shape.unwrap();
    assert_eq!(shape.origin().unwrap().to_string(), "pages[1].shape");
    let error = block_on(resolver().context("").resolve(shape, 1)).unwrap_err();
    assert_eq!(
        error.located("book.json", text),
        "book.json:5: pages[1].shape.shapes[0].raduis: unknown key; did you mean \"radius\"?"
    );
    let error = from_str::<Document>(r#"{ "pages": [{ "titel": "x" }] }"#)
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "pages[0].titel: unknown key; did you mean \"title\"?"
    );
}

#[test]
fn an_error_is_located_in_the_text() {
    let text = "{\n  \"type\": \"group\",\n  \"shapes\": [\n    { \"type\": \"circle\" }\n  ]\n}\n";
    let error = draw(text).unwrap_err();
    assert_eq!(
        error.located("d.json", text),
        "d.json:4: shapes[0].radius: this key is missing"
    );
    let text = "{\n  \"type\" \"group\"\n}";
    let error = draw(text).unwrap_err();
    assert_eq!(
        error.located("d.json", text),
        "d.json:2: expected `:` (column 10)"
    );
    assert!(error.located("-", "").starts_with("-:2: "));
}

#[test]
fn descriptions_are_bounded_in_depth() {
    let describe = |levels: usize| {
        let mut value = json!({ "type": "circle", "radius": 1 });
        for _ in 1..levels {
            let inner = std::mem::replace(&mut value, json!({ "type": "group" }));
            value["shapes"] = serde_json::Value::Array(vec![inner]);
        }
        from_value::<Resource<Shape>>(&value)
    };
    let nested = |levels: usize| {
        describe(levels).and_then(|shape| block_on(resolver().context("").resolve(shape, 1)))
    };
    let checked = |levels: usize| resolver().check(&describe(levels).unwrap());
    assert!(nested(LEVELS_MAX).is_ok());
    assert!(checked(LEVELS_MAX).is_empty());
    assert!(matches!(
        checked(LEVELS_MAX + 1)[0].problem(),
        Problem::TooDeep { .. }
    ));
    let error = nested(LEVELS_MAX + 1).unwrap_err();
    assert!(matches!(error.problem(), Problem::TooDeep { .. }));
    assert!(
        error
            .to_string()
            .ends_with("descriptions may contain each other at most 64 levels deep"),
        "{error}"
    );
    assert!(nested(5000).is_err());
    let error = draw(&"[".repeat(1 << 20)).unwrap_err();
    assert!(
        error.to_string().contains("nested more than 127 levels"),
        "{error}"
    );
}

#[test]
fn a_description_survives_the_round_trip_through_json() {
    let circle = Circle {
        radius: 3,
        weight: Some(ByteSize(2048)),
    };
    let shape = Resource::new(&circle).with_reserved(&ShapeReserved { filled: true });
    let json = serde_json::to_string(&shape).unwrap();
    assert_eq!(
        json,
        r#"{"type":"circle","radius":3,"weight":"2K","filled":true}"#
    );
    assert_eq!(format!("{shape:?}"), format!("Resource<shape>({json})"));
    let ours: Resource<Shape> = from_str(&json).unwrap();
    let plain: Resource<Shape> = serde_json::from_str(&json).unwrap();
    assert_eq!(ours, shape);
    assert_eq!(plain, shape);
    assert_eq!(ours.origin(), Some(&JsonPath::root()));
    assert_eq!(plain.origin(), None);
    assert_eq!(shape.reserved().unwrap(), ShapeReserved { filled: true });
    assert_eq!((shape.id(), shape.fields().len()), ("circle", 3));
    let group = Group {
        shapes: vec![shape],
        mode: Mode::Over { gap: 1 },
    };
    let text = serde_json::to_string(&Resource::new(&group)).unwrap();
    assert_eq!(draw(&text).unwrap(), "over 1: +circle 6");
}

#[test]
fn a_description_made_by_code_is_placed_where_its_maker_says() {
    let circle = Circle {
        radius: 0,
        weight: None,
    };
    let shape = Resource::<Shape>::new(&circle);
    let resolver = resolver();
    let error = block_on(resolver.context("").resolve(shape.clone(), 1)).unwrap_err();
    assert_eq!(error.path().to_string(), "radius");
    let shape = shape.with_origin(JsonPath::root().key("--layer").index(2));
    let error = block_on(resolver.context("").resolve(shape, 1)).unwrap_err();
    assert_eq!(error.path().to_string(), "--layer[2].radius");
}

#[test]
fn types_are_added_by_hand_and_adding_twice_is_harmless() {
    let mut resolver = ResourceResolver::new();
    assert!(!resolver.has::<Shape>("circle"));
    resolver.add::<Shape, Circle>().add::<Shape, Circle>();
    assert!(resolver.has::<Shape>("circle"));
    assert!(!resolver.has::<Paper>("circle"));
    let shape: Resource<Shape> = from_str(r#"{ "type": "group" }"#).unwrap();
    let error = block_on(resolver.context("").resolve(shape, 1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "type: unknown type of shape \"group\"; there are: circle"
    );
}

/// Another one.
#[derive(Deserialize, JsonSchema)]
struct Impostor {}

#[async_trait]
impl ResourceHandle<Shape> for Impostor {
    const ID: &'static str = "circle";

    async fn resolve(self, _: &ResolveContext<'_>, _: u32) -> Result<String, Failure> {
        Ok("impostor".to_owned())
    }
}

/// One that takes a reserved key.
#[derive(Deserialize, JsonSchema)]
struct Greedy {
    #[allow(dead_code, reason = "only its name matters")]
    filled: bool,
}

#[async_trait]
impl ResourceHandle<Shape> for Greedy {
    const ID: &'static str = "greedy";

    async fn resolve(self, _: &ResolveContext<'_>, _: u32) -> Result<String, Failure> {
        Ok("greedy".to_owned())
    }
}

#[test]
#[should_panic(expected = "two types of shape are named \"circle\"")]
fn two_types_of_one_name_are_a_mistake_in_the_program() {
    ResourceResolver::new()
        .add::<Shape, Circle>()
        .add::<Shape, Impostor>();
}

#[test]
#[should_panic(expected = "has a field named \"filled\", which is a reserved key")]
fn a_field_named_like_a_reserved_key_is_a_mistake_in_the_program() {
    ResourceResolver::new().add::<Shape, Greedy>();
}

#[test]
fn resolving_is_possible_on_any_thread() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let resolver = resolver();
    let cx = is_send(resolver.context(""));
    let shape: Resource<Shape> = from_str(r#"{ "type": "circle", "radius": 1 }"#).unwrap();
    let both = futures_lite::future::zip(
        is_send(cx.resolve(shape.clone(), 1)),
        is_send(cx.resolve(shape, 2)),
    );
    let (first, second) = block_on(both);
    assert_eq!(
        (first.unwrap().as_str(), second.unwrap().as_str()),
        ("circle 1", "circle 2")
    );
}

#[test]
fn text_is_nested_as_deep_as_the_limit_says() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(resource::parse(&nested(127)).is_ok());
    let error = resource::parse(&nested(128)).unwrap_err();
    assert!(matches!(error.problem(), Problem::Syntax { line: 1, .. }));
}

#[test]
fn what_is_shared_is_one_value_of_each_type_for_each_resolver() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    let (resolver, other) = (resolver(), resolver());
    let here = resolver.context("").shared::<AtomicU32>();
    here.store(7, Ordering::Relaxed);
    let again = resolver.context("elsewhere").shared::<AtomicU32>();
    assert!(Arc::ptr_eq(&here, &again));
    assert_eq!(
        other
            .context("")
            .shared::<AtomicU32>()
            .load(Ordering::Relaxed),
        0
    );
    assert_eq!(*resolver.context("").shared::<u8>(), 0);
}
