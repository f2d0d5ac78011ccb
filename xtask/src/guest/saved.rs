//! A guest that has booted, saved in a file: each of its lives goes on from there, and need not boot.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::machine::{Machine, Parts, Start};
use super::said::Said;
use crate::Fallible;
use crate::soak::TIME_MAX;

const SAVED: &str = "booted";
const MONITOR: &str = "monitor.sock";

/// What QEMU's monitor says when it waits for a command.
const PROMPT: &[u8] = b"(qemu) ";

/// Boots a guest and saves it.
pub(crate) fn make(parts: Parts<'_>) -> Fallible<PathBuf> {
    let saved = parts.folder.join(SAVED);
    let monitor = parts.folder.join(MONITOR);
    let mut machine = Machine::start(parts, Start::Boot { monitor: &monitor })?;
    match machine.hear()? {
        Some(Said::Ready) => {}
        other => return Err(format!("the guest did not boot: it said {other:?}")),
    }
    let failed = |error| format!("cannot ask QEMU to save the guest: {error}");
    let mut monitor = UnixStream::connect(monitor).map_err(failed)?;
    monitor.set_read_timeout(Some(TIME_MAX)).map_err(failed)?;
    hear_prompt(&mut monitor).map_err(failed)?;
    let mut ask = |line: String| {
        monitor.write_all(line.as_bytes())?;
        hear_prompt(&mut monitor)
    };
    ask(format!("migrate \"exec:cat >'{}'\"\n", saved.display())).map_err(failed)?;
    let became = ask("info migrate\n".into()).map_err(failed)?;
    machine.kill()?;
    match became.contains("Migration status: completed") {
        true => Ok(saved),
        false => Err(format!("QEMU did not save the guest: {became}")),
    }
}

/// What is said up to the next prompt.
fn hear_prompt(monitor: &mut UnixStream) -> std::io::Result<String> {
    let mut said = Vec::new();
    while !said.ends_with(PROMPT) {
        let mut byte = [0];
        monitor.read_exact(&mut byte)?;
        said.extend(byte);
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}
