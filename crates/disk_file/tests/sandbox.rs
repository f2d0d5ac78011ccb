//! In a sandbox that takes io_uring away (seccomp): before a disk is opened, and while it is used.
//!
//! A filter is for ever, so each case is a process of its own: this program again, told by an environment variable.

mod common;

use common::{inspected, open, read};
use disk_backend::Disk;
use disk_file::FileDiskOptions;
use futures_lite::future::block_on;
use nix::libc;
use scsi_buffers::HostBuffers;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::process::Command;

const CASE: &str = "PLATTER_TEST_SANDBOX";
const THREAD_COUNT: u64 = 4;
const SECTORS_PER_THREAD: u64 = 64;

/// From now on, all threads of this process are refused these system calls.
fn close_sandbox(refused: &[libc::c_long]) {
    let errno = SeccompAction::Errno(libc::EPERM as u32);
    let rules = refused.iter().map(|call| (*call, Vec::new())).collect();
    let architecture = std::env::consts::ARCH.try_into().expect("it is known");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, architecture);
    let program = BpfProgram::try_from(filter.expect("a filter")).expect("it compiles");
    seccompiler::apply_filter_all_threads(&program).expect("whoever has no more rights may");
}

/// Many threads write at once, so that all rings are asked; then everything is read, past what the disk itself may keep.
fn use_hard(disk: &Disk, stamp: u8) {
    std::thread::scope(|scope| {
        for thread in 0..THREAD_COUNT {
            scope.spawn(move || {
                for sector in thread * SECTORS_PER_THREAD..(thread + 1) * SECTORS_PER_THREAD {
                    let bytes = [stamp ^ sector as u8; 512];
                    let source = HostBuffers::from_ref(&bytes);
                    block_on(disk.write_vectored(&source.buffers(), sector, false))
                        .expect("it writes");
                }
            });
        }
    });
    block_on(disk.sync_cache()).expect("it flushes");
    for sector in 0..THREAD_COUNT * SECTORS_PER_THREAD {
        assert!(read(disk, sector, 1) == [stamp ^ sector as u8; 512]);
    }
}

/// What the other process does. Does nothing if this is none.
#[test]
fn inside() {
    let Ok(case) = std::env::var(CASE) else {
        return;
    };
    let log = tracing_subscriber::fmt().with_writer(std::io::stdout);
    log.init();
    let every_call = [
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let new_disk = |name: &str| {
        let options = FileDiskOptions {
            create: true,
            size_bytes: Some(1 << 20),
            hand_over_writes: true,
            ..Default::default()
        };
        open(&folder.path().join(name), &options).expect("a new image")
    };
    match case.as_str() {
        "before" => {
            close_sandbox(&every_call);
            let disks = ["a.raw", "b.raw"].map(new_disk);
            for disk in &disks {
                assert_eq!(inspected(disk, "io_uring"), false);
                use_hard(disk, 0);
            }
        }
        "while it is used" => {
            let disk = new_disk("a.raw");
            if inspected(&disk, "kind") == "file" {
                assert_eq!(inspected(&disk, "io_uring"), true, "it is not refused yet");
            }
            use_hard(&disk, 0);
            close_sandbox(&every_call);
            use_hard(&disk, 0xff);
            use_hard(&new_disk("b.raw"), 0);
        }
        other => panic!("there is no case `{other}`"),
    }
}

fn said_in(case: &str) -> String {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["inside", "--exact", "--nocapture"])
        .env(CASE, case)
        .env("NO_COLOR", "1")
        .output()
        .expect("it starts");
    let [said, failed] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{said}\n{failed}");
    said
}

#[test]
fn without_io_uring_threads_do_it_and_that_is_said_once() {
    // In memory nothing waits, so nobody asks for a ring, nor misses one.
    let is_memory = common::places()[0].file_system == "tmpfs";
    for (case, message) in [
        ("before", "no io_uring here"),
        ("while it is used", "io_uring is refused from now on"),
    ] {
        let said = said_in(case);
        let count = said.matches(message).count();
        assert_eq!(count, usize::from(!is_memory), "{case}:\n{said}");
        assert_eq!(said.matches("WARN").count(), count, "{case}:\n{said}");
    }
}
