//! Ending when asked to.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::thread;

/// As [`on_stop_by`], for those who need not know which signal it was.
///
/// # Errors
/// If the signals cannot be caught.
pub(crate) fn on_stop(stop: impl FnOnce() + Send + 'static) -> io::Result<()> {
    on_stop_by(|_| stop())
}

/// Calls `stop` with the signal's number on the first SIGINT or SIGTERM. After that, only SIGINT ends the process at once: a second Ctrl-C is a person's
/// choice, but a second SIGTERM need not be anybody's (it may come once for the process and once for its group), and must not
/// cost the flush.
///
/// # Errors
/// If the signals cannot be caught.
pub(crate) fn on_stop_by(stop: impl FnOnce(i32) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let mut stop = Some(stop);
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                match (stop.take(), signal) {
                    (Some(stop), signal) => {
                        tracing::info!(
                            "stopping: finishing what is in flight; Ctrl-C (SIGINT) gives it up"
                        );
                        stop(signal);
                    }
                    (None, SIGINT) => {
                        tracing::warn!("given up: what was in flight may be lost");
                        std::process::exit(128 + SIGINT);
                    }
                    (None, _) => tracing::info!("stopping already"),
                }
            }
        })?;
    Ok(())
}
