//! A server under measurement: started on chosen processors, known to answer, gone when dropped.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Fallible, run, workspace};

/// How long a server may take to listen.
const START_TIME_MAX: Duration = Duration::from_secs(20);

/// A running server with an NBD export of its own on a Unix socket.
pub(crate) struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    /// Starts `command`, which is to listen on `socket`, on one processor and waits until it does.
    pub(crate) fn start(command: &Command, processor: usize, socket: PathBuf) -> Fallible<Self> {
        let mut pinned = pin(command, processor);
        let line = run::as_line(&pinned);
        let failed = |error| format!("cannot start `{line}`: {error}");
        let child = pinned
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let mut server = Self { child, socket };
        let begun = Instant::now();
        while greet(&server.socket).is_err() {
            let status = server
                .child
                .try_wait()
                .map_err(|error| format!("cannot wait: {error}"))?;
            if let Some(status) = status {
                return Err(format!("`{line}` ended before it listened: {status}"));
            }
            if begun.elapsed() > START_TIME_MAX {
                return Err(format!(
                    "`{line}` does not listen on {}",
                    server.socket.display()
                ));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// The processor time that it has used up to now, in the program and in the kernel, all its threads together.
    pub(crate) fn cpu_time(&self) -> Fallible<Duration> {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = workspace::read(Path::new(&path))?;
        cpu_time(&stat).ok_or_else(|| format!("{path} has no processor times: `{stat}`"))
    }

    /// What a client connects to.
    pub(crate) fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket.display())
    }
}

/// The sum of `utime` and `stime` in `/proc/PID/stat`, which are in hundredths of a second on all processors that Platter runs on.
/// The name of the program stands in parentheses, and may have some of its own in it; the two are the 12th and 13th word after it.
fn cpu_time(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut words = after_name.split_whitespace().skip(11);
    let mut ticks = || words.next()?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks()? + ticks()?)))
}

/// Connects to an NBD server, hears its greeting and says goodbye, so that it has nothing to complain about.
fn greet(socket: &Path) -> std::io::Result<()> {
    const FIXED_NEWSTYLE: [u8; 4] = 1u32.to_be_bytes();
    const ABORT: [u8; 4] = 2u32.to_be_bytes();
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(START_TIME_MAX))?;
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting)?;
    stream.write_all(&FIXED_NEWSTYLE)?;
    stream.write_all(&[b"IHAVEOPT", &ABORT[..], &[0; 4]].concat())?;
    // The server's goodbye, and the end.
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

impl Drop for Server {
    fn drop(&mut self) {
        // It holds nothing that anybody wants back; an error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same command, held to one processor.
pub(crate) fn pin(command: &Command, processor: usize) -> Command {
    let mut pinned = Command::new("taskset");
    pinned
        .args(["-c", &processor.to_string()])
        .arg(command.get_program())
        .args(command.get_args());
    pinned.envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    pinned
}

/// Two processors that this process may use.
pub(crate) fn two_processors() -> Fallible<[usize; 2]> {
    let path = Path::new("/proc/self/status");
    let status = workspace::read(path)?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    match processors(list.unwrap_or_default())[..] {
        [first, second, ..] => Ok([first, second]),
        _ => Err(
            "the benchmark needs two processors, one for the server and one for the client"
                .to_owned(),
        ),
    }
}

/// The numbers in a list like `0-2,5`.
fn processors(list: &str) -> Vec<usize> {
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_processors_is_read_as_the_kernel_writes_it() {
        assert_eq!(processors("\t0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(processors("7"), [7]);
        assert_eq!(processors(""), [0; 0]);
    }

    #[test]
    fn the_times_are_found_whatever_the_program_is_called() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20 0";
        assert_eq!(cpu_time(stat), Some(Duration::from_millis(1500)));
        assert_eq!(cpu_time("7 (a) S 1 2"), None);
        let own = workspace::read(Path::new("/proc/self/stat")).unwrap();
        assert!(cpu_time(&own).is_some(), "{own}");
    }

    #[test]
    fn a_server_that_ends_at_once_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let result = Server::start(
            &Command::new("false"),
            two_processors().unwrap()[0],
            folder.path().join("s"),
        );
        assert!(result.err().unwrap().contains("ended before it listened"));
    }
}
