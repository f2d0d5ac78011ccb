//! One run of `nbdcopy` to nowhere: a client that reads the whole disk, with requests and connections of its own choice.

use std::process::Command;
use std::time::Instant;

use super::fio::Work;
use super::server::pin;
use crate::{Fallible, run};

/// The size of a request, which is nbdcopy's own default.
pub(crate) const REQUEST_BYTES: u64 = 256 * 1024;

/// Copies a disk of `disk_bytes` from one processor. The time is that of the program, its start and its connections included.
pub(crate) fn copy_to_nowhere(uri: &str, disk_bytes: u64, processor: usize) -> Fallible<Work> {
    let mut nbdcopy = Command::new("nbdcopy");
    nbdcopy.arg(format!("--request-size={REQUEST_BYTES}"));
    nbdcopy.args([uri, "null:"]);
    let begun = Instant::now();
    run::output(&mut pin(&nbdcopy, processor))?;
    let request_count = disk_bytes as f64 / REQUEST_BYTES as f64;
    Ok(Work {
        request_count,
        requests_per_second: request_count / begun.elapsed().as_secs_f64(),
    })
}
