//! Programs of other people: finding them, and running them with a limit and their output kept.

use std::io::{Read, Write};
use std::panic::Location;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use super::{LOOK_INTERVAL, TIME_MAX};

/// The programs the tests talk to, and the package of each.
const PEERS: &str = include_str!("../../peers.txt");

/// Finds each of `tools`. Where one is missing the test cannot run: this says so, loudly, and returns `None`
/// for the test to return; with `CI=true` it panics.
#[track_caller]
pub(crate) fn peers<const COUNT: usize>(tools: [&str; COUNT]) -> Option<[PathBuf; COUNT]> {
    let missing = tools.iter().find(|tool| find(tool).is_none());
    let Some(tool) = missing else {
        return Some(tools.map(|tool| find(tool).expect("was found just now")));
    };
    let package = package(tool);
    let reason = format!("needs {tool}: install it with: sudo apt-get install {package}");
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "a peer is missing: {reason}"
    );
    skip(&reason);
    None
}

/// Says, past the runner that swallows the output of what passes, that the calling test did not run.
#[track_caller]
pub(crate) fn skip(reason: &str) {
    let thread = std::thread::current();
    let test = match thread.name() {
        Some(name) if name != "main" => name.to_owned(),
        _ => Location::caller().to_string(),
    };
    let mut line = format!("{test} {reason}\n");
    if let Some(report) = std::env::var_os("PLATTER_SKIP_REPORT") {
        let file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&report);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the skip report can be written");
    }
    line.insert_str(0, "skipped: ");
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("standard error can be written");
}

fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // An ordinary user's PATH leaves the system folders out, where mke2fs and its kin are.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders
        .map(|folder| folder.join(tool))
        .find(|candidate| candidate.is_file())
}

fn package(tool: &str) -> &'static str {
    let lines = PEERS
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.into_iter().find(|words| words.first() == Some(&tool));
    line.unwrap_or_else(|| panic!("{tool} is not in peers.txt"))[1]
}

/// What became of a program.
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program that must succeed; returns its standard output. On failure shows all it wrote.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let Outcome {
        status,
        stdout,
        stderr,
    } = outcome(command);
    assert!(
        status.success(),
        "{command:?} failed: {status}\n{stdout}\n{stderr}"
    );
    stdout
}

/// Runs a program to its end, whatever that is.
#[track_caller]
pub(crate) fn outcome(command: &mut Command) -> Outcome {
    let spawned = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawned.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let stdout = read_aside(child.stdout.take().expect("standard output is a pipe"));
    let stderr = read_aside(child.stderr.take().expect("standard error is a pipe"));
    let begun = Instant::now();
    let mut is_late = false;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        if begun.elapsed() > TIME_MAX && !is_late {
            is_late = true;
            child.kill().expect("a child can be killed");
        }
        std::thread::sleep(LOOK_INTERVAL);
    };
    let text = |reader: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&reader.join().expect("a reader does not panic")).into_owned()
    };
    let outcome = Outcome {
        status,
        stdout: text(stdout),
        stderr: text(stderr),
    };
    assert!(
        !is_late,
        "{command:?} hangs; it wrote\n{}\n{}",
        outcome.stdout, outcome.stderr
    );
    outcome
}

fn read_aside(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe can be read");
        bytes
    })
}
