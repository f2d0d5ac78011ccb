//! Which layers need a flush (C5).

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts what a layer accepted, and how much of that is known to be durable.
///
/// Invariants: I1, a change counts in `accepted` before its request completes; I2, `durable` never exceeds a value that
/// `accepted` had before a flush began that succeeded. So a flush may be left out only if `durable >= accepted`, and it never
/// rides on one that began earlier.
#[derive(Debug, Default)]
pub(crate) struct FlushTracker {
    accepted: AtomicU64,
    durable: AtomicU64,
}

/// How much had been accepted when a flush began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlushPoint(u64);

impl FlushTracker {
    /// A change was accepted.
    pub(crate) fn accept(&self) {
        self.accepted.fetch_add(1, Ordering::Release);
    }

    /// Where a flush that begins now gets to, or none if nothing needs one.
    pub(crate) fn begin(&self) -> Option<FlushPoint> {
        let accepted = self.accepted.load(Ordering::Acquire);
        (self.durable.load(Ordering::Acquire) < accepted).then_some(FlushPoint(accepted))
    }

    /// The flush that began at `point` succeeded.
    pub(crate) fn finish(&self, point: FlushPoint) {
        self.durable.fetch_max(point.0, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_without_changes_needs_no_flush() {
        assert!(FlushTracker::default().begin().is_none());
    }

    #[test]
    fn a_flush_that_did_not_finish_counts_for_nothing() {
        let tracker = FlushTracker::default();
        tracker.accept();
        assert!(tracker.begin().is_some());
        assert!(tracker.begin().is_some());
    }

    #[test]
    fn a_change_during_a_flush_needs_another() {
        let tracker = FlushTracker::default();
        tracker.accept();
        let point = tracker.begin().unwrap();
        tracker.accept();
        tracker.finish(point);
        let later = tracker.begin().expect("the second change is not durable");
        tracker.finish(later);
        tracker.finish(point);
        assert!(tracker.begin().is_none());
    }
}
