//! Disks that are described in JSON keep the contract, with caches and layers that write through, and are refused by the place of
//! what is wrong.

use disk_backend::Disk;
use disk_contract::{DiskSpec, Suite, Violation};
use disk_resolver::open_disk;
use futures_lite::future::block_on;
use std::sync::atomic::{AtomicU64, Ordering};

/// The layers above a file, top first.
const ABOVE: [&str; 5] = [
    r#"{ "type": "ram" }"#,
    r#"{ "type": "ram", "read_cache": true }"#,
    r#"{ "type": "ram", "read_cache": true, "write_through": true }"#,
    r#"{ "type": "ram" }, { "type": "ram", "read_cache": true }"#,
    r#"{ "type": "ram", "write_through": true }, { "type": "ram", "read_cache": true, "write_through": true }"#,
];

/// A new file with the content, below layers that are empty.
async fn open(folder: &std::path::Path, above: &str, spec: &DiskSpec) -> Disk {
    static FILES_MADE: AtomicU64 = AtomicU64::new(0);
    let name = format!("{}.raw", FILES_MADE.fetch_add(1, Ordering::Relaxed));
    let path = folder.join(&name);
    std::fs::write(&path, &spec.content).unwrap();
    let sector_size = spec.sector_size;
    let file = format!(r#"{{ "type": "file", "path": "{name}", "sector_size": {sector_size} }}"#);
    let json = format!(r#"{{ "type": "layered", "layers": [ {above}, {file} ] }}"#);
    let disk = open_disk(&json, folder, spec.is_read_only).await.unwrap();
    // Its name is not needed any more, and nothing piles up.
    std::fs::remove_file(&path).unwrap();
    disk
}

#[test]
fn disks_described_in_json_keep_the_contract() -> Result<(), Violation> {
    let folder = tempfile::tempdir().unwrap();
    let suite = Suite::new()
        .sector_sizes([512])
        .sector_counts([1, 30])
        .fixed_seed_count(1)
        .step_count(100);
    let mut stacks = ABOVE.into_iter();
    stacks.try_for_each(|above| {
        suite.check_disks(async |spec| open(folder.path(), above, &spec).await)
    })
}

#[test]
fn an_illegal_stack_is_refused_by_the_place_of_the_layer_at_fault() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("base.raw"), [0; 4096]).unwrap();
    let file = r#""type": "file", "path": "base.raw""#;
    let ram = r#""type": "ram", "size": 4096"#;
    for (layers, place) in [
        (format!(r#"{{ {ram}, "write_through": true }}"#), "layers[0]"),
        (
            format!(r#"{{ {ram} }}, {{ {ram}, "write_through": true }}, {{ {file} }}"#),
            "layers[1]",
        ),
        (
            format!(r#"{{ {ram} }}, {{ {file}, "read_cache": true }}"#),
            "layers[1]",
        ),
        (
            format!(r#"{{ {ram}, "write_through": true }}, {{ {file}, "read_only": true }}"#),
            "layers[1]",
        ),
        (
            r#"{ "type": "ram", "size": 8192, "write_through": true }, { "type": "ram", "size": 4096 }"#
                .to_owned(),
            "layers[1]",
        ),
    ] {
        let json = format!(r#"{{ "type": "layered", "layers": [ {layers} ] }}"#);
        let error = block_on(open_disk(&json, folder.path(), false)).unwrap_err();
        let error = format!("{error}");
        assert!(error.contains(place), "{json}: {error}");
    }
}
