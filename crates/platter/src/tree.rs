//! An inspection tree for people: one line for each value, indented by its depth.

use serde_json::Value;
use std::fmt::Write as _;

/// The tree as text. Names are written as paths want them, so that they can be joined with `/`.
pub(crate) fn text(tree: &Value) -> String {
    let mut text = String::new();
    match parts(tree) {
        Some(parts) if parts.is_empty() => add_line(&mut text, format_args!("none")),
        Some(parts) => add_parts(&mut text, parts, 0),
        None => add_line(&mut text, format_args!("{}", value_text(tree))),
    }
    text
}

/// Names and values, if it has any.
fn parts(tree: &Value) -> Option<Vec<(String, &Value)>> {
    match tree {
        Value::Object(parts) if !inspect::is_not_shown(tree) => {
            let parts = parts.iter();
            Some(parts.map(|(name, value)| (escaped(name), value)).collect())
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            Some(
                items
                    .map(|(index, value)| (index.to_string(), value))
                    .collect(),
            )
        }
        _ => None,
    }
}

/// The tree's depth is bounded where it is made (`inspect::LEVELS_MAX`) and where it is read, so this ends.
fn add_parts(text: &mut String, named: Vec<(String, &Value)>, depth: usize) {
    let indent = "  ".repeat(depth);
    for (name, value) in named {
        match parts(value) {
            Some(parts) if !parts.is_empty() => {
                add_line(text, format_args!("{indent}{name}"));
                add_parts(text, parts, depth + 1);
            }
            Some(_) => add_line(text, format_args!("{indent}{name}: none")),
            None => add_line(text, format_args!("{indent}{name}: {}", value_text(value))),
        }
    }
}

fn add_line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string succeeds");
}

fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.escape_debug().to_string(),
        Value::Object(_) => "...".to_owned(),
        value => value.to_string(),
    }
}

/// A name as a part of a path; control characters would spoil the terminal.
fn escaped(name: &str) -> String {
    match name {
        "" => "\"\"".to_owned(),
        name => name
            .replace('~', "~0")
            .replace('/', "~1")
            .escape_debug()
            .to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_tree_is_indented_and_its_names_can_be_pasted() {
        let tree = json!({
            "exports": { "a/b": { "size": 3 }, "": { "...": "not shown" } },
            "layers": [{ "type": "ram" }, null],
            "connections": {},
            "name": "two\nlines",
        });
        assert_eq!(
            text(&tree),
            "exports\n  a~1b\n    size: 3\n  \"\": ...\nlayers\n  0\n    type: ram\n  1: null\nconnections: none\nname: two\\nlines\n"
        );
        assert_eq!(text(&json!(7)), "7\n");
        assert_eq!(text(&json!({})), "none\n");
    }
}
