//! The guest's machine: started on a disk, listened to, stopped, or cut off from its power.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::disk::SIZE_BYTES;
use super::kit::Kit;
use super::said::Said;
use super::trouble::{Step, Trouble};
use crate::Fallible;
use crate::soak::{LOOK_INTERVAL, TIME_MAX, daemon};

const KERNEL_LOG: &str = "kernel.log";
const CONSOLE_LOG: &str = "console.log";
const QEMU_LOG: &str = "qemu.log";

/// What the kernel says when a disk or a file system is not as it should be.
const COMPLAINTS: [&str; 8] = [
    "I/O error",
    "EXT4-fs error",
    "EXT4-fs warning",
    "Remounting filesystem",
    "Aborting journal",
    "JBD2:",
    "blocked for more than",
    "Kernel panic",
];

/// What a machine is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) kit: &'a Kit,
    pub(crate) initramfs: &'a Path,
    /// Where the daemon listens, and logs go.
    pub(crate) folder: &'a Path,
}

/// What a machine does when it is switched on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start<'a> {
    /// It boots, with a disk that nothing is on, until the guest would look for its disk; it can be asked over this socket to save
    /// what it is then.
    Boot { monitor: &'a Path },
    /// It goes on from what was saved there, with the daemon's disk.
    GoOn {
        saved: &'a Path,
        /// For how long QEMU waits for a daemon that is gone. So long the guest waits, and meets no error.
        reconnect_seconds: u64,
    },
}

/// A wait that only what hangs comes to the end of.
pub(crate) const WAITS: u64 = 2 * TIME_MAX.as_secs();

#[derive(Debug)]
pub(crate) struct Machine {
    child: Child,
    input: ChildStdin,
    said: Receiver<String>,
    kernel_log: PathBuf,
}

impl Machine {
    pub(crate) fn start(parts: Parts<'_>, start: Start<'_>) -> Fallible<Self> {
        let kernel_log = parts.folder.join(KERNEL_LOG);
        let failed = |error| format!("cannot start QEMU: {error}");
        let log = File::create(parts.folder.join(QEMU_LOG)).map_err(failed)?;
        let mut console = File::create(parts.folder.join(CONSOLE_LOG)).map_err(failed)?;
        let mut command = parts.kit.qemu();
        command
            .args(["-accel", "tcg", "-machine", "pc", "-smp", "1", "-m", "256"])
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
            ])
            .arg("-kernel")
            .arg(&parts.kit.kernel)
            .arg("-initrd")
            .arg(parts.initramfs)
            .args(["-append", "console=ttyS0 loglevel=5 panic=-1"])
            .args(["-chardev", "stdio,id=said,signal=off"])
            .arg("-serial")
            .arg(format!("file:{}", kernel_log.display()))
            .args(["-serial", "chardev:said"])
            .args(["-device", "virtio-blk-pci,drive=disk"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        match start {
            Start::Boot { monitor } => command
                .arg("-blockdev")
                .arg(format!("null-co,node-name=disk,read-zeroes=on,size={SIZE_BYTES}"))
                .arg("-monitor")
                .arg(format!("unix:{},server=on,wait=off", monitor.display())),
            Start::GoOn {
                saved,
                reconnect_seconds,
            } => command
                .arg("-blockdev")
                .arg(format!(
                    "nbd,node-name=disk,server.type=unix,server.path={},export={EXPORT},reconnect-delay={reconnect_seconds}",
                    daemon::socket(parts.folder).display(),
                ))
                .arg("-incoming")
                .arg(format!("exec:cat '{}'", saved.display())),
        };
        let mut child = command.spawn().map_err(failed)?;
        let input = child.stdin.take().expect("it was asked for");
        let output = child.stdout.take().expect("it was asked for");
        let (tell, said) = channel();
        std::thread::spawn(move || {
            for line in whole_lines(output) {
                let _ = writeln!(console, "{line}");
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            child,
            input,
            said,
            kernel_log,
        })
    }

    /// The next thing that the guest says, or nothing when it has said everything: it has ended.
    pub(crate) fn hear(&self) -> Step<Option<Said>> {
        match self.said.recv_timeout(TIME_MAX) {
            Ok(line) => Said::parse(&line).map(Some).map_err(Trouble::Broken),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(Trouble::Found(format!(
                "the guest has said nothing for {TIME_MAX:?}: it hangs"
            ))),
        }
    }

    /// What it says within so long, if it says anything.
    pub(crate) fn hear_within(&self, time: Duration) -> Step<Option<Said>> {
        match self.said.recv_timeout(time) {
            Ok(line) => Said::parse(&line).map(Some).map_err(Trouble::Broken),
            Err(_) => Ok(None),
        }
    }

    /// Says a line to the guest.
    pub(crate) fn say(&mut self, line: &str) -> Fallible {
        let sent = writeln!(self.input, "{line}").and_then(|()| self.input.flush());
        sent.map_err(|error| format!("cannot say `{line}` to the guest: {error}"))
    }

    /// Cuts its power. What it had said before can still be heard.
    pub(crate) fn kill(&mut self) -> Fallible {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        let killed = killed.map_err(|error| format!("cannot kill QEMU: {error}"));
        killed.map(drop)
    }

    /// Waits until it has switched itself off.
    pub(crate) fn wait(&mut self) -> Step {
        let begun = Instant::now();
        loop {
            let status = self.child.try_wait();
            let status = status.map_err(|error| format!("cannot wait for QEMU: {error}"))?;
            match status {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(Trouble::Broken(format!("QEMU ended with {status}"))),
                None if begun.elapsed() > TIME_MAX => {
                    let what = format!("the guest did not switch itself off within {TIME_MAX:?}");
                    return Err(Trouble::Found(what));
                }
                None => std::thread::sleep(LOOK_INTERVAL),
            }
        }
    }

    /// Everything that the kernel says must be about something else than disks.
    pub(crate) fn check_kernel_log(&self) -> Step {
        let bytes = std::fs::read(&self.kernel_log)
            .map_err(|error| format!("cannot read {}: {error}", self.kernel_log.display()))?;
        match complaint(&String::from_utf8_lossy(&bytes)) {
            None => Ok(()),
            Some(line) => Err(Trouble::Found(format!("the guest's kernel says: {line}"))),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Ended already, or given up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The export that the guest's disk is.
pub(crate) const EXPORT: &str = "disk";

fn complaint(log: &str) -> Option<&str> {
    let is_complaint = |line: &&str| COMPLAINTS.iter().any(|words| line.contains(words));
    log.lines().find(is_complaint)
}

/// Lines that came to their end; a part of one is what a power cut leaves.
fn whole_lines(output: impl Read) -> impl Iterator<Item = String> {
    let mut output = BufReader::new(output);
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        output.read_until(b'\n', &mut line).ok()?;
        let text = line.strip_suffix(b"\n")?;
        Some(String::from_utf8_lossy(text).trim_end().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_was_not_said() {
        let lines: Vec<_> = whole_lines(&b"mounted\r\nsynced a b\nsynced c"[..]).collect();
        assert_eq!(lines, ["mounted", "synced a b"]);
    }

    #[test]
    fn a_kernel_that_met_an_error_complains_and_one_that_boots_does_not() {
        let fine = "[    0.1] PCI: fatal error\n[    2.9] virtio_blk virtio0: 1/0/0 queues\n\
                    [    3.0] EXT4-fs (vda): recovery complete\n";
        assert_eq!(complaint(fine), None);
        for line in [
            "[ 4.0] I/O error, dev vda, sector 2048 op 0x1:(WRITE)",
            "[ 4.1] Buffer I/O error on dev vda, logical block 3",
            "[ 4.2] EXT4-fs error (device vda): ext4_lookup:1",
            "[ 4.3] Aborting journal on device vda-8.",
        ] {
            assert_eq!(complaint(&format!("{fine}{line}\n")), Some(line));
        }
    }
}
