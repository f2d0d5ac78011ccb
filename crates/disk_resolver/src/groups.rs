//! Groups that several disks of a document name, and give different limits.

use disk_throttle::{GroupCheck, ThrottleDiskHandle};
use resource::{JsonPath, ResolveError};
use serde_json::Value;

/// The keys of a throttled disk.
const KEYS: [&str; 6] = [
    "disk",
    "bytes_per_second",
    "burst_bytes",
    "operations_per_second",
    "burst_operations",
    "group",
];

/// Looks at all throttled disks in a description, and adds what does not agree with those that `seen` has seen.
pub(crate) fn check(
    path: &JsonPath,
    value: &Value,
    seen: &mut GroupCheck,
    found: &mut Vec<ResolveError>,
) {
    match value {
        Value::Object(fields) => {
            if fields.get("type").and_then(Value::as_str) == Some("throttle") {
                // Others are those of the layer in whose place it stands, or a mistake of another kind.
                let own = fields
                    .iter()
                    .filter(|(key, _)| KEYS.contains(&key.as_str()));
                let own = own
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                // One that is wrong in itself is refused for that.
                let handle = resource::from_value::<ThrottleDiskHandle>(&Value::Object(own));
                let conflict = handle.map(|handle| seen.see(path, &handle));
                found.extend(conflict.ok().and_then(Result::err));
            }
            for (key, inner) in fields {
                check(&path.key(key), inner, seen, found);
            }
        }
        Value::Array(values) => {
            for (index, inner) in values.iter().enumerate() {
                check(&path.index(index), inner, seen, found);
            }
        }
        _ => {}
    }
}
