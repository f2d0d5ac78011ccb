//! Pages of the documentation do what they say: their blocks are run in an empty folder, one after the other.
//!
//! A comment on the line before a block says what the block is for:
//!
//! - `<!-- run -->`: a script, or a console, where lines after `$ ` are commands and the others are what they print (`...`
//!   stands for any number of lines). Each must succeed, but for a search that finds nothing.
//! - `<!-- serve NAME -->`: a daemon, which is left running.
//!
//! Two comments need no block: `<!-- stop NAME -->` asks a daemon to end, and `<!-- needs TOOL -->` names a peer, without which
//! the page is not tried.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::daemon::platter;
use crate::support::tool::{Outcome, outcome};
use crate::support::{LOOK_INTERVAL, TIME_MAX, peers, read};

#[test]
fn a_cache_over_a_slow_base_works_as_written() {
    try_page(include_str!(
        "../../../../docs/cookbook/cache-over-a-slow-base.md"
    ));
}

#[test]
fn a_machine_keeps_its_changes_as_written() {
    try_page(include_str!(
        "../../../../docs/cookbook/a-machine-that-keeps-its-changes.md"
    ));
}

#[test]
fn a_machine_is_reset_as_written() {
    try_page(include_str!(
        "../../../../docs/cookbook/reset-by-dropping-a-layer.md"
    ));
}

#[test]
fn a_cache_survives_as_written() {
    try_page(include_str!(
        "../../../../docs/cookbook/a-cache-that-survives.md"
    ));
}

#[test]
fn one_image_for_many_machines_works_as_written() {
    try_page(include_str!(
        "../../../../docs/cookbook/one-image-many-machines.md"
    ));
}

#[test]
fn the_control_socket_works_as_written() {
    try_page(include_str!("../../../../docs/control.md"));
}

#[test]
fn faulty_disks_fail_as_written() {
    try_page(include_str!("../../../../docs/faults.md"));
}

#[test]
fn throttled_and_delayed_disks_are_slow_as_written() {
    try_page(include_str!("../../../../docs/throttle.md"));
}

#[test]
fn tls_works_as_written() {
    try_page(include_str!("../../../../docs/nbd.md"));
}

/// Something that a page asks for.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    Script(String),
    Console(Vec<(String, Vec<&'a str>)>),
    Serve(&'a str, String),
    Stop(&'a str),
}

/// What a page asks for, in order.
#[track_caller]
fn steps(page: &str) -> Vec<Step<'_>> {
    let mut lines = page.lines();
    let mut steps = Vec::new();
    while let Some(line) = lines.next() {
        let comment = line.strip_prefix("<!-- ");
        let Some(wish) = comment.and_then(|rest| rest.strip_suffix(" -->")) else {
            continue;
        };
        let (verb, name) = wish.split_once(' ').unwrap_or((wish, ""));
        if verb == "stop" {
            steps.push(Step::Stop(name));
            continue;
        }
        if verb == "needs" {
            continue;
        }
        let fence = lines.next().expect("a block follows");
        let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        steps.push(match (verb, fence) {
            ("run", "```sh") => Step::Script(block.join("\n")),
            ("run", "```console") => Step::Console(console(&block)),
            ("serve", "```sh") => Step::Serve(name, block.join("\n")),
            other => panic!("{line}: nobody knows what this is for: {other:?}"),
        });
    }
    steps
}

/// The commands of a console, each with what it prints. A document that is given to a command is a part of it.
fn console<'a>(block: &[&'a str]) -> Vec<(String, Vec<&'a str>)> {
    let mut commands: Vec<(String, Vec<&str>)> = Vec::new();
    let mut is_document = false;
    for line in block {
        if let Some(command) = line.strip_prefix("$ ") {
            is_document = command.ends_with("<<'END'");
            commands.push((command.to_owned(), Vec::new()));
            continue;
        }
        let (command, printed) = commands
            .last_mut()
            .expect("a console begins with a command");
        if is_document {
            *command += "\n";
            *command += line;
            is_document = *line != "END";
        } else {
            printed.push(line);
        }
    }
    commands
}

/// Whether `printed` is what is `shown`, where `...` stands for any number of lines.
fn agrees(shown: &[&str], printed: &[&str]) -> bool {
    match (shown, printed) {
        ([], []) => true,
        (["...", rest @ ..], _) => (0..=printed.len()).any(|from| agrees(rest, &printed[from..])),
        ([line, shown @ ..], [same, printed @ ..]) if line == same => agrees(shown, printed),
        _ => false,
    }
}

fn try_page(page: &str) {
    let needs = page
        .lines()
        .filter_map(|line| line.strip_prefix("<!-- needs "));
    let mut tools = needs.map(|rest| rest.trim_end_matches(" -->"));
    if tools.any(|tool| peers([tool]).is_none()) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut daemons = Daemons(BTreeMap::new());
    let steps = steps(page);
    assert!(steps.len() > 3, "the page asks for {steps:?}");
    for step in steps {
        println!("{step:?}");
        match step {
            Step::Script(text) => _ = run(folder.path(), &text),
            Step::Console(commands) => {
                for (command, shown) in commands {
                    let printed = run(folder.path(), &command);
                    let printed: Vec<_> = printed.lines().collect();
                    assert!(
                        agrees(&shown, &printed),
                        "{command}\nshown: {shown:#?}\nprinted: {printed:#?}"
                    );
                }
            }
            Step::Serve(name, command) => daemons.start(folder.path(), name, &command),
            Step::Stop(name) => daemons.stop(name),
        }
    }
    assert!(daemons.0.is_empty(), "the page leaves daemons running");
}

fn shell(folder: &Path, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-e", "-c", script]).current_dir(folder);
    let own = Path::new(platter(folder).get_program())
        .parent()
        .map(Path::to_owned);
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = own.into_iter().chain(env::split_paths(&path));
    let path: OsString = env::join_paths(folders).expect("it was a list of folders before");
    command
        .env("PATH", path)
        .env("NO_COLOR", "1")
        .env_remove("PLATTER_LOG");
    command
}

/// Runs commands in a shell and returns what they printed. A search that finds nothing may fail, if nothing is all it prints.
#[track_caller]
fn run(folder: &Path, script: &str) -> String {
    let Outcome {
        status,
        stdout,
        stderr,
    } = outcome(&mut shell(folder, script));
    let found_nothing = script.contains("| grep ") && stdout.is_empty() && stderr.is_empty();
    assert!(
        status.success() || found_nothing,
        "{script}\nfailed: {status}\n{stdout}\n{stderr}"
    );
    stdout
}

/// The daemons that a page has left running, by their names; killed when dropped.
struct Daemons<'a>(BTreeMap<&'a str, Child>);

impl<'a> Daemons<'a> {
    /// Starts one and waits until it says that it serves.
    #[track_caller]
    fn start(&mut self, folder: &Path, name: &'a str, command: &str) {
        let log = folder.join(format!("{name}.log"));
        let stdout = std::fs::File::create(&log).expect("a log can be made");
        let stderr = stdout.try_clone().expect("a file can be shared");
        let child = shell(folder, &format!("exec {command}"))
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .expect("a shell can be started");
        // Of a daemon of that name that has died by itself nothing is left to wait for but its end.
        if let Some(mut former) = self.0.insert(name, child) {
            former.wait().expect("a child can be waited for");
        }
        let begun = Instant::now();
        while !String::from_utf8_lossy(&read(&log)).contains("Ctrl-C stops") {
            let ended = self.0.get_mut(name).map(Child::try_wait);
            assert!(
                matches!(ended, Some(Ok(None))),
                "{command} ended: {ended:?}"
            );
            assert!(begun.elapsed() < TIME_MAX, "{command} does not serve");
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Ctrl-C, or nothing if it has died already; then waits for its end.
    #[track_caller]
    fn stop(&mut self, name: &str) {
        let mut daemon = self.0.remove(name).expect("it was started");
        if daemon
            .try_wait()
            .expect("a child can be waited for")
            .is_none()
        {
            kill_process(Pid::from_child(&daemon), Signal::INT).expect("it runs");
            let status = daemon.wait().expect("a child can be waited for");
            assert!(status.success(), "{name} ended with {status}");
        }
    }
}

impl Drop for Daemons<'_> {
    fn drop(&mut self) {
        for daemon in self.0.values_mut() {
            // It may have ended already; either way it is gone afterwards.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

#[test]
fn what_a_page_shows_is_compared_line_by_line() {
    assert!(agrees(&["a", "...", "d"], &["a", "b", "c", "d"]));
    assert!(agrees(&["a", "..."], &["a"]));
    assert!(agrees(&[], &[]));
    for (shown, printed) in [
        (&["a"][..], &["b"][..]),
        (&["a"], &["a", "b"]),
        (&["a", "b"], &["a"]),
        (&[], &["a"]),
        (&["...", "a"], &["a", "b"]),
    ] {
        assert!(!agrees(shown, printed), "{shown:?} and {printed:?}");
    }
}

#[test]
fn only_blocks_with_a_comment_are_steps() {
    let page = "```sh\nno\n```\n<!-- run -->\n```sh\na\nb\n```\n<!-- serve x -->\n```sh\nc\n```\n<!-- stop x -->\n\
                <!-- run -->\n```console\n$ d\ne\n$ f <<'END'\ng\nEND\nh\n```\n";
    let commands = vec![
        ("d".to_owned(), vec!["e"]),
        ("f <<'END'\ng\nEND".to_owned(), vec!["h"]),
    ];
    assert_eq!(
        steps(page),
        [
            Step::Script("a\nb".to_owned()),
            Step::Serve("x", "c".to_owned()),
            Step::Stop("x"),
            Step::Console(commands)
        ]
    );
}
