//! Running other programs: echoed as a line that can be pasted, failing with the program's name.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

use crate::Fallible;
use crate::workspace::Workspace;

/// The cargo that started us, at the root of the checkout.
pub(crate) fn cargo(workspace: &Workspace) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(&workspace.root);
    command
}

/// The command as a line for a shell. Quotes whatever a shell would take apart.
pub(crate) fn as_line(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    std::iter::once(name)
        .chain(command.get_args())
        .map(quoted)
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Echoes and runs the command, which writes to our own output and reads nothing.
pub(crate) fn run(command: &mut Command) -> Fallible {
    println!("$ {}", as_line(command));
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("cannot start `{}`: {error}", as_line(command)))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("`{}` failed: {status}", as_line(command)))
}

/// Runs the command quietly and returns what it wrote to standard output; its standard error is
/// part of the failure's message.
pub(crate) fn output(command: &mut Command) -> Fallible<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start `{}`: {error}", as_line(command)))?;
    if !status.success() {
        let stderr = String::from_utf8_lossy(&stderr);
        return Err(format!(
            "`{}` failed: {status}\n{}",
            as_line(command),
            stderr.trim_end()
        ));
    }
    String::from_utf8(stdout)
        .map_err(|_| format!("`{}` wrote something that is not UTF-8", as_line(command)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echoed_line_can_be_pasted() {
        let mut command = Command::new("/usr/bin/fio");
        command.args(["--uri=nbd+unix:///?socket=/tmp/s", "plain", "it's", ""]);
        assert_eq!(
            as_line(&command),
            r"fio '--uri=nbd+unix:///?socket=/tmp/s' plain 'it'\''s' ''"
        );
    }

    #[test]
    fn a_failing_command_is_an_error_that_names_it() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert!(
            error.contains("sh -c 'exit 3'") && error.contains('3'),
            "{error}"
        );
    }

    #[test]
    fn a_failing_quiet_command_shows_its_standard_error() {
        let error = output(Command::new("sh").args(["-c", "echo oops >&2; false"])).unwrap_err();
        assert!(error.contains("oops"), "{error}");
    }

    #[test]
    fn a_missing_program_is_an_error_that_names_it() {
        let error = run(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(error.contains("no-such-program-here"), "{error}");
    }
}
