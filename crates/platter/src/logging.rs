//! What goes to standard error while running.

use crate::cli::{LogFormat, LoggingArgs};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};

/// Starts logging to standard error. `PLATTER_LOG` overrides the level, per target if wanted.
pub(crate) fn start(args: &LoggingArgs) {
    let level = match args.verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let wanted = std::env::var_os(VARIABLE).unwrap_or_default();
    let filter = filter(level, &wanted.to_string_lossy());
    let (filter, ignored) = match filter {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(level.to_string()), Some(error)),
    };
    let is_coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(args.verbose > 0)
        .with_ansi(is_coloured);
    match args.log_format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
    if let Some(error) = ignored {
        tracing::warn!("{VARIABLE} is ignored: {error}; it is written like frontend_nbd=debug");
    }
}

/// The environment variable with levels by target.
const VARIABLE: &str = "PLATTER_LOG";

/// What `wanted` says, and `level` for all that it says nothing about: who looks closely at one part still hears the
/// warnings of the others.
fn filter(level: LevelFilter, wanted: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(format!("{level},{wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_for_one_target_leaves_the_others_theirs() {
        for (wanted, expected) in [
            ("", "info"),
            ("frontend_nbd=trace", "frontend_nbd=trace,info"),
            ("warn", "warn"),
        ] {
            let found = filter(LevelFilter::INFO, wanted).unwrap();
            assert_eq!(found.to_string(), expected, "{wanted}");
        }
        filter(LevelFilter::INFO, "%%%").unwrap_err();
    }
}
