//! Facts about the lock, one by one; `model` compares random sequences with a naive lock, `threads` runs real
//! threads, and `invariants` checks the queues.

mod invariants;
mod model;
mod threads;

use self::invariants::{check_invariants, entry_count_and_capacity};
use crate::{Acquire, RangeGuard, RangeLock, claim::SHARD_COUNT};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Counts how often it was woken.
#[derive(Default)]
struct CountingWaker(AtomicUsize);

impl CountingWaker {
    fn wakes(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls once with `waker`.
fn poll(request: &mut Acquire<'_>, waker: &Arc<CountingWaker>) -> Option<RangeGuard> {
    match Pin::new(request).poll(&mut Context::from_waker(&Waker::from(Arc::clone(waker)))) {
        Poll::Ready(guard) => Some(guard),
        Poll::Pending => None,
    }
}

/// Polls once with a waker that nobody looks at.
fn poll_once(request: &mut Acquire<'_>) -> Option<RangeGuard> {
    poll(request, &Arc::default())
}

#[test]
fn readers_share_and_a_writer_excludes() {
    let lock = RangeLock::new();
    let first = lock.try_read(0..10).expect("nobody holds it");
    let second = lock.try_read(5..15).expect("readers share");
    assert!(lock.try_write(9..10).is_none(), "both readers cover it");
    drop(first);
    assert!(
        lock.try_write(9..10).is_none(),
        "one reader still covers it"
    );
    drop(second);
    let writing = lock.try_write(9..10).expect("nobody holds it");
    assert!(lock.try_read(0..100).is_none());
    assert!(lock.try_write(9..10).is_none());
    assert_eq!((writing.range(), writing.is_write()), (9..10, true));
}

#[test]
fn ranges_that_only_touch_do_not_conflict() {
    let lock = RangeLock::new();
    let _low = lock.try_write(0..512).expect("nobody holds it");
    let _high = lock
        .try_write(512..1024)
        .expect("the first range ends where this one begins");
    assert!(lock.try_read(511..512).is_none());
}

#[test]
fn an_empty_range_locks_nothing_and_waits_for_nothing() {
    let lock = RangeLock::new();
    let _all = lock.try_write(0..u64::MAX).expect("nobody holds it");
    let _empty = lock
        .try_write(7..7)
        .expect("an empty range conflicts with nothing");
    #[expect(clippy::reversed_empty_ranges)]
    let _reversed = poll_once(&mut lock.write(9..3)).expect("a reversed range is empty");
    check_invariants(&lock);
}

#[test]
fn the_whole_address_space_is_one_range() {
    let lock = RangeLock::new();
    let top = lock
        .try_read(u64::MAX - 1..u64::MAX)
        .expect("nobody holds it");
    let mut all = lock.write(0..u64::MAX);
    assert!(poll_once(&mut all).is_none());
    drop(top);
    let all = poll_once(&mut all).expect("its only blocker is gone");
    assert!(lock.try_read(1 << 40..(1 << 40) + 1).is_none());
    drop(all);
    assert!(lock.try_read(1 << 40..(1 << 40) + 1).is_some());
}

#[test]
fn ranges_far_apart_in_one_shard_do_not_conflict() {
    let lock = RangeLock::with_stripe_len(16);
    let period = 16 * SHARD_COUNT as u64;
    let _near = lock.try_write(0..16).expect("nobody holds it");
    let _far = lock
        .try_write(period..period + 16)
        .expect("the same shard, another range");
}

#[test]
fn a_waiting_writer_is_not_overtaken_by_later_readers() {
    let lock = RangeLock::new();
    let reading = lock.try_read(0..10).expect("nobody holds it");
    let mut writer = lock.write(5..20);
    assert!(poll_once(&mut writer).is_none());
    assert!(
        lock.try_read(0..6).is_none(),
        "it overlaps the waiting writer"
    );
    let mut late = lock.read(15..16);
    assert!(
        poll_once(&mut late).is_none(),
        "only the waiting writer is in its way"
    );
    let _beside = lock
        .try_read(0..5)
        .expect("it does not overlap the waiting writer");
    drop(reading);
    let writing = poll_once(&mut writer).expect("the reader left");
    assert!(poll_once(&mut late).is_none());
    drop(writing);
    assert!(poll_once(&mut late).is_some());
}

#[test]
fn a_place_in_the_queue_is_taken_at_the_first_poll() {
    let lock = RangeLock::new();
    let idle = lock.write(0..10);
    assert!(
        lock.try_write(0..10).is_some(),
        "a future that was never polled holds nobody up"
    );
    drop(idle);
}

#[test]
fn dropping_a_waiting_request_wakes_whom_it_held_up() {
    let lock = RangeLock::with_stripe_len(4);
    let _reading = lock.try_read(0..100).expect("nobody holds it");
    let mut writer = lock.write(50..60);
    assert!(poll_once(&mut writer).is_none());
    let waker = Arc::default();
    let mut late = lock.read(40..55);
    assert!(poll(&mut late, &waker).is_none());
    assert_eq!(waker.wakes(), 0);
    drop(writer);
    assert_eq!(waker.wakes(), 1);
    assert!(poll(&mut late, &waker).is_some());
}

#[test]
fn dropping_a_granted_request_before_it_is_polled_passes_the_lock_on() {
    let lock = RangeLock::new();
    let writing = lock.try_write(0..10).expect("nobody holds it");
    let (mut second, mut third) = (lock.write(0..10), lock.write(0..10));
    let waker = Arc::default();
    assert!(poll_once(&mut second).is_none());
    assert!(poll(&mut third, &waker).is_none());
    drop(writing);
    assert_eq!(waker.wakes(), 0, "the second has it now");
    drop(second);
    assert_eq!(waker.wakes(), 1);
    assert!(poll(&mut third, &waker).is_some());
}

#[test]
fn the_waker_of_the_last_poll_is_the_one_that_is_woken() {
    let lock = RangeLock::new();
    let writing = lock.try_write(0..10).expect("nobody holds it");
    let mut waiting = lock.read(0..10);
    let (old, new) = (Arc::default(), Arc::default());
    assert!(poll(&mut waiting, &old).is_none());
    assert!(poll(&mut waiting, &new).is_none());
    drop(writing);
    assert_eq!((old.wakes(), new.wakes()), (0, 1));
}

#[test]
fn a_guard_outlives_the_lock_and_its_handles() {
    let lock = RangeLock::new();
    let other_handle = lock.clone();
    let narrow = lock.try_write(0..10).expect("nobody holds it");
    let wide = lock.try_write(10..1 << 30).expect("nobody holds it");
    drop(lock);
    assert!(
        other_handle.try_read(9..11).is_none(),
        "a clone is the same lock"
    );
    drop(other_handle);
    std::thread::spawn(move || drop((narrow, wide)))
        .join()
        .expect("guards may be dropped anywhere, at any time");
}

#[test]
fn a_panic_releases_its_range_without_poisoning() {
    let lock = RangeLock::new();
    let guard = lock.try_write(0..10).expect("nobody holds it");
    let died = std::thread::spawn(move || {
        let _guard = guard;
        panic!("on purpose");
    });
    died.join().expect_err("it panics");
    assert!(lock.try_write(0..10).is_some());
}

#[test]
fn a_crowd_that_has_left_leaves_no_memory_behind() {
    let lock = RangeLock::new();
    let crowd: Vec<_> = (0..10_000)
        .map(|n| lock.try_read(0..n + 1).expect("readers share"))
        .collect();
    assert_eq!(entry_count_and_capacity(&lock).0, 10_000);
    drop(crowd);
    let (count, capacity) = entry_count_and_capacity(&lock);
    assert_eq!(count, 0);
    assert!(
        capacity <= 64 * SHARD_COUNT,
        "room for {capacity} entries is kept"
    );
}

#[test]
#[should_panic(expected = "not a power of two")]
fn an_odd_stripe_length_is_refused() {
    let _ = RangeLock::with_stripe_len(3);
}

#[test]
fn guards_and_requests_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    fn owns_itself<T: 'static>() {}
    crosses::<RangeLock>();
    crosses::<Acquire<'_>>();
    crosses::<RangeGuard>();
    owns_itself::<RangeGuard>();
}
