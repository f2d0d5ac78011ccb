//! The contract of disks and layers, as tests that an implementor runs from its own.
//!
//! Row 5: it knows the traits ([`DiskIo`](disk_backend::DiskIo), [`LayerIo`](disk_layered::LayerIo)) and no implementation but
//! its own plain ones. Test your own disk, from its `tests/`, in ten lines:
//!
//! ```
//! use disk_contract::{DiskSpec, ReferenceDisk as MyDisk, Suite, Violation};
//!
//! // #[test]
//! fn my_disk_keeps_the_contract() -> Result<(), Violation> {
//!     Suite::new().sector_sizes([512, 4096]).check_disks(async |spec: DiskSpec| {
//!         // A fresh disk of `spec.sector_count` sectors that holds `spec.content`, read-only if `spec.is_read_only`.
//!         disk_backend::Disk::new(MyDisk::new(spec)).unwrap()
//!     })
//! }
//! # my_disk_keeps_the_contract().unwrap();
//! ```
//!
//! A layer is tested by [`Suite::check_layers`], alone and among others, and by [`Suite::check_stacks`], in random stacks; what
//! composes layers by [`Suite::check_composition`]. What stands on other storage is run in worlds by [`Suite::check_worlds`]: on
//! simulated storage, under faults and crashes (C5, C6, C8, C11). The guide is `docs/guides/test-your-own-disk.md`.
//!
//! **Guarantees.** Every byte that is read is compared with a model: what was written, zeroed, unmapped, resized, or left open
//! by a dropped future. Whatever is left alone half way, other requests complete. What several threads see of the same sectors
//! must be explicable sector by sector. A [`Violation`] names the clause, the first byte that differs, the last requests, and the
//! seed; [`SEED_VARIABLE`] replays it. Nothing depends on time. The kit's own tests plant faults and demand that each is found,
//! and called by its number.
//!
//! **Not here.** Crashes of what works outside of the process: of its flushes it is only checked that they succeed. Executors: but in
//! worlds, futures are polled by the test's own threads, so a disk brings the threads it needs.
//!
//! **Failure.** The first violation ends a check, as an error. A factory that cannot make its disk panics, and so does a disk
//! that asserts: the seed has been printed by then.

mod abandoned;
mod alone;
mod arrangement;
mod clause;
mod compose;
mod concurrency;
mod fixed;
mod handle;
mod history;
mod illegal;
mod ledger;
mod model;
mod plain;
mod probe;
mod random;
mod recipe;
mod reference;
mod request_memory;
mod scripted;
mod seed;
mod spec;
mod stack_plan;
mod subject;
mod suite;
mod violation;
mod world;

pub use clause::Clause;
pub use compose::ComposedLayer;
pub use plain::{PlainDisk, PlainLayer};
pub use probe::{ProbeDisk, ProbeLog};
pub use recipe::{Breakage, IllegalStack, LayerKind, LayerRecipe, StackFault, StackRecipe};
pub use reference::{ReferenceDisk, ReferenceLayer};
pub use scripted::{Gate, Operation, Script, ScriptedDisk, ScriptedLayer, When};
pub use seed::{FRESH_SEEDS_VARIABLE, SEED_VARIABLE, Seed, seeds};
pub use spec::{DiskSpec, LayerSpec};
pub use stack_plan::{LayerPlan, Member, StackPlan};
pub use suite::Suite;
pub use violation::Violation;
pub use world::{Report, Stores, World};

/// Pages of the project whose examples are compiled and run together with ours.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../docs/guides/test-your-own-disk.md")]
    mod test_your_own_disk {}
}
