//! Listening sockets from elsewhere, and their way from one server to the next.

mod common;

use common::client::{Client, OPT_ABORT, REP_ACK, Style, WRITE};
use common::disk::{Kind, TestDisk};
use common::{DEADLINE, Running, export, serve, wait_until};
use frontend_nbd::{Limits, ListenAddress, ListenError, Server, ServerHandle};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
use std::fs::File;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tempfile::TempDir;

fn folder_and_path() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("nbd.sock");
    (folder, path)
}

fn server_of(disk: &TestDisk) -> Server {
    Server::new([export("disk", disk.disk())], Limits::default()).expect("a server")
}

fn connected(path: &Path) -> Client {
    Client::new(UnixStream::connect(path).expect("nobody is refused"))
}

fn adopted(disk: &TestDisk, released: Vec<(OwnedFd, ListenAddress)>) -> Server {
    let mut server = server_of(disk);
    for (socket, address) in released {
        assert_eq!(server.adopt(socket).expect("it listens"), address);
    }
    server
}

#[test]
fn a_unix_socket_that_was_passed_on_is_served_and_its_file_stays() {
    let (_folder, path) = folder_and_path();
    let socket = UnixListener::bind(&path).expect("a socket");
    let mut early = connected(&path);
    let disk = TestDisk::new();
    let mut server = server_of(&disk);
    let address = server.adopt(socket.into()).expect("it listens");
    assert_eq!(address, ListenAddress::Unix(path.clone()));
    let handle = server.handle();
    let ended = serve(server);
    early.greet(3);
    early.go("disk", Style::Structured);
    early.write(0, &[1; 512]);
    connected(&path).greet(3);
    handle.stop();
    let ended = ended.recv_timeout(DEADLINE).expect("in time");
    ended.expect("a good end");
    assert!(path.exists());
    let error = UnixStream::connect(&path).expect_err("nobody listens");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_tcp_socket_that_was_passed_on_is_served_at_its_address() {
    for host in ["127.0.0.1", "::1"] {
        let Ok(socket) = TcpListener::bind((host, 0)) else {
            assert_eq!(host, "::1", "a machine may be without IPv6");
            continue;
        };
        let local = socket.local_addr().expect("it is bound");
        let disk = TestDisk::new();
        let mut server = server_of(&disk);
        let address = server.adopt(socket.into()).expect("it listens");
        assert_eq!(address.to_string(), format!("tcp:{local}"));
        let handle = server.handle();
        let ended = serve(server);
        let stream = TcpStream::connect(local).expect("it is there");
        // Only a stream of bytes is wanted, and that works for either kind.
        let mut client = Client::new(OwnedFd::from(stream).into());
        client.greet(3);
        client.go("disk", Style::Simple);
        assert_eq!(client.read(0, 512), [0; 512]);
        handle.stop();
        let ended = ended.recv_timeout(DEADLINE).expect("in time");
        ended.expect("a good end");
    }
}

#[test]
fn anything_but_a_listening_stream_socket_is_refused_with_a_reason() {
    let (folder, path) = folder_and_path();
    let datagrams = UnixDatagram::bind(&path).expect("a socket");
    let (connection, _other) = UnixStream::pair().expect("two sockets");
    let abstract_socket = socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
    let name = format!("platter-test-{}", std::process::id());
    let name = SocketAddrUnix::new_abstract_name(name.as_bytes()).expect("a name");
    bind(&abstract_socket, &name).expect("it is free");
    listen(&abstract_socket, 1).expect("it listens");
    let unbound = socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
    let cases: [(OwnedFd, &str); 6] = [
        (
            File::open(folder.path()).expect("a folder").into(),
            "not a socket",
        ),
        (datagrams.into(), "not a stream socket"),
        (
            UdpSocket::bind("127.0.0.1:0").expect("a socket").into(),
            "not a stream socket",
        ),
        (connection.into(), "does not listen"),
        (unbound, "does not listen"),
        (abstract_socket, "without a file"),
    ];
    let disk = TestDisk::new();
    let mut server = server_of(&disk);
    for (descriptor, expected) in cases {
        let error = server.adopt(descriptor).expect_err(expected);
        assert!(matches!(error, ListenError::NotAdoptable { .. }));
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_server_that_gave_its_sockets_away_serves_on_but_lets_nobody_in() {
    let (_folder, path) = folder_and_path();
    let disk = TestDisk::new();
    let mut first = server_of(&disk);
    first
        .listen(&ListenAddress::Unix(path.clone()))
        .expect("it listens");
    let handle = first.handle();
    let ended = serve(first);
    let mut old = connected(&path);
    old.greet(3);
    old.go("disk", Style::Structured);
    let released = handle.release_listeners().expect("descriptors");
    assert_eq!(released.len(), 1);
    assert_eq!(handle.release_listeners().expect("nothing").len(), 0);
    // Nobody refuses it, and nobody serves it yet.
    let mut waiting = connected(&path);
    old.write(0, &[1; 512]);
    assert_eq!(handle.connection_count(), 1);
    handle.stop();
    old.expect_closed();
    ended
        .recv_timeout(DEADLINE)
        .expect("in time")
        .expect("a good end");
    assert!(path.exists(), "the file goes on with the socket");
    assert_eq!(disk.log().last().map(|op| op.kind), Some(Kind::Flush));

    let second = adopted(&disk, released);
    let handle = second.handle();
    let ended = serve(second);
    waiting.greet(3);
    waiting.go("disk", Style::Structured);
    assert_eq!(waiting.read(0, 512), [1; 512]);
    handle.stop();
    ended
        .recv_timeout(DEADLINE)
        .expect("in time")
        .expect("a good end");
}

#[test]
fn sockets_that_nobody_adopts_refuse_their_clients_once_they_are_dropped() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    let released = server.handle.release_listeners().expect("descriptors");
    let mut waiting = server.connect();
    drop(released);
    server.stop().expect("a good end");
    waiting.expect_closed();
}

/// What has come of the sessions of one client after the other.
#[derive(Default)]
struct Sessions {
    good: AtomicUsize,
    /// Let in by a server that stopped before the session was over.
    cut: AtomicUsize,
}

/// Connects, looks around and leaves, again and again. To be refused is a panic.
fn visit_until(is_over: &AtomicBool, path: &Path, sessions: &Sessions) {
    while !is_over.load(Ordering::Relaxed) {
        let mut client = connected(path);
        let kept = match client.try_greet() {
            true => client.try_send(&common::client::option(OPT_ABORT, &[])),
            false => false,
        };
        match kept && client.is_answered() {
            true => {
                assert_eq!(client.option_reply(OPT_ABORT).kind, REP_ACK);
                sessions.good.fetch_add(1, Ordering::Relaxed)
            }
            false => sessions.cut.fetch_add(1, Ordering::Relaxed),
        };
    }
}

fn stopped(handle: &ServerHandle, ended: &common::Ended) {
    handle.stop();
    let ended = ended.recv_timeout(DEADLINE).expect("in time");
    ended.expect("a good end");
}

#[test]
fn across_handovers_under_load_nobody_is_refused_and_nothing_is_lost() {
    const VISITORS: usize = 4;
    const HANDOVERS: usize = 10;
    let (_folder, path) = folder_and_path();
    let disk = TestDisk::new();
    let mut server = server_of(&disk);
    server
        .listen(&ListenAddress::Unix(path.clone()))
        .expect("it listens");
    let mut handle = server.handle();
    let mut ended = serve(server);
    let is_over = AtomicBool::new(false);
    let sessions = Sessions::default();
    std::thread::scope(|scope| {
        for _ in 0..VISITORS {
            scope.spawn(|| visit_until(&is_over, &path, &sessions));
        }
        for round in 1..=HANDOVERS {
            let good_before = sessions.good.load(Ordering::Relaxed);
            let mut writer = connected(&path);
            writer.greet(3);
            writer.go("disk", Style::Simple);
            // On its way at the handover, and answered all the same.
            writer.send_request(WRITE, 0, round as u64 * 512, 512, &[round as u8; 512]);
            let released = handle.release_listeners().expect("descriptors");
            stopped(&handle, &ended);
            assert_eq!(writer.answer().errno, 0);
            writer.expect_closed();
            let next = adopted(&disk, released);
            handle = next.handle();
            ended = serve(next);
            wait_until(
                || sessions.good.load(Ordering::Relaxed) > good_before + VISITORS,
                || "the visitors are not served".to_owned(),
            );
        }
        is_over.store(true, Ordering::Relaxed);
    });
    stopped(&handle, &ended);
    for round in 1..=HANDOVERS {
        let content = disk.content();
        assert!(content[round * 512..][..512] == [round as u8; 512]);
    }
    let cut = sessions.cut.load(Ordering::Relaxed);
    assert!(
        cut <= VISITORS * HANDOVERS,
        "{cut} sessions were cut in {HANDOVERS} handovers"
    );
}
