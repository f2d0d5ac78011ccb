//! A disk that does wrong what rules tell it to: delays, errors, lost and changed data.
//!
//! Row 7: a wrapper around any [`Disk`](disk_backend::Disk), for every test of what uses one, and for a daemon that is to be tried
//! before it is trusted: the configuration `{"type": "fault", "disk": {...}, "rules": [...]}` registers itself wherever this
//! crate is linked.
//!
//! ```
//! # futures_lite::future::block_on(async {
//! use disk_backend::{Disk, DiskError};
//! use disk_fault::{Action, FaultDisk, FaultOptions, InjectedError, Operation, Rule};
//!
//! let ram = disklayer_ram::ram_disk(1 << 20, false)?;
//! let (disk, control) = FaultDisk::new(ram, FaultOptions::new(7, clock::Clock::real()))?;
//! let disk = Disk::new(disk)?;
//! let rule = Rule::new(Action::Error(InjectedError::NoSpace)).on([Operation::Flush]);
//! let id = control.add(rule)?;
//! assert!(matches!(disk.sync_cache().await, Err(DiskError::NoSpace)));
//! control.remove(id)?;
//! disk.sync_cache().await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! **Guarantees.** Without rules a request costs what a nested disk costs. What an action does not break on purpose, holds: a
//! request that waits holds up no other (C4) and, if its future is dropped or forgotten, never happens (C9). The seed replays a
//! run: what is decided for a rule's n-th request depends on the seed, the rule's id, n, and where a rule says so on time.
//! A rule that could do nothing to what it names is refused, with its place.
//!
//! **What it does not do.** Nothing below a sector: bits change on the way out, never in the store. Commands of reservations,
//! ejecting, and waiting for another size are passed on. Whole simulated machines are no affair of a disk.
//!
//! **Failure.** A [`RuleError`] refuses a rule; every error of a request is the disk's own, or one that a rule asked for.

mod action;
mod control;
mod dice;
mod disk;
mod error;
mod faulty;
mod handle;
mod inspection;
mod live;
mod operation;
mod pieces;
mod rule;
mod rules;
mod store;

pub use action::{
    Action, DELAY_MS_MAX, Delay, DelayStep, FLIP_BITS_MAX, InjectedError, REORDER_MAX, STEPS_MAX,
};
pub use control::{FaultControl, RuleStatus};
pub use disk::{FaultDisk, FaultOptions};
pub use error::{Invalid, RuleError};
pub use handle::FaultDiskHandle;
pub use operation::Operation;
pub use rule::{AFTER_SECONDS_MAX, Rule, SectorRange};
pub use rules::RULES_MAX;

/// Pages of the project whose examples are compiled and run together with ours.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../docs/faults.md")]
    mod faults {}
}
