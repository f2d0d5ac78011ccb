//! Arguments of `platter check`.

use clap::Args;
use std::path::PathBuf;

/// What to check.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration
    #[arg(value_name = "CONFIG.json")]
    pub(crate) config: PathBuf,

    /// Print a JSON object: whether it is good, the exports, the mistakes
    #[arg(long)]
    pub(crate) json: bool,
}
