//! Schedules that are tried, not met by chance: the RAM store and the cache fill run under shuttle.
//!
//! A tool (row 10), used by its own tests alone. With the feature `shuttle`, the locks and atomics of `sync` hand over to
//! shuttle at each use, and one operating-system thread runs what look like several, in an order that a seed decides: every
//! interleaving at these points can be had, and had again. The tests let a few threads work on a few sectors, and hold what each
//! of them saw against what one thing after another could have done ([`history`]):
//!
//! ```
//! use exploration::history::{Event, check};
//!
//! let write = |value, called, returned| Event::write(value, called, returned);
//! let seen = [write(7, 1, 2), write(9, 3, 6), Event::read(7, 4, 5)];
//! assert_eq!(check(0, &seen), Ok(())); // the read came before the write that had not returned
//! let seen = [write(7, 1, 2), write(9, 3, 4), Event::read(7, 5, 6)];
//! assert!(check(0, &seen).is_err());
//! ```
//!
//! `cargo xtask test --ring exploration` runs it: `docs/testing.md` says what is covered, and how to replay what was found.
//!
//! **Guarantees.** A seed gives the same schedules in the same order on the same code. Each scenario has a planted race
//! that is found from a fixed seed.
//!
//! **Not here.** Weak memory: shuttle takes every ordering for the strongest. What only other crates meet at: their locks are
//! not steered. Time, files and sockets.
//!
//! **Failure.** What is found is a panic that says what was seen, and the one command that does the same again.

pub mod history;
#[cfg(feature = "shuttle")]
mod run;

#[cfg(feature = "shuttle")]
pub use run::{SEED_VARIABLE, expect_found, explore};
