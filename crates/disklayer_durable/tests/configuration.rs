//! A durable layer as a configuration describes it: on a file, across openings.

use disk_backend::{Disk, DiskError};
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;
use serde_json::{Value, json};
use std::path::Path;

fn stack(directory: &Path, layer: Value) -> String {
    let mut layer = layer;
    layer["type"] = json!("durable");
    layer["store"] = json!({ "type": "file", "path": "top.plt" });
    let path = directory.join("top.plt");
    if !path.exists() {
        // It grows as far as it must.
        std::fs::write(path, [0; 4096]).unwrap();
    }
    json!({ "type": "layered", "layers": [layer, { "type": "ram", "size": "1M" }] }).to_string()
}

fn open(directory: &Path, layer: Value) -> Result<Disk, String> {
    let json = stack(directory, layer);
    block_on(disk_resolver::open_disk(&json, directory, false)).map_err(|error| error.to_string())
}

fn read(disk: &Disk, sector: u64) -> Result<u8, DiskError> {
    let mut data = [0xee; 512];
    let host = HostBuffers::from_mut(&mut data);
    block_on(disk.read_vectored(&host.buffers(), sector))?;
    drop(host);
    Ok(data[0])
}

#[test]
fn what_is_written_is_there_when_it_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let error = open(path, json!({})).unwrap_err();
    assert!(error.contains("holds no durable layer"), "{error}");
    let disk = open(path, json!({ "create": true })).unwrap();
    assert_eq!(disk.sector_count(), 2048);
    let data = [7; 512];
    let host = HostBuffers::from_ref(&data);
    block_on(disk.write_vectored(&host.buffers(), 9, true)).unwrap();
    drop((host, disk));
    // `create` makes none where there is one.
    for layer in [json!({}), json!({ "create": true, "cache_size": "1M" })] {
        let disk = open(path, layer).unwrap();
        assert_eq!((read(&disk, 9).unwrap(), read(&disk, 8).unwrap()), (7, 0));
    }
}

#[test]
fn it_is_refused_as_what_it_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    drop(open(path, json!({ "create": true, "size": "64K" })).unwrap());
    let cache = json!({ "role": "write_through", "write_through": true });
    let error = open(path, cache).unwrap_err();
    assert!(error.contains("layers[0]"), "{error}");
    assert!(error.contains("is an overlay"), "{error}");
    let error = open(path, json!({ "rolle": "overlay" })).unwrap_err();
    assert!(error.contains("rolle"), "{error}");
}

/// A layer that may be thrown away must not hold the only copy, and one that is a copy must be thrown away when it may be a wrong one.
#[test]
fn what_it_is_for_goes_with_how_it_is_used() {
    let wrong = [
        (
            json!({ "role": "write_through" }),
            "\"write_through\": true",
        ),
        (
            json!({ "role": "write_through", "read_cache": true }),
            "\"write_through\": true",
        ),
        (json!({ "role": "read_cache" }), "\"read_cache\": true"),
        (
            json!({ "role": "read_cache", "read_cache": true }),
            "only copy",
        ),
        (
            json!({ "role": "read_cache", "read_cache": true, "write_through": true }),
            "\"role\": \"write_through\"",
        ),
        (
            json!({ "write_through": true }),
            "\"role\": \"write_through\"",
        ),
    ];
    for (layer, expected) in wrong {
        let directory = tempfile::tempdir().unwrap();
        let mut layer = layer;
        layer["create"] = json!(true);
        let error = open(directory.path(), layer.clone()).unwrap_err();
        assert!(error.contains(expected), "{layer}: {error}");
        assert!(error.contains("layers[0]"), "{error}");
        let bytes = std::fs::read(directory.path().join("top.plt")).unwrap();
        assert_eq!(bytes, [0; 4096], "{layer}");
    }
    let right = [
        json!({}),
        json!({ "read_cache": true }),
        json!({ "role": "write_through", "write_through": true }),
        json!({ "role": "write_through", "write_through": true, "read_cache": true }),
    ];
    for layer in right {
        let directory = tempfile::tempdir().unwrap();
        let mut layer = layer;
        layer["create"] = json!(true);
        open(directory.path(), layer.clone()).unwrap_or_else(|error| panic!("{layer}: {error}"));
    }
}

/// Written through to, it would be the last to hold what is written.
#[test]
fn a_cache_is_not_what_is_written_through_to() {
    let directory = tempfile::tempdir().unwrap();
    let layer = |name: &str, role: &str| {
        std::fs::write(directory.path().join(name), [0; 4096]).unwrap();
        json!({
            "type": "durable", "store": { "type": "file", "path": name }, "create": true, "role": role,
            role: true,
        })
    };
    let layers = json!([
        layer("a.plt", "write_through"),
        layer("b.plt", "read_cache"),
        { "type": "ram", "size": "1M" }
    ]);
    let json = json!({ "type": "layered", "layers": layers }).to_string();
    let opened = block_on(disk_resolver::open_disk(&json, directory.path(), false));
    let error = opened.unwrap_err().to_string();
    for expected in ["layers[1]", "only copy", "\"role\": \"overlay\""] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn a_size_is_so_many_whole_sectors() {
    for size in [0, 1, 511, 700, 1025] {
        let directory = tempfile::tempdir().unwrap();
        let error = open(directory.path(), json!({ "create": true, "size": size })).unwrap_err();
        assert!(
            error.contains("whole sectors of 512 bytes"),
            "{size}: {error}"
        );
    }
}
