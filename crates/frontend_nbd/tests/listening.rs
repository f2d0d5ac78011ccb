//! Where a server listens, whom it lets in, and what it shows of itself.

mod common;

use common::client::{Client, READ, Style, WRITE};
use common::disk::{Kind, TestDisk};
use common::{DEADLINE, Running, export, serve, wait_until};
use disklayer_ram::ram_disk;
use frontend_nbd::{InvalidExport, Limits, ListenAddress, ListenError, Server, ServerError};
use futures_lite::future::block_on;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

fn folder_and_path() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("nbd.sock");
    (folder, path)
}

fn server() -> Server {
    let exports = [export("disk", ram_disk(MIB, false).expect("a disk"))];
    Server::new(exports, Limits::default()).expect("a server")
}

fn listen_at(path: &Path) -> Result<Server, ListenError> {
    let mut server = server();
    server.listen(&ListenAddress::Unix(path.to_owned()))?;
    Ok(server)
}

fn expect_serving(path: &Path) {
    let mut client = Client::new(UnixStream::connect(path).expect("it is there"));
    client.greet(3);
    client.go("disk", Style::Structured);
    assert_eq!(client.read(0, 512), [0; 512]);
}

/// Serves at `path` until `check` is done, then to the end.
fn served(server: Server, check: impl FnOnce()) {
    let handle = server.handle();
    let ended = serve(server);
    check();
    handle.stop();
    ended
        .recv_timeout(DEADLINE)
        .expect("in time")
        .expect("a good end");
}

#[test]
fn a_socket_is_for_its_owner_only_and_is_removed_at_the_end() {
    let (_folder, path) = folder_and_path();
    let server = listen_at(&path).expect("it listens");
    let mode = fs::metadata(&path)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
    served(server, || expect_serving(&path));
    assert!(!path.exists());
}

#[test]
fn a_server_that_never_serves_removes_its_socket_too() {
    let (_folder, path) = folder_and_path();
    drop(listen_at(&path).expect("it listens"));
    assert!(!path.exists());
}

#[test]
fn a_stale_socket_is_replaced() {
    let (_folder, path) = folder_and_path();
    drop(UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists(), "nobody listens, but the file is there");
    let server = listen_at(&path).expect("it listens");
    served(server, || expect_serving(&path));
    assert!(!path.exists());
}

#[test]
fn a_live_socket_is_refused_and_goes_on() {
    let (_folder, path) = folder_and_path();
    let first = listen_at(&path).expect("it listens");
    served(first, || {
        for _ in 0..3 {
            match listen_at(&path) {
                Err(ListenError::Live { path: named }) => assert_eq!(named, path),
                other => panic!("{other:?}"),
            }
        }
        expect_serving(&path);
    });
}

#[test]
fn a_socket_of_another_kind_is_refused_and_left_alone() {
    let (_folder, path) = folder_and_path();
    let datagrams = UnixDatagram::bind(&path).expect("a socket");
    assert!(matches!(listen_at(&path), Err(ListenError::Live { .. })));
    assert!(path.exists());
    drop(datagrams);
}

#[test]
fn what_is_not_a_socket_is_refused_and_left_alone() {
    let (folder, path) = folder_and_path();
    fs::write(&path, "precious").expect("a file");
    match listen_at(&path) {
        Err(ListenError::NotASocket { path: named }) => assert_eq!(named, path),
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read_to_string(&path).expect("it is there"), "precious");
    assert!(matches!(
        listen_at(folder.path()),
        Err(ListenError::IsAFolder { .. })
    ));
    // A link is not a socket, wherever it leads.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("nowhere", &link).expect("a link");
    assert!(matches!(
        listen_at(&link),
        Err(ListenError::NotASocket { .. })
    ));
}

#[test]
fn a_path_that_cannot_be_a_socket_is_an_error_that_names_it() {
    let (folder, _) = folder_and_path();
    let long = folder.path().join("x".repeat(108));
    let Err(ListenError::PathTooLong { path }) = listen_at(&long) else {
        panic!("108 bytes do not fit");
    };
    assert_eq!(path, long);
    let nowhere = folder.path().join("no/such/folder");
    let error = listen_at(&nowhere).expect_err("there is no such folder");
    assert!(error.to_string().contains("no/such/folder"), "{error}");
}

#[test]
fn a_file_that_has_taken_the_place_of_the_socket_is_not_removed() {
    let (_folder, path) = folder_and_path();
    let server = listen_at(&path).expect("it listens");
    fs::remove_file(&path).expect("it is there");
    fs::write(&path, "mine").expect("a file");
    served(server, || {});
    assert_eq!(fs::read_to_string(&path).expect("it is there"), "mine");
}

#[test]
fn clients_that_knock_before_serving_begins_are_let_in_then() {
    let (_folder, path) = folder_and_path();
    let server = listen_at(&path).expect("it listens");
    let streams: Vec<_> = (0..5).map(|_| UnixStream::connect(&path)).collect();
    served(server, || {
        for stream in streams {
            let mut client = Client::new(stream.expect("it is there"));
            client.greet(3);
            client.go("disk", Style::Simple);
            assert_eq!(client.read(7, 9), [0; 9]);
        }
    });
}

#[test]
fn two_servers_on_tcp_get_ports_of_their_own_on_the_loopback() {
    let disk_of = |byte: u8| {
        let disk = TestDisk::new();
        disk.set_content(0, &[byte; 512]);
        disk.disk()
    };
    let servers = [1, 2].map(|byte| Running::on_tcp([export("disk", disk_of(byte))]));
    let ports: Vec<_> = servers.iter().map(|server| port(&server.address)).collect();
    assert!(ports[0] != ports[1] && !ports.contains(&0), "{ports:?}");
    for (server, byte) in servers.iter().zip([1, 2]) {
        assert!(server.address.is_local());
        assert_eq!(server.client(Style::Structured).read(0, 512), [byte; 512]);
        server.stop().expect("a good end");
    }
}

fn port(address: &ListenAddress) -> u16 {
    match address {
        ListenAddress::Tcp { port, .. } => *port,
        other => panic!("{other} has no port"),
    }
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let first = Running::on_tcp([export("disk", ram_disk(MIB, false).expect("a disk"))]);
    let error = server().listen(&first.address).expect_err("it is taken");
    assert!(
        error
            .to_string()
            .contains(&port(&first.address).to_string()),
        "{error}"
    );
}

#[test]
fn one_server_listens_at_several_addresses() {
    let (_folder, path) = folder_and_path();
    let mut server = listen_at(&path).expect("it listens");
    let other = path.with_extension("2");
    server
        .listen(&ListenAddress::Unix(other.clone()))
        .expect("it listens");
    served(server, || {
        expect_serving(&path);
        expect_serving(&other);
    });
    assert!(!path.exists() && !other.exists());
}

#[test]
fn a_refusal_of_the_system_comes_with_a_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("it has one").port();
    for (address, remedy) in [
        (format!("tcp:{port}"), "choose another port"),
        (
            "tcp:192.0.2.1:0".to_owned(),
            "an address that this machine has",
        ),
        (
            "unix:/no/such/folder/nbd".to_owned(),
            "make its folder first",
        ),
    ] {
        let address: ListenAddress = address.parse().expect("an address");
        let refused = server()
            .listen(&address)
            .expect_err("nobody can listen there");
        assert!(matches!(refused, ListenError::System { .. }), "{refused}");
        assert!(refused.to_string().contains(remedy), "{refused}");
    }
}

#[test]
fn two_exports_of_one_name_are_refused() {
    let exports = [(); 2].map(|()| export("twin", ram_disk(MIB, false).expect("a disk")));
    match Server::new(exports, Limits::default()) {
        Err(ServerError::Export(InvalidExport::DuplicateName { name })) => assert_eq!(name, "twin"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn connections_above_the_limit_are_closed_at_once_and_room_is_used_again() {
    let disk = TestDisk::new();
    let mut limits = Limits::default();
    limits.connections_max = 2;
    let server = Running::new([export("disk", disk.disk())], limits);
    let mut first = server.client(Style::Simple);
    let second = server.client(Style::Simple);
    for _ in 0..5 {
        server.connect().expect_closed();
    }
    assert_eq!(first.read(0, 512), [0; 512]);
    second.disconnect();
    server.wait_for_connections(1);
    assert_eq!(server.client(Style::Simple).read(0, 512), [0; 512]);
    let tree = block_on(inspect::inspect("", None, &server.handle)).expect("a tree");
    assert_eq!(
        (&tree["accepted"], &tree["refused"]),
        (&3.into(), &5.into())
    );
}

#[test]
fn the_inspection_tree_shows_addresses_exports_limits_and_connections() {
    let disk = TestDisk::new();
    let exports = [
        export("one", disk.disk())
            .with_description("the first")
            .expect("an export"),
        export("two", ram_disk(2 * MIB, true).expect("a disk")),
    ];
    let server = Running::new(exports, Limits::default());
    let inspect =
        |server: &Running| block_on(inspect::inspect("", None, &server.handle)).expect("a tree");
    let tree = inspect(&server);
    assert_eq!(tree["addresses"][0], server.address.to_string());
    assert_eq!(tree["exports"]["one"]["description"], "the first");
    assert_eq!(tree["exports"]["one"]["read_only"], false);
    assert_eq!(tree["exports"]["one"]["disk"]["disk_type"], "test");
    assert_eq!(tree["exports"]["two"]["read_only"], true);
    assert_eq!(tree["exports"]["two"]["disk"]["sector_count"], 4096);
    assert_eq!(tree["limits"]["requests_in_flight_max"], 128);
    assert_eq!(tree["accepted"], 0);

    let mut client = server.client_of("one", Style::Simple);
    client.write(512, &[1; 1024]);
    client.read(0, 512);
    assert_ne!(client.errno(READ, 0, MIB, 1), 0);
    disk.hold_all(Kind::Write);
    client.send_request(WRITE, 0, 0, 512, &[1; 512]);
    disk.wait_for_held(1);
    wait_until(
        || inspect(&server)["connections"]["0"]["requests_in_flight"] == 1,
        || inspect(&server)["connections"].to_string(),
    );
    let connection = &inspect(&server)["connections"]["0"];
    assert_eq!(connection["export"], "one");
    assert_eq!(connection["requests"], 4);
    assert_eq!(connection["errors"], 1);
    assert_eq!(connection["bytes_read"], 512);
    assert_eq!(connection["bytes_written"], 1024);
    disk.release_all();
    assert_eq!(client.answer().errno, 0);
    client.disconnect();
    server.wait_for_connections(0);
    assert!(
        inspect(&server)["connections"]
            .as_object()
            .is_none_or(|all| all.is_empty())
    );
    server.stop().expect("a good end");
    assert_eq!(inspect(&server)["accepted"], 1);
}
