//! Clients who are turned away: counted, and told to the log once for each rush of them.

use inspect::Inspect;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A rush is over when nobody was turned away for so long.
const PAUSE: Duration = Duration::from_secs(10);

/// How many were turned away, and when the last was.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    count: AtomicU64,
    last: Mutex<Option<Instant>>,
}

impl Refusals {
    /// Counts one, and returns whether it is the first of a rush.
    pub(crate) fn add(&self) -> bool {
        self.add_at(Instant::now())
    }

    fn add_at(&self, now: Instant) -> bool {
        self.count.fetch_add(1, Ordering::Relaxed);
        let last = self.last.lock().replace(now);
        last.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE)
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Inspect for Refusals {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.value(self.count());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_of_a_rush_is_worth_a_line() {
        let refusals = Refusals::default();
        let start = Instant::now();
        // However long it goes on.
        let seconds = [0, 0, 1, 9, 18, 27, 36];
        let told: Vec<_> = seconds
            .iter()
            .map(|seconds| refusals.add_at(start + Duration::from_secs(*seconds)))
            .collect();
        assert_eq!(told, [true, false, false, false, false, false, false]);
        assert!(refusals.add_at(start + Duration::from_secs(46)));
        assert!(
            !refusals.add_at(start),
            "a clock that is read late is not a pause"
        );
        assert_eq!(refusals.count(), 9);
    }
}
