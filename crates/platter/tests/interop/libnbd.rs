//! What the tools of libnbd make of us.

use std::process::Command;

use serde_json::Value;

use crate::support::{Daemon, MIB, Random, assert_same_bytes, peers, read, run, write};

/// The only export in the output of `nbdinfo --json`.
fn export(nbdinfo: &std::path::Path, uri: &str) -> Value {
    let text = run(Command::new(nbdinfo).args(["--json", uri]));
    let mut all: Value = serde_json::from_str(&text).expect("nbdinfo writes JSON");
    assert_eq!(all["protocol"], "newstyle-fixed");
    assert_eq!(all["structured"], true);
    all["exports"][0].take()
}

#[test]
fn nbdinfo_sees_the_size_and_every_ability() {
    let Some([nbdinfo]) = peers(["nbdinfo"]) else {
        return;
    };
    let daemon = Daemon::serve(["--layer", "ram:64M"]);
    let export = export(&nbdinfo, &daemon.uri());
    assert_eq!(export["export-size"], 64 * MIB);
    assert_eq!(export["is_read_only"], false);
    let contexts = serde_json::json!(["base:allocation", "platter:layer"]);
    assert_eq!(export["contexts"], contexts);
    for ability in [
        "can_cache",
        "can_df",
        "can_fast_zero",
        "can_flush",
        "can_fua",
        "can_multi_conn",
        "can_trim",
        "can_zero",
    ] {
        assert_eq!(export[ability], true, "{ability}");
    }
    assert_eq!(export["block_size_minimum"], 1);
    let preferred = export["block_size_preferred"]
        .as_u64()
        .expect("a preferred size");
    assert!(
        preferred >= 512 && preferred.is_power_of_two(),
        "{preferred}"
    );
    daemon.stop();
}

#[test]
fn nbdinfo_sees_a_read_only_export() {
    let Some([nbdinfo]) = peers(["nbdinfo"]) else {
        return;
    };
    let daemon = Daemon::serve(["--layer", "ram:1M", "--read-only"]);
    assert_eq!(export(&nbdinfo, &daemon.uri())["is_read_only"], true);
    daemon.stop();
}

#[test]
fn nbdinfo_lists_every_export_of_a_document() {
    let Some([nbdinfo]) = peers(["nbdinfo"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let document = r#"{ "exports": [
        { "name": "one", "disk": { "type": "layered", "layers": [ { "type": "ram", "size": "1M" } ] } },
        { "name": "two", "disk": { "type": "layered", "layers": [ { "type": "ram", "size": "2M" } ] }, "read_only": true }
    ] }"#;
    write(&folder.path().join("disk.json"), document);
    let daemon = Daemon::serve_in(folder, ["disk.json"]);
    let text = run(Command::new(nbdinfo).args(["--list", "--json", &daemon.uri()]));
    let all: Value = serde_json::from_str(&text).expect("nbdinfo writes JSON");
    let exports = all["exports"].as_array().expect("a list of exports").iter();
    let found: Vec<_> = exports
        .map(|export| {
            (
                export["export-name"].clone(),
                export["export-size"].clone(),
                export["is_read_only"].clone(),
            )
        })
        .collect();
    let expected = [("one", MIB, false), ("two", 2 * MIB, true)];
    assert_eq!(
        found,
        expected.map(|(name, size, read_only)| (name.into(), size.into(), read_only.into()))
    );
    daemon.stop();
}

#[test]
fn nbdinfo_maps_what_was_written_and_nothing_else() {
    let Some([nbdinfo]) = peers(["nbdinfo"]) else {
        return;
    };
    let daemon = Daemon::serve(["--layer", "ram:64M"]);
    let mut client = daemon.client();
    client.write(4 * MIB, &Random::new(1).bytes(MIB));
    client.write(20 * MIB, &Random::new(2).bytes(2 * MIB));
    let text = run(Command::new(nbdinfo).args(["--map", "--json", &daemon.uri()]));
    let map: Vec<Value> = serde_json::from_str(&text).expect("nbdinfo writes JSON");
    let found: Vec<_> = map
        .iter()
        .map(|extent| {
            let number = |key: &str| extent[key].as_u64().expect("a number");
            (
                number("offset") / MIB,
                number("length") / MIB,
                number("type"),
            )
        })
        .collect();
    // Type 3 is a hole that reads zero, type 0 is data.
    assert_eq!(
        found,
        [(0, 4, 3), (4, 1, 0), (5, 15, 3), (20, 2, 0), (22, 42, 3)]
    );
    daemon.stop();
}

#[test]
fn nbdcopy_brings_an_image_in_and_out_byte_by_byte() {
    let Some([nbdcopy]) = peers(["nbdcopy"]) else {
        return;
    };
    let daemon = Daemon::serve(["--layer", "ram:48M"]);
    let mut image = vec![0; 48 * MIB as usize];
    let mut random = Random::new(3);
    for _ in 0..100 {
        let len = 1 + random.below(300_000);
        let data = random.bytes(len);
        let at = random.below((image.len() - data.len()) as u64) as usize;
        image[at..at + data.len()].copy_from_slice(&data);
    }
    let (original, copy) = (
        daemon.folder().join("original.raw"),
        daemon.folder().join("copy.raw"),
    );
    write(&original, &image);
    run(Command::new(&nbdcopy).arg(&original).arg(daemon.uri()));
    run(Command::new(&nbdcopy).arg(daemon.uri()).arg(&copy));
    assert_same_bytes(&read(&copy), &image);
    daemon.stop();
}

#[test]
fn nbdcopy_reads_a_base_through_an_empty_layer_and_leaves_it_alone() {
    let Some([nbdcopy]) = peers(["nbdcopy"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let base = Random::new(4).bytes(16 * MIB);
    write(&folder.path().join("base.raw"), &base);
    let daemon = Daemon::serve_in(folder, ["--layer", "ram", "--layer", "file:base.raw,ro"]);
    let copy = daemon.folder().join("copy.raw");
    run(Command::new(&nbdcopy).arg(daemon.uri()).arg(&copy));
    assert_same_bytes(&read(&copy), &base);

    let mut expected = base.clone();
    let patch = Random::new(5).bytes(3 * MIB + 7);
    expected[MIB as usize..][..patch.len()].copy_from_slice(&patch);
    daemon.client().write(MIB, &patch);
    run(Command::new(&nbdcopy).arg(daemon.uri()).arg(&copy));
    assert_same_bytes(&read(&copy), &expected);

    let folder = daemon.stop();
    assert_same_bytes(&read(&folder.path().join("base.raw")), &base);
}

#[test]
fn nbdcopy_between_two_daemons_keeps_every_byte() {
    let Some([nbdcopy]) = peers(["nbdcopy"]) else {
        return;
    };
    let (from, to) = (
        Daemon::serve(["--layer", "ram:8M"]),
        Daemon::serve(["--layer", "ram:8M"]),
    );
    let image = Random::new(6).bytes(8 * MIB);
    from.client().write(0, &image);
    run(Command::new(nbdcopy).args([from.uri(), to.uri()]));
    assert_same_bytes(&to.client().read(0, 8 * MIB as u32), &image);
    from.stop();
    to.stop();
}
