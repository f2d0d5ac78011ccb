//! The contract in its plainest form: everything in one array behind one lock.

mod disk;
mod layer;
mod size;

pub use disk::ReferenceDisk;
pub use layer::ReferenceLayer;
