//! `info`, `map`, `copy` and `compare` on files, beside the programs that people would use otherwise.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::daemon::platter;
use crate::support::tool::{Outcome, outcome};
use crate::support::{KIB, MIB, Random, assert_same_bytes, peers, read, run, write};

/// Runs a command of platter in `folder`.
fn tool(folder: &Path, arguments: &[&str]) -> Outcome {
    outcome(platter(folder).args(arguments))
}

/// The JSON that a command of platter prints; it must end with this code.
#[track_caller]
fn json_of(folder: &Path, code: i32, arguments: &[&str]) -> Value {
    let done = tool(folder, arguments);
    assert_eq!(
        done.status.code(),
        Some(code),
        "{arguments:?}: {}",
        done.stderr
    );
    serde_json::from_str(&done.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", done.stdout))
}

/// A sparse image of 16 MiB and a bit: data, holes, and zeros that were written as data.
fn image(path: &Path) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::create(path).unwrap();
    file.set_len(16 * MIB + 512).unwrap();
    let mut random = Random::new(21);
    for (at, len) in [(0, 4 * KIB), (MIB, 2 * MIB), (16 * MIB - 512, 1024)] {
        file.write_all_at(&random.bytes(len), at).unwrap();
    }
    file.write_all_at(&vec![0; MIB as usize], 8 * MIB).unwrap();
    read(path)
}

fn allocated_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn a_copy_is_what_qemu_takes_for_equal_and_holds_no_zeros() {
    let Some([qemu_img]) = peers(["qemu-img"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (base, copy) = (
        folder.path().join("base.raw"),
        folder.path().join("copy.raw"),
    );
    let bytes = image(&base);
    let done = json_of(
        folder.path(),
        0,
        &["copy", "base.raw", "copy.raw", "--json"],
    );
    assert_same_bytes(&read(&copy), &bytes);
    run(Command::new(qemu_img)
        .args(["compare", "-f", "raw", "-F", "raw"])
        .args([&base, &copy]));
    let written = 2 * MIB + 4 * KIB + 4 * KIB + 512;
    assert_eq!(done["written_bytes"], written);
    assert_eq!(done["skipped_bytes"], 16 * MIB + 512 - written);
    assert_eq!(done["complete"], true);
    // The written zeros of the base are no longer there.
    assert!(allocated_bytes(&base) >= 3 * MIB);
    assert!(
        allocated_bytes(&copy) < 3 * MIB,
        "{}",
        allocated_bytes(&copy)
    );
}

#[test]
fn a_destination_that_holds_data_is_left_alone_without_force_and_only_patched_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.raw");
    let bytes = image(&folder.path().join("base.raw"));
    let mut old = bytes.clone();
    old[5] ^= 1;
    old[2 * MIB as usize] ^= 1;
    old[12 * MIB as usize] = 1;
    write(&path, &old);
    let refused = tool(folder.path(), &["copy", "base.raw", "copy.raw"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.stderr.contains("data at offset 0"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("--force"), "{}", refused.stderr);
    assert_same_bytes(&read(&path), &old);

    let forced = ["copy", "base.raw", "copy.raw", "--force", "--json"];
    let done = json_of(folder.path(), 0, &forced);
    assert_same_bytes(&read(&path), &bytes);
    assert_eq!(done["written_bytes"], 8 * KIB);
    assert_eq!(done["zeroed_bytes"], 4 * KIB);
    assert_eq!(done["compared_bytes"], 16 * MIB + 512);

    let again = json_of(folder.path(), 0, &forced);
    assert_eq!(
        (&again["written_bytes"], &again["zeroed_bytes"]),
        (&json!(0), &json!(0))
    );
}

#[test]
fn a_longer_destination_is_zeroed_behind_the_copy_or_kept_and_a_shorter_one_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.raw");
    let bytes = image(&folder.path().join("base.raw"));
    let old = Random::new(3).bytes(20 * MIB);
    let zeros = vec![0; old.len() - bytes.len()];
    let kept = &old[bytes.len()..];
    for (option, tail) in [(None, &*zeros), (Some("--keep-tail"), kept)] {
        write(&path, &old);
        let mut arguments = vec!["copy", "--force", "base.raw", "copy.raw"];
        arguments.extend(option);
        let done = tool(folder.path(), &arguments);
        assert!(done.status.success(), "{}", done.stderr);
        assert!(
            done.stdout.contains("longer than the source"),
            "{}",
            done.stdout
        );
        assert_same_bytes(&read(&path), &[&bytes, tail].concat());
    }
    write(&path, &old[..MIB as usize]);
    let refused = tool(folder.path(), &["copy", "--force", "base.raw", "copy.raw"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(refused.stderr.contains("too small"), "{}", refused.stderr);
    assert_same_bytes(&read(&path), &old[..MIB as usize]);
}

#[test]
fn nothing_is_copied_onto_itself_by_whatever_name() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base.raw");
    let bytes = image(&base);
    std::fs::hard_link(&base, folder.path().join("link.raw")).unwrap();
    std::os::unix::fs::symlink("base.raw", folder.path().join("symbolic.raw")).unwrap();
    let document = r#"{ "type": "layered", "layers": [ { "type": "ram" }, { "type": "file", "path": "base.raw" } ] }"#;
    write(&folder.path().join("disk.json"), document);
    for (source, destination) in [
        ("base.raw", "base.raw"),
        ("file:base.raw,ro", "link.raw"),
        ("symbolic.raw", "./base.raw"),
        ("disk.json", "base.raw"),
    ] {
        let refused = tool(folder.path(), &["copy", "--force", source, destination]);
        assert_eq!(refused.status.code(), Some(3), "{source} {destination}");
        assert!(refused.stderr.contains("onto itself"), "{}", refused.stderr);
    }
    assert_same_bytes(&read(&base), &bytes);
}

#[test]
fn a_source_that_cannot_be_opened_makes_no_destination() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        ["copy", "missing.raw", "new.raw"],
        ["copy", "file:missing.raw,create=true,size=1M", "new.raw"],
    ] {
        let refused = tool(folder.path(), &arguments);
        assert_eq!(refused.status.code(), Some(3), "{arguments:?}");
        assert!(refused.stderr.contains("missing.raw"), "{}", refused.stderr);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn platter_and_qemu_find_the_same_disks_equal() {
    let Some([qemu_img]) = peers(["qemu-img"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let base = image(&folder.path().join("base.raw"));
    let variant = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = base.clone();
        change(&mut bytes);
        write(&folder.path().join(name), bytes);
    };
    let last = base.len() - 1;
    variant("same.raw", &|_| {});
    variant("first.raw", &|bytes| bytes[0] ^= 1);
    variant("last.raw", &|bytes| bytes[last] ^= 0x80);
    variant("hole.raw", &|bytes| bytes[12 * MIB as usize + 3] = 1);
    variant("longer.raw", &|bytes| bytes.extend([0; 1024]));
    variant("tail.raw", &|bytes| {
        bytes.extend([[0; 512], [1; 512]].concat())
    });
    for (other, offset) in [
        ("same.raw", None),
        ("first.raw", Some(0)),
        ("last.raw", Some(last)),
        ("hole.raw", Some(12 * MIB as usize + 3)),
        ("longer.raw", None),
        ("tail.raw", Some(base.len() + 512)),
    ] {
        let theirs = outcome(
            Command::new(&qemu_img)
                .args(["compare", "-f", "raw", "-F", "raw", "base.raw", other])
                .current_dir(folder.path()),
        );
        let code = match theirs.status.code() {
            Some(0) => 0,
            Some(1) => 4,
            code => panic!("qemu-img ended with {code:?}: {}", theirs.stderr),
        };
        let ours = json_of(
            folder.path(),
            code,
            &["compare", "--json", "base.raw", other],
        );
        assert_eq!(ours["equal"], code == 0, "{other}");
        assert_eq!(ours["first_difference_offset"], json!(offset), "{other}");
        // Theirs wants equal allocation too.
        let is_longer = ["longer.raw", "tail.raw"].contains(&other);
        let strict = tool(
            folder.path(),
            &["compare", "-q", "--strict", "base.raw", other],
        );
        let code = if is_longer { 4 } else { code };
        assert_eq!(strict.status.code(), Some(code), "{other}");
    }
    let ignored = ["compare", "--ignore-tail", "base.raw", "tail.raw"];
    assert!(tool(folder.path(), &ignored).status.success());
    let failed = tool(folder.path(), &["compare", "base.raw", "missing.raw"]);
    assert_eq!(failed.status.code(), Some(3));
}

#[test]
fn a_quiet_comparison_says_it_by_its_exit_code_alone() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.raw"), [1; 4096]);
    write(&folder.path().join("b.raw"), [2; 4096]);
    for (other, code) in [("a.raw", 0), ("b.raw", 4)] {
        let done = tool(folder.path(), &["compare", "-q", "a.raw", other]);
        let said = (done.status.code(), &*done.stdout, &*done.stderr);
        assert_eq!(said, (Some(code), "", ""));
    }
    let done = tool(folder.path(), &["compare", "a.raw", "b.raw"]);
    assert_eq!(
        done.stdout,
        "the disks differ: first at offset 0, in 4096 bytes in all\n"
    );
}

/// Offset, length, and whether it is data.
type Extents = Vec<(u64, u64, bool)>;

fn extents(map: &Value, is_data: impl Fn(&Value) -> bool, offset: &str) -> Extents {
    let mut extents = Extents::new();
    for extent in map.as_array().expect("a list of extents") {
        let number = |key: &str| extent[key].as_u64().expect("a number");
        let found = (number(offset), number("length"), is_data(extent));
        match extents.last_mut() {
            Some(last) if last.2 == found.2 => last.1 += found.1,
            _ => extents.push(found),
        }
    }
    extents
}

#[test]
fn platter_and_qemu_map_an_image_alike() {
    let Some([qemu_img]) = peers(["qemu-img"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    image(&folder.path().join("base.raw"));
    let ours = json_of(folder.path(), 0, &["map", "--json", "base.raw"]);
    let theirs = run(Command::new(qemu_img)
        .args(["map", "-f", "raw", "--output=json", "base.raw"])
        .current_dir(folder.path()));
    let theirs: Value = serde_json::from_str(&theirs).unwrap();
    let ours = extents(&ours, |extent| extent["state"] == "data", "offset");
    assert_eq!(
        ours,
        extents(&theirs, |extent| extent["data"] == true, "start")
    );
    assert!(ours.len() >= 5, "{ours:?}");
}

#[test]
fn a_map_names_the_layer_that_answers_and_info_lists_it() {
    let folder = tempfile::tempdir().unwrap();
    image(&folder.path().join("base.raw"));
    let document = r#"{ "exports": [
        { "name": "vm", "disk": { "type": "layered", "layers": [ { "type": "ram" }, { "type": "file", "path": "base.raw" } ] } },
        { "name": "other", "disk": { "type": "file", "path": "missing.raw" } } ] }"#;
    write(&folder.path().join("disk.json"), document);
    let info = json_of(folder.path(), 0, &["info", "--json", "disk.json#vm"]);
    assert_eq!(info["type"], "layered");
    assert_eq!(info["size_bytes"], 16 * MIB + 512);
    assert_eq!(info["read_only"], false);
    assert_eq!(info["persistence"], "volatile");
    let base = &info["layers"][1];
    assert_eq!((&base["index"], &base["type"]), (&json!(1), &json!("file")));
    let map = json_of(folder.path(), 0, &["map", "--json", "disk.json#vm"]);
    let data_bytes: u64 = map
        .as_array()
        .unwrap()
        .iter()
        .inspect(|extent| assert_eq!(extent["layer"]["id"], base["id"]))
        .filter(|extent| extent["state"] == "data")
        .map(|extent| extent["length"].as_u64().unwrap())
        .sum();
    assert_eq!(info["allocated"]["data_bytes"], data_bytes);

    for (source, clue) in [
        ("disk.json", "disk.json#vm, disk.json#other"),
        ("disk.json#x", "no export \"x\""),
    ] {
        let refused = tool(folder.path(), &["info", source]);
        assert_eq!(refused.status.code(), Some(3));
        assert!(refused.stderr.contains(clue), "{}", refused.stderr);
    }
}

#[test]
fn a_source_is_read_while_others_read_it_and_not_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    image(&folder.path().join("base.raw"));
    let daemon = crate::support::Daemon::serve_in(folder, ["--layer", "file:base.raw"]);
    let refused = tool(daemon.folder(), &["info", "base.raw"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(refused.stderr.contains("base.raw"), "{}", refused.stderr);
    let folder = daemon.stop();
    let daemon =
        crate::support::Daemon::serve_in(folder, ["--layer", "ram", "--layer", "file:base.raw,ro"]);
    assert!(
        tool(daemon.folder(), &["info", "base.raw"])
            .status
            .success()
    );
    daemon.stop();
}

#[test]
fn a_check_answers_in_json_also_when_something_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    image(&folder.path().join("base.raw"));
    write(
        &folder.path().join("good.json"),
        r#"{ "type": "file", "path": "base.raw" }"#,
    );
    write(
        &folder.path().join("bad.json"),
        r#"{ "type": "file", "pth": "base.raw" }"#,
    );
    let good = json_of(folder.path(), 0, &["check", "--json", "good.json"]);
    assert_eq!(good["good"], true);
    assert_eq!(good["exports"][0]["size_bytes"], 16 * MIB + 512);
    let bad = json_of(folder.path(), 3, &["check", "--json", "bad.json"]);
    assert_eq!(bad["good"], false);
    let mistake = bad["mistakes"][0].as_str().unwrap();
    assert!(
        mistake.starts_with("bad.json:1: pth: unknown key"),
        "{mistake}"
    );
}
