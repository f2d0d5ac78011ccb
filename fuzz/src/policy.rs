//! Which descriptions may be opened: nothing outside of a run's folder, nothing on a network, nothing that waits.

use serde_json::Value;

/// Files that a description creates are not longer than this.
const SIZE_BYTES_MAX: u64 = 16 << 20;

/// Whether everything that `value` describes stays within its folder.
pub(crate) fn may_open(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().all(may_open),
        Value::Object(fields) => {
            let is_kind = |kind: &str| fields.get("type").and_then(Value::as_str) == Some(kind);
            // A faulty disk may be told to wait for hours.
            if is_kind("nbd") || is_kind("fault") {
                return false;
            }
            if is_kind("file") && !fields.get("size").is_none_or(is_small) {
                return false;
            }
            fields.iter().all(|(key, value)| match key.as_str() {
                "path" => value.as_str().is_none_or(is_inside),
                _ => may_open(value),
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
