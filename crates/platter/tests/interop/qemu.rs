//! What QEMU's tools make of us.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::tool::outcome;
use crate::support::{Daemon, KIB, MIB, Random, assert_same_bytes, peers, read, run, write};

fn json(qemu_img: &Path, arguments: &[&str]) -> Value {
    let text = run(Command::new(qemu_img).args(arguments).arg("--output=json"));
    serde_json::from_str(&text).expect("qemu-img writes JSON")
}

#[test]
fn qemu_img_info_sees_the_size() {
    let Some([qemu_img]) = peers(["qemu-img"]) else {
        return;
    };
    let daemon = Daemon::serve(["--layer", "ram:100M"]);
    let info = json(&qemu_img, &["info", &daemon.uri()]);
    assert_eq!(info["virtual-size"], 100 * MIB);
    daemon.stop();
}

#[test]
fn qemu_img_map_sees_data_and_zeros() {
    let Some([qemu_img]) = peers(["qemu-img"]) else {
        return;
    };
    let daemon = Daemon::serve(["--layer", "ram:16M"]);
    daemon
        .client()
        .write(2 * MIB, &Random::new(10).bytes(3 * MIB));
    let map = json(&qemu_img, &["map", &daemon.uri()]);
    let found: Vec<_> = map
        .as_array()
        .expect("a list of extents")
        .iter()
        .map(|extent| {
            let mib = |key: &str| extent[key].as_u64().expect("a number") / MIB;
            (
                mib("start"),
                mib("length"),
                extent["data"] == true,
                extent["zero"] == true,
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (0, 2, false, true),
            (2, 3, true, false),
            (5, 11, false, true)
        ]
    );
    daemon.stop();
}

#[test]
fn qemu_img_converts_in_and_out_and_finds_no_difference() {
    let Some([qemu_img]) = peers(["qemu-img"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut image = vec![0; 32 * MIB as usize];
    image[5 * MIB as usize..][..MIB as usize].copy_from_slice(&Random::new(11).bytes(MIB));
    image[17 * MIB as usize + 512..][..100_000].copy_from_slice(&Random::new(12).bytes(100_000));
    write(&folder.path().join("original.raw"), &image);
    let daemon = Daemon::serve_in(folder, ["--layer", "ram:32M"]);
    // Something to overwrite: zeros of the image must really become zeros.
    daemon.client().write(10 * MIB, &Random::new(13).bytes(MIB));
    let uri = daemon.uri();
    let qemu = |arguments: &[&str]| {
        let mut command = Command::new(&qemu_img);
        run(command.current_dir(daemon.folder()).args(arguments))
    };
    qemu(&[
        "convert",
        "-n",
        "-f",
        "raw",
        "-O",
        "raw",
        "original.raw",
        &uri,
    ]);
    qemu(&["compare", "-f", "raw", "-F", "raw", "original.raw", &uri]);
    qemu(&["convert", "-f", "raw", "-O", "qcow2", &uri, "copy.qcow2"]);
    qemu(&[
        "convert",
        "-f",
        "qcow2",
        "-O",
        "raw",
        "copy.qcow2",
        "copy.raw",
    ]);
    assert_same_bytes(&read(&daemon.folder().join("copy.raw")), &image);

    daemon.client().write(31 * MIB + 5, b"x");
    let compared = outcome(
        Command::new(&qemu_img)
            .args(["compare", "-f", "raw", "-F", "raw", &uri])
            .arg(daemon.folder().join("original.raw")),
    );
    assert_eq!(
        compared.status.code(),
        Some(1),
        "a difference was not seen: {}",
        compared.stdout
    );
    daemon.stop();
}

/// Runs commands of qemu-io over the daemon's disk; each of them must succeed, verifications included.
#[track_caller]
fn qemu_io(qemu_io: &Path, daemon: &Daemon, commands: &[&str]) {
    let mut command = Command::new(qemu_io);
    command.args(["-f", "raw", &daemon.uri()]);
    commands
        .iter()
        .for_each(|one| _ = command.args(["-c", one]));
    let text = run(&mut command);
    assert!(!text.contains("failed"), "{text}");
}

#[test]
fn qemu_io_reads_the_patterns_it_wrote() {
    let Some([tool]) = peers(["qemu-io"]) else {
        return;
    };
    let daemon = Daemon::serve(["--layer", "ram:64M"]);
    qemu_io(
        &tool,
        &daemon,
        &[
            "write -P 0x11 0 64k",
            "write -P 0x22 1M 8M",
            "write -f -P 0x33 63M 1M",
            "writev -P 0x44 10M 512 1024 4096",
            "flush",
            "read -P 0x11 0 64k",
            "read -P 0 64k 64k",
            "read -P 0x22 1M 8M",
            "readv -P 0x44 10M 4096 1024 512",
            "read -P 0x33 63M 1M",
        ],
    );
    assert_same_bytes(
        &daemon.client().read(63 * MIB, MIB as u32),
        &vec![0x33; MIB as usize],
    );
    daemon.stop();
}

#[test]
fn qemu_io_sees_a_wrong_pattern() {
    let Some([tool]) = peers(["qemu-io"]) else {
        return;
    };
    let daemon = Daemon::serve(["--layer", "ram:1M"]);
    let commands = ["-c", "write -P 1 0 4k", "-c", "read -P 2 0 4k"];
    let found = outcome(
        Command::new(tool)
            .args(["-f", "raw", &daemon.uri()])
            .args(commands),
    );
    assert!(
        found.stdout.contains("Pattern verification failed"),
        "{}",
        found.stdout
    );
    daemon.stop();
}

#[test]
fn qemu_io_discards_and_zeroes_what_lies_in_the_layer_and_below_it() {
    let Some([tool]) = peers(["qemu-io"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let base = vec![0x77; 16 * MIB as usize];
    write(&folder.path().join("base.raw"), &base);
    let daemon = Daemon::serve_in(folder, ["--layer", "ram", "--layer", "file:base.raw,ro"]);
    qemu_io(
        &tool,
        &daemon,
        &[
            "write -P 0x11 0 1M",
            // In the layer, below it, and across both.
            "discard 0 64k",
            "discard 4M 64k",
            "write -z 128k 64k",
            "write -z 5M 64k",
            "write -z -u 256k 64k",
            "write -z -u 992k 64k",
            "read -P 0 0 64k",
            "read -P 0x11 64k 64k",
            "read -P 0 128k 64k",
            "read -P 0 256k 64k",
            "read -P 0x11 320k 672k",
            "read -P 0 992k 64k",
            "read -P 0x77 1056k 64k",
            "read -P 0 4M 64k",
            "read -P 0x77 4160k 64k",
            "read -P 0 5M 64k",
            "write -P 0x22 4M 512",
            "read -P 0x22 4M 512",
            "read -P 0 4194816 65024",
        ],
    );
    let folder = daemon.stop();
    assert_same_bytes(&read(&folder.path().join("base.raw")), &base);
}

#[test]
fn qemu_io_requests_need_no_alignment() {
    let Some([tool]) = peers(["qemu-io"]) else {
        return;
    };
    let daemon = Daemon::serve(["--layer", "ram:4M"]);
    qemu_io(
        &tool,
        &daemon,
        &[
            "write -P 0x11 0 64k",
            "write -P 0x22 513 1000",
            "write -P 0x33 4095 2",
            "write -z 10001 3001",
            "read -P 0x11 0 513",
            "read -P 0x22 513 1000",
            "read -P 0x11 1513 2582",
            "read -P 0x33 4095 2",
            "read -P 0x11 4097 5904",
            "read -P 0 10001 3001",
            "read -P 0x11 13002 51000",
        ],
    );
    let found = daemon.client().read(0, 2 * KIB as u32);
    let expected = [vec![0x11; 513], vec![0x22; 1000], vec![0x11; 535]].concat();
    assert_same_bytes(&found, &expected);
    daemon.stop();
}
