//! Finding out who holds a lock, to put a name into the error.

use std::fmt;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

/// Who holds the lock that is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holder {
    /// Another open disk of this very process.
    ThisProcess,
    /// Another process of this machine.
    Process {
        /// Its number.
        pid: u32,
        /// The name of its program.
        command: String,
    },
    /// It could not be found out: another machine, a container, or another user's process.
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ThisProcess => f.write_str("another disk of this process"),
            Self::Process { pid, command } => write!(f, "process {pid} ({command})"),
            Self::Unknown => f.write_str("another process (its number cannot be seen from here)"),
        }
    }
}

/// What is sought: a lock on one byte of one file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sought {
    pub(crate) inode: u64,
    pub(crate) byte: u64,
    /// Our own open file of it, which holds locks too.
    pub(crate) except_fd: i32,
}

/// Looks through the open files of all processes that may be looked at.
pub(crate) fn find_holder(sought: Sought) -> Holder {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Holder::Unknown;
    };
    let own_pid = std::process::id();
    for process in processes.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let except_fd = (pid == own_pid).then_some(sought.except_fd);
        if !holds(&process.path(), sought, except_fd) {
            continue;
        }
        if pid == own_pid {
            return Holder::ThisProcess;
        }
        let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        return Holder::Process {
            pid,
            command: command.trim_end().to_owned(),
        };
    }
    Holder::Unknown
}

/// Whether a process has a file open on which the lock is held. What vanishes meanwhile, or may not be seen, does not count.
fn holds(process: &Path, sought: Sought, except_fd: Option<i32>) -> bool {
    let Ok(files) = fs::read_dir(process.join("fdinfo")) else {
        return false;
    };
    files.flatten().any(|file| {
        let fd = file
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok());
        let is_ours = except_fd.is_some() && fd == except_fd;
        !is_ours
            && fs::read_to_string(file.path()).is_ok_and(|info| {
                info.lines()
                    .filter_map(parse_lock)
                    .any(|(inode, bytes)| inode == sought.inode && bytes.contains(&sought.byte))
            })
    })
}

/// Parses `lock: 1: OFDLCK ADVISORY READ -1 fe:00:1234 100 101` into the inode and the bytes.
///
/// The device numbers are of no use: some file systems show others here than to `stat`.
fn parse_lock(line: &str) -> Option<(u64, RangeInclusive<u64>)> {
    let fields: Vec<&str> = line.strip_prefix("lock:")?.split_whitespace().collect();
    let [_, "OFDLCK" | "POSIX", _, _, _, file, first, last] = fields[..] else {
        return None;
    };
    let inode = file.rsplit(':').next()?.parse().ok()?;
    let last = if last == "EOF" {
        u64::MAX
    } else {
        last.parse().ok()?
    };
    Some((inode, first.parse().ok()?..=last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_about_locks_are_understood_and_others_are_not() {
        let line = "lock:\t1: OFDLCK ADVISORY  READ -1 fe:00:10010957 100 101";
        assert_eq!(parse_lock(line), Some((10_010_957, 100..=101)));
        let line = "lock:\t2: POSIX  ADVISORY  WRITE 4711 00:1c:7 0 EOF";
        assert_eq!(parse_lock(line), Some((7, 0..=u64::MAX)));
        for other in [
            "",
            "pos:\t0",
            "lock:",
            "lock:\t1: FLOCK  ADVISORY  WRITE 1 fe:00:7 0 EOF",
            "lock:\t1: OFDLCK a b c d e f",
        ] {
            assert_eq!(parse_lock(other), None, "{other:?}");
        }
    }
}
