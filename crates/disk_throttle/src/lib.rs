//! Disks that begin so many bytes and operations per second, alone or as a group.
//!
//! Row 7: a wrapper around any [`Disk`](disk_backend::Disk), so that one user of a store leaves something for the others. The
//! configuration `{"type": "throttle", "disk": {...}, "bytes_per_second": "100M", "group": "a"}` registers itself wherever this crate is linked.
//!
//! ```
//! # futures_lite::future::block_on(async {
//! use disk_backend::Disk;
//! use disk_throttle::{Limits, ThrottleDisk, ThrottleGroup};
//!
//! let mut limits = Limits::default();
//! limits.operations_per_second = Some(1000);
//! let group = ThrottleGroup::new(limits, clock::Clock::real())?;
//! let ram = || disklayer_ram::ram_disk(1 << 20, false);
//! let first = Disk::new(ThrottleDisk::new(ram()?, &group))?;
//! let second = Disk::new(ThrottleDisk::new(ram()?, &group))?;
//! first.unmap(0, 8, false).await?;
//! second.unmap(0, 8, false).await?;
//! group.update_limits(|limits| limits.operations_per_second = None)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! **Guarantees.** In any time a group begins what its buckets hold and what flows into them, and not more, but for one request of more bytes
//! than their bucket holds, after which nothing takes bytes until its debt is repaid, and for an operation of each disk that waited for bytes.
//! Disks that wait share alike what they wait for, and nobody waits for a bucket of which he takes nothing, but for his own disk's order.
//! Who waits is let go by the clock: no request waits for another's polling (C4). A request that is dropped or forgotten while it waits
//! never happens (C9); a dropped one takes nothing. Without limits a request costs what a nested disk costs.
//!
//! **What it does not do.** It bounds what begins, not how much is under way, nor how long that takes (`disk_delay`). Flushes and
//! metadata are free; an unmap, and a zeroing that may not write, take an operation and no bytes.
//!
//! **Failure.** [`InvalidLimits`] refuses limits; every error of a request is the disk's own.

mod bucket;
mod disk;
mod gate;
mod group;
mod groups;
mod handle;
mod inspection;
mod limits;
mod schedule;

pub use disk::ThrottleDisk;
pub use group::{GroupStatus, ThrottleGroup};
pub use handle::{GROUP_NAME_LEN_MAX, GroupCheck, ThrottleDiskHandle};
pub use limits::{InvalidLimits, Limits};

/// Pages of the project whose examples are compiled and run together with ours.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../docs/throttle.md")]
    mod throttle {}
}
