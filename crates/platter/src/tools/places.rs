//! Where a description keeps its bytes: how a copy onto itself is found out, before locks would show it less clearly.

use disk_nbd::{NbdAddress, NbdUri};
use serde_json::Value;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// A place that holds bytes, whatever the paths to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    File {
        device: u64,
        inode: u64,
    },
    Device {
        number: u64,
    },
    /// An export of an NBD server. A server may have several names and several ways to one disk: those are not known here.
    Nbd {
        server: NbdServer,
        export_name: String,
    },
}

/// Where an NBD server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NbdServer {
    /// A Unix socket, whatever the paths to it.
    Socket {
        device: u64,
        inode: u64,
    },
    Address(NbdAddress),
}

/// The part of a description that takes the writes of the whole.
pub(crate) fn top(description: &Value) -> &Value {
    let id = description.get("type").and_then(Value::as_str);
    let inner = match id {
        Some("layered") => description.get("layers").and_then(|layers| layers.get(0)),
        Some("disk" | "delay" | "fault" | "throttle") => description.get("disk"),
        _ => None,
    };
    inner.map_or(description, top)
}

/// Every place that a description names, in files that are there. Paths are relative to `base_dir`.
pub(crate) fn all(description: &Value, base_dir: &Path) -> Vec<Place> {
    let mut places = Vec::new();
    // As deep as the JSON was, for which its parser has a limit.
    add(description, base_dir, &mut places);
    places
}

fn add(value: &Value, base_dir: &Path, places: &mut Vec<Place>) {
    match value {
        Value::Object(fields) => {
            let text = |key: &str| fields.get(key).and_then(Value::as_str);
            let place = match (text("type"), text("path"), text("uri")) {
                (Some("file"), Some(path), _) => file(&base_dir.join(path)),
                (Some("nbd"), _, Some(uri)) => export(uri, base_dir),
                _ => None,
            };
            places.extend(place);
            fields
                .values()
                .for_each(|value| add(value, base_dir, places));
        }
        Value::Array(values) => values.iter().for_each(|value| add(value, base_dir, places)),
        _ => {}
    }
}

/// None for a file that is not there: nothing can be shared with it.
fn file(path: &Path) -> Option<Place> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(match metadata.file_type().is_block_device() {
        true => Place::Device {
            number: metadata.rdev(),
        },
        false => Place::File {
            device: metadata.dev(),
            inode: metadata.ino(),
        },
    })
}

/// None for a URI that will be refused.
fn export(uri: &str, base_dir: &Path) -> Option<Place> {
    let uri = uri.parse::<NbdUri>().ok()?.relative_to(base_dir);
    let socket = match uri.address() {
        NbdAddress::Unix(path) => std::fs::metadata(path).ok(),
        _ => None,
    };
    let server = match socket {
        Some(metadata) => NbdServer::Socket {
            device: metadata.dev(),
            inode: metadata.ino(),
        },
        None => NbdServer::Address(uri.address().clone()),
    };
    Some(Place::Nbd {
        server,
        export_name: uri.export_name().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_file_is_known_by_any_of_its_names_and_however_deep_it_lies() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "x").unwrap();
        std::fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("c")).unwrap();
        let plain = all(&json!({ "type": "file", "path": "a" }), dir.path());
        assert_eq!(plain.len(), 1);
        let deep = json!({ "type": "layered", "layers": [
            { "type": "ram" },
            { "type": "disk", "disk": { "type": "file", "path": dir.path().join("c") } } ] });
        assert_eq!(all(&deep, Path::new("/nowhere")), plain);
        assert_eq!(
            all(&json!({ "type": "file", "path": "missing" }), dir.path()),
            []
        );
    }

    #[test]
    fn an_export_is_known_by_any_path_to_its_socket_and_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::os::unix::fs::symlink("s", dir.path().join("t")).unwrap();
        let place = |uri: &str| all(&json!({ "type": "nbd", "uri": uri }), dir.path());
        let absolute = format!("nbd+unix:///vm%31?socket={}", socket.display());
        assert_eq!(place("nbd+unix:///vm1?socket=t"), place(&absolute));
        assert_eq!(place(&absolute).len(), 1);
        assert_ne!(place("nbd+unix:///vm2?socket=t"), place(&absolute));
        assert_eq!(place("nbd://h/x"), place("nbd://h:10809/x"));
        assert_ne!(place("nbd://h/x"), place("nbd://h:10810/x"));
    }

    #[test]
    fn the_top_layer_takes_the_writes() {
        let file = json!({ "type": "file", "path": "a" });
        let stack = json!({ "type": "layered", "layers": [ { "type": "disk", "disk": file }, { "type": "ram" } ] });
        assert_eq!(top(&stack), &file);
        for around in ["delay", "fault", "throttle"] {
            assert_eq!(top(&json!({ "type": around, "disk": stack })), &file);
        }
        assert_eq!(top(&file), &file);
    }
}
