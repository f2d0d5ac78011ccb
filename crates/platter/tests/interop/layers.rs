//! Durable layers: `platter layer` on their stores, and what a daemon leaves on them.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::client::command;
use crate::support::daemon::platter;
use crate::support::layer::{clean, condition, folder_with_base, json_of, layer};
use crate::support::tool::outcome;
use crate::support::{Daemon, KIB, MIB, Random, assert_same_bytes, read, write};

/// The extents of a map: offset, length and state.
fn runs(map: &Value) -> Vec<(u64, u64, &str)> {
    let runs = map.as_array().expect("an array");
    runs.iter()
        .map(|run| {
            let number = |key: &str| run[key].as_u64().expect("a number");
            let state = run["state"].as_str().expect("a text");
            (number("offset"), number("length"), state)
        })
        .collect()
}

#[test]
fn a_layer_is_made_filled_looked_at_compacted_and_resized() {
    let (folder, base) = folder_with_base();
    let made = json_of(
        folder.path(),
        0,
        &["create", "vm.plt", "--lower", "base.raw", "--json"],
    );
    assert_eq!(
        (&made["role"], &made["size_bytes"]),
        (&json!("overlay"), &json!(16 * MIB))
    );
    assert_eq!(condition(folder.path(), &["vm.plt"]), clean());
    let map = json_of(folder.path(), 0, &["map", "--json", "vm.plt"]);
    assert_eq!(runs(&map), [(0, 16 * MIB, "absent")]);

    let stack = ["--layer", "durable:vm.plt", "--layer", "file:base.raw,ro"];
    let daemon = Daemon::serve_in(folder, stack);
    let data = Random::new(82).bytes(64 * KIB);
    let mut client = daemon.client();
    client.write(MIB, &data);
    client.write(8 * MIB, &[0; 4096]);
    client
        .request(command::TRIM, 4 * MIB, MIB as u32, &[])
        .expect("a trim succeeds");
    client.disconnect();
    let folder = daemon.stop();

    let expected = [
        (0, MIB, "absent"),
        (MIB, 64 * KIB, "data"),
        (MIB + 64 * KIB, 3 * MIB - 64 * KIB, "absent"),
        (4 * MIB, MIB, "zero"),
        (5 * MIB, 3 * MIB, "absent"),
        (8 * MIB, 4096, "data"),
        (8 * MIB + 4096, 8 * MIB - 4096, "absent"),
    ];
    let map = json_of(folder.path(), 0, &["map", "--json", "vm.plt"]);
    assert_eq!(runs(&map), expected);
    let compacted = json_of(folder.path(), 0, &["compact", "--json", "vm.plt"]);
    assert_eq!(
        (&compacted["zeroed_bytes"], &compacted["complete"]),
        (&json!(4096), &json!(true))
    );

    let refused = layer(folder.path(), &["resize", "vm.plt", "8M"]);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("--shrink"), "{}", refused.stderr);
    json_of(
        folder.path(),
        0,
        &["resize", "--shrink", "--json", "vm.plt", "8M"],
    );
    let grown = json_of(folder.path(), 0, &["resize", "--json", "vm.plt", "20M"]);
    assert_eq!(grown["size_bytes"], 20 * MIB);
    assert_eq!(condition(folder.path(), &["vm.plt"]), clean());
    let info = json_of(folder.path(), 0, &["info", "--json", "vm.plt"]);
    let facts = ["closed", "size_bytes", "shown_below_bytes"].map(|key| info[key].clone());
    assert_eq!(facts, [json!(true), json!(20 * MIB), json!(8 * MIB)]);

    let daemon = Daemon::serve_in(folder, stack);
    let found = daemon.client().read(0, 20 * MIB as u32);
    let mut expected = base;
    expected[MIB as usize..][..data.len()].copy_from_slice(&data);
    expected[4 * MIB as usize..][..MIB as usize].fill(0);
    expected[8 * MIB as usize..].fill(0);
    expected.resize(20 * MIB as usize, 0);
    assert_same_bytes(&found, &expected);
    daemon.stop();
}

#[test]
fn what_was_flushed_is_there_after_a_stop_and_after_a_kill() {
    let (mut folder, mut expected) = folder_with_base();
    let stack = [
        "--layer",
        "durable:vm.plt,create=true",
        "--layer",
        "file:base.raw,ro",
    ];
    let mut random = Random::new(83);
    for round in 0..4 {
        let is_killed = round % 2 == 1;
        let daemon = Daemon::serve_in(folder, stack);
        let mut client = daemon.client();
        assert_same_bytes(&client.read(0, 16 * MIB as u32), &expected);
        for _ in 0..20 {
            let data = random.bytes(16 * KIB);
            let at = random.below(16 * MIB / 512 - 32) * 512;
            client.write(at, &data);
            expected[at as usize..][..data.len()].copy_from_slice(&data);
        }
        client
            .request(command::FLUSH, 0, 0, &[])
            .expect("a flush succeeds");
        let refused = layer(daemon.folder(), &["check", "vm.plt"]);
        assert_eq!(refused.status.code(), Some(3));
        assert!(refused.stderr.contains("in use by"), "{}", refused.stderr);
        if !is_killed {
            client.disconnect();
            folder = daemon.stop();
            assert_eq!(condition(folder.path(), &["vm.plt"]), clean());
            continue;
        }
        daemon.signal(Signal::KILL);
        (_, _, folder) = daemon.wait();
        let crashed = ("crashed".to_owned(), Some(5));
        assert_eq!(condition(folder.path(), &["vm.plt"]), crashed);
        // A check writes nothing; what it finds is found again.
        assert_eq!(condition(folder.path(), &["vm.plt"]), crashed);
        if round == 3 {
            assert_eq!(condition(folder.path(), &["--repair", "vm.plt"]), clean());
        }
    }
    let daemon = Daemon::serve_in(folder, stack);
    assert_same_bytes(&daemon.client().read(0, 16 * MIB as u32), &expected);
    daemon.stop();
}

#[test]
fn a_layer_on_a_store_with_large_sectors_and_one_in_a_configuration_are_found() {
    let (folder, _) = folder_with_base();
    let place = folder.path();
    let lower = "file:base.raw,sector_size=4096";
    json_of(place, 0, &["create", "vm.plt", "--lower", lower, "--json"]);
    let stack = json!({ "exports": [ { "name": "vm", "disk": { "type": "layered", "layers": [
        { "type": "durable", "store": { "type": "file", "path": "vm.plt", "sector_size": 4096 } },
        { "type": "file", "path": "base.raw", "sector_size": 4096, "read_only": true } ] } } ] });
    write(&place.join("vm.json"), stack.to_string());
    for store in [
        "vm.plt",
        "./vm.plt",
        "durable:vm.plt",
        "vm.json",
        "vm.json#vm",
    ] {
        let info = json_of(place, 0, &["info", "--json", store]);
        assert_eq!(
            (&info["sector_size"], &info["store"]),
            (&json!(4096), &json!(store))
        );
        let made_for = &info["made_for"];
        assert_eq!(made_for["sector_count"], 16 * MIB / 4096);
    }
    assert!(
        outcome(platter(place).args(["check", "vm.json"]))
            .status
            .success()
    );
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_a_way_out_and_changes_nothing() {
    let (folder, base) = folder_with_base();
    let place = folder.path();
    json_of(place, 0, &["create", "vm.plt", "--size", "1M", "--json"]);
    let before = read(&place.join("vm.plt"));
    let two = json!({ "type": "layered", "layers": [
        { "type": "durable", "store": { "type": "file", "path": "vm.plt" } },
        { "type": "durable", "store": { "type": "file", "path": "b.plt" } } ] });
    write(&place.join("two.json"), two.to_string());
    for (arguments, code, clues) in [
        (
            &["info", "none.plt"][..],
            3,
            &["none.plt", "no such file"][..],
        ),
        (
            &["info", "base.raw"],
            3,
            &["base.raw", "no durable layer", "platter layer create"],
        ),
        (&["check", "base.raw"], 3, &["base.raw", "no durable layer"]),
        (
            &["map", "two.json"],
            3,
            &["two.json", "2 durable layers", "name the store"],
        ),
        (&["info", "vm"], 2, &["\"vm\"", "CONFIG.json#EXPORT"]),
        (&["create", "x.plt"], 2, &["--size", "--lower"]),
        (
            &["create", "x.plt", "--size", "1M", "--lower", "base.raw"],
            2,
            &["--lower"],
        ),
        (
            &["create", "x.plt", "--size", "1000"],
            3,
            &["x.plt", "1000 bytes", "multiple"],
        ),
        (
            &["create", "x.plt", "--size", "0"],
            3,
            &["x.plt", "--size is 0", "at least one sector"],
        ),
        (
            &["create", "none/x.plt", "--size", "1M"],
            3,
            &["none/x.plt", "make its folder first"],
        ),
        (&["create", "x.plt", "--size", "huge"], 2, &["huge", "512M"]),
        (
            &["create", "x.plt", "--lower", "none.raw"],
            3,
            &["none.raw", "no such file"],
        ),
        (
            &[
                "create",
                "file:x.plt,sector_size=512",
                "--lower",
                "file:base.raw,sector_size=4096",
            ],
            3,
            &["512", "4096"],
        ),
        (
            &["create", "file:x.plt,sector_size=65536", "--size", "1M"],
            3,
            &["65536", "512 to 4096"],
        ),
        (
            &["create", "vm.plt", "--size", "1M"],
            1,
            &["vm.plt", "holds a durable layer of 1 MiB", "--force"],
        ),
        (
            &["create", "base.raw", "--size", "1M"],
            1,
            &["base.raw", "data at offset 0", "--force"],
        ),
        (
            &["create", "base.raw", "--lower", "base.raw", "--force"],
            3,
            &["base.raw", "another store"],
        ),
        (
            &["create", "x.plt", "--size", "1M", "--role", "cache"],
            2,
            &["read_cache"],
        ),
        (&["compact", "file:vm.plt,ro"], 3, &["vm.plt", "read-only"]),
        (&["resize", "vm.plt", "512"], 1, &["vm.plt", "--shrink"]),
        (
            &["resize", "vm.plt", "1000"],
            3,
            &["vm.plt", "1000 bytes", "512"],
        ),
        (
            &["resize", "vm.plt", "0"],
            3,
            &["vm.plt", "0 bytes", "at least one sector"],
        ),
    ] {
        let done = layer(place, arguments);
        assert_eq!(
            done.status.code(),
            Some(code),
            "{arguments:?}: {}",
            done.stderr
        );
        for clue in clues {
            assert!(
                done.stderr.contains(clue),
                "{arguments:?}: {clue:?}: {}",
                done.stderr
            );
        }
        assert_eq!(done.stdout, "", "{arguments:?}");
    }
    assert!(!place.join("x.plt").exists());
    assert_same_bytes(&read(&place.join("vm.plt")), &before);
    assert_same_bytes(&read(&place.join("base.raw")), &base);
    json_of(
        place,
        0,
        &["create", "vm.plt", "--size", "2M", "--force", "--json"],
    );
    let info = json_of(place, 0, &["info", "--json", "vm.plt"]);
    assert_eq!(info["size_bytes"], 2 * MIB);
}

#[test]
fn what_a_cache_has_read_is_there_the_next_time_and_the_base_is_not_asked() {
    let (folder, base) = folder_with_base();
    let stack = [
        "--layer",
        "ram",
        "--layer",
        "durable:cache.plt,role=read_cache,read_cache,create=true",
        "--layer",
        "file:base.raw,ro",
        "--control",
        "control.sock",
    ];
    let daemon = Daemon::serve_in(folder, stack);
    let half = 8 * MIB as usize;
    assert_same_bytes(&daemon.client().read(0, 8 * MIB as u32), &base[..half]);
    let folder = daemon.stop();
    let report = json_of(folder.path(), 0, &["check", "--json", "cache.plt"]);
    assert_eq!(report["data_bytes"], 8 * MIB);

    let daemon = Daemon::serve_in(folder, stack);
    assert_same_bytes(&daemon.client().read(0, 8 * MIB as u32), &base[..half]);
    let path = "exports//disk/layers/2/counters/bytes_hit";
    let asked =
        outcome(platter(daemon.folder()).args(["inspect", path, "--control", "control.sock"]));
    assert_eq!(asked.stdout, "0\n", "{}", asked.stderr);
    daemon.stop();
}
