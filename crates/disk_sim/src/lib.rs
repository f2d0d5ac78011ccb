//! Simulated storage that can crash, and a small executor with simulated time.
//!
//! Row 5, a test kit: what stands on storage is run on a [`SimDisk`] or a [`SimLayer`] by a [`Sim`], and asked afterwards what it
//! would hold had the power failed at that instant.
//!
//! ```
//! use disk_backend::Disk;
//! use disk_sim::{Sim, SimDisk, SimOptions};
//!
//! let mut sim = Sim::new(7);
//! let store = SimDisk::new(SimOptions::new(64, 512, 7), sim.clock());
//! let disk = Disk::new(store.clone())?;
//! sim.block_on(async {
//!     disk.write_zeroes(0, 8, false, false, false).await?;
//!     disk.sync_cache().await?;
//!     disk.write_zeroes(8, 2, false, false, false).await
//! })??;
//! // Two sectors were not flushed: each of them may have come to the medium or not.
//! let crash = store.crash();
//! assert_eq!(crash.images(100, 7).len(), 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Guarantees.** The same seeds give the same run, to the last poll. The store keeps the contract, and no more than that: writes
//! that were not flushed come to the medium in part and in any order, torn at the atomic write unit; requests take effect sector
//! by sector while others run; what a dropped future began happens later, at once, or never (C9); a request fails when
//! [`SimOptions::failure_percent`] says so. A crash at any instant leaves any of the images that this allows.
//!
//! **What it does not do.** It breaks no promise: a disk that lies is `disk_fault` around this one. It simulates no threads, and
//! no memory: everything runs on the thread of whoever polls.
//!
//! **Failure.** A run in which nobody can go on ends with [`Stuck`], which names the tasks.

mod crash;
mod disk;
mod executor;
mod fate;
mod image;
mod layer;
mod operation;
mod options;
mod store;

pub use crash::{Crash, EXHAUSTIVE_MAX, images_of};
pub use disk::SimDisk;
pub use executor::{Sim, Step, Stuck, TaskId};
pub use fate::{Ending, Fate, Fated, Graveyard};
pub use image::Image;
pub use layer::SimLayer;
pub use options::SimOptions;
