//! The control socket: what its clients may look at and change, and what the worst of them cannot do to the others.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::client::{Client, command};
use crate::support::control::Control;
use crate::support::daemon::{STDOUT, log_file, platter};
use crate::support::process::wait_until_still;
use crate::support::tool::outcome;
use crate::support::{Daemon, KIB, MIB, assert_same_bytes, run, write};

const SOCKET: &str = "control.sock";

/// A daemon with a control socket, and a connection to it.
fn controlled<'a>(arguments: impl IntoIterator<Item = &'a str>) -> (Daemon, Control) {
    let arguments = arguments.into_iter().chain(["--control", SOCKET]);
    let daemon = Daemon::serve(arguments);
    let control = connect(&daemon);
    (daemon, control)
}

fn connect(daemon: &Daemon) -> Control {
    Control::connect(&daemon.folder().join(SOCKET))
}

/// A command that asks this daemon.
fn asking(daemon: &Daemon, arguments: &[&str]) -> Command {
    let mut command = platter(daemon.folder());
    command.args(arguments).args(["--control", SOCKET]);
    command
}

fn open(daemon: &Daemon, export: &str) -> Client {
    Client::open(daemon.connect(), export).expect("the export can be opened")
}

#[test]
fn the_tree_of_a_running_daemon_is_shown_by_path_and_depth() {
    let (daemon, mut control) = controlled(["--layer", "ram:1M"]);
    let mut client = daemon.client();
    client.write(0, &[1; 512]);
    let tree = control.inspect("");
    assert_eq!(tree["pid"], daemon.pid());
    assert_eq!(tree["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(tree["exports"][""]["disk"]["sector_count"], 2048);
    let connections = control.inspect("connections");
    let mut connections = connections.as_object().unwrap().values();
    assert!(
        connections.any(|one| one["requests"] == 1),
        "{connections:?}"
    );
    let shallow = control.get(json!({ "op": "inspect", "depth": 1, "id": 5 }));
    assert_eq!(shallow["exports"], json!({ "...": "not shown" }));
    let shown = run(&mut asking(&daemon, &["inspect", "exports//disk/layers/0"]));
    assert!(shown.contains("layer_type: ram\n"), "{shown}");
    let shown = run(&mut asking(&daemon, &["inspect", "limits", "--json"]));
    let shown: Value = serde_json::from_str(&shown).expect("--json prints JSON");
    assert_eq!(shown, control.inspect("limits"));
    daemon.stop();
}

#[test]
fn a_value_is_changed_by_its_path_and_refused_with_a_reason() {
    let (daemon, mut control) = controlled(["--layer", "ram:1M"]);
    let path = "exports//disk/layers/0/backing/sector_count";
    let set = json!({ "op": "set", "path": path, "value": 4096 });
    assert_eq!(control.get(set), 4096);
    assert_eq!(daemon.client().size_bytes, 2 * MIB);
    assert_eq!(run(&mut asking(&daemon, &["set", path, "2048"])), "2048\n");
    assert_eq!(daemon.client().size_bytes, MIB);
    for (arguments, clue) in [
        (["set", path, "many"], "many"),
        (["set", "exports//disk/sector_size", "1"], "not changed"),
        (["set", "exports//disc", "1"], "disk"),
    ] {
        let refused = outcome(&mut asking(&daemon, &arguments));
        assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
        assert!(refused.stderr.contains(clue), "{}", refused.stderr);
    }
    assert_eq!(daemon.client().size_bytes, MIB);
    daemon.stop();
}

#[test]
fn exports_come_and_go_while_others_are_served() {
    let (daemon, mut control) = controlled(["--layer", "ram:1M"]);
    let mut first = daemon.client();
    write(&daemon.folder().join("base.raw"), vec![7; MIB as usize]);
    let layers = ["--layer", "ram", "--layer", "file:base.raw"];
    let added = run(asking(&daemon, &["export", "add", "vm"]).args(layers));
    assert_eq!(
        added,
        "vm: 1 MiB, sectors of 512 bytes, writable, gone when platter stops\n"
    );
    let description = r#"{ "type": "file", "path": "base.raw" }"#;
    write(&daemon.folder().join("disk.json"), description);
    let from_file = [
        "export",
        "add",
        "image",
        "--disk",
        "disk.json",
        "--read-only",
    ];
    run(&mut asking(&daemon, &from_file));
    let mut vm = open(&daemon, "vm");
    vm.write(512, &[8; 512]);
    assert_same_bytes(&vm.read(0, 1024), &[[7; 512], [8; 512]].concat());
    assert_same_bytes(&open(&daemon, "image").read(512, 512), &[7; 512]);
    let list = run(&mut asking(&daemon, &["export", "list", "--json"]));
    let list: Value = serde_json::from_str(&list).unwrap();
    let names: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["", "image", "vm"]);
    assert_eq!(run(&mut asking(&daemon, &["export", "remove", "vm"])), "");
    let mut rest = Vec::new();
    vm.stream
        .read_to_end(&mut rest)
        .expect("the connection ends in order");
    assert!(rest.is_empty());
    Client::open(daemon.connect(), "vm")
        .err()
        .expect("it is gone");
    first.write(0, &[9; 512]);
    let again = json!({ "op": "remove_export", "name": "vm" });
    assert_eq!(control.ask(again)["error"]["path"], "name");
    daemon.stop();
}

#[test]
fn a_wrong_export_is_refused_with_its_place_and_changes_nothing() {
    let (daemon, mut control) = controlled(["--layer", "ram:1M", "--read-only"]);
    let add = |export: Value| json!({ "op": "add_export", "export": export, "id": "a" });
    let ram = json!({ "type": "layered", "layers": [{ "type": "ram", "size": "1M" }] });
    for (request, path) in [
        (add(json!({ "name": "x" })), "export.disk"),
        (add(json!({ "name": "", "disk": ram })), "export.name"),
        (
            add(json!({ "name": "x", "disk": { "type": "fil" } })),
            "export.disk.type",
        ),
        (
            add(json!({ "name": "x", "disk": { "type": "file", "path": "nowhere" } })),
            "export.disk.path",
        ),
        (
            json!({ "op": "add_export", "export": { "name": "x", "disk": ram }, "base": "here", "id": "a" }),
            "base",
        ),
    ] {
        let reply = control.ask(request.clone());
        assert_eq!(reply["error"]["path"], path, "{request}: {reply}");
        assert_eq!(reply["id"], "a");
    }
    // What holds for the daemon holds for those who come later.
    control.get(add(json!({ "name": "x", "disk": ram })));
    let exports = control.get(json!({ "op": "list_exports" }));
    assert_eq!(exports[1]["read_only"], true, "{exports}");
    daemon.stop();
}

#[test]
fn a_disk_is_resized_for_those_who_connect_afterwards() {
    let (daemon, mut control) = controlled(["--layer", "ram:1M"]);
    assert_eq!(
        run(&mut asking(&daemon, &["resize", "", "3M"])),
        "(default export): 3 MiB, sectors of 512 bytes, writable, gone when platter stops\n"
    );
    assert_eq!(daemon.client().size_bytes, 3 * MIB);
    for (export, size, path) in [("", 513, "size"), ("", 0, "size"), ("x", 512, "export")] {
        let reply = control.ask(json!({ "op": "resize", "export": export, "size": size }));
        assert_eq!(reply["error"]["path"], path, "{reply}");
    }
    daemon.stop();
}

#[test]
fn the_control_socket_is_its_owners_alone_and_goes_with_the_daemon() {
    let (daemon, _control) = controlled(["--layer", "ram:1M"]);
    let metadata = std::fs::metadata(daemon.folder().join(SOCKET)).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let second = ["serve", "--layer", "ram:1M", "--listen", "unix:second.sock"];
    let refused = outcome(&mut asking(&daemon, &second));
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("another server"),
        "{}",
        refused.stderr
    );
    let folder = daemon.stop();
    assert!(!folder.path().join(SOCKET).exists());
}

#[test]
fn commands_find_the_only_daemon_and_choose_none_of_several() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = folder.path().to_owned();
    let start = |socket: &'static str, folder| {
        let mut command = platter(&runtime);
        let listen = format!("unix:{socket}");
        command.args([
            "serve",
            "--layer",
            "ram:1M",
            "--control",
            "auto",
            "--listen",
            &listen,
        ]);
        command
            .env("XDG_RUNTIME_DIR", &runtime)
            .current_dir(&folder);
        let stdout = log_file(&folder, STDOUT);
        Daemon::start(folder, command, stdout, socket)
    };
    let list = || {
        let mut command = platter(&runtime);
        command
            .args(["export", "list"])
            .env("XDG_RUNTIME_DIR", &runtime);
        outcome(&mut command)
    };
    let none = list();
    assert!(none.stderr.contains("--control auto"), "{}", none.stderr);
    let first = start("a.sock", tempfile::tempdir().unwrap());
    assert!(list().stdout.contains("1 MiB"));
    let second = start("b.sock", tempfile::tempdir().unwrap());
    let several = list();
    assert_eq!(several.status.code(), Some(1));
    for daemon in [&first, &second] {
        assert!(
            several.stderr.contains(&daemon.pid().to_string()),
            "{}",
            several.stderr
        );
    }
    second.stop();
    assert!(list().stdout.contains("1 MiB"));
    first.stop();
}

#[test]
fn nonsense_is_answered_and_the_connection_goes_on() {
    let (daemon, mut control) = controlled(["--layer", "ram:1M"]);
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let names = format!(r#"{{"op":"inspect","path":"{}"}}"#, "a/".repeat(100_000));
    for line in [
        &b""[..],
        b"\xff",
        b"{",
        b"[]",
        nested.as_bytes(),
        names.as_bytes(),
    ] {
        control.send(line);
        let reply = control.hear().expect("the daemon replies");
        let message = reply["error"]["message"].as_str().expect("a message");
        assert!(!message.is_empty() && message.len() < 1000, "{message}");
    }
    assert_eq!(control.inspect("pid"), daemon.pid());
    daemon.stop();
}

#[test]
fn a_request_without_end_is_cut_off() {
    let (daemon, mut control) = controlled(["--layer", "ram:1M"]);
    let line = vec![b' '; 4 * MIB as usize];
    // The daemon does not take all of it.
    let _ = control.stream().write_all(&line);
    match control.hear() {
        Some(reply) => assert!(
            reply["error"]["message"]
                .as_str()
                .unwrap()
                .contains("1 MiB")
        ),
        None => panic!("no reply"),
    }
    assert_eq!(connect(&daemon).inspect("pid"), daemon.pid());
    daemon.stop();
}

#[test]
fn clients_that_say_or_hear_nothing_hold_up_only_themselves_and_their_number_is_bounded() {
    let (mut daemon, mut control) = controlled(["--layer", "ram:1M"]);
    let mut clients: Vec<_> = (0..31).map(|_| connect(&daemon)).collect();
    // It asks for more than any socket holds, and takes nothing.
    let deaf = &clients[0];
    deaf.stream().set_nonblocking(true).unwrap();
    let request = b"{\"op\":\"inspect\"}\n".repeat(64 * KIB as usize);
    let mut sent = 0;
    while sent < request.len() {
        match deaf.stream().write(&request[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(control.inspect("pid"), daemon.pid());
    let full = connect(&daemon).hear().expect("it is told why");
    assert!(
        full["error"]["message"]
            .as_str()
            .unwrap()
            .contains("32 clients"),
        "{full}"
    );
    drop(clients.pop());
    daemon.wait_until(|daemon| {
        outcome(&mut asking(daemon, &["inspect", "pid"]))
            .status
            .success()
    });
    daemon.stop();
}

#[test]
fn removing_an_export_that_drains_slowly_holds_up_nobody() {
    let (daemon, mut control) = controlled(["--layer", "ram:16M"]);
    run(asking(&daemon, &["export", "add", "slow"]).args(["--layer", "ram:16M"]));
    // Replies that do not fit into the socket have to be taken before the connection can end.
    let mut slow = open(&daemon, "slow");
    let len = MIB as u32;
    for _ in 0..8 {
        slow.send(command::READ, 0, len, &[]);
    }
    let mut removing = connect(&daemon);
    removing.send(r#"{"op":"remove_export","name":"slow"}"#);
    let mut other = daemon.client();
    loop {
        other.write(0, &[1; 512]);
        assert_eq!(control.inspect("pid"), daemon.pid());
        let exports = control.inspect("exports");
        if exports.get("slow").is_none() {
            break;
        }
    }
    removing.stream().set_nonblocking(true).unwrap();
    let early = removing
        .stream()
        .read(&mut [0])
        .expect_err("it is not done yet");
    assert_eq!(early.kind(), ErrorKind::WouldBlock);
    removing.stream().set_nonblocking(false).unwrap();
    let mut rest = Vec::new();
    slow.stream
        .read_to_end(&mut rest)
        .expect("it ends in order");
    assert_eq!(removing.hear().unwrap(), json!({ "ok": null }));
    daemon.stop();
}

#[test]
fn a_control_client_that_says_nothing_costs_nothing_and_does_not_keep_the_daemon() {
    let (daemon, mut control) = controlled(["--layer", "ram:1M"]);
    control.inspect("");
    wait_until_still(daemon.pid(), std::time::Duration::from_millis(1500));
    daemon.signal(Signal::TERM);
    assert!(
        control.hear().is_none(),
        "the connection ends with the daemon"
    );
    let (status, log, _) = daemon.wait();
    assert!(status.success(), "{log}");
}
