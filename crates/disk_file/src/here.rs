//! Writes into the page cache by whoever asks, where the kernel cannot be told not to wait.
//!
//! Some file systems, ext4 among them, have no buffered write that refuses to wait. Hardly any waits: the kernel copies for a microsecond,
//! and handing that over to a thread takes far longer. But any may: for room in the cache, for the journal. So an account is kept of
//! the time that the writes take, by the kernel's coarse clock, which is nearly free and moves every few milliseconds.
//!
//! - A write during which it moves twice has taken more than a tick; one that takes two ticks surely is such. If the thread waited in it,
//!   it is charged with the most that it can have taken, and such writes have a twentieth of the time, and 50 ms at once. After more, all
//!   are handed over until a twentieth of the time is enough again. So of any stretch of time, all threads together spend no more
//!   in such writes than a twentieth, 50 ms, and, in each thread, the one write that was too much, whose length nobody can know
//!   before.
//! - What takes more than 30 s is charged as that: it is hardly a wait for a device, but a stop of the process, or of the machine that it
//!   runs in, which others would have been stopped by as well. So of devices that stall for longer (a path that is lost, and queued for),
//!   more than a twentieth of the time may be waited for.
//! - Others cannot be told from those that copy, one by one. They are charged what the clock says, mostly a tick or nothing: over many,
//!   that is the time they took. When that is 50 ms more than 100 us for each write, they are handed over as well. Short waits among so
//!   many short writes that the average is less are not noticed.
//!
//! Whether a thread waited, or only had to leave its processor to others, is told by how often it gave that up by itself, which takes a
//! third of the time of a write to ask. So that is asked only for some seconds after a long write; one that comes before passes for one
//! that waited.

use nix::sys::resource::{UsageWho, getrusage};
use parking_lot::Mutex;
use rustix::param::page_size;
use rustix::time::{ClockId, clock_getres, clock_gettime};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// The longest write that is made here: copying it takes less than a poll may.
pub(crate) const HERE_BYTES_MAX: usize = 128 << 10;
/// What a write may take: what any poll may.
const POLL_NS: u64 = 100_000;
/// How much more than what they are allowed writes may have taken.
const DEBT_NS_MAX: u64 = 50_000_000;
/// Long writes may take one part in so many of the time, and for so many times what was too much others make them.
const REST_FACTOR: u64 = 20;
/// The most that one write is charged with. After as long Linux gives up a command to a disk of SCSI or NVMe, and may begin another one,
/// where nobody says otherwise.
const CHARGE_NS_MAX: u64 = 30_000_000_000;
/// For how long after a long write it is counted how often the thread waits.
const COUNT_NS: u64 = 10_000_000_000;

/// Whether writes are made here.
pub(crate) struct Here {
    may_ever: bool,
    /// What the kernel reads first, if only a part of it is written. A power of two.
    page_bytes: u64,
    /// By the coarse clock: until then, others make them.
    rests_until_ns: AtomicU64,
    /// Until then it is counted how often a thread waits.
    counts_until_ns: AtomicU64,
    /// How far the coarse clock moves at once.
    tick_ns: u64,
    account: Mutex<Account>,
}

/// How a write began.
pub(crate) struct Began {
    at_ns: u64,
    /// How often this thread had waited by then, if that is counted.
    wait_count: Option<i64>,
}

#[derive(Debug, Default)]
struct Account {
    /// What long writes took beyond their share of the time.
    long_debt_ns: u64,
    /// When the last of them was charged.
    charged_at_ns: u64,
    /// What the others took beyond what each may.
    short_debt_ns: u64,
    /// How many writes have been counted into that.
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
            counts_until_ns: AtomicU64::new(0),
            tick_ns: tick_ns(),
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

    /// Whether a write may be made here just now that waits.
    pub(crate) fn may_wait(&self) -> bool {
        self.may_ever && self.is_over_at(now_ns())
    }

    /// Begins a write of `len` bytes, if it is to be made here.
    pub(crate) fn begin(&self, len: usize) -> Option<Began> {
        if !self.may_ever || len > HERE_BYTES_MAX {
            return None;
        }
        let now_ns = now_ns();
        self.is_over_at(now_ns).then(|| self.begin_at(now_ns))
    }

    /// Begins a write that has to be made here.
    pub(crate) fn begin_anyway(&self) -> Began {
        self.begin_at(now_ns())
    }

    fn is_over_at(&self, now_ns: u64) -> bool {
        now_ns >= self.rests_until_ns.load(Ordering::Relaxed)
    }

    fn begin_at(&self, now_ns: u64) -> Began {
        let counts = now_ns < self.counts_until_ns.load(Ordering::Relaxed);
        Began {
            at_ns: now_ns,
            wait_count: counts.then(wait_count).flatten(),
        }
    }

    /// Charges for a write that has ended, by the same thread. `writes_made` is how many were made here since the disk was opened; it is
    /// seldom asked.
    pub(crate) fn end(&self, began: Began, writes_made: impl FnOnce() -> u64) {
        let now_ns = now_ns();
        if now_ns == began.at_ns {
            return;
        }
        let took_ns = now_ns.saturating_sub(began.at_ns);
        if !is_long(took_ns, self.tick_ns) {
            return self.charge(took_ns, now_ns, false, writes_made);
        }
        self.counts_until_ns
            .fetch_max(now_ns + COUNT_NS, Ordering::Relaxed);
        let has_waited = began.wait_count.is_none() || began.wait_count != wait_count();
        self.charge(took_ns, now_ns, has_waited, writes_made);
    }

    fn charge(
        &self,
        took_ns: u64,
        now_ns: u64,
        has_waited_long: bool,
        writes_made: impl FnOnce() -> u64,
    ) {
        let rest_ns = {
            let mut account = self.account.lock();
            match has_waited_long {
                true => {
                    let charged_ns = CHARGE_NS_MAX.min(took_ns.saturating_add(self.tick_ns));
                    account.charge_long(charged_ns, now_ns)
                }
                false => account.charge_short(CHARGE_NS_MAX.min(took_ns), writes_made()),
            }
        };
        if let Some(rest_ns) = rest_ns {
            tracing::debug!(
                took_ns,
                rest_ns,
                "writes wait: others make them for a while"
            );
            self.rest(now_ns.saturating_add(rest_ns));
        }
    }

    #[cfg(test)]
    pub(crate) fn debt_ns(&self) -> u64 {
        let account = self.account.lock();
        account.long_debt_ns + account.short_debt_ns
    }

    /// Has others make the writes until then, or longer if that was said before.
    fn rest(&self, until_ns: u64) {
        self.rests_until_ns.fetch_max(until_ns, Ordering::Relaxed);
    }
}

impl Account {
    /// Charges for a write that surely waited, for `took_ns` at most, and returns for how long others are to make them, if it was too much.
    fn charge_long(&mut self, took_ns: u64, now_ns: u64) -> Option<u64> {
        // Threads may come here in another order than they looked at the clock in.
        let passed_ns = now_ns.saturating_sub(self.charged_at_ns);
        self.charged_at_ns = self.charged_at_ns.max(now_ns);
        let allowed_ns = passed_ns / REST_FACTOR;
        self.long_debt_ns = self.long_debt_ns.saturating_sub(allowed_ns) + took_ns;
        // The debt stays: it is the time of the rest that pays it.
        (self.long_debt_ns > DEBT_NS_MAX).then(|| self.long_debt_ns.saturating_mul(REST_FACTOR))
    }

    /// The same for a write that may just have met a tick, or others at its processor.
    fn charge_short(&mut self, took_ns: u64, writes_made: u64) -> Option<u64> {
        let writes = writes_made.wrapping_sub(self.writes_seen);
        self.writes_seen = writes_made;
        let allowed_ns = writes.saturating_mul(POLL_NS);
        self.short_debt_ns = self.short_debt_ns.saturating_sub(allowed_ns) + took_ns;
        if self.short_debt_ns <= DEBT_NS_MAX {
            return None;
        }
        let debt_ns = std::mem::take(&mut self.short_debt_ns);
        Some(debt_ns.saturating_mul(REST_FACTOR))
    }
}

/// Whether the clock has moved twice, or more often. It is slewed, so no two ticks are quite the same.
fn is_long(took_ns: u64, tick_ns: u64) -> bool {
    took_ns > tick_ns + tick_ns / 2
}

/// How often this thread has given up its processor by itself. It takes 0.4 us.
fn wait_count() -> Option<i64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).ok()?;
    Some(usage.voluntary_context_switches())
}

fn tick_ns() -> u64 {
    let tick = clock_getres(ClockId::MonotonicCoarse);
    // At most 10 ms.
    tick.tv_sec as u64 * 1_000_000_000 + tick.tv_nsec as u64
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
            assert_eq!(account.charge_short(TICK_NS, tick * 2000), None);
        }
    }

    #[test]
    fn what_waits_less_than_a_twentieth_of_the_time_goes_on_being_made_here() {
        let mut account = Account::default();
        for second in 1..100_000 {
            // In two pieces, as whoever waits for a processor now and then.
            for _ in 0..2 {
                let rest_ns = account.charge_long(6 * TICK_NS, second * 1_000_000_000);
                assert_eq!(rest_ns, None);
            }
        }
    }

    /// Writes as fast as it may for days, waits in some, and compares what it waited with what is promised, after each.
    #[test]
    fn of_any_time_no_more_than_a_twentieth_is_spent_waiting() {
        for wait_ns in [3 * TICK_NS, 50_000_000, 200_000_000, CHARGE_NS_MAX] {
            let here = Here::new(true, None);
            let (mut now_ns, mut waited_ns) = (1_000_000_000_000, 0);
            let began_ns = now_ns;
            for round in 0..5000 {
                // It comes back when it may write here, and writes so much that the average says nothing.
                now_ns = here.rests_until_ns.load(Ordering::Relaxed).max(now_ns) + 10_000;
                now_ns += wait_ns;
                waited_ns += wait_ns;
                here.charge(wait_ns, now_ns, true, || round * 1_000_000);
                let passed_ns = now_ns - began_ns;
                assert!(
                    waited_ns <= passed_ns / 20 + DEBT_NS_MAX + wait_ns,
                    "{waited_ns} of {passed_ns}"
                );
            }
            // Nor is it less by much.
            assert!(waited_ns >= (now_ns - began_ns) / 50);
        }
    }

    #[test]
    fn a_long_wait_is_too_much_however_many_writes_went_before() {
        let here = Here::new(true, None);
        let rests_ns = |now_ns| here.rests_until_ns.load(Ordering::Relaxed) - now_ns;
        here.charge(30_000_000_000, 100_000_000_000, true, || 1_000_000_000);
        assert!(rests_ns(100_000_000_000) >= 600_000_000_000);
        // What another thread waited meanwhile comes on top, and it may have looked at the clock earlier.
        here.charge(1_000_000_000, 99_000_000_000, true, || 1_000_000_001);
        assert!(rests_ns(100_000_000_000) >= 618_000_000_000);
    }

    fn long_ago(began: Began) -> Began {
        Began {
            at_ns: began.at_ns - 100_000_000,
            ..began
        }
    }

    #[test]
    fn a_thread_that_waits_for_a_processor_now_and_then_goes_on_writing_here() {
        let here = Here::new(true, None);
        for turn in 1..100_000 {
            // In its turn of 3 ms it makes as many writes as take that time.
            here.charge(10 * TICK_NS, turn * 43_000_000, false, || turn * 1500);
        }
        assert_eq!(here.rests_until_ns.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn after_a_long_write_it_is_asked_whether_the_next_one_waits() {
        let here = Here::new(true, None);
        let begin = || here.begin(1).expect("no rest");
        let is_charged = || std::mem::take(&mut here.account.lock().long_debt_ns) > 0;
        let began = begin();
        assert_eq!(began.wait_count, None, "it takes time to ask");
        here.end(long_ago(began), || 1);
        assert!(is_charged(), "nothing is known");
        here.rests_until_ns.store(0, Ordering::Relaxed);
        let began = begin();
        assert!(began.wait_count.is_some());
        here.end(long_ago(began), || 2);
        assert!(!is_charged(), "it did not wait");
        here.rests_until_ns.store(0, Ordering::Relaxed);
        let began = begin();
        std::thread::sleep(std::time::Duration::from_millis(1));
        here.end(long_ago(began), || 3);
        assert!(is_charged(), "it did");
    }

    #[test]
    fn a_process_that_was_stopped_in_a_write_makes_writes_again_soon() {
        const HOUR_NS: u64 = 3_600_000_000_000;
        for has_waited in [true, false] {
            let here = Here::new(true, None);
            here.charge(HOUR_NS, 2 * HOUR_NS, has_waited, || 1);
            let rest_ns = here.rests_until_ns.load(Ordering::Relaxed) - 2 * HOUR_NS;
            assert!((1..=600_000_000_000).contains(&rest_ns), "{rest_ns}");
        }
    }

    #[test]
    fn many_short_waits_are_too_many() {
        let mut account = Account::default();
        // A millisecond each: every fourth meets a tick.
        let ticks = (1..).find(|tick| account.charge_short(TICK_NS, tick * 4).is_some());
        assert_eq!(ticks, Some(14));
    }

    #[test]
    fn a_rest_is_never_made_shorter() {
        let here = Here::new(true, None);
        here.rest(10);
        here.rest(5);
        assert_eq!(here.rests_until_ns.load(Ordering::Relaxed), 10);
        here.rest(11);
        assert_eq!(here.rests_until_ns.load(Ordering::Relaxed), 11);
    }

    #[test]
    fn long_is_what_saw_two_ticks_of_whatever_clock() {
        assert!((1_000_000..=10_000_000).contains(&tick_ns()));
        assert!(!is_long(TICK_NS + 100, TICK_NS));
        assert!(is_long(2 * TICK_NS - 100, TICK_NS));
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
        here.end(long_ago(began), || 1);
        assert!(here.begin(4096).is_none());
        let over = now_ns();
        here.rests_until_ns.store(over, Ordering::Relaxed);
        assert!(here.begin(4096).is_some());
        assert!(Here::new(false, None).begin(1).is_none());
    }
}
