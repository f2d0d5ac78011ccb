//! What is wrong with a configuration.

use crate::layer_spec::InvalidLayerSpec;
use resource::ResolveError;
use std::io;
use std::path::PathBuf;

/// Why a configuration was refused, or a disk in it could not be opened.
///
/// The text is one complete line, sources included.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: cannot be read: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no JSON text at all.
    #[error(
        "{path}: {reason}; a configuration is a JSON document. If this is a disk image, describe it: \
         {{\"type\": \"file\", \"path\": ...}}, or --layer file:PATH on the command line",
        path = .path.display()
    )]
    NotText {
        /// The file.
        path: PathBuf,
        /// How that was seen.
        reason: &'static str,
    },
    /// Something in it is wrong, or does not work.
    #[error("{message}")]
    Wrong {
        /// Where it is and what it is.
        message: String,
        /// The same with a path.
        source: ResolveError,
    },
    /// A layer of the command line makes no sense.
    #[error(transparent)]
    LayerSpec(#[from] InvalidLayerSpec),
}
