//! The command line.

use crate::exit;
use clap::{Args, Parser, Subcommand, ValueEnum};
use disk_resolver::LayerSpec;
use frontend_nbd::ListenAddress;
use std::path::PathBuf;

/// Composable virtual disks: build a disk from layers, serve it over NBD.
#[derive(Debug, Parser)]
#[command(name = "platter", version, after_help = exit::HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) logging: LoggingArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve disks over NBD until SIGINT or SIGTERM
    Serve(ServeArgs),
    /// Check a configuration: read it, and open every disk in it read-only
    Check(CheckArgs),
    /// Print the JSON Schema of configurations, or their reference
    Schema(SchemaArgs),
}

/// How to log.
#[derive(Debug, Args)]
pub(crate) struct LoggingArgs {
    /// Log more; twice for even more. PLATTER_LOG sets levels by target, as in `frontend_nbd=debug`
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// The form of the log on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object per line
    Json,
}

/// What to serve, and where.
///
/// Without a configuration and without layers: a RAM disk of 1 GiB.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// A configuration: a JSON document with `exports`, or one disk. Paths in it are relative to it
    #[arg(value_name = "CONFIG.json", conflicts_with = "layers")]
    pub(crate) config: Option<PathBuf>,

    /// A layer of the disk, top first; repeatable.
    ///
    /// `ram`, `ram:1G`, `file:base.raw`, `file:base.raw,ro`, `file:new.raw,create=true,size=10G`, or a JSON object. The top
    /// layer takes the writes; the layers below are opened read-only.
    #[arg(long = "layer", value_name = "SPEC")]
    pub(crate) layers: Vec<LayerSpec>,

    /// Where to listen: `unix:PATH` or `tcp:HOST:PORT` (`tcp:PORT` is loopback only); repeatable.
    ///
    /// There is no TLS and no authentication: whoever can connect can read and write. A Unix socket is only for its owner.
    /// Default: what the configuration says, or a Unix socket in the runtime directory.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Vec<ListenAddress>,

    /// Refuse writes to every export
    #[arg(long)]
    pub(crate) read_only: bool,

    /// Serve while this command runs, then stop.
    ///
    /// It is given to `sh -c`, and finds the URI of the first export in PLATTER_URI, and the path of the Unix socket, if
    /// there is one, in PLATTER_SOCKET. Without --listen the socket is a private one.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) run: Option<String>,
}

/// What to check.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration
    #[arg(value_name = "CONFIG.json")]
    pub(crate) config: PathBuf,
}

/// What to print.
#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// Print the reference of all types and keys as Markdown instead
    #[arg(long)]
    pub(crate) markdown: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
