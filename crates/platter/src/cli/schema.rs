//! Arguments of `platter schema`.

use clap::Args;

/// What to print.
#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// Print the reference of all types and keys as Markdown instead
    #[arg(long)]
    pub(crate) markdown: bool,
}
