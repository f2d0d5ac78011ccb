//! Durable layers: `platter layer` on their stores, and what a daemon leaves on them.

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::client::command;
use crate::support::daemon::platter;
use crate::support::tool::{Outcome, outcome};
use crate::support::{Daemon, KIB, MIB, Random, assert_same_bytes, read, write};

/// Runs `platter layer` in `folder`.
fn layer(folder: &Path, arguments: &[&str]) -> Outcome {
    outcome(platter(folder).arg("layer").args(arguments))
}

/// The JSON that it prints; it must end with this code.
#[track_caller]
fn json_of(folder: &Path, code: i32, arguments: &[&str]) -> Value {
    let done = layer(folder, arguments);
    let ended = done.status.code();
    assert_eq!(ended, Some(code), "{arguments:?}: {}", done.stderr);
    serde_json::from_str(&done.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", done.stdout))
}

/// How a layer was left, and the exit code that says so.
#[track_caller]
fn condition(folder: &Path, arguments: &[&str]) -> (String, Option<i32>) {
    let done = layer(folder, &[&["check", "--json"], arguments].concat());
    let report: Value = serde_json::from_str(&done.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", done.stdout, done.stderr));
    let condition = report["condition"].as_str().expect("a text").to_owned();
    (condition, done.status.code())
}

fn clean() -> (String, Option<i32>) {
    ("clean".to_owned(), Some(0))
}

/// A folder with an image of 16 MiB that has no zeros, and its bytes.
fn folder_with_base() -> (TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let bytes = Random::new(81).bytes(16 * MIB);
    write(&folder.path().join("base.raw"), &bytes);
    (folder, bytes)
}

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
fn data_that_rots_is_an_error_where_the_layer_verifies_it() {
    use std::os::unix::fs::FileExt;
    let (folder, base) = folder_with_base();
    let create = [
        "create", "vm.plt", "--lower", "base.raw", "--verify", "data",
    ];
    let made = json_of(folder.path(), 0, &[&create[..], &["--json"]].concat());
    assert_eq!(made["verify"], "data");
    let info = json_of(folder.path(), 0, &["info", "--json", "vm.plt"]);
    assert_eq!(
        (&info["verify"], &info["stripe_bytes"]),
        (&json!("data"), &json!(256 * KIB))
    );
    let stack = [
        "--layer",
        "durable:vm.plt,verify=data",
        "--layer",
        "file:base.raw,ro",
    ];
    let counts = |folder: &Path, code: i32, arguments: &[&str]| {
        let report = json_of(folder, code, &[&["check", "--json"], arguments].concat());
        let of = |key: &str| report[key].as_u64().expect("a number");
        let counts = ["verified_bytes", "unverified_bytes", "bad_bytes"].map(of);
        (counts, report)
    };

    let daemon = Daemon::serve_in(folder, stack);
    let mut client = daemon.client();
    client.write(5 * MIB, &[7; 4096]);
    client
        .request(command::FLUSH, 0, 0, &[])
        .expect("a flush succeeds");
    client.write(5 * MIB, &[8; 512]);
    daemon.signal(Signal::KILL);
    let (_, _, folder) = daemon.wait();
    // The stripe was marked before it was written over.
    assert_eq!(counts(folder.path(), 5, &["vm.plt"]).0, [0, 4096, 0]);
    let repaired = counts(folder.path(), 0, &["--repair", "vm.plt"]);
    assert_eq!(repaired.0, [4096, 0, 0]);

    // The stripe with 5 MiB is the twenty-first; before it the log of 16 blocks. In it, the sixth sector rots.
    let place = 8192 + 16 * 4096 + 20 * (4096 + 256 * KIB) + 4096 + 5 * 512;
    let path = folder.path().join("vm.plt");
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(b"?", place + 100).unwrap();
    let (found, report) = counts(folder.path(), 6, &["vm.plt"]);
    assert_eq!(found, [4096 - 512, 0, 512]);
    let damage = &report["damage"][0];
    let where_it_is = ["store_offset", "lost_offset", "lost_bytes"].map(|key| damage[key].clone());
    let lost = 5 * MIB + 5 * 512;
    assert_eq!(where_it_is, [json!(place), json!(lost), json!(512)]);
    assert_eq!(report["loss"], json!(null), "every record is there");
    // A salvage would do nothing for it, and is not done: what is lost stays named.
    let mended = ["check", "--repair", "--accept-loss", "vm.plt"];
    let mended = layer(folder.path(), &mended);
    assert_eq!(mended.status.code(), Some(6), "{}", mended.stderr);
    assert!(
        mended.stdout.contains("512 B of data are lost"),
        "{}",
        mended.stdout
    );
    let said = mended.stdout + &mended.stderr;
    assert!(
        !said.contains("nothing is lost") && !said.contains("no record is lost"),
        "{said}"
    );

    let daemon = Daemon::serve_in(folder, stack);
    let mut client = daemon.client();
    let failed = client.request(command::READ, 5 * MIB, 4096, &[]);
    failed.expect_err("a sector of it has rotted");
    assert_eq!(client.read(5 * MIB, 512), [8; 512]);
    assert_eq!(client.read(lost + 512, 512), [7; 512]);
    assert_same_bytes(&client.read(0, 5 * MIB as u32), &base[..5 * MIB as usize]);
    // A write heals it.
    client.write(lost, &[9; 512]);
    assert_eq!(client.read(lost, 512), [9; 512]);
    client.disconnect();
    let folder = daemon.stop();
    assert_eq!(counts(folder.path(), 0, &["vm.plt"]).0, [4096, 0, 0]);

    // One that was made without is not taken for one that verifies.
    layer(folder.path(), &["create", "plain.plt", "--size", "1M"]);
    let plain = ["info", "durable:plain.plt,verify=data"];
    let refused = outcome(platter(folder.path()).args(plain));
    assert!(!refused.status.success());
    assert!(
        refused.stderr.contains("without checksums of its data"),
        "{}",
        refused.stderr
    );
}

#[test]
fn damage_is_told_with_its_place_and_a_superblock_is_mended() {
    use std::os::unix::fs::FileExt;
    let (folder, _) = folder_with_base();
    let stack = [
        "--layer",
        "durable:vm.plt,create=true",
        "--layer",
        "file:base.raw,ro",
    ];
    let daemon = Daemon::serve_in(folder, stack);
    daemon.client().write(5 * MIB, &[7; 4096]);
    let folder = daemon.stop();
    let path = folder.path().join("vm.plt");
    let file = std::fs::File::options().read(true).write(true).open(path);
    let file = file.unwrap();
    let flip = |at: u64| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
    };
    let damaged = ("damaged".to_owned(), Some(6));

    flip(4096 + 77);
    assert_eq!(condition(folder.path(), &["vm.plt"]), damaged);
    assert_eq!(condition(folder.path(), &["--repair", "vm.plt"]), clean());

    // The page of the second stripe, which has 8192 sectors of 512 bytes; before it the log of 16 blocks, and the first stripe.
    let page = 8192 + 16 * 4096 + (4096 + 4 * MIB);
    flip(page + 64);
    let report = json_of(folder.path(), 6, &["check", "--json", "vm.plt"]);
    let damage = &report["damage"][0];
    let place = ["store_offset", "lost_offset", "lost_bytes"].map(|key| damage[key].clone());
    assert_eq!(place, [json!(page), json!(4 * MIB), json!(4 * MIB)]);
    assert_eq!(condition(folder.path(), &["--repair", "vm.plt"]), damaged);
    // What it would cost to have it back, and then what it has cost. All that was there is data, which looks like it.
    let guessed = json!([{ "offset": 4 * MIB, "length": 4 * MIB }]);
    assert_eq!(report["loss"]["guessed"], guessed);
    let accepting = ["check", "--json", "--repair", "--accept-loss", "vm.plt"];
    let report = json_of(folder.path(), 0, &accepting);
    let told = ["condition", "repaired", "data_bytes"].map(|key| report[key].clone());
    assert_eq!(told, [json!("clean"), json!(true), json!(4096)]);
    assert_eq!(report["loss"]["guessed"], guessed);
    let report = json_of(folder.path(), 0, &accepting);
    assert_eq!(
        (&report["loss"], &report["repaired"]),
        (&json!(null), &json!(false))
    );

    flip(77);
    flip(4096 + 77);
    let report = json_of(folder.path(), 6, &["check", "--json", "vm.plt"]);
    let what = report["damage"][0]["what"].as_str().unwrap();
    assert!(what.contains("both superblocks"), "{what}");
}

#[test]
fn a_cache_is_repaired_and_not_salvaged_whatever_is_accepted() {
    use std::os::unix::fs::FileExt;
    let folder = TempDir::new().unwrap();
    let create = [
        "create",
        "cache.plt",
        "--size",
        "1M",
        "--role",
        "read_cache",
    ];
    assert!(layer(folder.path(), &create).status.success());
    let file = std::fs::File::options()
        .write(true)
        .open(folder.path().join("cache.plt"))
        .unwrap();
    // Its only page, and a copy of the superblock.
    let log = json_of(folder.path(), 0, &["info", "--json", "cache.plt"])["log_bytes"].as_u64();
    let log = log.expect("a number");
    file.write_all_at(b"?", 8192 + log + 100).unwrap();
    file.write_all_at(b"?", 100).unwrap();
    let told = layer(
        folder.path(),
        &["check", "--repair", "--accept-loss", "cache.plt"],
    );
    // The page is emptied by whoever uses the cache.
    assert_eq!(told.status.code(), Some(6), "{}", told.stderr);
    assert!(told.stdout.contains("repaired"), "{}", told.stdout);
    assert!(!told.stdout.contains("superblock"), "{}", told.stdout);
}

#[test]
fn an_overlay_whose_log_has_rotten_is_opened_when_the_loss_is_accepted() {
    use std::os::unix::fs::FileExt;
    let (folder, mut expected) = folder_with_base();
    let stack = [
        "--layer",
        "durable:vm.plt,create=true",
        "--layer",
        "file:base.raw,ro",
    ];
    let daemon = Daemon::serve_in(folder, stack);
    let mut client = daemon.client();
    // Three entries of the log, of a stripe each; the last is about that of the first one again.
    for (mib, value) in [(1, 1), (5, 2), (2, 3)] {
        client.write(mib * MIB, &[value; 4096]);
        let flushed = client.request(command::FLUSH, 0, 0, &[]);
        flushed.expect("a flush succeeds");
        expected[(mib * MIB) as usize..][..4096].fill(value);
    }
    daemon.signal(Signal::KILL);
    let (_, _, folder) = daemon.wait();
    let path = folder.path().join("vm.plt");
    let file = std::fs::File::options().read(true).write(true).open(path);
    // The second entry: two blocks behind the first one, where the log begins.
    file.unwrap()
        .write_all_at(&[0xff], 8192 + 2 * 4096 + 20)
        .unwrap();

    let told = layer(folder.path(), &["check", "vm.plt"]);
    assert_eq!(told.status.code(), Some(6), "{}", told.stderr);
    let place = format!("at byte {}", 8192 + 2 * 4096);
    for expected in [&*place, "--repair --accept-loss", "from offset 4194304"] {
        assert!(
            told.stdout.contains(expected),
            "{expected}: {}",
            told.stdout
        );
    }
    let refused = layer(folder.path(), &["check", "--accept-loss", "vm.plt"]);
    assert_eq!(refused.status.code(), Some(2), "it is a way to repair");
    let refused = outcome(
        platter(folder.path())
            .args(["serve", "--run", "true"])
            .args(stack),
    );
    assert_eq!(refused.status.code(), Some(3), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("--accept-loss"),
        "{}",
        refused.stderr
    );
    // Without the consent nothing is done.
    let told = layer(folder.path(), &["check", "--repair", "vm.plt"]);
    assert_eq!(told.status.code(), Some(6), "{}", told.stdout);
    let accepting = ["check", "--json", "--repair", "--accept-loss", "vm.plt"];
    let told = layer(folder.path(), &accepting);
    let report: Value = serde_json::from_str(&told.stdout).expect("JSON");
    let old = json!([{ "offset": 4 * MIB, "length": 12 * MIB }]);
    assert_eq!(report["loss"]["old"], old);
    assert_eq!(report["condition"], "clean");
    // Before it was lost.
    for expected in ["salvaging", "12 MiB from offset 4194304"] {
        assert!(told.stderr.contains(expected), "{}", told.stderr);
    }

    // What the lost entry was about is what lies below.
    let base = read(&folder.path().join("base.raw"));
    let at = 5 * MIB as usize;
    expected[at..at + 4096].copy_from_slice(&base[at..at + 4096]);
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
            &["x.plt", "at least one sector"],
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
        (&["resize", "vm.plt", "0"], 3, &["vm.plt", "0 bytes"]),
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
