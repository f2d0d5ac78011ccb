//! The daemon among others: started by a service manager, and following another daemon without anybody being refused.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::client::{self, Client, command};
use crate::support::control::Control;
use crate::support::daemon::{STDOUT, log_file, platter};
use crate::support::tool::outcome;
use crate::support::{Daemon, MIB, Random, TIME_MAX, assert_same_bytes, read, write};

/// A shell that puts its standard input elsewhere and becomes the daemon.
fn shell(folder: &Path, script: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_platter")])
        .current_dir(folder);
    command
}

#[test]
fn a_socket_of_the_service_manager_is_served_and_left_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nbd.sock");
    let listener = UnixListener::bind(&path).unwrap();
    // Who connects before there is a daemon waits for it.
    let early = client::connect(&path);
    let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=nbd \
                  exec \"$0\" serve --layer ram:1M";
    let command = shell(folder.path(), script);
    let stdout = log_file(&folder, STDOUT);
    let stdin = OwnedFd::from(listener);
    let daemon = Daemon::start_given(folder, command, stdin, stdout, "nbd.sock");
    Client::open(early, "")
        .expect("it was waiting")
        .write(0, &[1; 512]);
    assert_same_bytes(&daemon.client().read(0, 512), &[1; 512]);
    let folder = daemon.stop();
    assert!(
        folder.path().join("nbd.sock").exists(),
        "it is the manager's"
    );
}

#[test]
fn sockets_for_another_process_and_what_is_no_socket_are_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let script =
        "LISTEN_PID=1 LISTEN_FDS=1 exec \"$0\" serve --layer ram:1M --run true 3</dev/null";
    let done = outcome(&mut shell(folder.path(), script));
    assert!(done.status.success(), "{}", done.stderr);
    for (count, clue) in [
        ("1", "socket 0"),
        ("many", "LISTEN_FDS"),
        ("1000000000000", "LISTEN_FDS"),
    ] {
        let script = format!(
            "LISTEN_PID=$$ LISTEN_FDS={count} exec \"$0\" serve --layer ram:1M --run true 3</dev/null"
        );
        let done = outcome(&mut shell(folder.path(), &script));
        assert_eq!(done.status.code(), Some(1), "{}", done.stderr);
        assert!(done.stderr.contains(clue), "{}", done.stderr);
    }
}

#[test]
fn the_ready_descriptor_hears_one_line_and_its_end_when_clients_can_connect() {
    let folder = tempfile::tempdir().unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let script =
        "exec \"$0\" serve --layer ram:1M --listen unix:nbd.sock --ready-fd 4 4>&0 0</dev/null";
    let mut command = shell(folder.path(), script);
    command.stdin(OwnedFd::from(writer)).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut heard = String::new();
    reader.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "ready\n");
    let stream = UnixStream::connect(folder.path().join("nbd.sock")).expect("it is ready");
    Client::open(stream, "").unwrap().disconnect();
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&child),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_ready_descriptor_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "serve",
        "--layer",
        "ram:1M",
        "--ready-fd",
        "77",
        "--run",
        "true",
    ];
    let done = outcome(platter(folder.path()).args(arguments));
    assert_eq!(done.status.code(), Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("--ready-fd 77"), "{}", done.stderr);
}

#[test]
fn a_ready_descriptor_that_nobody_reads_is_an_error_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    // The shell itself is its only reader, for a moment.
    let script = "mkfifo ready && exec 4<>ready 5>ready 4<&- && \
                  exec \"$0\" serve --layer ram:1M --ready-fd 5 --run true";
    let done = outcome(&mut shell(folder.path(), script));
    assert_eq!(done.status.code(), Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("--ready-fd 5"), "{}", done.stderr);
}

#[test]
fn the_service_manager_hears_of_the_beginning_and_the_end_and_a_command_does_not_hear_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let manager = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(TIME_MAX)).unwrap();
    let hear = || {
        let mut state = [0; 256];
        let len = manager.recv(&mut state).expect("the manager is told");
        String::from_utf8(state[..len].to_vec()).unwrap()
    };
    let mut command = platter(folder.path());
    command.args(["serve", "--layer", "ram:1M", "--listen", "unix:nbd.sock"]);
    command.env("NOTIFY_SOCKET", folder.path().join("notify"));
    let stdout = log_file(&folder, STDOUT);
    let daemon = Daemon::start(folder, command, stdout, "nbd.sock");
    assert_eq!(hear(), "READY=1\nSTATUS=Serving 1 exports");
    let folder = daemon.stop();
    assert_eq!(hear(), "STOPPING=1");
    let mut command = platter(folder.path());
    command
        .env("NOTIFY_SOCKET", folder.path().join("notify"))
        .env("LISTEN_FDS", "1");
    let script = "test -z \"$NOTIFY_SOCKET$LISTEN_FDS\"";
    let done = outcome(command.args(["serve", "--layer", "ram:1M", "--run", script]));
    assert!(done.status.success(), "{}", done.stderr);
}

/// A daemon that follows `old`, serving the same file at the same sockets.
fn follow(old: &Daemon, more: &[&str]) -> Daemon {
    let at = |name: &str| old.folder().join(name).display().to_string();
    let folder = tempfile::tempdir().unwrap();
    let mut command = platter(folder.path());
    let (control, layer) = (at("control.sock"), format!("file:{}", at("disk.raw")));
    command.args([
        "serve",
        "--layer",
        &layer,
        "--take-over",
        &control,
        "--control",
        &control,
    ]);
    command.args(more);
    let stdout = log_file(&folder, STDOUT);
    // It lives as long as the test.
    let socket = Box::leak(at("nbd.sock").into_boxed_str());
    let mut new = Daemon::start(folder, command, stdout, socket);
    new.wait_until(|new| new.serves());
    new
}

/// So that nobody waits for what has failed.
struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_daemon_follows_another_and_no_client_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("disk.raw"), vec![0; MIB as usize]);
    let arguments = ["--layer", "file:disk.raw", "--control", "control.sock"];
    let old = Daemon::serve_in(folder, arguments);
    let data = Random::new(70).bytes(100_000);
    let mut before = old.client();
    before.write(4096, &data);
    let cookie = before.send(command::WRITE, 0, 512, &[9; 512]);
    let is_over = AtomicBool::new(false);
    let path = old.socket();
    let (new, served_count) = std::thread::scope(|scope| {
        let knocking = scope.spawn(|| {
            let mut served_count = 0;
            while !is_over.load(Ordering::Acquire) {
                // Whoever is let in by the old one may be sent away again, but nobody finds the door closed.
                let stream = UnixStream::connect(&path).expect("nobody is refused");
                stream.set_read_timeout(Some(TIME_MAX)).unwrap();
                served_count += u32::from(Client::open(stream, "").is_ok());
            }
            served_count
        });
        let new = {
            let _over = SetWhenDropped(&is_over);
            follow(&old, &[])
        };
        (new, knocking.join().expect("nobody is refused"))
    });
    assert!(served_count > 0);
    assert_eq!(before.hear_head(), (cookie, 0), "what was sent is done");
    let mut rest = Vec::new();
    before
        .stream
        .read_to_end(&mut rest)
        .expect("its connection ends in order");
    assert!(rest.is_empty());
    let (status, log, folder) = old.wait();
    assert!(status.success(), "{log}");
    assert_same_bytes(&new.client().read(4096, 100_000), &data);
    assert_same_bytes(&new.client().read(0, 512), &[9; 512]);
    // It has everything that the old one had: the sockets, their files, and the next succession.
    let socket = new.socket();
    new.stop();
    assert!(!socket.exists(), "the socket's file was left behind");
    assert_same_bytes(
        &read(&folder.path().join("disk.raw"))[4096..][..data.len()],
        &data,
    );
    assert!(!folder.path().join("control.sock").exists());
}

#[test]
fn a_successor_that_makes_no_sense_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("disk.raw"), vec![0; MIB as usize]);
    let arguments = ["--layer", "file:disk.raw", "--control", "control.sock"];
    let old = Daemon::serve_in(folder, arguments);
    let mut client = old.client();
    let wrong = [
        "serve",
        "--layer",
        "fil:disk.raw",
        "--take-over",
        "control.sock",
    ];
    let refused = outcome(platter(old.folder()).args(wrong));
    assert_eq!(refused.status.code(), Some(3), "{}", refused.stderr);
    let nobody = [
        "serve",
        "--layer",
        "file:disk.raw",
        "--take-over",
        "nobody.sock",
    ];
    let refused = outcome(platter(old.folder()).args(nobody));
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
    client.write(0, &[1; 512]);
    old.client().disconnect();
    old.stop();
}

#[test]
fn a_successor_that_is_gone_before_it_has_the_sockets_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("disk.raw"), vec![0; MIB as usize]);
    let arguments = ["--layer", "file:disk.raw", "--control", "control.sock"];
    let mut old = Daemon::serve_in(folder, arguments);
    let mut client = old.client();
    for _ in 0..2 {
        let mut successor = Control::connect(&old.folder().join("control.sock"));
        // From now on nothing can be sent to it.
        successor.stream().shutdown(Shutdown::Read).unwrap();
        successor.send(r#"{"op":"handover"}"#);
        assert_eq!(successor.hear(), None);
        old.wait_until(|_| successor.stream().write_all(b"\n").is_err());
    }
    client.write(0, &[1; 512]);
    old.client().disconnect();
    let new = follow(&old, &[]);
    let (status, log, _folder) = old.wait();
    assert!(status.success(), "{log}");
    assert_same_bytes(&new.client().read(0, 512), &[1; 512]);
    new.stop();
}

#[test]
fn a_successor_that_cannot_open_its_disks_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--layer", "ram:1M", "--control", "control.sock"];
    let old = Daemon::serve_in(folder, arguments);
    let socket = old.socket();
    let missing = ["serve", "--layer", "file:missing.raw"];
    let mut command = platter(old.folder());
    let failed = outcome(command.args(missing).args(["--take-over", "control.sock"]));
    assert_eq!(failed.status.code(), Some(3), "{}", failed.stderr);
    assert!(failed.stderr.contains("missing.raw"), "{}", failed.stderr);
    let (status, log, _folder) = old.wait();
    assert!(status.success(), "{log}");
    assert!(!socket.exists(), "nobody listens there");
}

#[test]
fn daemons_follow_each_other_and_drop_the_sockets_that_are_wanted_no_longer() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("disk.raw"), vec![0; MIB as usize]);
    let arguments = [
        "--layer",
        "file:disk.raw",
        "--control",
        "control.sock",
        "--listen",
        "unix:other.sock",
    ];
    let first = Daemon::serve_in(folder, arguments);
    first.client().write(0, &[1; 512]);
    let second = follow(&first, &[]);
    let (status, log, folder) = first.wait();
    assert!(status.success(), "{log}");
    let other = folder.path().join("other.sock");
    assert_same_bytes(
        &Client::open(client::connect(&other), "")
            .unwrap()
            .read(0, 512),
        &[1; 512],
    );
    // The folder is the first one's; the daemons only name what is in it.
    let listen = format!("unix:{}", folder.path().join("nbd.sock").display());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (control, layer) = (at("control.sock"), format!("file:{}", at("disk.raw")));
    let own = tempfile::tempdir().unwrap();
    let mut command = platter(own.path());
    command.args([
        "serve",
        "--layer",
        &layer,
        "--take-over",
        &control,
        "--listen",
        &listen,
    ]);
    let stdout = log_file(&own, STDOUT);
    let socket = Box::leak(at("nbd.sock").into_boxed_str());
    let mut third = Daemon::start(own, command, stdout, socket);
    third.wait_until(|third| third.serves());
    let (status, log, _) = second.wait();
    assert!(status.success(), "{log}");
    assert!(!other.exists(), "nobody listens there any more");
    assert_same_bytes(&third.client().read(0, 512), &[1; 512]);
    third.stop();
    assert!(!folder.path().join("nbd.sock").exists());
}

#[test]
fn the_units_are_well_formed_and_start_what_there_is() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib/systemd");
    let folder = tempfile::tempdir().unwrap();
    for name in ["platter.service", "platter.socket"] {
        let text = String::from_utf8(read(&units.join(name))).unwrap();
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines.filter(|line| !line.starts_with('[')) {
            let (key, value) = line
                .split_once('=')
                .unwrap_or_else(|| panic!("{name}: {line}"));
            if !key.starts_with("ExecStart") {
                continue;
            }
            let arguments = value.strip_prefix("/usr/bin/platter ").expect("it is ours");
            // Its document is not there, but the command line is understood.
            let done = outcome(platter(folder.path()).args(arguments.split(' ')));
            assert_eq!(done.status.code(), Some(3), "{line}: {}", done.stderr);
        }
    }
    let unit = |name| String::from_utf8(read(&units.join(name))).unwrap();
    assert!(unit("platter.service").contains("Type=notify\n"));
    assert!(unit("platter.socket").contains("SocketMode=0600\n"));
}
