//! `cargo xtask test`: every ring of tests in one run of `cargo test`, a second and a third one for the builds that bugs are planted
//! in and that threads are steered in, and then the truth about what did not run.
//!
//! The interop tests skip themselves where a real program is missing. They write each skip into a
//! file that we name to them (a passing test's output is swallowed by its runner), and we print it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::workspace::{Workspace, read};
use crate::{Fallible, peers, run};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install the real programs that the interop tests need (with apt-get, as root; elsewhere, says
    /// what to install)
    #[arg(long)]
    pub(crate) install: bool,
    /// Run one ring only
    #[arg(long, value_enum)]
    pub(crate) ring: Option<Ring>,
}

/// A part of the tests that is useful alone.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Ring {
    /// Real programs against the real daemon
    Interop,
    /// Whether bugs that are planted on purpose are found
    Planted,
    /// What threads that meet can do, schedule by schedule
    Exploration,
}

/// What is built with bugs that can be switched on. That is a build by itself: a feature that one crate wants, all in a build get.
pub(crate) const WITH_BUGS: &[&str] = &[
    "--package",
    "planted",
    "--package",
    "worlds",
    "--features",
    "planted/on,worlds/planted",
];

/// What is built so that schedules of threads can be explored, in a build by itself as well.
pub(crate) const EXPLORED: &[&str] = &["--package", "exploration", "--features", "shuttle"];

/// Tells the interop tests where to report what they skipped.
const SKIP_REPORT: &str = "PLATTER_SKIP_REPORT";

/// What ran, and what did not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    passed_count: usize,
    failed_count: usize,
    ignored_count: usize,
    /// Reasons by the name of the test.
    skipped: BTreeMap<String, String>,
}

/// Runs the tests and returns what to say about them. It is an error if any failed or was ignored, and,
/// where nobody is watching, if a peer is missing.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Fallible<Summary> {
    if args.install {
        peers::install()?;
    }
    if !matches!(args.ring, Some(Ring::Planted | Ring::Exploration)) {
        say_what_is_missing()?;
    }
    let report = tempfile::NamedTempFile::new()
        .map_err(|error| format!("cannot make a temporary file: {error}"))?;
    let runs: &[&[&str]] = match args.ring {
        None => &[&["--workspace"], WITH_BUGS, EXPLORED],
        Some(Ring::Interop) => &[&["--workspace", "--test", "interop"]],
        Some(Ring::Planted) => &[WITH_BUGS],
        Some(Ring::Exploration) => &[EXPLORED],
    };
    let mut summary = Summary::default();
    let mut passed = Ok(());
    for run in runs {
        let mut command = run::cargo(workspace);
        command.args(["test", "--no-fail-fast"]).args(*run);
        // A failure does not hide what the next run has to say.
        let result = run_counting(command.env(SKIP_REPORT, report.path()), &mut summary);
        passed = passed.and(result);
    }
    summary.note_skips(&read(report.path())?);
    for (test, reason) in &summary.skipped {
        println!("skipped: {test} {reason}");
    }
    summary.verdict(passed).map(|()| summary)
}

fn say_what_is_missing() -> Fallible {
    let missing = peers::missing(&peers::all());
    if missing.is_empty() {
        return Ok(());
    }
    let tools: Vec<_> = missing.iter().map(|peer| peer.tool).collect();
    let line = peers::install_line(&missing);
    let message = format!("missing: {}; install with:\n  {line}", tools.join(", "));
    if peers::is_ci() {
        return Err(message);
    }
    println!("the interop tests that need one of these will be skipped\n{message}");
    Ok(())
}

/// Runs `cargo test`, passes on what it prints and adds up its closing lines.
fn run_counting(command: &mut Command, summary: &mut Summary) -> Fallible {
    let line = run::as_line(command);
    println!("$ {line}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start `{line}`: {error}"))?;
    let output = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
    for text in output.split(b'\n') {
        let text = text.map_err(|error| format!("cannot read from `{line}`: {error}"))?;
        let text = String::from_utf8_lossy(&text);
        println!("{text}");
        summary.count(&text);
    }
    let status = child
        .wait()
        .map_err(|error| format!("cannot wait for `{line}`: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{line}` failed: {status}"))
    }
}

impl Summary {
    /// Adds one closing line of a test runner; takes no notice of other lines.
    fn count(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let counts = result.split_once(". ").map_or(result, |(_, counts)| counts);
        for part in counts.split("; ") {
            let Some((number, what)) = part.split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<usize>() else {
                continue;
            };
            match what {
                "passed" => self.passed_count += number,
                "failed" => self.failed_count += number,
                "ignored" => self.ignored_count += number,
                _ => {}
            }
        }
    }

    /// Takes over the report of what was skipped: on each line a test's name and the reason.
    fn note_skips(&mut self, report: &str) {
        for line in report.lines() {
            let (test, reason) = line.split_once(' ').unwrap_or((line, ""));
            self.skipped.insert(test.to_owned(), reason.to_owned());
        }
        // To its runner, a test that returned early has passed.
        self.passed_count = self.passed_count.saturating_sub(self.skipped.len());
    }

    fn verdict(&self, run: Fallible) -> Fallible {
        run?;
        if self.passed_count == 0 {
            return Err("no test ran".to_owned());
        }
        if self.ignored_count > 0 {
            let count = self.ignored_count;
            return Err(format!(
                "{count} tests are ignored; a test that never runs protects nothing"
            ));
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed",
            self.passed_count, self.failed_count
        )?;
        if self.skipped.is_empty() {
            return Ok(());
        }
        write!(f, ", {} skipped", self.skipped.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; \
                      finished in 0.02s";
    const BAD: &str = "test result: FAILED. 1 passed; 2 failed; 3 ignored; 0 measured; 0 filtered out; \
                       finished in 0.02s";

    fn counted(lines: &[&str]) -> Summary {
        let mut summary = Summary::default();
        lines.iter().for_each(|line| summary.count(line));
        summary
    }

    #[test]
    fn closing_lines_add_up_and_other_lines_do_not_count() {
        let summary = counted(&["running 12 tests", "test a ... ok", OK, BAD]);
        assert_eq!(
            (
                summary.passed_count,
                summary.failed_count,
                summary.ignored_count
            ),
            (13, 2, 3)
        );
        assert_eq!(summary.to_string(), "13 passed, 2 failed");
    }

    #[test]
    fn a_skipped_test_is_not_a_passed_one_and_counts_once() {
        let mut summary = counted(&[OK]);
        summary.note_skips(
            "a needs fio: install it\nb needs fio: install it\na needs nbdkit: install it\n",
        );
        assert_eq!(summary.to_string(), "10 passed, 0 failed, 2 skipped");
        assert_eq!(summary.skipped["b"], "needs fio: install it");
    }

    #[test]
    fn a_run_without_a_test_fails() {
        assert_eq!(counted(&[]).verdict(Ok(())).unwrap_err(), "no test ran");
    }

    #[test]
    fn an_ignored_test_fails_the_run() {
        assert!(
            counted(&[BAD])
                .verdict(Ok(()))
                .unwrap_err()
                .contains("3 tests are ignored")
        );
        assert_eq!(counted(&[OK]).verdict(Ok(())), Ok(()));
    }

    #[test]
    fn the_runners_failure_is_ours() {
        assert_eq!(
            counted(&[OK]).verdict(Err("it broke".into())).unwrap_err(),
            "it broke"
        );
    }

    #[test]
    fn what_the_runner_prints_is_counted_as_it_comes() {
        let mut summary = Summary::default();
        let script = format!("echo '{OK}'; exit 1");
        let result = run_counting(Command::new("sh").args(["-c", &script]), &mut summary);
        assert!(result.is_err());
        assert_eq!(summary.passed_count, 12);
    }
}
