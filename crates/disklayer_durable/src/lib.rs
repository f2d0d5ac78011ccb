//! A layer that keeps what it holds on a disk, across crashes.
mod cache;
mod change;
mod core;
mod create;
mod error;
mod format;
mod journal;
mod layer;
mod open;
mod page;
mod read;
mod resize;

pub use create::{FormatOptions, format};
pub use error::{FormatError, OpenError};
pub use format::{Binding, LowerDisk, Role};
pub use layer::DurableLayer;
pub use open::DurableOptions;
