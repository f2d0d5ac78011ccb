//! What we make of other people's servers: disks of type `nbd`, served on by the daemon.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use crate::support::client::command;
use crate::support::{
    Client, Daemon, KIB, LOOK_INTERVAL, MIB, Random, TIME_MAX, assert_same_bytes, peers, read, run,
    write,
};

/// A server of somebody else's on a Unix socket; killed when dropped.
struct Peer {
    child: Child,
    socket: PathBuf,
}

impl Peer {
    /// Starts a command that listens on this socket, and waits until it does.
    #[track_caller]
    fn start(command: &mut Command, socket: PathBuf) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let mut peer = Self { child, socket };
        let begun = Instant::now();
        while UnixStream::connect(&peer.socket).is_err() {
            let ended = peer.child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "{command:?} ended: {ended:?}");
            assert!(begun.elapsed() < TIME_MAX, "{command:?} does not listen");
            std::thread::sleep(LOOK_INTERVAL);
        }
        peer
    }

    /// nbdkit with these arguments.
    #[track_caller]
    fn nbdkit(nbdkit: &Path, folder: &TempDir, arguments: &[&str]) -> Self {
        let socket = folder.path().join("peer.sock");
        let mut command = Command::new(nbdkit);
        command
            .current_dir(folder.path())
            .args(["--foreground", "--unix"])
            .arg(&socket)
            .args(arguments);
        Self::start(&mut command, socket)
    }

    /// qemu-nbd with these arguments.
    #[track_caller]
    fn qemu_nbd(qemu_nbd: &Path, folder: &TempDir, arguments: &[&str]) -> Self {
        let socket = folder.path().join("peer.sock");
        let mut command = Command::new(qemu_nbd);
        command
            .current_dir(folder.path())
            .args(["--persistent", "--shared=0", "--socket"])
            .arg(&socket)
            .args(arguments);
        Self::start(&mut command, socket)
    }

    /// The layer that its only export is.
    fn layer(&self) -> String {
        format!("nbd:nbd+unix:///?socket={}", self.socket.display())
    }

    fn kill(&mut self) {
        self.child.kill().expect("it is a child of ours");
        self.child.wait().expect("a child can be waited for");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already; either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads all of the daemon's disk, in requests that the protocol allows.
fn read_all(client: &mut Client, len: u64) -> Vec<u8> {
    let pieces = (0..len).step_by(MIB as usize);
    pieces
        .flat_map(|at| client.read(at, MIB.min(len - at) as u32))
        .collect()
}

/// Changes the daemon's disk in 200 ways at random, and `image` likewise.
fn change(client: &mut Client, image: &mut [u8], random: &mut Random) {
    for _ in 0..200 {
        let len = 1 + random.below(200 * KIB);
        let at = random.below(image.len() as u64 - len);
        let part = &mut image[at as usize..(at + len) as usize];
        match random.below(4) {
            0 => {
                let zeroed = client.request(command::WRITE_ZEROES, at, len as u32, &[]);
                zeroed.expect("zeros are written");
                part.fill(0);
            }
            _ => {
                let data = random.bytes(len);
                client.write(at, &data);
                part.copy_from_slice(&data);
            }
        }
        if random.below(20) == 0 {
            let flushed = client.request(command::FLUSH, 0, 0, &[]);
            flushed.expect("a flush succeeds");
        }
    }
}

#[test]
fn a_base_on_nbdkit_lies_below_a_layer_of_our_own() {
    let Some([nbdkit]) = peers(["nbdkit"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let base = Random::new(70).bytes(9 * MIB + 512);
    write(&folder.path().join("base.raw"), &base);
    let peer = Peer::nbdkit(&nbdkit, &folder, &["--readonly", "file", "base.raw"]);
    let daemon = Daemon::serve(["--layer", "ram", "--layer", &peer.layer()]);
    let mut client = daemon.client();
    let mut image = base.clone();
    assert_same_bytes(&read_all(&mut client, image.len() as u64), &image);
    change(&mut client, &mut image, &mut Random::new(71));
    assert_same_bytes(&read_all(&mut client, image.len() as u64), &image);
    daemon.stop();
    assert_same_bytes(&read(&folder.path().join("base.raw")), &base);
}

#[test]
fn nbdkit_keeps_what_is_written_to_it_in_every_kind_of_reply() {
    let Some([nbdkit]) = peers(["nbdkit"]) else {
        return;
    };
    let ways: [&[&str]; 4] = [
        &["file", "disk.raw"],
        // Simple replies.
        &["--no-sr", "file", "disk.raw"],
        // No zeros, and nothing is known of extents.
        &[
            "--filter=nozero",
            "--filter=noextents",
            "file",
            "disk.raw",
            "zeromode=none",
        ],
        // Large sectors, and short requests.
        &[
            "--filter=blocksize-policy",
            "file",
            "disk.raw",
            "blocksize-minimum=4096",
            "blocksize-preferred=8192",
            "blocksize-maximum=64K",
            "blocksize-error-policy=error",
        ],
    ];
    for (seed, arguments) in (72..).zip(ways) {
        let folder = tempfile::tempdir().unwrap();
        let mut image = Random::new(seed).bytes(8 * MIB);
        write(&folder.path().join("disk.raw"), &image);
        let peer = Peer::nbdkit(&nbdkit, &folder, arguments);
        let daemon = Daemon::serve(["--layer", &peer.layer()]);
        let mut client = daemon.client();
        change(&mut client, &mut image, &mut Random::new(seed));
        assert_same_bytes(&read_all(&mut client, image.len() as u64), &image);
        client.disconnect();
        daemon.stop();
        assert_same_bytes(&read(&folder.path().join("disk.raw")), &image);
    }
}

#[test]
fn the_holes_of_nbdkit_are_ours() {
    let Some([nbdkit, nbdinfo]) = peers(["nbdkit", "nbdinfo"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let peer = Peer::nbdkit(&nbdkit, &folder, &["memory", "64M"]);
    let daemon = Daemon::serve(["--layer", &peer.layer()]);
    let mut client = daemon.client();
    client.write(4 * MIB, &Random::new(77).bytes(MIB));
    client.write(20 * MIB, &Random::new(78).bytes(2 * MIB));
    let trimmed = client.request(command::TRIM, 21 * MIB, MIB as u32, &[]);
    trimmed.expect("a trim succeeds");
    let text = run(Command::new(nbdinfo).args(["--map", "--json", &daemon.uri()]));
    let map: serde_json::Value = serde_json::from_str(&text).expect("nbdinfo writes JSON");
    let number = |extent: &serde_json::Value, key: &str| extent[key].as_u64().expect("a number");
    let found: Vec<_> = map
        .as_array()
        .expect("a list of extents")
        .iter()
        .map(|extent| {
            let (offset, len) = (number(extent, "offset"), number(extent, "length"));
            (offset / MIB, len / MIB, number(extent, "type"))
        })
        .collect();
    // Type 3 is a hole that reads zero, type 0 is data.
    let expected = [(0, 4, 3), (4, 1, 0), (5, 15, 3), (20, 1, 0), (21, 43, 3)];
    assert_eq!(found, expected);
    daemon.stop();
}

#[test]
fn qemu_nbd_keeps_what_is_written_to_a_qcow2_behind_it() {
    let Some([qemu_nbd, qemu_img]) = peers(["qemu-nbd", "qemu-img"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let in_folder = |tool: &Path| {
        let mut command = Command::new(tool);
        command.current_dir(folder.path());
        command
    };
    run(in_folder(&qemu_img).args(["create", "-q", "-f", "qcow2", "disk.qcow2", "24M"]));
    let mut image = vec![0; 24 * MIB as usize];
    let mut peer = Peer::qemu_nbd(&qemu_nbd, &folder, &["-f", "qcow2", "disk.qcow2"]);
    let daemon = Daemon::serve(["--layer", &peer.layer()]);
    let mut client = daemon.client();
    change(&mut client, &mut image, &mut Random::new(79));
    assert_same_bytes(&read_all(&mut client, image.len() as u64), &image);
    client.disconnect();
    // The flush at the end makes it durable, whatever becomes of the server.
    daemon.stop();
    peer.kill();
    run(in_folder(&qemu_img).args([
        "convert",
        "-f",
        "qcow2",
        "-O",
        "raw",
        "disk.qcow2",
        "copy.raw",
    ]));
    assert_same_bytes(&read(&folder.path().join("copy.raw")), &image);
}

#[test]
fn when_a_server_below_dies_requests_fail_and_the_daemon_lives() {
    let Some([nbdkit]) = peers(["nbdkit"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut peer = Peer::nbdkit(&nbdkit, &folder, &["memory", "4M"]);
    let daemon = Daemon::serve(["--layer", "ram", "--layer", &peer.layer()]);
    let mut client = daemon.client();
    client.write(0, &[1; 4096]);
    assert_same_bytes(&client.read(4096, 4096), &[0; 4096]);
    peer.kill();
    const EIO: u32 = 5;
    for _ in 0..2 {
        assert_eq!(client.request(command::READ, MIB, 4096, &[]), Err(EIO));
    }
    // What the layer above holds needs no server.
    assert_same_bytes(&client.read(0, 4096), &[1; 4096]);
    assert!(
        daemon.log().contains("the connection is lost"),
        "{}",
        daemon.log()
    );
    daemon.stop();
}

#[test]
fn a_server_that_is_not_there_is_refused_with_its_uri() {
    let folder = tempfile::tempdir().unwrap();
    let document = r#"{ "type": "nbd", "uri": "nbd+unix:///vm1?socket=missing.sock" }"#;
    std::fs::create_dir(folder.path().join("vms")).unwrap();
    write(&folder.path().join("vms/disk.json"), document);
    let mut platter = crate::support::daemon::platter(folder.path());
    let outcome = crate::support::tool::outcome(platter.args(["check", "vms/disk.json"]));
    assert_eq!(outcome.status.code(), Some(3), "{}", outcome.stderr);
    // A relative socket is beside its document.
    for words in ["1: uri: ", "cannot connect", "socket=vms/missing.sock"] {
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    }
}
