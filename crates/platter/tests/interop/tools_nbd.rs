//! `info`, `map`, `copy` and `compare` over NBD: our server, and those of others.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::daemon::platter;
use crate::support::tool::outcome;
use crate::support::{
    Daemon, KIB, LOOK_INTERVAL, MIB, Random, TIME_MAX, assert_same_bytes, peers, read, run, write,
};

/// The JSON that a command of platter prints; it must end with this code.
#[track_caller]
fn json_of(folder: &Path, code: i32, arguments: &[&str]) -> Value {
    let done = outcome(platter(folder).args(arguments));
    let found = done.status.code();
    assert_eq!(found, Some(code), "{arguments:?}: {}", done.stderr);
    serde_json::from_str(&done.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", done.stdout))
}

/// 8 MiB in which two parts are data.
fn image() -> Vec<u8> {
    let mut bytes = vec![0; 8 * MIB as usize];
    let mut random = Random::new(31);
    bytes[..64 * 1024].copy_from_slice(&random.bytes(64 * KIB));
    bytes[3 << 20..5 << 20].copy_from_slice(&random.bytes(2 * MIB));
    bytes
}

/// Writes what is not zero of the image.
fn write_sparse(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::create(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for (index, block) in bytes.chunks(4096).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            file.write_all_at(block, index as u64 * 4096).unwrap();
        }
    }
}

/// Somebody else's server, on a socket in a folder; killed when dropped.
struct Peer {
    child: Child,
    folder: TempDir,
}

impl Peer {
    /// Starts `command`, which listens at `nbd.sock` in the folder.
    fn start(folder: TempDir, mut command: Command) -> Self {
        let child = command
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let peer = Self { child, folder };
        wait_until(|| peer.socket().exists());
        peer
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("nbd.sock")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already; either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn wait_until(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < TIME_MAX, "waited for too long");
        std::thread::sleep(LOOK_INTERVAL);
    }
}

const URI: &str = "nbd+unix:///?socket=nbd.sock";

/// A server of another project, over the file `disk.raw`, which is made with this content.
fn peer(name: &str, program: &Path, content: &[u8]) -> Peer {
    let folder = tempfile::tempdir().unwrap();
    write_sparse(&folder.path().join("disk.raw"), content);
    let mut command = Command::new(program);
    match name {
        "nbdkit" => command.args(["--foreground", "--unix", "nbd.sock", "file", "disk.raw"]),
        _ => command
            .args([
                "--persistent",
                "--shared=8",
                "--format=raw",
                "--discard=unmap",
            ])
            .arg("--socket")
            .arg(folder.path().join("nbd.sock"))
            .arg("disk.raw"),
    };
    Peer::start(folder, command)
}

#[test]
fn an_image_goes_to_each_server_and_comes_back() {
    let Some([nbdkit, qemu_nbd]) = peers(["nbdkit", "qemu-nbd"]) else {
        return;
    };
    for (name, program) in [("nbdkit", nbdkit), ("qemu-nbd", qemu_nbd)] {
        // Something that has to be overwritten, and something that has to be zeroed.
        let mut old = vec![0; image().len()];
        old[4 << 20..6 << 20].copy_from_slice(&Random::new(32).bytes(2 * MIB));
        let peer = peer(name, &program, &old);
        let folder = peer.folder.path();
        write_sparse(&folder.join("image.raw"), &image());

        let refused = outcome(platter(folder).args(["copy", "image.raw", URI]));
        assert_eq!(refused.status.code(), Some(1), "{name}: {}", refused.stderr);
        let differs = json_of(folder, 4, &["compare", "--json", "image.raw", URI]);
        assert_eq!(differs["first_difference_offset"], 0, "{name}");
        let done = json_of(folder, 0, &["copy", "--force", "--json", "image.raw", URI]);
        assert_eq!(done["written_bytes"], 64 * KIB + 2 * MIB, "{name}");
        assert_eq!(done["zeroed_bytes"], MIB, "{name}");
        let again = json_of(folder, 0, &["copy", "--force", "--json", "image.raw", URI]);
        assert_eq!(again["skipped_bytes"], 8 * MIB, "{name}");
        assert_same_bytes(&read(&folder.join("disk.raw")), &image());

        json_of(folder, 0, &["copy", "--json", URI, "back.raw"]);
        assert_same_bytes(&read(&folder.join("back.raw")), &image());
        json_of(folder, 0, &["compare", "--json", URI, "back.raw"]);
        let info = json_of(folder, 0, &["info", "--json", URI]);
        assert_eq!(
            (&info["type"], &info["size_bytes"]),
            (&json!("nbd"), &json!(8 * MIB))
        );
        assert_eq!(info["read_only"], false, "{name}");
    }
}

#[test]
fn nbdcopy_and_platter_make_the_same_copy_of_a_stack() {
    let Some([nbdcopy]) = peers(["nbdcopy"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    write_sparse(&folder.path().join("base.raw"), &image());
    let daemon = Daemon::serve_in(folder, ["--layer", "ram", "--layer", "file:base.raw,ro"]);
    let mut client = daemon.client();
    client.write(MIB, &Random::new(33).bytes(300_000));
    client.write(4 * MIB, &vec![0; MIB as usize]);
    let folder = daemon.folder();
    json_of(folder, 0, &["copy", "--json", &daemon.uri(), "ours.raw"]);
    run(Command::new(nbdcopy)
        .arg(daemon.uri())
        .arg(folder.join("theirs.raw")));
    let ours = read(&folder.join("ours.raw"));
    assert_same_bytes(&ours, &read(&folder.join("theirs.raw")));
    assert_ne!(ours, image());
    // From one server to itself: the same export by another path is known.
    let same = outcome(platter(folder).args(["copy", "--force", &daemon.uri(), URI]));
    assert_eq!(same.status.code(), Some(3), "{}", same.stderr);
    assert!(same.stderr.contains("onto itself"), "{}", same.stderr);
    daemon.stop();
}

#[test]
fn platter_maps_an_export_as_nbdinfo_does() {
    let Some([nbdinfo, nbdkit, qemu_nbd]) = peers(["nbdinfo", "nbdkit", "qemu-nbd"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    write_sparse(&folder.path().join("base.raw"), &image());
    let daemon = Daemon::serve_in(folder, ["--layer", "ram", "--layer", "file:base.raw,ro"]);
    daemon.client().write(MIB, &Random::new(33).bytes(MIB));
    let others = [("nbdkit", nbdkit), ("qemu-nbd", qemu_nbd)]
        .map(|(name, program)| peer(name, &program, &image()));
    let folders = [
        daemon.folder(),
        others[0].folder.path(),
        others[1].folder.path(),
    ];
    for (folder, count) in folders.into_iter().zip([6, 4, 4]) {
        let ours = json_of(folder, 0, &["map", "--json", URI]);
        let uri = format!("nbd+unix:///?socket={}", folder.join("nbd.sock").display());
        let theirs = run(Command::new(&nbdinfo).args(["--map", "--json", &uri]));
        let theirs: Vec<Value> = serde_json::from_str(&theirs).unwrap();
        let theirs: Vec<Value> = theirs
            .iter()
            .map(|extent| {
                let state = match extent["type"].as_u64() {
                    Some(0) => "data",
                    Some(2) => "zero",
                    Some(3) => "hole",
                    other => panic!("type {other:?} of {extent}"),
                };
                json!({ "offset": extent["offset"], "length": extent["length"], "state": state, "layer": null })
            })
            .collect();
        assert_eq!(ours, json!(theirs), "{}", folder.display());
        assert_eq!(theirs.len(), count, "{theirs:?}");
    }
    daemon.stop();
}

#[test]
fn a_read_that_fails_at_the_server_is_named_by_its_offset() {
    let Some([nbdkit]) = peers(["nbdkit"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(nbdkit);
    command
        .args(["--foreground", "--unix", "nbd.sock", "eval"])
        .arg("get_size=echo 4M")
        .arg("pread=if [ $4 -le 3000320 ] && [ $(($4 + $3)) -gt 3000320 ]; then echo EIO bad sector >&2; exit 1; fi; head -c $3 /dev/zero | tr '\\0' x");
    let peer = Peer::start(folder, command);
    let failed = outcome(platter(peer.folder.path()).args(["copy", URI, "copy.raw"]));
    assert_eq!(failed.status.code(), Some(1));
    let clue = format!("{URI}: reading 512 bytes at offset 3000320");
    assert!(failed.stderr.contains(&clue), "{}", failed.stderr);
}

#[test]
fn a_copy_that_is_interrupted_ends_well_and_is_continued() {
    let Some([nbdkit]) = peers(["nbdkit"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(nbdkit);
    // Says that it was asked for something, and answers once it may.
    command
        .args(["--foreground", "--unix", "nbd.sock", "eval"])
        .arg("get_size=echo 16M")
        .arg(format!(
            "pread=touch {0}/asked; while [ ! -e {0}/go ]; do sleep 0.05; done; head -c $3 /dev/zero | tr '\\0' x",
            folder.path().display()
        ));
    let peer = Peer::start(folder, command);
    let folder = peer.folder.path();
    let (stdout, stderr) = (folder.join("stdout"), folder.join("stderr"));
    let mut copy = platter(folder)
        .args(["copy", "--json", "--requests", "2", URI, "copy.raw"])
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&stdout).unwrap())
        .stderr(std::fs::File::create(&stderr).unwrap())
        .spawn()
        .unwrap();
    wait_until(|| folder.join("asked").exists());
    kill_process(Pid::from_child(&copy), Signal::INT).unwrap();
    // It says so once it has taken note.
    let has_noted = || read(&stderr).windows(8).any(|word| word == b"stopping");
    wait_until(has_noted);
    write(&folder.join("go"), "");
    let status = copy.wait().unwrap();
    assert_eq!(
        status.code(),
        Some(130),
        "{}",
        String::from_utf8_lossy(&read(&stderr))
    );
    let done: Value = serde_json::from_slice(&read(&stdout)).unwrap();
    assert_eq!(done["complete"], false);
    assert_eq!(done["written_bytes"], 2 * MIB);
    assert_same_bytes(
        &read(&folder.join("copy.raw"))[..2 << 20],
        &vec![b'x'; 2 << 20],
    );

    let rest = json_of(folder, 0, &["copy", "--force", "--json", URI, "copy.raw"]);
    assert_eq!(rest["written_bytes"], 14 * MIB);
    assert_same_bytes(&read(&folder.join("copy.raw")), &vec![b'x'; 16 << 20]);
}
