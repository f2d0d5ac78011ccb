//! Locks and atomics, the ordinary ones or those that an exploration steers.
//!
//! Foundation (row 1): knows nothing of disks. The crates whose interleavings are explored (`disk_layered` and `disklayer_ram`) take
//! what their threads meet at from here. Ordinarily that is `parking_lot` and the standard library, re-exported and nothing else:
//!
//! ```
//! # #[cfg(not(feature = "shuttle"))]
//! # {
//! use sync::atomic::{AtomicU64, Ordering};
//! use sync::Mutex;
//!
//! let (log, count) = (Mutex::new(vec![1]), AtomicU64::new(1));
//! log.lock().push(2);
//! count.fetch_add(1, Ordering::Relaxed);
//! assert_eq!(log.lock().len() as u64, count.load(Ordering::Relaxed));
//! # }
//! ```
//!
//! With the feature `shuttle`, which only `exploration` asks for, they are shuttle's under the same names: each use of one is a point
//! where another thread may be let run. There are [`Race`]s then, too, which a test can plant.
//!
//! **Guarantees.** Without the feature there is no code of its own here: the types are the same types, and [`is_planted`] is a
//! constant `false`. With it, a race is planted in one thread at a time, and so in all threads of the exploration that it runs.
//!
//! **Not here.** What nobody explores uses `parking_lot` and `std` directly. Shuttle takes every ordering of memory for the strongest, so
//! no exploration says anything about those. `Arc` and `OnceLock` are the standard library's in both builds: nothing here depends
//! on who of several is first.
//!
//! **Failure.** With the feature, a lock that is used outside of an exploration panics, and a poisoned one is used as it is.

mod race;
#[cfg(feature = "shuttle")]
mod steered;

#[cfg(not(feature = "shuttle"))]
pub use parking_lot::{Mutex, MutexGuard, RwLock};
#[cfg(feature = "shuttle")]
pub use race::{Planted, plant};
pub use race::{Race, is_planted};
#[cfg(feature = "shuttle")]
pub use steered::{Mutex, MutexGuard, RwLock};

/// As `std::sync::atomic`, as far as it is used.
pub mod atomic {
    #[cfg(feature = "shuttle")]
    pub use shuttle::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
    #[cfg(not(feature = "shuttle"))]
    pub use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
}
