//! Which layers need a flush (C5).

use sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counts what a layer accepted, and how much of that is known to be durable.
///
/// Invariants: I1, a change counts in `accepted` before its request completes; I2, `durable` never exceeds a value that
/// `accepted` had before a flush began that succeeded. So a flush may be left out only if `durable >= accepted`, and it never
/// rides on one that began earlier; I3, once a change was abandoned no flush is left out: nobody is told when it ends (C9), so
/// no flush is known to have begun after that.
#[derive(Debug)]
pub(crate) struct FlushTracker {
    accepted: AtomicU64,
    durable: AtomicU64,
    was_abandoned: AtomicBool,
}

/// How much had been accepted when a flush began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlushPoint(u64);

impl FlushTracker {
    /// For a layer that was just attached. If it takes writes, the first flush is never left out: others may have written to
    /// it before, the program that served it until it was killed among them, and their flush comes only now.
    pub(crate) fn new(is_read_only: bool) -> Self {
        Self {
            accepted: AtomicU64::new(u64::from(!is_read_only)),
            durable: AtomicU64::new(0),
            was_abandoned: AtomicBool::new(false),
        }
    }

    /// A change was accepted.
    pub(crate) fn accept(&self) {
        self.accepted.fetch_add(1, Ordering::Release);
    }

    /// The future of a change was dropped; the change may still happen.
    pub(crate) fn abandon(&self) {
        self.was_abandoned.store(true, Ordering::Release);
    }

    /// Where a flush that begins now gets to, or none if nothing needs one.
    pub(crate) fn begin(&self) -> Option<FlushPoint> {
        let accepted = self.accepted.load(Ordering::Acquire);
        let is_needed = self.durable.load(Ordering::Acquire) < accepted
            || self.was_abandoned.load(Ordering::Acquire);
        is_needed.then_some(FlushPoint(accepted))
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
    fn the_first_flush_is_for_what_came_before_and_later_ones_for_changes() {
        assert!(FlushTracker::new(true).begin().is_none());
        let tracker = FlushTracker::new(false);
        tracker.finish(tracker.begin().expect("nobody knows what came before"));
        assert!(tracker.begin().is_none());
    }

    #[test]
    fn a_flush_that_did_not_finish_counts_for_nothing() {
        let tracker = FlushTracker::new(true);
        tracker.accept();
        assert!(tracker.begin().is_some());
        assert!(tracker.begin().is_some());
    }

    #[test]
    fn after_an_abandoned_change_no_flush_is_left_out() {
        let tracker = FlushTracker::new(true);
        tracker.abandon();
        for _ in 0..2 {
            tracker.finish(tracker.begin().expect("it may not have ended before"));
        }
    }

    #[test]
    fn a_change_during_a_flush_needs_another() {
        let tracker = FlushTracker::new(true);
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
