//! A daemon that its service manager, or a container, allows no io_uring (seccomp).

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc;
use rustix::fs::statfs;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::support::daemon::{STDOUT, log_file, platter};
use crate::support::{Daemon, MIB, Random, assert_same_bytes, read, write};

/// Set in the process that is to become the daemon.
const BECOME: &str = "PLATTER_TEST_BECOME";

/// Closes the sandbox around itself, and becomes the daemon. Does nothing in the process of the other tests.
#[test]
fn becomes_a_daemon() {
    if std::env::var_os(BECOME).is_none() {
        return;
    }
    let calls = [
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
    ];
    let filter = SeccompFilter::new(
        calls.map(|call| (call, Vec::new())).into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program = BpfProgram::try_from(filter.unwrap()).unwrap();
    seccompiler::apply_filter(&program).unwrap();
    let folder = std::env::current_dir().unwrap();
    let mut command = platter(&folder);
    command
        .env_remove(BECOME)
        .args(["serve", "--listen", "unix:nbd.sock"]);
    command.args(["--layer", "file:top.raw,hand_over_writes=true"]);
    command.args(["--layer", "file:base.raw,ro"]);
    panic!("it is not started: {}", command.exec());
}

#[test]
fn a_daemon_that_is_refused_io_uring_serves_by_threads_and_says_so_once() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = Random::new(6).bytes(4 * MIB);
    write(&folder.path().join("top.raw"), &bytes);
    write(&folder.path().join("base.raw"), &bytes);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["sandbox::becomes_a_daemon", "--exact", "--nocapture"])
        .current_dir(folder.path())
        .env(BECOME, "");
    let stdout = log_file(&folder, STDOUT);
    let daemon = Daemon::start(folder, command, stdout, "nbd.sock");
    let mut client = daemon.client();
    assert_same_bytes(&client.read(0, MIB as u32), &bytes[..MIB as usize]);
    for at in 0..64 {
        client.write(at * 4096, &[at as u8; 4096]);
    }
    client.disconnect();
    let log = daemon.log();
    // In memory nothing waits, so nobody asks for a ring.
    let is_memory = statfs(daemon.folder()).unwrap().f_type == 0x0102_1994;
    let expected = usize::from(!is_memory);
    assert_eq!(log.matches("no io_uring here").count(), expected, "{log}");
    let folder = daemon.stop();
    let expected: Vec<u8> = (0..64).flat_map(|at| [at; 4096]).collect();
    let found = read(&folder.path().join("top.raw"));
    assert_same_bytes(&found[..expected.len()], &expected);
    assert_same_bytes(&found[expected.len()..], &bytes[expected.len()..]);
}
