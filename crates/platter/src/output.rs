//! Standard output: what the user asked for, as opposed to the log; and what is said beside it.

use crate::exit::Failure;
use std::io::{self, Write};

/// Writes `text` to standard output, all of it.
///
/// # Errors
/// If nobody takes it: a full disk, or a reader that has left.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(not_taken)
}

/// Writes `text` to standard error, if anybody takes it: what is to be known besides the answer.
pub(crate) fn tell(text: &str) {
    _ = io::stderr().lock().write_all(text.as_bytes());
}

/// The failure to write to standard output.
pub(crate) fn not_taken(error: io::Error) -> Failure {
    Failure::running(format!("cannot write to standard output: {error}"))
}
