//! The page about faulty disks says what the code says: its tables are made here.

use disk_fault::{Action, Delay, InjectedError, Rule};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

const PAGE: &str = include_str!("../../../docs/faults.md");

fn schema<T: JsonSchema>() -> Value {
    let mut generator = SchemaGenerator::default();
    T::json_schema(&mut generator).into()
}

fn text(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The names of an enum's variants, and what is said of them.
fn variants<T: JsonSchema>() -> Vec<(String, String)> {
    let schema = schema::<T>();
    let variants = schema["oneOf"].as_array().unwrap().iter();
    let name = |variant: &Value| {
        let object = variant["properties"].as_object();
        let key = object.and_then(|properties| properties.keys().next().cloned());
        key.or_else(|| variant["const"].as_str().map(str::to_owned))
    };
    variants
        .map(|variant| (name(variant).unwrap(), text(variant)))
        .collect()
}

fn assert_on_page(table: &str) {
    assert!(PAGE.contains(table), "docs/faults.md should have:\n{table}");
}

#[test]
fn the_page_has_every_key_of_a_rule() {
    let schema = schema::<Rule>();
    let mut table = "| Key | Meaning |\n| --- | --- |\n".to_owned();
    for (key, value) in schema["properties"].as_object().unwrap() {
        table += &format!("| `{key}` | {} |\n", text(value));
    }
    assert_on_page(&table);
}

#[test]
fn the_page_has_every_action_and_what_it_can_be_done_to() {
    use disk_fault::InjectedError::Io;
    let actions = [
        Action::Delay(Delay::FixedMs(1.0)),
        Action::Hold,
        Action::Error(Io),
        Action::FailForever(Io),
        Action::Drop,
        Action::Partial,
        Action::PartialError(Io),
        Action::FlipBits(1),
        Action::Misdirect,
        Action::SkipFlush,
        Action::Reorder(2),
    ];
    let mut table = "| Action | Operations | What it does |\n| --- | --- | --- |\n".to_owned();
    let variants = variants::<Action>();
    for (name, text) in &variants {
        let action = actions.iter().find(|action| action.name() == name);
        let action = action.unwrap_or_else(|| panic!("this test should know {name}"));
        let operations = match action.operations() {
            all if all.len() == 7 => "all".to_owned(),
            some => {
                let names: Vec<String> = some.iter().map(|one| format!("`{one}`")).collect();
                names.join(", ")
            }
        };
        let written = serde_json::to_string(action).unwrap();
        let written = written.replace(':', ": ");
        table += &format!("| `{written}` | {operations} | {text} |\n");
    }
    assert_on_page(&table);
}

#[test]
fn the_page_has_every_delay_and_every_error() {
    let mut table = "| Delay | How long |\n| --- | --- |\n".to_owned();
    for (name, text) in variants::<Delay>() {
        table += &format!("| `{name}` | {text} |\n");
    }
    assert_on_page(&table);
    let mut table = "| Error | Meaning |\n| --- | --- |\n".to_owned();
    for (name, text) in variants::<InjectedError>() {
        table += &format!("| `{name}` | {text} |\n");
    }
    assert_on_page(&table);
}
