//! Who may listen where, and what is left behind.

use local_socket::{BindError, LocalListener};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

fn folder_and_path() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    (folder, path)
}

#[test]
fn a_socket_is_for_its_owner_only_and_is_removed_at_the_end() {
    let (_folder, path) = folder_and_path();
    let listener = LocalListener::bind(&path).unwrap();
    assert_eq!(listener.path(), path);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert!(listener.accept().unwrap().is_none());
    let client = UnixStream::connect(&path).unwrap();
    assert!(listener.accept().unwrap().is_some());
    drop((client, listener));
    assert!(!path.exists());
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let (_folder, path) = folder_and_path();
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "nobody listens, but the file is there");
    let first = LocalListener::bind(&path).unwrap();
    for _ in 0..3 {
        let refused = LocalListener::bind(&path).unwrap_err();
        assert!(
            matches!(&refused, BindError::Live(named) if *named == path),
            "{refused}"
        );
    }
    UnixStream::connect(&path).unwrap();
    drop(first);
}

#[test]
fn of_servers_that_come_and_go_at_once_one_listens_at_a_time() {
    let (_folder, path) = folder_and_path();
    let is_held = AtomicBool::new(false);
    let come_and_go = || {
        for _ in 0..1000 {
            match LocalListener::bind(&path) {
                Ok(listener) => {
                    assert!(!is_held.swap(true, Ordering::SeqCst), "two listen");
                    is_held.store(false, Ordering::SeqCst);
                    drop(listener);
                }
                Err(refused) => assert!(matches!(refused, BindError::Live(_)), "{refused}"),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(come_and_go);
        }
    });
    assert!(!path.exists());
}

#[test]
fn what_is_not_a_stream_socket_is_refused_and_left_alone() {
    let (folder, path) = folder_and_path();
    fs::write(&path, "precious").unwrap();
    let refused = LocalListener::bind(&path).unwrap_err();
    assert!(matches!(refused, BindError::NotASocket(_)), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    let refused = LocalListener::bind(folder.path()).unwrap_err();
    assert!(
        refused.to_string().contains("name a socket in it"),
        "{refused}"
    );
    // A link is not a socket, wherever it leads.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    let refused = LocalListener::bind(&link).unwrap_err();
    assert!(matches!(refused, BindError::NotASocket(_)), "{refused}");
    let other = folder.path().join("datagrams");
    let _datagrams = UnixDatagram::bind(&other).unwrap();
    let refused = LocalListener::bind(&other).unwrap_err();
    assert!(matches!(refused, BindError::Live(_)), "{refused}");
}

#[test]
fn a_path_that_cannot_be_a_socket_is_an_error_that_names_it() {
    let (folder, _) = folder_and_path();
    let long = folder.path().join("x".repeat(108));
    let refused = LocalListener::bind(&long).unwrap_err();
    assert!(matches!(refused, BindError::PathTooLong(_)), "{refused}");
    let refused = LocalListener::bind(folder.path().join("no/such/folder")).unwrap_err();
    assert!(refused.to_string().contains("no/such/folder"), "{refused}");
}

#[test]
fn a_file_that_has_taken_the_place_of_the_socket_is_not_removed() {
    let (_folder, path) = folder_and_path();
    let listener = LocalListener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "mine").unwrap();
    drop(listener);
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn a_socket_that_somebody_else_goes_on_with_stays() {
    let (_folder, path) = folder_and_path();
    let (socket, file) = LocalListener::bind(&path).unwrap().into_parts();
    file.leave();
    UnixStream::connect(&path).unwrap();
    drop(socket);
    assert!(path.exists());
}

#[test]
fn a_folder_that_is_missing_is_to_be_made_first() {
    let refused = LocalListener::bind("/no/such/folder/socket").unwrap_err();
    assert!(matches!(refused, BindError::System { .. }), "{refused}");
    assert!(
        refused.to_string().contains("make its folder first"),
        "{refused}"
    );
}
