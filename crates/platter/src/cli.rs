//! The command line: a module for each command's arguments, and what they share.

mod check;
mod control;
mod layer;
mod manual;
mod schema;
mod serve;
mod tools;

pub(crate) use check::CheckArgs;
pub(crate) use control::{
    AddExportArgs, ControlArgs, ExportAction, ExportArgs, InspectArgs, RemoveExportArgs,
    ResizeArgs, SetArgs,
};
pub(crate) use layer::{
    AnswerArgs, LayerAction, LayerArgs, LayerCheckArgs, LayerCompactArgs, LayerCreateArgs,
    LayerInfoArgs, LayerMapArgs, LayerResizeArgs,
};
pub(crate) use manual::{CompletionsArgs, ManArgs};
pub(crate) use schema::SchemaArgs;
pub(crate) use serve::{ControlSocket, ServeArgs, TlsArgs, TlsMode};
pub(crate) use tools::{CompareArgs, CopyArgs, InfoArgs, MapArgs};

use crate::exit;
use clap::{Args, Parser, Subcommand, ValueEnum};

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
    /// Say what a disk is: size, sectors, layers
    Info(InfoArgs),
    /// List the extents of a disk: data or hole, and which layer answers
    Map(MapArgs),
    /// Copy a disk to another, or to a new image
    Copy(CopyArgs),
    /// Compare the content of two disks
    Compare(CompareArgs),
    /// Make, look at and mend layers that keep what they hold
    Layer(LayerArgs),
    /// Show what a running daemon is doing, as a tree
    Inspect(InspectArgs),
    /// Change a value of a running daemon
    Set(SetArgs),
    /// Serve more or fewer disks from a running daemon
    Export(ExportArgs),
    /// Change the size of a disk that a running daemon serves
    Resize(ResizeArgs),
    /// Print the JSON Schema of configurations, or their reference
    Schema(SchemaArgs),
    /// Print what makes a shell complete the command line
    Completions(CompletionsArgs),
    /// Write the manual pages
    Man(ManArgs),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
