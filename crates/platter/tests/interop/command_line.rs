//! What a user types, what comes back on which stream, and with which exit code.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::daemon::{STDERR, STDOUT, log_file, platter};
use crate::support::tool::outcome;
use crate::support::{Daemon, assert_same_bytes, peers, read, run, write};

/// A file that takes nothing.
fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

fn text(path: &Path) -> String {
    String::from_utf8(read(path)).expect("what is written is text")
}

/// The lines behind `Try`, as they are to be pasted.
fn lines_to_paste(said: &str) -> Vec<&str> {
    let behind = said.lines().skip_while(|line| *line != "Try").skip(1);
    behind.map_while(|line| line.strip_prefix("  ")).collect()
}

#[test]
fn without_arguments_it_serves_memory_in_the_runtime_directory_and_says_how_to_connect() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = platter(folder.path());
    command.arg("serve").env("XDG_RUNTIME_DIR", folder.path());
    let stdout = log_file(&folder, STDOUT);
    let daemon = Daemon::start(folder, command, stdout, "platter.sock");
    assert_eq!(daemon.client().size_bytes, 1 << 30);
    let said = text(&daemon.folder().join(STDOUT));
    assert!(said.contains("1 GiB"), "{said}");
    let lines = lines_to_paste(&said);
    for tool in ["nbdinfo", "nbdcopy", "qemu-img", "qemu-system-x86_64"] {
        assert!(lines.iter().any(|line| line.starts_with(tool)), "{said}");
    }
    if let Some([_, _]) = peers(["nbdinfo", "qemu-img"]) {
        for line in lines.iter().filter(|line| line.contains("info ")) {
            let pasted = run(Command::new("sh").args(["-c", line]));
            assert!(pasted.contains("1073741824"), "{line}: {pasted}");
        }
    }
    let said_in_log = text(&daemon.folder().join(STDERR));
    assert!(!said_in_log.contains('\u{1b}'), "colours: {said_in_log:?}");
    daemon.stop();
}

#[test]
fn qemu_is_told_that_a_read_only_disk_is_one() {
    let daemon = Daemon::serve(["--layer", "ram:1M", "--read-only"]);
    let said = text(&daemon.folder().join(STDOUT));
    let lines = lines_to_paste(&said);
    let boots = lines.iter().find(|line| line.starts_with("qemu-system"));
    assert!(boots.unwrap().ends_with(",readonly=on"), "{said}");
    daemon.stop();
}

#[test]
fn each_kind_of_failure_has_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, code, clue) in [
        (&["--version"][..], 0, ""),
        (&["--help"], 0, ""),
        (
            &["serve", "--listen", "unix:no/such/folder/s"],
            1,
            "no/such/folder/s: No such file or directory (os error 2); make its folder first, or choose another path\n",
        ),
        (
            &["export", "add", "vm", "--control", "nowhere"],
            2,
            "<--layer <SPEC>|--disk <DISK.json>>",
        ),
        (&["sevre"], 2, "serve"),
        (
            &["serve", "--listen", "carrier:pigeon"],
            2,
            "carrier:pigeon",
        ),
        (&["serve", "--layer", "rum:1G"], 3, "rum"),
        (&["serve", "--layer", "file:nowhere.raw"], 3, "nowhere.raw"),
        (&["serve", "--run", "exit 9"], 9, ""),
        (&["serve", "--run", "kill -TERM $$"], 128 + 15, ""),
    ] {
        let done = outcome(platter(folder.path()).args(arguments));
        assert_eq!(
            done.status.code(),
            Some(code),
            "{arguments:?}: {}",
            done.stderr
        );
        assert!(done.stderr.contains(clue), "{arguments:?}: {}", done.stderr);
    }
    let version = outcome(platter(folder.path()).arg("--version"));
    assert_eq!(
        version.stdout,
        concat!("platter ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn a_good_document_is_described_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("base.raw"), [7; 4096]);
    let document = r#"{ "exports": [
        { "name": "vm", "disk": { "type": "layered", "layers": [{ "type": "ram" }, { "type": "file", "path": "base.raw" }] } },
        { "name": "data", "disk": { "type": "file", "path": "base.raw", "sector_size": 4096 } }
    ] }"#;
    write(&folder.path().join("disk.json"), document);
    let checked = outcome(platter(folder.path()).args(["check", "disk.json"]));
    assert!(checked.status.success(), "{}", checked.stderr);
    assert_eq!(
        checked.stdout,
        "vm: 4 KiB, sectors of 512 bytes, read-only\n\
         data: 4 KiB, sectors of 4096 bytes, read-only\n\
         disk.json: good\n"
    );
    assert_same_bytes(&read(&folder.path().join("base.raw")), &[7; 4096]);
}

#[test]
fn an_image_that_would_be_created_is_good_and_is_not_created() {
    let folder = tempfile::tempdir().unwrap();
    let disk =
        |path| format!(r#"{{ "type": "file", "path": "{path}", "create": true, "size": "1M" }}"#);
    let check = |document: String| {
        write(&folder.path().join("disk.json"), document);
        outcome(platter(folder.path()).args(["check", "disk.json"]))
    };
    let stack = format!(r#"{{ "type": "layered", "layers": [{}] }}"#, disk("b.raw"));
    let both = format!(
        r#"{{ "exports": [{{ "name": "a", "disk": {} }}, {{ "name": "b", "disk": {stack} }}] }}"#,
        disk("a.raw")
    );
    let good = check(both);
    assert_eq!(
        good.stdout, "a: a.raw would be created\nb: b.raw would be created\ndisk.json: good\n",
        "{}",
        good.stderr
    );
    assert!(!folder.path().join("a.raw").exists());
    // What is below, or read only, is never made.
    let below = format!(
        r#"{{ "type": "layered", "layers": [{{ "type": "ram" }}, {}] }}"#,
        disk("c.raw")
    );
    for document in [
        below,
        format!(
            r#"{{ "exports": [{{ "read_only": true, "disk": {} }}] }}"#,
            disk("d.raw")
        ),
    ] {
        let bad = check(document);
        assert_eq!(bad.status.code(), Some(3), "{}", bad.stdout);
        assert!(bad.stderr.contains("is not created"), "{}", bad.stderr);
    }
}

#[test]
fn an_empty_path_is_called_one() {
    let folder = tempfile::tempdir().unwrap();
    write(
        &folder.path().join("disk.json"),
        r#"{ "type": "file", "path": "" }"#,
    );
    let refused = outcome(platter(folder.path()).args(["serve", "disk.json"]));
    assert_eq!(refused.status.code(), Some(3));
    assert!(
        refused.stderr.contains("path: the path is empty"),
        "{}",
        refused.stderr
    );
}

#[test]
fn the_schema_is_json_and_the_reference_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let schema = run(platter(folder.path()).arg("schema"));
    let schema: Value = serde_json::from_str(&schema).expect("the schema is JSON");
    assert!(schema["$defs"]["layer.ram"]["properties"]["size"].is_object());
    let reference = run(platter(folder.path()).args(["schema", "--markdown"]));
    assert!(reference.contains("### layer `ram`"), "{reference}");
}

#[test]
fn every_command_has_a_manual_page_and_shells_take_the_completions() {
    let folder = tempfile::tempdir().unwrap();
    run(platter(folder.path()).args(["man", "pages"]));
    for page in [
        "platter",
        "platter-serve",
        "platter-export-add",
        "platter-man",
    ] {
        let page = text(&folder.path().join(format!("pages/{page}.1")));
        assert!(
            page.contains(".SH SYNOPSIS") && page.contains(".TH PLATTER"),
            "{page}"
        );
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(platter(folder.path()).args(["completions", shell]));
        assert!(
            script.contains("--take-over") || script.contains("take-over"),
            "{shell}"
        );
        write(&folder.path().join(shell), script);
    }
    run(Command::new("sh")
        .current_dir(folder.path())
        .args(["-c", "if command -v bash >/dev/null; then bash -n bash; fi"]));
    write(&folder.path().join("file"), "");
    let refused = outcome(platter(folder.path()).args(["man", "file"]));
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
}

#[test]
fn every_line_of_a_json_log_is_an_object() {
    let daemon = Daemon::serve(["--layer", "ram:1M", "--log-format", "json", "-v"]);
    daemon.client().disconnect();
    let folder = daemon.stop();
    let log = text(&folder.path().join(STDERR));
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect();
    let said = |level: &str| lines.iter().any(|line| line["level"] == level);
    assert!(said("INFO") && said("DEBUG"), "{log}");
    assert!(
        lines.iter().all(|line| line["message"].is_string()),
        "{log}"
    );
}

#[test]
fn looking_closely_at_one_target_does_not_hide_the_warnings_of_others() {
    let folder = tempfile::tempdir().unwrap();
    for (levels, clue) in [
        ("frontend_nbd=debug", "no TLS"),
        ("%%%", "PLATTER_LOG is ignored"),
    ] {
        let arguments = ["serve", "--listen", "tcp:0.0.0.0:0", "--run", "true"];
        let done = outcome(
            platter(folder.path())
                .args(arguments)
                .env("PLATTER_LOG", levels),
        );
        assert!(done.status.success(), "{}", done.stderr);
        assert!(done.stderr.contains(clue), "{levels}: {}", done.stderr);
    }
}

#[test]
fn an_output_that_nobody_takes_is_an_error_and_no_reason_not_to_serve() {
    let folder = tempfile::tempdir().unwrap();
    let document = r#"{ "type": "layered", "layers": [{ "type": "ram", "size": "1M" }] }"#;
    write(&folder.path().join("disk.json"), document);
    for arguments in [
        &["schema"][..],
        &["schema", "--markdown"],
        &["check", "disk.json"],
    ] {
        let mut command = platter(folder.path());
        let refused = command.args(arguments).stdout(full()).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("cannot write to standard output"), "{said}");
    }
    let mut command = platter(folder.path());
    command.args(["serve", "disk.json", "--listen", "unix:nbd.sock"]);
    let daemon = Daemon::start(folder, command, full(), "nbd.sock");
    daemon.client().write(0, b"served");
    let folder = daemon.stop();
    let log = text(&folder.path().join(STDERR));
    assert!(log.contains("cannot write to standard output"), "{log}");
}
