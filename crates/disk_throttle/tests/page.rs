//! The page about throttled disks says what the code says: its table of keys is made here.

use disk_throttle::ThrottleDiskHandle;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

const PAGE: &str = include_str!("../../../docs/throttle.md");

#[test]
fn the_page_has_every_key() {
    let schema: Value = ThrottleDiskHandle::json_schema(&mut SchemaGenerator::default()).into();
    let mut table = "| Key | Meaning |\n| --- | --- |\n".to_owned();
    for (key, value) in schema["properties"].as_object().unwrap() {
        let text = value["description"].as_str().unwrap();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        table += &format!("| `{key}` | {text} |\n");
    }
    assert!(
        PAGE.contains(&table),
        "docs/throttle.md should have:\n{table}"
    );
}
