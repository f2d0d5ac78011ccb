//! A disk whose requests begin after a delay, as those of a disk far away do.
//!
//! Row 7: a wrapper around any [`Disk`](disk_backend::Disk). The configuration `{"type": "delay", "disk": {...}, "seconds": 0.005}`
//! registers itself wherever this crate is linked.
//!
//! ```
//! # futures_lite::future::block_on(async {
//! use disk_backend::Disk;
//! use std::time::Duration;
//!
//! let ram = disklayer_ram::ram_disk(1 << 20, false)?;
//! let (disk, control) = disk_delay::DelayDisk::new(ram, Duration::from_millis(1), clock::Clock::real())?;
//! let disk = Disk::new(disk)?;
//! disk.sync_cache().await?;
//! control.set(Duration::ZERO)?;
//! disk.sync_cache().await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! **Guarantees.** Reads, writes, zeroes, unmaps and flushes reach the disk below after the delay, counted from their first poll,
//! and never before. A request that waits holds up no other (C4) and, if its future is dropped or forgotten, never happens (C9).
//! Another delay is in force for every request that begins after it; those that wait keep the delay that they began with. Without
//! a delay a request costs what a nested disk costs, and is complete at its first poll if that of the disk below is.
//!
//! **What it does not do.** It has no bandwidth: any number of requests wait side by side (`disk_throttle` bounds how many begin).
//! It does not choose requests, nor delays by chance (`disk_fault` does). Metadata, the status of blocks, resizes, reservations,
//! ejecting and waiting for another size are passed on at once.
//!
//! **Failure.** A delay longer than [`DELAY_SECONDS_MAX`] is [`InvalidDelay`]; every error of a request is the disk's own.

mod control;
mod delay;
mod disk;
mod handle;

pub use control::DelayControl;
pub use delay::{DELAY_SECONDS_MAX, InvalidDelay};
pub use disk::DelayDisk;
pub use handle::DelayDiskHandle;
