//! Disks and layers whose requests stop, fail or stutter where a test says so.

mod disk;
mod gate;
mod layer;
mod script;

pub use disk::ScriptedDisk;
pub use gate::Gate;
pub use layer::ScriptedLayer;
pub use script::{Operation, Script, When};
