//! QEMU and we keep out of each other's images.

mod common;

use common::{have, open, refusal, write};
use disk_file::FileDiskOptions;
use futures_lite::future::block_on;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use tempfile::TempDir;

fn image() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("disk.raw");
    std::fs::File::create(&path)
        .and_then(|file| file.set_len(1 << 20))
        .expect("an image");
    (folder, path)
}

fn read_only() -> FileDiskOptions {
    FileDiskOptions {
        read_only: true,
        ..Default::default()
    }
}

/// A `qemu-io` that has the image open until it is dropped.
struct Qemu {
    child: Child,
    stdin: ChildStdin,
}

impl Qemu {
    fn open(path: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new("qemu-io")
            .args(arguments)
            .args(["-f", "raw"])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("qemu-io starts");
        let mut stdin = child.stdin.take().expect("piped");
        // Once it answers, it has opened the image.
        stdin.write_all(b"length\n").expect("it listens");
        let mut answers = BufReader::new(child.stdout.take().expect("piped")).lines();
        let answer = answers.next().expect("it answers").expect("text");
        assert!(answer.contains("1 MiB"), "{answer}");
        Self { child, stdin }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // A quit that it no longer hears: it is waited for all the same.
        let _ = self.stdin.write_all(b"quit\n");
        let _ = self.child.wait();
    }
}

/// Runs `qemu-io` once, and returns whether it could, and what it said.
fn qemu_once(path: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("qemu-io")
        .args(arguments)
        .args(["-f", "raw"])
        .arg(path)
        .output()
        .expect("qemu-io starts");
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn an_image_that_was_flushed_and_dropped_can_be_opened_again_at_once() {
    let (_folder, path) = image();
    for round in 0..500 {
        let disk = open(&path, &FileDiskOptions::default())
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        write(&disk, 0, &[7; 512]);
        block_on(disk.sync_cache()).expect("it flushes");
    }
}

#[test]
fn qemu_is_refused_what_we_use() {
    if !have("qemu-io") {
        return;
    }
    let (_folder, path) = image();
    let disk = open(&path, &FileDiskOptions::default()).expect("nobody uses it");
    let (could, said) = qemu_once(&path, &["-c", "write 0 512"]);
    assert!(!could && said.contains("lock"), "{said}");
    drop(disk);
    let reader = open(&path, &read_only()).expect("nobody uses it");
    let (could, said) = qemu_once(&path, &["-c", "write 0 512"]);
    assert!(!could && said.contains("lock"), "{said}");
    let (could, said) = qemu_once(&path, &["-r", "-c", "read 0 512"]);
    assert!(could, "readers coexist: {said}");
    drop(reader);
    let (could, said) = qemu_once(&path, &["-c", "write 0 512"]);
    assert!(could, "all locks are gone: {said}");
}

#[test]
fn we_are_refused_what_qemu_writes_and_told_who_it_is() {
    if !have("qemu-io") {
        return;
    }
    let (_folder, path) = image();
    let qemu = Qemu::open(&path, &[]);
    let who = format!(
        "in use by process {} (qemu-io), which writes to it",
        qemu.child.id()
    );
    for options in [FileDiskOptions::default(), read_only()] {
        let message = refusal(&path, &options);
        assert!(message.contains(&who), "{message}");
    }
    drop(qemu);
    open(&path, &FileDiskOptions::default()).expect("it is free again");
}

#[test]
fn we_read_what_qemu_reads() {
    if !have("qemu-io") {
        return;
    }
    let (_folder, path) = image();
    let _qemu = Qemu::open(&path, &["-r"]);
    open(&path, &read_only()).expect("readers coexist");
}

#[test]
fn conversions_by_qemu_neither_read_nor_overwrite_what_we_write() {
    if !have("qemu-img") {
        return;
    }
    let (folder, path) = image();
    let other = folder.path().join("other.raw");
    std::fs::copy(&path, &other).expect("a copy");
    let _disk = open(&path, &FileDiskOptions::default()).expect("nobody uses it");
    for (from, to) in [(&path, &other), (&other, &path)] {
        let output = Command::new("qemu-img")
            .args(["convert", "-n", "-f", "raw", "-O", "raw"])
            .args([from, to])
            .output()
            .expect("qemu-img starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains("lock"),
            "{from:?} to {to:?}: {said}"
        );
    }
}
