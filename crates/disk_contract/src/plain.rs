//! Disks and layers that implement no more than they must: what the traits do for them is what they do.

mod disk;
mod layer;

pub use disk::PlainDisk;
pub use layer::PlainLayer;
