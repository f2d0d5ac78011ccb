//! Which part of a description would be written, as far as that can be seen without opening anything.

use disk_backend::resolve::DiskHandleKind;
use disk_layered::InvalidLayer;
use resource::{JsonPath, ResolveError, Resource};
use serde_json::{Map, Value};

/// A mistake that only those see who open a disk for writing: its top layer is described as read-only.
pub(crate) fn read_only_top(disk: &Resource<DiskHandleKind>) -> Option<ResolveError> {
    let root = disk.origin().cloned().unwrap_or_else(JsonPath::root);
    let top = top_layer(root, disk.id(), disk.fields())?;
    let message = InvalidLayer::ReadOnly.to_string();
    Some(ResolveError::bad_value(top.key("read_only"), message))
}

/// Where the layer stands that takes the writes of a layered disk, if it says that it is read-only.
fn top_layer(mut path: JsonPath, id: &str, fields: &Map<String, Value>) -> Option<JsonPath> {
    let (mut id, mut fields) = (id, fields);
    let mut is_layered = false;
    loop {
        let inner = match id {
            "layered" => {
                is_layered = true;
                path = path.key("layers").index(0);
                fields.get("layers")?.get(0)?
            }
            "disk" => {
                path = path.key("disk");
                fields.get("disk")?
            }
            // A disk that is served by itself may well be read-only: then its export is.
            _ => return (is_layered && fields.get("read_only")? == true).then_some(path),
        };
        id = inner.get("type")?.as_str()?;
        fields = inner.as_object()?;
    }
}
