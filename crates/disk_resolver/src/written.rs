//! Which parts of a description would be written, as far as that can be seen without opening anything.

use disk_backend::resolve::DiskHandleKind;
use disk_layered::InvalidLayer;
use resource::{JsonPath, ResolveError, Resource};
use serde_json::{Map, Value};

/// Mistakes that only those see who open a disk for writing: layers that it would write to are described as read-only.
pub(crate) fn read_only_but_written(disk: &Resource<DiskHandleKind>) -> Vec<ResolveError> {
    let root = disk.origin().cloned().unwrap_or_else(JsonPath::root);
    let mut found = Vec::new();
    find(&root, disk.id(), disk.fields(), false, &mut found);
    let message = InvalidLayer::ReadOnly.to_string();
    let mistakes = found.into_iter();
    mistakes
        .map(|path| ResolveError::bad_value(path, message.clone()))
        .collect()
}

/// Goes down the layers that take writes. How deep they can be is bounded where the JSON is read.
fn find(
    path: &JsonPath,
    id: &str,
    fields: &Map<String, Value>,
    is_layer: bool,
    found: &mut Vec<JsonPath>,
) {
    let mut go_on = |path: &JsonPath, inner: &Value, is_layer: bool| {
        if let (Some(id), Some(fields)) = (inner["type"].as_str(), inner.as_object()) {
            find(path, id, fields, is_layer, found);
        }
    };
    match id {
        "layered" => {
            let path = path.key("layers");
            for (index, layer) in written_layers(fields).enumerate() {
                go_on(&path.index(index), layer, true);
            }
        }
        "disk" | "delay" | "fault" | "throttle" => {
            if let Some(disk) = fields.get("disk") {
                go_on(&path.key("disk"), disk, is_layer);
            }
        }
        // A disk that is served by itself may well be read-only: then its export is.
        _ if is_layer && fields.get("read_only") == Some(&Value::Bool(true)) => {
            found.push(path.key("read_only"));
        }
        _ => {}
    }
}

/// The top, and the layers that are written through to.
fn written_layers(fields: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    let layers = fields.get("layers").and_then(Value::as_array);
    let mut is_written = true;
    layers.into_iter().flatten().take_while(move |layer| {
        let is_this_written = is_written;
        is_written &= layer["write_through"] == true;
        is_this_written
    })
}
