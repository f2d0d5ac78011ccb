//! Serving while a command runs.

use crate::exit::Failure;
use crate::ready;
use shared_child::SharedChild;
use shared_child::unix::SharedChildExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::Arc;

/// Starts `command` in a shell, told where the disk is.
///
/// # Errors
/// If the shell cannot be started.
pub(crate) fn start(
    command: &str,
    uri: &str,
    socket: Option<&Path>,
) -> Result<Arc<SharedChild>, Failure> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).env("PLATTER_URI", uri);
    match socket {
        Some(socket) => shell.env("PLATTER_SOCKET", socket),
        None => shell.env_remove("PLATTER_SOCKET"),
    };
    // What a service manager told us is not meant for the command.
    for name in ready::VARIABLES {
        shell.env_remove(name);
    }
    SharedChild::spawn(&mut shell)
        .map(Arc::new)
        .map_err(|error| Failure::running(format!("cannot start `sh` for --run: {error}")))
}

/// Asks the command to end, if it has not.
pub(crate) fn terminate(child: &SharedChild) {
    if let Err(error) = child.send_signal(signal_hook::consts::SIGTERM) {
        tracing::warn!("cannot end the command of --run: {error}");
    }
}

/// The exit code that tells of a command's end as shells do.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    // A process ends with a code or by a signal; codes are below 256 and signals below 128.
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commands_end_becomes_our_exit_code() {
        let code = |raw| exit_code(ExitStatus::from_raw(raw));
        assert_eq!(code(0), ExitCode::SUCCESS);
        assert_eq!(code(7 << 8), ExitCode::from(7));
        assert_eq!(code(15), ExitCode::from(143));
    }
}
