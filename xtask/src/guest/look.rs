//! Looks at what a disk holds after the power was cut: copies it out, lets the file system recover, has it checked, and reads all files.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::ledger::Found;
use super::trouble::{Step, Trouble};
use crate::{Fallible, run, workspace};

const CONTENT: &str = "content.raw";
const FILES: &str = "files";

/// All files of the disk that `document` in `folder` describes, with their sums. Nothing of the disk is changed: all is done to a copy.
pub(crate) fn files(program: &Path, folder: &Path, document: &str) -> Step<Found> {
    let content = folder.join(CONTENT);
    remove(&content)?;
    let mut copy = Command::new(program);
    copy.current_dir(folder).args(["copy", document, CONTENT]);
    must(&mut copy, "the disk cannot be read", &[0])?;
    // 1: something was mended, which is the journal here.
    let journal = ["-y", "-E", "journal_only"];
    must(
        e2fsck(&content).args(journal),
        "the journal cannot be replayed",
        &[0, 1],
    )?;
    must(
        e2fsck(&content).args(["-f", "-n"]),
        "the file system is damaged",
        &[0],
    )?;
    let files = folder.join(FILES);
    if files.exists() {
        let removed = std::fs::remove_dir_all(&files);
        removed.map_err(|error| format!("cannot remove {}: {error}", files.display()))?;
    }
    std::fs::create_dir(&files)
        .map_err(|error| format!("cannot make {}: {error}", files.display()))?;
    let mut dump = Command::new("debugfs");
    // Who is not root cannot give files to root; that is said, and nothing else is wrong.
    dump.arg("-R")
        .arg(format!("rdump / {}", files.display()))
        .arg(&content);
    run::output(&mut dump)?;
    Ok(sums(&files)?)
}

fn e2fsck(image: &Path) -> Command {
    let program = crate::peers::find("e2fsck").unwrap_or_else(|| "e2fsck".into());
    let mut command = Command::new(program);
    command.arg(image);
    command
}

/// Runs a program that judges the disk.
fn must(command: &mut Command, otherwise: &str, good: &[i32]) -> Step {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start `{}`: {error}", run::as_line(command)))?;
    if status.code().is_some_and(|code| good.contains(&code)) {
        return Ok(());
    }
    let said = [stdout, stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let line = run::as_line(command);
    Err(Trouble::Found(format!(
        "{otherwise}: `{line}` ended with {status}\n{}",
        said.trim_end()
    )))
}

fn remove(file: &Path) -> Fallible {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", file.display()))
        }
        _ => Ok(()),
    }
}

/// The MD5 sum of each file, by its path in `folder`.
pub(crate) fn sums(folder: &Path) -> Fallible<Found> {
    let files = workspace::files_below(folder, "")?;
    let mut found = Found::new();
    // Not more than a command line can hold.
    for files in files.chunks(500) {
        let mut command = Command::new("md5sum");
        for line in run::output(command.arg("-z").args(files))?.split('\0') {
            let Some((sum, file)) = line.split_once("  ") else {
                continue;
            };
            let file = Path::new(file).strip_prefix(folder);
            let file = file.map_err(|_| format!("`md5sum` says `{line}`"))?;
            found.insert(file.display().to_string(), sum.to_owned());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_found_with_its_sum() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("1-2")).unwrap();
        std::fs::write(folder.path().join("1-2/cell"), "hello\n").unwrap();
        let found = sums(folder.path()).unwrap();
        let sum = "b1946ac92492d2347c6235b4d2611184";
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [("1-2/cell".into(), sum.into())]
        );
    }
}
