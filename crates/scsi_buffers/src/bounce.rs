//! Temporary page-aligned memory.

mod buffer;
#[cfg(test)]
mod model;
mod pool;
mod state;
#[cfg(test)]
mod tests;

pub use buffer::BounceBuffer;
pub(crate) use buffer::BounceMemory;
pub use pool::BouncePool;

use thiserror::Error;

/// Why there is no bounce buffer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BounceError {
    /// More than the pool may ever give.
    #[error(
        "a bounce buffer of {len} bytes is above the pool's bound of {bytes_max}: ask for less, or raise the bound"
    )]
    TooLarge {
        /// How many bytes were asked for.
        len: usize,
        /// The pool's bound.
        bytes_max: usize,
    },
    /// The system has no memory.
    #[error(
        "the system has no memory for a bounce buffer of {len} bytes: free some, or lower the pool's bound"
    )]
    OutOfMemory {
        /// How many bytes were asked for.
        len: usize,
    },
}
