//! Arguments of the commands that ask a running daemon.

use clap::{ArgGroup, Args, Subcommand};
use disk_resolver::LayerSpec;
use std::path::PathBuf;

/// Which daemon to ask.
#[derive(Debug, Args)]
pub(crate) struct ControlArgs {
    /// The control socket of the daemon. Without it: the one in the runtime directory, if there is exactly one
    #[arg(long, value_name = "SOCKET")]
    pub(crate) control: Option<PathBuf>,
}

/// What to look at.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The part to show, as names joined by `/`: `exports/vm1/disk`. A `/` in a name is written `~1`, a `~` `~0`
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) path: String,
    /// Show at most this many levels below it
    #[arg(long, value_name = "LEVELS")]
    pub(crate) depth: Option<usize>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) control: ControlArgs,
}

/// What to change.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The value to change, as `inspect` names it
    pub(crate) path: String,
    /// What it is to be
    pub(crate) value: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) control: ControlArgs,
}

/// What to do with exports.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(subcommand)]
    pub(crate) action: ExportAction,
}

/// What to do with exports.
#[derive(Debug, Subcommand)]
pub(crate) enum ExportAction {
    /// Serve one more disk
    Add(AddExportArgs),
    /// Serve a disk no longer: what its clients have sent is done and flushed, and its memory and files are let go
    Remove(RemoveExportArgs),
    /// Say what is served
    List(ListExportsArgs),
}

/// A disk, and its name.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group(ArgGroup::new("described").required(true).multiple(true)))]
pub(crate) struct AddExportArgs {
    /// The name that clients ask for
    pub(crate) name: String,
    /// A layer of the disk, top first; repeatable. As for `serve`
    #[arg(long = "layer", value_name = "SPEC", group = "described")]
    pub(crate) layers: Vec<LayerSpec>,
    /// A JSON file that describes the disk. Paths in it are relative to it
    #[arg(
        long,
        value_name = "DISK.json",
        group = "described",
        conflicts_with = "layers"
    )]
    pub(crate) disk: Option<PathBuf>,
    /// Refuse writes
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) control: ControlArgs,
}

/// Which export.
#[derive(Debug, Args)]
pub(crate) struct RemoveExportArgs {
    /// Its name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) control: ControlArgs,
}

/// How to list.
#[derive(Debug, Args)]
pub(crate) struct ListExportsArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) control: ControlArgs,
}

/// Which export, and how large it is to be.
#[derive(Debug, Args)]
pub(crate) struct ResizeArgs {
    /// Its name
    pub(crate) export: String,
    /// The new size: bytes, or with a unit as in `10G`
    pub(crate) size: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) control: ControlArgs,
}
