//! Ending when asked to.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::thread;

/// Calls `stop` on the first SIGINT or SIGTERM. A second one ends the process at once.
///
/// # Errors
/// If the signals cannot be caught.
pub(crate) fn on_stop(stop: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let mut stop = Some(stop);
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                match stop.take() {
                    Some(stop) => {
                        tracing::info!(
                            "stopping: finishing what is in flight; once more to give it up"
                        );
                        stop();
                    }
                    None => {
                        tracing::warn!("given up: what was in flight may be lost");
                        std::process::exit(128 + signal);
                    }
                }
            }
        })?;
    Ok(())
}
