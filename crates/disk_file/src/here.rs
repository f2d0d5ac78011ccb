//! Writes into the page cache by whoever asks, where the kernel cannot be told not to wait.
//!
//! Some file systems, ext4 among them, have no buffered write that refuses to wait. Hardly any waits: the kernel copies for a microsecond,
//! and handing that over to a thread takes far longer. But any may: for room in the cache, for the journal. So an account is kept of
//! the time that the writes take. Once that is more, on average, than a poll may take, they are handed over, for so long that
//! whoever asks has spent no more than a twentieth of the time waiting.
//!
//! The clock is the kernel's coarse one, which is nearly free and moves every few milliseconds. A short write is charged nothing, and
//! seldom a whole tick: over many, that is the time they took. What the processor did for others meanwhile is charged, too, so
//! the account bears as much as a thread is kept waiting for a processor.

use parking_lot::Mutex;
use rustix::param::page_size;
use rustix::time::{ClockId, clock_gettime};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// The longest write that is made here: copying it takes less than a poll may.
pub(crate) const HERE_BYTES_MAX: usize = 128 << 10;
/// What a write may take: what any poll may.
const POLL_NS: u64 = 100_000;
/// How much more than that writes may have taken.
const DEBT_NS_MAX: u64 = 50_000_000;
/// How many times what was too much the writes are handed over for.
const REST_FACTOR: u64 = 20;
const REST_NS_MAX: u64 = 5_000_000_000;

/// Whether writes are made here.
pub(crate) struct Here {
    may_ever: bool,
    /// What the kernel reads first, if only a part of it is written. A power of two.
    page_bytes: u64,
    /// By the coarse clock: until then, others make them.
    rests_until_ns: AtomicU64,
    account: Mutex<Account>,
}

/// When a write began.
pub(crate) struct Began(u64);

#[derive(Debug, Default)]
struct Account {
    /// What the writes took beyond that.
    debt_ns: u64,
    /// How many writes have been counted into it.
    writes_seen: u64,
}

impl Here {
    /// `block_bytes` is what the file system allots, if it is known.
    pub(crate) fn new(may_ever: bool, block_bytes: Option<u32>) -> Self {
        let block_bytes = block_bytes.filter(|block| block.is_power_of_two());
        Self {
            may_ever,
            page_bytes: (page_size() as u64).max(block_bytes.unwrap_or(0).into()),
            rests_until_ns: AtomicU64::new(0),
            account: Mutex::default(),
        }
    }

    /// A byte of each page that a write of `range`, which is not empty, covers only in part.
    pub(crate) fn partly_covered(&self, range: &Range<u64>) -> [Option<u64>; 2] {
        let page_of = |at: u64| at / self.page_bytes;
        let (first, last) = (range.start, range.end - 1);
        let begins_inside = !first.is_multiple_of(self.page_bytes);
        let ends_inside = !range.end.is_multiple_of(self.page_bytes);
        let is_another = !begins_inside || page_of(first) != page_of(last);
        [
            begins_inside.then_some(first),
            (ends_inside && is_another).then_some(last),
        ]
    }

    /// Begins a write of `len` bytes, if it is to be made here.
    pub(crate) fn begin(&self, len: usize) -> Option<Began> {
        if !self.may_ever || len > HERE_BYTES_MAX {
            return None;
        }
        let now_ns = now_ns();
        (now_ns >= self.rests_until_ns.load(Ordering::Relaxed)).then_some(Began(now_ns))
    }

    /// Charges for a write that has ended. `writes_made` is how many were made here since the disk was opened; it is seldom asked.
    pub(crate) fn end(&self, Began(began_ns): Began, writes_made: impl FnOnce() -> u64) {
        let now_ns = now_ns();
        if now_ns == began_ns {
            return;
        }
        let took_ns = now_ns.saturating_sub(began_ns);
        let rest_ns = self.account.lock().charge(took_ns, writes_made());
        if let Some(rest_ns) = rest_ns {
            tracing::debug!(
                took_ns,
                rest_ns,
                "writes wait: others make them for a while"
            );
            self.rests_until_ns
                .store(now_ns.saturating_add(rest_ns), Ordering::Relaxed);
        }
    }
}

impl Account {
    /// Charges for a write, and returns for how long others are to make them, if it was too much.
    fn charge(&mut self, took_ns: u64, writes_made: u64) -> Option<u64> {
        let writes = writes_made.wrapping_sub(self.writes_seen);
        self.writes_seen = writes_made;
        let allowed_ns = writes.saturating_mul(POLL_NS);
        self.debt_ns = self.debt_ns.saturating_sub(allowed_ns) + took_ns;
        if self.debt_ns <= DEBT_NS_MAX {
            return None;
        }
        let debt_ns = std::mem::take(&mut self.debt_ns);
        Some(debt_ns.saturating_mul(REST_FACTOR).min(REST_NS_MAX))
    }
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    // Since the system was started.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK_NS: u64 = 4_000_000;

    #[test]
    fn writes_that_only_copy_are_always_made_here() {
        let mut account = Account::default();
        // One of two microseconds in four milliseconds meets a tick.
        for tick in 1..100_000 {
            assert_eq!(account.charge(TICK_NS, tick * 2000), None);
        }
    }

    #[test]
    fn a_thread_that_waits_for_a_processor_now_and_then_goes_on_writing_here() {
        let mut account = Account::default();
        for turn in 1..100_000 {
            // In its turn of 3 ms it makes as many writes as take that time.
            assert_eq!(account.charge(10 * TICK_NS, turn * 1500), None);
        }
    }

    #[test]
    fn a_long_wait_is_one_too_many_however_many_writes_went_before() {
        let mut account = Account::default();
        account.charge(TICK_NS, 1_000_000);
        assert_eq!(account.charge(1_000_000_000, 2_000_000), Some(REST_NS_MAX));
        assert_eq!(account.charge(100_000_000, 2_000_001), Some(2_000_000_000));
        assert_eq!(account.charge(TICK_NS, 2_000_002), None);
    }

    #[test]
    fn many_short_waits_are_too_many() {
        let mut account = Account::default();
        // A millisecond each: every fourth meets a tick.
        let ticks = (1..).find(|tick| account.charge(TICK_NS, tick * 4).is_some());
        assert_eq!(ticks, Some(14));
    }

    #[test]
    fn of_pages_that_are_covered_in_part_one_byte_each_is_looked_at() {
        let here = Here::new(true, Some(64 << 10));
        let page = here.page_bytes;
        assert!(page >= 64 << 10);
        let of = |range: Range<u64>| here.partly_covered(&range);
        assert_eq!(of(0..page), [None, None]);
        assert_eq!(of(page..3 * page), [None, None]);
        assert_eq!(of(0..512), [None, Some(511)]);
        assert_eq!(of(512..1024), [Some(512), None]);
        assert_eq!(of(page - 512..page), [Some(page - 512), None]);
        assert_eq!(
            of(page - 512..page + 512),
            [Some(page - 512), Some(page + 511)]
        );
        assert_eq!(of(512..2 * page), [Some(512), None]);
        assert_eq!(of(page..2 * page + 1), [None, Some(2 * page)]);
    }

    #[test]
    fn a_rest_ends() {
        let here = Here::new(true, None);
        let began = here.begin(4096).expect("nothing is known against it");
        assert!(here.begin(HERE_BYTES_MAX + 1).is_none());
        here.end(Began(began.0.saturating_sub(100_000_000)), || 1);
        assert!(here.begin(4096).is_none());
        let over = now_ns();
        here.rests_until_ns.store(over, Ordering::Relaxed);
        assert!(here.begin(4096).is_some());
        assert!(Here::new(false, None).begin(1).is_none());
    }
}
