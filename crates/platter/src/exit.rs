//! How the process ends.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// What the help says of exit codes.
pub(crate) const HELP: &str = "\
Exit codes:
  0  success
  1  something failed while running
  2  the command line is wrong
  3  the configuration is wrong, or a disk in it cannot be opened
  4  `compare`: the disks differ
  5  `layer check`: the layer was not closed; nothing is wrong with that
  6  `layer check`: the layer is damaged
  130, 143  `copy`, `compare`, `layer`: SIGINT or SIGTERM ended it before it was done
With --run, the exit code of the command; 128 and the signal's number if a signal ended it.";

/// The exit code of a comparison that found a difference.
pub(crate) const DIFFERENT: u8 = 4;

/// The exit code of a check that found a layer that was not closed.
pub(crate) const NOT_CLOSED: u8 = 5;

/// The exit code of a check that found damage.
pub(crate) const DAMAGED: u8 = 6;

/// Why the process ends before its time.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something failed while running.
    Running(Box<dyn Error + Send + Sync>),
    /// The configuration is wrong, or a disk in it cannot be opened; one message for each thing that is wrong.
    Configuration(Vec<String>),
}

impl Failure {
    /// Something failed while running.
    pub(crate) fn running(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Running(error.into())
    }

    /// The configuration is wrong.
    pub(crate) fn configuration(message: impl fmt::Display) -> Self {
        Self::Configuration(vec![message.to_string()])
    }

    /// Says so on standard error.
    #[expect(
        clippy::print_stderr,
        reason = "this is where a command's failure goes"
    )]
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Running(error) => {
                eprintln!("platter: {}", chain(&**error));
                ExitCode::from(1)
            }
            Self::Configuration(messages) => {
                for message in messages {
                    eprintln!("platter: {message}");
                }
                ExitCode::from(3)
            }
        }
    }
}

/// For the log: all messages in one line.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running(error) => f.write_str(&chain(&**error)),
            Self::Configuration(messages) => f.write_str(&messages.join("; ")),
        }
    }
}

/// An error and its causes, in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut messages = vec![error.to_string()];
    let mut error = error;
    while let Some(source) = error.source() {
        messages.push(source.to_string());
        error = source;
    }
    // Some errors repeat their cause in their own message, and may say behind it what to do.
    messages.dedup_by(|cause, effect| effect.contains(cause.as_str()));
    messages.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Outer(&'static str, #[source] std::io::Error);

    #[test]
    fn a_chain_of_causes_is_one_line_without_repetition() {
        let cause = || std::io::Error::other("no such thing");
        assert_eq!(
            chain(&Outer("cannot open x", cause())),
            "cannot open x: no such thing"
        );
        assert_eq!(
            chain(&Outer("x: no such thing", cause())),
            "x: no such thing"
        );
        assert_eq!(
            chain(&Outer("x: no such thing; make it", cause())),
            "x: no such thing; make it"
        );
    }
}
