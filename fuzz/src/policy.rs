//! Which descriptions may be opened: nothing outside of a run's folder, nothing on a network, nothing that waits.

use serde_json::Value;

/// Files that a description creates are not longer than this.
const SIZE_BYTES_MAX: u64 = 16 << 20;

/// What is opened. Any other type is checked at most: it may wait, for a server, or because it is told to.
const OPENED: &[&str] = &["disk", "file", "layered", "ram"];

/// Whether everything that `value` describes stays within its folder.
pub(crate) fn may_open(value: &Value) -> bool {
    is_allowed(value, OPENED)
}

/// The same where paths cannot be kept within a folder: no file at all.
pub(crate) fn may_open_without_files(value: &Value) -> bool {
    is_allowed(value, &["disk", "layered", "ram"])
}

fn is_allowed(value: &Value, opened: &[&str]) -> bool {
    match value {
        Value::Array(items) => items.iter().all(|item| is_allowed(item, opened)),
        Value::Object(fields) => {
            let kind = fields.get("type").and_then(Value::as_str);
            if kind.is_some_and(|kind| !opened.contains(&kind)) {
                return false;
            }
            if kind == Some("file") && !fields.get("size").is_none_or(is_small) {
                return false;
            }
            fields.iter().all(|(key, value)| match key.as_str() {
                "path" => kind != Some("file") || value.as_str().is_none_or(is_inside),
                _ => is_allowed(value, opened),
            })
        }
        _ => true,
    }
}

/// A name in the run's folder: neither absolute nor a way out of it.
fn is_inside(path: &str) -> bool {
    !path.contains(['/', '\0']) && path != ".." && path.len() < 200
}

fn is_small(size: &Value) -> bool {
    let size = serde_json::from_value::<resource::ByteSize>(size.clone());
    size.map_or(true, |size| size.bytes() <= SIZE_BYTES_MAX)
}
