//! Durable layers that have rotted: what `platter layer check` says of them, and what it mends.

use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::client::command;
use crate::support::daemon::platter;
use crate::support::layer::{clean, condition, folder_with_base, json_of, layer};
use crate::support::tool::outcome;
use crate::support::{Daemon, KIB, MIB, assert_same_bytes, read};

#[test]
fn data_that_rots_is_an_error_where_the_layer_verifies_it() {
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
    // Without the consent there is nothing that could be done, and what could be with it is said.
    let told = layer(folder.path(), &["check", "--repair", "vm.plt"]);
    assert_eq!(told.status.code(), Some(6), "{}", told.stderr);
    for expected in ["damaged, and not repaired", "--repair --accept-loss makes"] {
        assert!(
            told.stdout.contains(expected),
            "{expected}: {}",
            told.stdout
        );
    }
    let unrepaired = ["check", "--json", "--repair", "vm.plt"];
    let unrepaired = json_of(folder.path(), 6, &unrepaired);
    assert_eq!(unrepaired["repaired"], json!(false));
    for command in ["map", "compact"] {
        let told = layer(folder.path(), &[command, "vm.plt"]);
        assert_eq!(told.status.code(), Some(1), "{command}: {}", told.stderr);
        assert!(
            told.stderr.contains("is damaged") && told.stderr.contains("`platter layer check`"),
            "{command}: {}",
            told.stderr
        );
        assert!(!told.stderr.contains("while the layer"), "{}", told.stderr);
    }
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
    let used = outcome(
        platter(folder.path())
            .args(["serve", "--run", "true"])
            .args(stack),
    );
    for refused in [used, layer(folder.path(), &["info", "vm.plt"])] {
        assert_eq!(refused.status.code(), Some(3), "{}", refused.stderr);
        for expected in ["restore it from a copy", "layer create --force"] {
            assert!(refused.stderr.contains(expected), "{}", refused.stderr);
        }
    }
}

#[test]
fn a_cache_is_repaired_and_not_salvaged_whatever_is_accepted() {
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
fn what_is_lost_is_named_also_where_nothing_else_is_said() {
    let folder = TempDir::new().unwrap();
    let create = ["create", "vm.plt", "--size", "16M", "--quiet"];
    assert!(layer(folder.path(), &create).status.success());
    let path = folder.path().join("vm.plt");
    let file = std::fs::File::options().write(true).open(path).unwrap();
    // The page of the second stripe.
    let page = 8192 + 16 * 4096 + (4096 + 4 * MIB);
    file.write_all_at(b"?", page + 64).unwrap();
    let quiet = ["check", "--quiet", "--repair", "--accept-loss", "vm.plt"];
    let told = layer(folder.path(), &quiet);
    assert_eq!((told.status.code(), &*told.stdout), (Some(0), ""));
    for expected in ["salvaging", "4 MiB from offset 4194304"] {
        assert!(
            told.stderr.contains(expected),
            "{expected}: {}",
            told.stderr
        );
    }
    // Nothing is lost any more.
    let told = layer(folder.path(), &quiet);
    assert_eq!((&*told.stdout, &*told.stderr), ("", ""));
}

#[test]
fn an_overlay_whose_log_has_rotten_is_opened_when_the_loss_is_accepted() {
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
    // The second entry with an image of a page. Between the entries are copies of data.
    let store = read(&path);
    let image_count = |at: usize| u32::from_le_bytes(store[at..][..4].try_into().unwrap());
    let second = (8192..8192 + 16 * 4096)
        .step_by(4096)
        .filter(|at| store[*at..].starts_with(b"plt.log\n") && image_count(at + 48) > 0)
        .nth(1)
        .expect("three entries") as u64;
    let file = std::fs::File::options().write(true).open(path);
    file.unwrap().write_all_at(&[0xff], second + 20).unwrap();

    let told = layer(folder.path(), &["check", "vm.plt"]);
    assert_eq!(told.status.code(), Some(6), "{}", told.stderr);
    let place = format!("at byte {second}");
    for expected in [&*place, "--repair --accept-loss", "16 MiB from offset 0"] {
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
    // Also where the last entry has copies: they may be older than what was written over them.
    let old = json!([{ "offset": 0, "length": 16 * MIB }]);
    assert_eq!(report["loss"]["old"], old);
    assert_eq!(report["condition"], "clean");
    // Before it was lost.
    for expected in ["salvaging", "16 MiB from offset 0"] {
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
