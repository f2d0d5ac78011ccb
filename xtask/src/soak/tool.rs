//! Runs other people's programs: to their end, or to a death by SIGKILL.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::TIME_MAX;
use super::client::{Step, Trouble};
use super::world::World;
use crate::run;

/// How often to look whether a program has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// What became of a program that did nothing wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Success,
    /// It was killed, and the daemon has done with its connections.
    Killed,
}

/// What programs say when bytes are not what they should be.
const WRONG_BYTES: [&str; 3] = [
    "Pattern verification failed",
    "verify: bad",
    "verify failed",
];

/// Runs a program for a client called `name`, and kills it after a while if told to.
pub(crate) fn run(
    world: &World,
    name: &str,
    command: &mut Command,
    kill_after: Option<Duration>,
) -> Step<End> {
    let line = run::as_line(command);
    let wrong = |error: std::io::Error| Trouble::Wrong(format!("`{line}`: {error}"));
    let output = world.folder.join(format!("{name}.out"));
    let file = File::create(&output).map_err(wrong)?;
    let mut child = command
        .current_dir(&world.folder)
        .stdin(Stdio::null())
        .stdout(file.try_clone().map_err(wrong)?)
        .stderr(file)
        .spawn()
        .map_err(wrong)?;
    let begun = Instant::now();
    let mut is_killed = false;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(wrong)? {
            break status;
        }
        let is_late = begun.elapsed() > TIME_MAX;
        let is_time = kill_after.is_some_and(|after| begun.elapsed() >= after);
        if is_late || (is_time && !is_killed) {
            child.kill().map_err(wrong)?;
            is_killed = true;
        }
        if is_late {
            let _ = child.wait();
            return Err(Trouble::Wrong(format!("`{line}` hangs")));
        }
        std::thread::sleep(LOOK_INTERVAL);
    };
    if status.success() {
        return Ok(End::Success);
    }
    let told = std::fs::read(&output).map_err(wrong)?;
    let told = String::from_utf8_lossy(&told);
    let message = format!("`{line}` failed: {status}\n{}", told.trim_end());
    if WRONG_BYTES.iter().any(|words| told.contains(words)) {
        return Err(Trouble::Wrong(message));
    }
    // One that had failed just before it was killed has another status.
    if is_killed && status.code().is_none() {
        world.tally.add("tools killed", 1);
        world.wait_until_process_gone(child.id())?;
        return Ok(End::Killed);
    }
    Err(Trouble::Cut(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Step<End> {
        let folder = tempfile::tempdir().unwrap();
        let world = World::new(1, folder.path().to_owned());
        run(&world, "sh", Command::new("sh").args(["-c", script]), None)
    }

    #[test]
    fn a_program_that_fails_is_trouble_with_what_it_said() {
        assert_eq!(sh("true").unwrap(), End::Success);
        let Err(Trouble::Cut(message)) = sh("echo oops >&2; exit 3") else {
            panic!("a failure is trouble");
        };
        assert!(
            message.contains("oops") && message.contains('3'),
            "{message}"
        );
    }

    #[test]
    fn wrong_bytes_are_wrong_at_any_time() {
        let result = sh("echo 'Pattern verification failed at offset 0'; exit 1");
        assert!(matches!(result, Err(Trouble::Wrong(_))), "{result:?}");
    }

    #[test]
    fn a_program_that_killed_itself_was_not_killed_by_us() {
        assert!(matches!(sh("kill -9 $$"), Err(Trouble::Cut(_))));
    }
}
