//! Which requests are refused before they reach the disk.

use crate::export::Export;
use crate::protocol::REQUEST_BYTES_MAX;
use crate::protocol::contexts::ContextSet;
use crate::protocol::errno::Purpose;
use nbd_protocol::command_flag::DF;
use nbd_protocol::{Command, Errno, Framing, Request};

/// Checks a request against the protocol, what was agreed on, and the export.
///
/// `unfragmented_max` is the longest read that can be answered in one piece. `Err` is what to tell the client.
pub(super) fn check(
    request: &Request,
    export: &Export,
    framing: Framing,
    contexts: ContextSet,
    unfragmented_max: usize,
) -> Result<(), (Errno, &'static str)> {
    let command = request.command;
    if let Command::Unknown(_) = command {
        return Err((Errno::Invalid, "the command is not known here"));
    }
    if request.flags & !command.flags_allowed(framing) != 0 {
        return Err((Errno::Invalid, "a flag does not belong to the command"));
    }
    if command.changes() && export.is_read_only() {
        return Err((Errno::Perm, "the export is read-only"));
    }
    match command {
        Command::Flush => {
            return match (request.offset, request.len) {
                (0, 0) => Ok(()),
                _ => Err((Errno::Invalid, "a flush has no offset and no length")),
            };
        }
        Command::Read | Command::Write if request.len > u64::from(REQUEST_BYTES_MAX) => {
            return Err((Errno::Invalid, "the request is longer than 32 MiB"));
        }
        Command::Read if request.has(DF) && request.len > unfragmented_max as u64 => {
            return Err((
                Errno::Overflow,
                "the read is too long to be sent in one piece",
            ));
        }
        Command::Trim if !export.supports_trim() => {
            return Err((Errno::Invalid, "the export cannot be trimmed"));
        }
        Command::BlockStatus if contexts.is_empty() => {
            return Err((Errno::Invalid, "no metadata context was selected"));
        }
        Command::BlockStatus if request.len == 0 => {
            return Err((Errno::Invalid, "a block status needs a length"));
        }
        _ => {}
    }
    match request.offset.checked_add(request.len) {
        Some(end) if end <= export.size_bytes() => Ok(()),
        _ => Err((
            Purpose::of(request).beyond_end(),
            "the request reaches beyond the end of the export",
        )),
    }
}
