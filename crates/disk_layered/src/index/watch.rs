//! How a stack hears that one of its layers changes by other means than its own requests.

use std::fmt;
use std::sync::Arc;
use sync::atomic::{AtomicU64, Ordering};

/// Tells a stack that one of its layers changes by other means than the stack's own requests.
#[derive(Clone, Default)]
pub struct LayerWatch(Arc<AtomicU64>);

/// A change that is under way, until this is dropped. If it is forgotten, the stack remembers nothing of its layers any more.
#[derive(Debug)]
#[must_use = "the change ends when this is dropped"]
pub struct LayerChange<'a>(&'a LayerWatch);

impl LayerWatch {
    /// How many changes are under way, in the low bits of the counter; above it, how many have begun.
    const UNDER_WAY_BITS: u32 = 16;

    /// The layer is about to come to hold sectors that were absent, or to change its size. Dropped when that is done, and before anybody
    /// is told so. Meanwhile no read relies on what is remembered, and none does afterwards on what was remembered before.
    pub fn begin_change(&self) -> LayerChange<'_> {
        self.0
            .fetch_add((1 << Self::UNDER_WAY_BITS) + 1, Ordering::AcqRel);
        LayerChange(self)
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment(self.0.load(Ordering::Acquire))
    }
}

impl Drop for LayerChange<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl fmt::Debug for LayerWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LayerWatch").field(&self.moment()).finish()
    }
}

/// What a [`LayerWatch`] had been told at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(u64);

impl Moment {
    /// Whether no change was under way.
    pub(crate) fn is_quiet(self) -> bool {
        self.0 & ((1 << LayerWatch::UNDER_WAY_BITS) - 1) == 0
    }
}
