//! The daemon under test: started on a folder with images and a document, and asked to end as a service manager does.

use std::fs::{File, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::control::Control;
use super::{LOOK_INTERVAL, TIME_MAX};
use crate::Fallible;

pub(crate) const LOG: &str = "daemon.log";
const SOCKET: &str = "nbd.sock";
const CONTROL: &str = "control.sock";

#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
}

pub(crate) fn socket(folder: &Path) -> PathBuf {
    folder.join(SOCKET)
}

pub(crate) fn control_socket(folder: &Path) -> PathBuf {
    folder.join(CONTROL)
}

pub(crate) fn uri(folder: &Path, export: &str) -> String {
    format!("nbd+unix:///{export}?socket={}", socket(folder).display())
}

impl Daemon {
    /// Starts it on a document in the folder, and returns it when it answers, with a connection to its control socket.
    pub(crate) fn start(
        program: &Path,
        folder: &Path,
        document: &str,
    ) -> Fallible<(Self, Control)> {
        let child = Command::new(program)
            .current_dir(folder)
            .args(["serve", document, "--listen"])
            .arg(format!("unix:{SOCKET}"))
            .args(["--control", CONTROL])
            .stdin(Stdio::null())
            .stdout(log(folder)?)
            .stderr(log(folder)?)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let mut daemon = Self { child };
        let begun = Instant::now();
        loop {
            if let Some(status) = daemon.status()? {
                return Err(format!("the daemon ended before it listened: {status}"));
            }
            match Control::connect(&control_socket(folder)) {
                Ok(control) => return Ok((daemon, control)),
                Err(error) if begun.elapsed() > TIME_MAX => return Err(error),
                Err(_) => std::thread::sleep(LOOK_INTERVAL),
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it has ended, if it has.
    pub(crate) fn status(&mut self) -> Fallible<Option<ExitStatus>> {
        self.child
            .try_wait()
            .map_err(|error| format!("cannot wait for the daemon: {error}"))
    }

    /// Asks it to end: SIGTERM.
    pub(crate) fn ask_to_end(&self) -> Fallible {
        self.signal(Signal::TERM)
            .map_err(|error| format!("cannot send SIGTERM to the daemon: {error}"))
    }

    /// Ends it at once: SIGKILL. Whoever does so has to [`reap`](Self::reap) it, which tells if that could not be sent.
    pub(crate) fn kill(&self) {
        let _ = self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a child has a number"), signal)
    }

    /// Waits until a SIGKILL has ended it, which has to be what does.
    pub(crate) fn reap(&mut self) -> Fallible {
        let begun = Instant::now();
        loop {
            match self.status()? {
                Some(status) if status.signal() == Some(Signal::KILL.as_raw()) => return Ok(()),
                Some(status) => return Err(format!("the daemon ended by itself, with {status}")),
                None if begun.elapsed() > TIME_MAX => {
                    return Err(format!(
                        "the daemon lived for {TIME_MAX:?} after its SIGKILL"
                    ));
                }
                None => std::thread::sleep(LOOK_INTERVAL),
            }
        }
    }

    /// Waits until it has ended, which has to be a success.
    pub(crate) fn wait(&mut self) -> Fallible {
        let begun = Instant::now();
        loop {
            match self.status()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("the daemon ended with {status}")),
                None if begun.elapsed() > TIME_MAX => {
                    return Err(format!("the daemon did not end within {TIME_MAX:?}"));
                }
                None => std::thread::sleep(LOOK_INTERVAL),
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Ended already, or given up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log(folder: &Path) -> Fallible<File> {
    let path = folder.join(LOG);
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(|error| format!("cannot open {}: {error}", path.display()))
}
