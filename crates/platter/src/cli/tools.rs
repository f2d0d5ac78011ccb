//! Arguments of the commands that look at disks and move their content.

use crate::tools::{EffortArgs, Endpoint};
use clap::Args;

/// What to describe.
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// The disk, which is opened read-only.
    ///
    /// A configuration (`CONFIG.json`, or `CONFIG.json#EXPORT` where there are several exports), a layer as --layer takes it
    /// (`file:base.raw`, `ram:1G`, a JSON object), the path of a raw image, or the URI of an NBD server's export
    /// (`nbd://HOST/EXPORT`, `nbd+unix:///EXPORT?socket=PATH`).
    #[arg(value_name = "SRC")]
    pub(crate) source: Endpoint,

    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to list.
#[derive(Debug, Args)]
pub(crate) struct MapArgs {
    /// The disk, which is opened read-only; written as for `platter info`
    #[arg(value_name = "SRC")]
    pub(crate) source: Endpoint,

    /// Print a JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to copy, and where to.
///
/// Holes of the source, and zeros in its data, become holes of the destination.
#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// The disk to copy, which is opened read-only; written as for `platter info`
    #[arg(value_name = "SRC")]
    pub(crate) source: Endpoint,

    /// The disk to write, written likewise. A raw image that is missing or empty is made as long as the source
    #[arg(value_name = "DST")]
    pub(crate) destination: Endpoint,

    /// Copy also to a destination that holds data: compare, and write only what differs
    #[arg(long)]
    pub(crate) force: bool,

    /// Leave alone what a longer destination holds beyond the end of the source; otherwise it is made zero
    #[arg(long)]
    pub(crate) keep_tail: bool,

    #[command(flatten)]
    pub(crate) effort: EffortArgs,

    /// Show no progress, and print no summary
    #[arg(long, short)]
    pub(crate) quiet: bool,

    /// Print the summary as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to compare.
///
/// Exit code 0 if the disks are equal, 4 if they differ. What lies beyond the end of the shorter disk must read zero.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The one disk, which is opened read-only; written as for `platter info`
    #[arg(value_name = "A")]
    pub(crate) first: Endpoint,

    /// The other, likewise
    #[arg(value_name = "B")]
    pub(crate) second: Endpoint,

    /// Let disks of different sizes differ, whatever the longer one holds
    #[arg(long, conflicts_with = "ignore_tail")]
    pub(crate) strict: bool,

    /// Do not look at what lies beyond the end of the shorter disk
    #[arg(long)]
    pub(crate) ignore_tail: bool,

    /// End at the first difference, instead of counting them all
    #[arg(long)]
    pub(crate) first_only: bool,

    #[command(flatten)]
    pub(crate) effort: EffortArgs,

    /// Show no progress, and print no result: the exit code tells
    #[arg(long, short)]
    pub(crate) quiet: bool,

    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
