//! Room for many clients: each takes two descriptors, and the usual soft limit of 1024 is there for programs that use
//! `select`, which this one does not.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than the NBD server lets in at once can use, with room for disks.
const WANTED: u64 = 16 * 1024;

/// Raises the soft limit on open files, as far as the hard limit allows. Where that fails, fewer clients find room.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = limit.maximum.map_or(WANTED, |hard| hard.min(WANTED));
    // No limit at all needs no raising.
    if limit.current.is_none_or(|soft| soft >= raised) {
        return;
    }
    let wanted = Rlimit {
        current: Some(raised),
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!("cannot raise the limit on open files to {raised}: {error}");
    }
}
