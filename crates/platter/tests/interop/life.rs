//! Beginning and end of a daemon: its socket, its signals, and a command that it serves while it runs.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::process::Command;

use rustix::process::Signal;

use crate::support::client::{self, Client, command};
use crate::support::daemon::{STDOUT, log_file, platter};
use crate::support::tool::outcome;
use crate::support::{Daemon, MIB, Random, assert_same_bytes, peers, read, run, write};

fn folder_with_disk(bytes: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("disk.raw"), bytes);
    folder
}

#[test]
fn either_signal_ends_it_well_with_all_that_was_written_kept() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = folder_with_disk(&vec![0; MIB as usize]);
        let daemon = Daemon::serve_in(folder, ["--layer", "file:disk.raw"]);
        let data = Random::new(60).bytes(100_000);
        let mut client = daemon.client();
        client.write(4096, &data);
        client
            .request(command::FLUSH, 0, 0, &[])
            .expect("a flush succeeds");
        client.write(4096 + 100_000, &data);
        daemon.signal(signal);
        let (status, log, folder) = daemon.wait();
        assert!(status.success(), "{status}\n{log}");
        assert_same_bytes(
            &read(&folder.path().join("disk.raw"))[4096..][..data.len()],
            &data,
        );
    }
}

#[test]
fn requests_in_flight_at_the_signal_are_answered_or_cut_off_whole() {
    const COUNT: u64 = 64;
    const LEN: u64 = 16384;
    let daemon = Daemon::serve_in(
        folder_with_disk(&vec![0; MIB as usize]),
        ["--layer", "file:disk.raw"],
    );
    let data = Random::new(61).bytes(COUNT * LEN);
    let mut client = daemon.client();
    let mut index_of = std::collections::BTreeMap::new();
    for index in 0..COUNT {
        let payload = &data[(index * LEN) as usize..][..LEN as usize];
        index_of.insert(
            client.send(command::WRITE, index * LEN, LEN as u32, payload),
            index,
        );
    }
    daemon.signal(Signal::TERM);
    let mut answers = Vec::new();
    std::io::Read::read_to_end(&mut client.stream, &mut answers).unwrap();
    assert_eq!(answers.len() % 16, 0, "an answer was cut in half");
    let (status, log, folder) = daemon.wait();
    assert!(status.success(), "{status}\n{log}");
    let disk = read(&folder.path().join("disk.raw"));
    for answer in answers.chunks(16) {
        assert_eq!(answer[4..8], [0; 4], "an error: {answer:?}");
        let index = index_of[&u64::from_be_bytes(answer[8..].try_into().unwrap())];
        let range = (index * LEN) as usize..((index + 1) * LEN) as usize;
        assert_same_bytes(&disk[range.clone()], &data[range]);
    }
}

#[test]
fn the_socket_is_its_owners_alone_and_goes_with_the_daemon() {
    let daemon = Daemon::serve(["--layer", "ram:1M"]);
    let metadata = std::fs::metadata(daemon.socket()).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let socket = daemon.socket();
    let _folder = daemon.stop();
    assert!(!socket.exists(), "the socket was left behind");
}

#[test]
fn a_stale_socket_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    drop(UnixListener::bind(folder.path().join("nbd.sock")).unwrap());
    assert!(
        folder.path().join("nbd.sock").exists(),
        "nothing stale to replace"
    );
    let daemon = Daemon::serve_in(folder, ["--layer", "ram:1M"]);
    daemon.client().disconnect();
    daemon.stop();
}

#[test]
fn a_live_socket_and_a_file_that_is_none_are_refused_and_left_alone() {
    let daemon = Daemon::serve(["--layer", "ram:1M"]);
    write(&daemon.folder().join("precious"), "keep me");
    for listen in ["unix:nbd.sock", "unix:precious"] {
        let refused = outcome(
            platter(daemon.folder()).args(["serve", "--layer", "ram:1M", "--listen", listen]),
        );
        assert!(!refused.status.success());
        let name = listen.strip_prefix("unix:").unwrap();
        assert!(refused.stderr.contains(name), "{}", refused.stderr);
    }
    assert_same_bytes(&read(&daemon.folder().join("precious")), b"keep me");
    daemon.client().disconnect();
    daemon.stop();
}

#[test]
fn a_command_is_served_while_it_runs_and_its_end_is_ours() {
    let folder = tempfile::tempdir().unwrap();
    let serve = |command: &str| {
        outcome(platter(folder.path()).args(["serve", "--layer", "ram:3M", "--run", command]))
    };
    if let Some([nbdinfo]) = peers(["nbdinfo"]) {
        let done = serve(&format!("{} --size \"$PLATTER_URI\"", nbdinfo.display()));
        assert!(done.status.success(), "{}", done.stderr);
        assert!(
            done.stdout.contains("3145728"),
            "{}\n{}",
            done.stdout,
            done.stderr
        );
    }
    assert_eq!(serve("exit 7").status.code(), Some(7));
}

/// A daemon that has taken a SIGTERM and cannot end while the file `ready` is there, unless it gives up.
fn stopping_daemon() -> Daemon {
    let command = "trap : TERM; touch ready; while [ -e ready ]; do sleep 0.05; done; exit 5";
    let mut daemon = Daemon::serve(["--layer", "ram:1M", "--run", command]);
    daemon.wait_until(|daemon| daemon.folder().join("ready").exists());
    daemon.signal(Signal::TERM);
    daemon.wait_until(|daemon| daemon.log().contains("stopping"));
    daemon
}

#[test]
fn a_second_sigterm_takes_no_flush_away() {
    let mut daemon = stopping_daemon();
    daemon.signal(Signal::TERM);
    daemon.wait_until(|daemon| daemon.log().contains("stopping already"));
    std::fs::remove_file(daemon.folder().join("ready")).unwrap();
    let (status, log, _) = daemon.wait();
    assert_eq!(status.code(), Some(5), "{log}");
}

#[test]
fn an_interrupt_gives_a_stop_up() {
    let daemon = stopping_daemon();
    daemon.signal(Signal::INT);
    // The command outlives the daemon, and ends when the folder goes.
    let (status, log, _folder) = daemon.wait();
    assert_eq!(status.code(), Some(130), "{log}");
    assert!(log.contains("given up"), "{log}");
}

#[test]
fn a_stop_that_is_given_up_leaves_no_private_folder_behind() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let script = "ln -s \"$PLATTER_SOCKET\" nbd.sock; trap : TERM; touch ready; while [ -e ready ]; do sleep 0.05; done";
    let mut command = platter(folder.path());
    command.args([
        "serve",
        "--layer",
        "ram:1M",
        "--control",
        "control.sock",
        "--run",
        script,
    ]);
    command.env("TMPDIR", &temporary);
    let stdout = log_file(&folder, STDOUT);
    let mut daemon = Daemon::start(folder, command, stdout, "nbd.sock");
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 1);
    daemon.wait_until(|daemon| daemon.folder().join("ready").exists());
    daemon.signal(Signal::TERM);
    daemon.wait_until(|daemon| daemon.log().contains("stopping"));
    daemon.signal(Signal::INT);
    let (status, log, folder) = daemon.wait();
    assert_eq!(status.code(), Some(130), "{log}");
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "{log}");
    assert!(!folder.path().join("control.sock").exists());
}

#[test]
fn several_sockets_and_a_port_serve_the_same_disk() {
    let Some([nbdinfo]) = peers(["nbdinfo"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "--layer",
        "ram:5M",
        "--listen",
        "unix:second.sock",
        "--listen",
        "tcp:127.0.0.1:0",
    ];
    let daemon = Daemon::serve_in(folder, arguments);
    daemon.client().write(77, b"shared");
    let second = client::connect(&daemon.folder().join("second.sock"));
    assert_same_bytes(&Client::open(second, "").unwrap().read(77, 6), b"shared");
    // The port was chosen by the system; the daemon says which it got.
    let log = daemon.log();
    let address = log
        .split_whitespace()
        .find_map(|word| word.strip_prefix("tcp:"));
    let uri = format!(
        "nbd://{}",
        address.unwrap_or_else(|| panic!("no address in: {log}"))
    );
    let size = run(Command::new(nbdinfo).args(["--size", &uri]));
    assert_eq!(size.trim(), "5242880");
    daemon.stop();
}
