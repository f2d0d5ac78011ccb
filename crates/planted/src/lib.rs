//! Known bugs that one test-only build can switch on while it runs.
//!
//! Foundation (row 1): knows nothing of disks, and depends on nothing. A test that never failed proves little. So the stack
//! carries the mistakes that are most easily made in it, each a short branch where somebody would make it, and a test of tests
//! plants one [`Bug`] after the other and demands that it is caught.
//!
//! ```
//! use planted::Bug;
//!
//! fn is_inside(sector: u64, count: u64, sector_count: u64) -> bool {
//!     if planted::is_active(Bug::RangeOverflow) {
//!         return sector.wrapping_add(count) <= sector_count;
//!     }
//!     sector.checked_add(count).is_some_and(|end| end <= sector_count)
//! }
//!
//! assert!(!is_inside(u64::MAX, 8, 100));
//! # #[cfg(feature = "on")]
//! # {
//! let bug = planted::plant(Bug::RangeOverflow); // only with the feature `on`
//! assert!(is_inside(u64::MAX, 8, 100));
//! drop(bug);
//! assert!(!is_inside(u64::MAX, 8, 100));
//! # }
//! ```
//!
//! **Guarantees.** Without the feature `on` nothing can be planted: [`is_active`] is a constant `false`, and no branch
//! is taken or even tested. With it, a bug acts in the thread that planted it, one at a time, until its guard is dropped; so tests
//! that run side by side do not disturb each other.
//!
//! **What it does not do.** It has no bugs of its own: each lives where its rule is kept, and docs/testing.md lists them. It reaches no
//! other thread: what a pool does is never wrong. No setting of a program turns it on, and nothing outside of tests may.
//!
//! **Failure.** Planting a second bug in a thread panics: nobody could tell which of the two was caught.

mod bug;
#[cfg(feature = "on")]
mod switch;

pub use bug::{Bug, UnknownBug};
#[cfg(feature = "on")]
pub use switch::{Planted, is_active, plant};

/// Whether the stack shall make this mistake: never, in a build without the feature `on`.
#[cfg(not(feature = "on"))]
#[inline(always)]
#[must_use]
pub const fn is_active(_bug: Bug) -> bool {
    false
}

#[cfg(all(test, not(feature = "on")))]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_build_has_no_bug_and_knows_it_when_it_is_compiled() {
        const TORN: bool = is_active(Bug::TornSector);
        const { assert!(!TORN) };
        assert!(Bug::ALL.iter().all(|bug| !is_active(*bug)));
    }
}
