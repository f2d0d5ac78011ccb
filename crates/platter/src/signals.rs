//! Ending when asked to.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::thread;

/// Calls `stop` with the signal's number on the first SIGINT or SIGTERM; it also says so, by [`log_stopping`]. After that, only
/// SIGINT ends the process at once, after a call of `give_up`: a second Ctrl-C is a person's choice, but a second SIGTERM need
/// not be anybody's (it may come once for the process and once for its group), and must not cost the flush.
///
/// # Errors
/// If the signals cannot be caught.
pub(crate) fn on_stop(
    stop: impl FnOnce(i32) + Send + 'static,
    give_up: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut signals = signals.forever();
            // It goes on for as long as the process.
            let signal = signals
                .next()
                .expect("signals are waited for as long as it takes");
            stop(signal);
            while signals.next() == Some(SIGTERM) {
                tracing::info!("stopping already; SIGINT gives up what is in flight");
            }
            tracing::warn!("given up: what was in flight may be lost");
            give_up();
            std::process::exit(128 + SIGINT);
        })?;
    Ok(())
}

/// Tells that the process is about to end. Before the stop if that can end the process at once: the line would be lost.
pub(crate) fn log_stopping() {
    tracing::info!("stopping: finishing what is in flight; Ctrl-C (SIGINT) gives it up");
}
