//! `platter serve` as a user starts it, on a Unix socket in a folder of its own.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::client::{self, Client};
use super::{LOOK_INTERVAL, TIME_MAX};

/// A running daemon; killed when dropped. If the test fails its log is shown.
pub(crate) struct Daemon {
    child: Child,
    folder: TempDir,
    /// Its name in the folder.
    socket: &'static str,
}

impl Daemon {
    /// Starts `platter serve` with these arguments and waits until it answers.
    #[track_caller]
    pub(crate) fn serve<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Self {
        Self::serve_in(
            tempfile::tempdir().expect("a temporary folder can be made"),
            arguments,
        )
    }

    /// The same, in a folder that the test has put files into; it is the working directory.
    #[track_caller]
    pub(crate) fn serve_in<'a>(
        folder: TempDir,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut command = platter(folder.path());
        command
            .arg("serve")
            .args(arguments)
            .arg("--listen")
            .arg(format!("unix:{SOCKET}"));
        let stdout = log_file(&folder, STDOUT);
        Self::start(folder, command, stdout, SOCKET)
    }

    /// Starts this command, whose socket will have this name in the folder, and waits until it answers.
    #[track_caller]
    pub(crate) fn start(
        folder: TempDir,
        command: Command,
        stdout: File,
        socket: &'static str,
    ) -> Self {
        Self::start_given(folder, command, Stdio::null(), stdout, socket)
    }

    /// The same with something on its standard input.
    #[track_caller]
    pub(crate) fn start_given(
        folder: TempDir,
        mut command: Command,
        stdin: impl Into<Stdio>,
        stdout: File,
        socket: &'static str,
    ) -> Self {
        command
            .stdin(stdin)
            .stdout(stdout)
            .stderr(log_file(&folder, STDERR));
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let mut daemon = Self {
            child,
            folder,
            socket,
        };
        daemon.wait_until(|daemon| daemon.greets());
        daemon
    }

    /// Waits for something that a running daemon will bring about.
    #[track_caller]
    pub(crate) fn wait_until(&mut self, mut is_so: impl FnMut(&mut Self) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            let status = self.child.try_wait().expect("a child can be waited for");
            assert!(
                status.is_none(),
                "the daemon ended: {}\n{}",
                status.unwrap(),
                self.log()
            );
            assert!(
                begun.elapsed() < TIME_MAX,
                "waited for too long\n{}",
                self.log()
            );
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    fn greets(&self) -> bool {
        UnixStream::connect(self.socket())
            .is_ok_and(|stream| client::greet_and_leave(stream).is_ok())
    }

    /// Whether it said that it serves.
    pub(crate) fn serves(&self) -> bool {
        self.log().contains("Serving\n")
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join(self.socket)
    }

    /// What a program connects to for the default export.
    pub(crate) fn uri(&self) -> String {
        self.uri_of("")
    }

    /// What a program connects to for an export with a plain name.
    pub(crate) fn uri_of(&self, export: &str) -> String {
        format!("nbd+unix:///{export}?socket={}", self.socket().display())
    }

    /// A connection of our own client, ready for requests.
    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        Client::open(self.connect(), "").expect("the default export can be opened")
    }

    /// A connection on which nothing has been said yet.
    #[track_caller]
    pub(crate) fn connect(&self) -> UnixStream {
        client::connect(&self.socket())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The folder that the daemon was started in, with whatever it and the test have put there.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Everything it wrote so far.
    pub(crate) fn log(&self) -> String {
        let mut log = String::new();
        for name in [STDOUT, STDERR] {
            let text = std::fs::read(self.folder.path().join(name)).unwrap_or_default();
            write!(log, "{}", String::from_utf8_lossy(&text)).expect("a string takes everything");
        }
        log
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("a running child takes signals");
    }

    /// Waits for its end and returns how it ended, what it wrote, and its folder.
    #[track_caller]
    pub(crate) fn wait(mut self) -> (ExitStatus, String, TempDir) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            assert!(
                begun.elapsed() < TIME_MAX,
                "the daemon does not end\n{}",
                self.log()
            );
            std::thread::sleep(LOOK_INTERVAL);
        };
        let log = self.log();
        let elsewhere = tempfile::tempdir().expect("a temporary folder can be made");
        (status, log, std::mem::replace(&mut self.folder, elsewhere))
    }

    /// Asks it to end, as a service manager does, and expects that it ends well and without a panic.
    #[track_caller]
    pub(crate) fn stop(self) -> TempDir {
        self.signal(Signal::TERM);
        let (status, log, folder) = self.wait();
        assert!(status.success(), "the daemon ended with {status}\n{log}");
        assert!(!log.contains("panicked"), "{log}");
        folder
    }
}

/// Names of files in the daemon's folder.
const SOCKET: &str = "nbd.sock";
pub(crate) const STDOUT: &str = "platter.stdout";
pub(crate) const STDERR: &str = "platter.stderr";

/// A file in the daemon's folder that it writes to.
pub(crate) fn log_file(folder: &TempDir, name: &str) -> File {
    File::create(folder.path().join(name)).expect("a log can be made")
}

/// The program under test, in this folder and with nothing set that would change what it says.
pub(crate) fn platter(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_platter"));
    command
        .current_dir(folder)
        .env_remove("PLATTER_LOG")
        .env("NO_COLOR", "1");
    command
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the daemon's log:\n{}", self.log());
        }
        // It may have ended already; either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
