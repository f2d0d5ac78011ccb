//! A layer in memory that never holds more than it may.
//!
//! Above an image, a [`CappedLayer`] is a throw-away copy with a limit: what is written beyond it is refused with `NoSpace`, and
//! taken again once the guest has discarded something. As a read cache it fills up to its limit, and then stays as it is.
//!
//! ```
//! let layer = disklayer_capped::CappedLayer::new(1 << 21, 512, 64 << 20);
//! assert_eq!(layer.held_bytes(), 0);
//! ```
//!
//! **Guarantees.** The limit covers data and bookkeeping. An unmapped sector becomes an explicit zero that hides the layers
//! below. Long unmaps let others run in between.
//!
//! **Not here.** Speed: there is one lock, and each sector is a piece of memory of its own (`disklayer_ram` has neither).
//! Eviction: nothing is thrown away to make room.
//!
//! **Failure.** A request that needs more than is left fails with `NoSpace`, and changes nothing.

mod content;
mod layer;
mod resolve;

pub use layer::{CappedLayer, LazyCappedLayer, NothingBelow};
pub use resolve::CappedLayerHandle;
