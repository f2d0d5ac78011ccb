//! A server of somebody else's that a disk keeps its bytes at, and that logs every change and every flush.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::machine::EXPORT;
use crate::Fallible;
use crate::soak::{LOOK_INTERVAL, TIME_MAX};

/// Relative to the folder of the round.
pub(crate) const SOCKET: &str = "store.sock";
const LOG: &str = "writes.log";

#[derive(Debug)]
pub(crate) struct LogServer {
    child: Child,
    pub(crate) log: PathBuf,
}

impl LogServer {
    /// Serves `image` of `folder`, and returns when clients can connect.
    pub(crate) fn start(folder: &Path, image: &str) -> Fallible<Self> {
        let log = folder.join(LOG);
        let failed = |error| format!("cannot start qemu-nbd: {error}");
        // It wants the file to be there.
        std::fs::File::create(&log).map_err(failed)?;
        let _ = std::fs::remove_file(folder.join(SOCKET));
        let child = Command::new("qemu-nbd")
            .current_dir(folder)
            .args(["--persistent", "--shared", "4", "--export-name", EXPORT])
            .arg("--socket")
            .arg(folder.join(SOCKET))
            .arg("--image-opts")
            .arg(format!(
                "driver=blklogwrites,file.driver=file,file.filename={image},log.driver=file,log.filename={LOG}"
            ))
            .stdin(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let mut server = Self { child, log };
        let begun = Instant::now();
        while !folder.join(SOCKET).exists() {
            if let Some(status) = server.child.try_wait().map_err(failed)? {
                return Err(format!("qemu-nbd ended before it listened: {status}"));
            }
            if begun.elapsed() > TIME_MAX {
                return Err(format!("qemu-nbd does not listen after {TIME_MAX:?}"));
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        Ok(server)
    }

    /// Ends it in order; then the log is complete. Returns where that is.
    pub(crate) fn stop(mut self) -> Fallible<PathBuf> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a child has a number"), Signal::TERM)
            .map_err(|error| format!("cannot send SIGTERM to qemu-nbd: {error}"))?;
        let begun = Instant::now();
        loop {
            let status = self.child.try_wait();
            let status = status.map_err(|error| format!("cannot wait for qemu-nbd: {error}"))?;
            match status {
                Some(_) => return Ok(self.log.clone()),
                None if begun.elapsed() > TIME_MAX => {
                    return Err(format!("qemu-nbd did not end within {TIME_MAX:?}"));
                }
                None => std::thread::sleep(LOOK_INTERVAL),
            }
        }
    }
}

impl Drop for LogServer {
    fn drop(&mut self) {
        // Ended already, or given up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
