//! `platter layer`, and what it says.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::daemon::platter;
use super::tool::{Outcome, outcome};
use super::{MIB, Random, write};

/// Runs `platter layer` in `folder`.
pub(crate) fn layer(folder: &Path, arguments: &[&str]) -> Outcome {
    outcome(platter(folder).arg("layer").args(arguments))
}

/// The JSON that it prints; it must end with this code.
#[track_caller]
pub(crate) fn json_of(folder: &Path, code: i32, arguments: &[&str]) -> Value {
    let done = layer(folder, arguments);
    let ended = done.status.code();
    assert_eq!(ended, Some(code), "{arguments:?}: {}", done.stderr);
    serde_json::from_str(&done.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", done.stdout))
}

/// How a layer was left, and the exit code that says so.
#[track_caller]
pub(crate) fn condition(folder: &Path, arguments: &[&str]) -> (String, Option<i32>) {
    let done = layer(folder, &[&["check", "--json"], arguments].concat());
    let report: Value = serde_json::from_str(&done.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", done.stdout, done.stderr));
    let condition = report["condition"].as_str().expect("a text").to_owned();
    (condition, done.status.code())
}

pub(crate) fn clean() -> (String, Option<i32>) {
    ("clean".to_owned(), Some(0))
}

/// A folder with an image of 16 MiB that has no zeros, and its bytes.
pub(crate) fn folder_with_base() -> (TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let bytes = Random::new(81).bytes(16 * MIB);
    write(&folder.path().join("base.raw"), &bytes);
    (folder, bytes)
}
