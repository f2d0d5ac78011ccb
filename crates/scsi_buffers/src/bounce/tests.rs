//! The pool: its bound, its order, and what becomes of buffers and of those who wait. The invariants of its books are checked after every step.

use super::pool::size_class;
use super::*;
use futures_lite::future::block_on;
use futures_lite::future::poll_once;
use guestmem::MemoryRead;
use guestmem::MemoryWrite;
use guestmem::PAGE_SIZE_BYTES;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Wake;
use std::task::Waker;

const PAGE: usize = PAGE_SIZE_BYTES;

/// What inspection says of one part of the pool.
fn figure(pool: &BouncePool, name: &str) -> u64 {
    let value = block_on(inspect::inspect(name, None, pool)).unwrap();
    value.as_u64().unwrap()
}

fn poll<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
    block_on(poll_once(future))
}

#[test]
fn a_buffer_is_page_aligned_and_as_long_as_asked() {
    let pool = BouncePool::new(1 << 20);
    for len in [1, 511, 4096, 4097, 100_000] {
        let mut buffer = block_on(pool.allocate(len)).unwrap();
        assert_eq!(buffer.len(), len);
        assert_eq!(buffer.buffers(true).len(), len);
        let bytes = buffer.as_mut_slice().unwrap();
        assert_eq!(bytes.len(), len);
        assert_eq!(bytes.as_ptr().addr() % PAGE, 0);
    }
}

#[test]
fn a_request_above_the_bound_is_refused_at_once() {
    let pool = BouncePool::new(2 * PAGE);
    let too_large = BounceError::TooLarge {
        len: 2 * PAGE + 1,
        bytes_max: 2 * PAGE,
    };
    assert_eq!(
        block_on(pool.allocate(2 * PAGE + 1)).unwrap_err(),
        too_large
    );
    assert_eq!(pool.try_allocate(2 * PAGE + 1).unwrap_err(), too_large);
    assert!(pool.try_allocate(usize::MAX).is_err());
    assert_eq!(figure(&pool, "too_large"), 3);
    assert_eq!(
        too_large.to_string(),
        "a bounce buffer of 8193 bytes is above the pool's bound of 8192: ask for less, or raise the bound"
    );
}

#[test]
fn the_whole_bound_can_be_had_at_once_whatever_its_size() {
    for pages in 1..40 {
        let pool = BouncePool::new(pages * PAGE);
        let buffer = pool.try_allocate(pages * PAGE).unwrap().unwrap();
        assert_eq!(buffer.len(), pages * PAGE);
        assert_eq!(figure(&pool, "bytes_in_use"), (pages * PAGE) as u64);
    }
}

#[test]
fn the_bound_is_rounded_up_to_whole_pages() {
    assert_eq!(BouncePool::new(1).bytes_max(), PAGE);
    assert_eq!(BouncePool::new(usize::MAX).bytes_max() % PAGE, 0);
    assert!(BouncePool::new(1).try_allocate(512).unwrap().is_some());
}

#[test]
fn no_bytes_are_always_to_be_had() {
    let pool = BouncePool::new(0);
    assert_eq!(block_on(pool.allocate(0)).unwrap().len(), 0);
    assert!(block_on(pool.allocate(1)).is_err());

    let pool = BouncePool::new(PAGE);
    let _all = pool.try_allocate(PAGE).unwrap().unwrap();
    let mut waiter = pin!(pool.allocate(1));
    assert!(poll(waiter.as_mut()).is_none());
    let mut empty = block_on(pool.allocate(0)).unwrap();
    assert_eq!(empty.as_slice(), Some(&[][..]));
    assert!(pool.try_allocate(0).unwrap().is_some());
}

#[test]
fn sizes_waste_at_most_a_quarter() {
    for pages in 1..5000 {
        let size = size_class(pages * PAGE) / PAGE;
        assert!(
            size >= pages && size * 4 <= pages * 5,
            "{pages} pages became {size}"
        );
        assert_eq!(size_class(size * PAGE), size * PAGE, "{pages}");
    }
    assert_eq!(size_class(0), 0);
    assert_eq!(size_class(1), PAGE);
}

#[test]
fn waiters_are_served_in_order_even_when_a_later_one_would_fit() {
    let pool = BouncePool::new(4 * PAGE);
    let three = pool.try_allocate(3 * PAGE).unwrap().unwrap();
    let mut large = pin!(pool.allocate(2 * PAGE));
    let mut small = pin!(pool.allocate(PAGE));
    assert!(poll(large.as_mut()).is_none());
    assert!(poll(small.as_mut()).is_none());
    assert!(pool.try_allocate(PAGE).unwrap().is_none());
    assert_eq!(figure(&pool, "waiters"), 2);
    drop(three);
    let small = poll(small).unwrap().unwrap();
    let large = poll(large).unwrap().unwrap();
    assert_eq!((large.len(), small.len()), (2 * PAGE, PAGE));
    assert_eq!(figure(&pool, "waits"), 2);
    assert_eq!(figure(&pool, "waiters"), 0);
}

#[test]
fn a_waiter_dropped_in_the_queue_lets_those_behind_it_pass() {
    let pool = BouncePool::new(4 * PAGE);
    let _three = pool.try_allocate(3 * PAGE).unwrap().unwrap();
    let mut large = Box::pin(pool.allocate(2 * PAGE));
    let mut small = pin!(pool.allocate(PAGE));
    assert!(poll(large.as_mut()).is_none());
    assert!(poll(small.as_mut()).is_none());
    drop(large);
    assert!(poll(small).is_some());
}

#[test]
fn a_waiter_dropped_after_it_was_served_passes_its_bytes_on() {
    let pool = BouncePool::new(PAGE);
    let all = pool.try_allocate(PAGE).unwrap().unwrap();
    let mut first = Box::pin(pool.allocate(PAGE));
    let mut second = pin!(pool.allocate(PAGE));
    assert!(poll(first.as_mut()).is_none());
    assert!(poll(second.as_mut()).is_none());
    drop(all);
    assert!(poll(second.as_mut()).is_none(), "the first was served");
    drop(first);
    assert!(poll(second).is_some());
    assert_eq!(figure(&pool, "bytes_in_use"), 0);
}

#[test]
fn a_waiter_that_was_never_polled_holds_up_nobody() {
    let pool = BouncePool::new(PAGE);
    let _unpolled = pool.allocate(PAGE);
    assert!(pool.try_allocate(PAGE).unwrap().is_some());
}

#[test]
fn a_forgotten_waiter_holds_no_more_than_it_asked_for() {
    let pool = BouncePool::new(4 * PAGE);
    let all = pool.try_allocate(4 * PAGE).unwrap().unwrap();
    let mut forgotten = Box::pin(pool.allocate(PAGE));
    assert!(poll(forgotten.as_mut()).is_none());
    let forgotten = ManuallyDrop::new(forgotten);
    let mut next = pin!(pool.allocate(3 * PAGE));
    assert!(poll(next.as_mut()).is_none());
    drop(all);
    assert!(poll(next).is_some());
    // Only so that no memory leaks for good.
    drop(ManuallyDrop::into_inner(forgotten));
}

#[test]
fn a_pin_counts_until_it_is_dropped() {
    let pool = BouncePool::new(PAGE);
    let mut buffer = pool.try_allocate(PAGE).unwrap().unwrap();
    let pin = buffer.buffers(true).pin().unwrap();
    let second_pin = pin.clone();
    assert!(buffer.as_mut_slice().is_none());
    drop(buffer);
    pin.buffers().writer().write(&[7; 100]).unwrap();
    drop(pin);
    assert!(pool.try_allocate(1).unwrap().is_none());
    assert_eq!(
        second_pin.buffers().reader().read_plain::<[u8; 100]>(),
        Ok([7; 100])
    );
    drop(second_pin);
    assert!(pool.try_allocate(1).unwrap().is_some());
}

#[test]
fn a_forgotten_pin_keeps_its_memory() {
    let pool = BouncePool::new(2 * PAGE);
    let mut buffer = pool.try_allocate(PAGE).unwrap().unwrap();
    buffer.as_mut_slice().unwrap().fill(5);
    let forgotten = ManuallyDrop::new(buffer.buffers(false).pin().unwrap());
    assert!(buffer.as_slice().is_none());
    drop(buffer);
    assert_eq!(figure(&pool, "bytes_in_use"), PAGE as u64);
    let mut other = pool.try_allocate(PAGE).unwrap().unwrap();
    other.as_mut_slice().unwrap().fill(6);
    assert!(pool.try_allocate(1).unwrap().is_none());
    assert_eq!(
        forgotten.buffers().reader().read_plain::<[u8; PAGE]>(),
        Ok([5; PAGE])
    );
    // Only so that no memory leaks for good.
    drop(ManuallyDrop::into_inner(forgotten));
}

#[test]
fn a_buffer_outlives_its_pool() {
    let pool = BouncePool::new(PAGE);
    let mut buffer = pool.try_allocate(10).unwrap().unwrap();
    drop(pool);
    buffer.as_mut_slice().unwrap().fill(1);
    assert_eq!(buffer.as_slice(), Some(&[1; 10][..]));
}

#[test]
fn memory_is_used_again_and_makes_room_for_other_sizes() {
    let pool = BouncePool::new(4 * PAGE);
    drop(pool.try_allocate(4 * PAGE).unwrap().unwrap());
    assert_eq!(figure(&pool, "bytes_idle"), 4 * PAGE as u64);
    drop(pool.try_allocate(4 * PAGE).unwrap().unwrap());
    assert_eq!(figure(&pool, "reuses"), 1);
    let one = pool.try_allocate(PAGE).unwrap().unwrap();
    assert_eq!(figure(&pool, "bytes_idle"), 0);
    drop(one);
    assert_eq!(figure(&pool, "bytes_idle"), PAGE as u64);
    assert_eq!(figure(&pool, "bytes_in_use_max"), 4 * PAGE as u64);
    assert_eq!(figure(&pool, "allocations"), 3);
}

#[test]
fn idle_memory_is_bounded_below_the_bound_of_a_large_pool() {
    let pool = BouncePool::new(1 << 30);
    let buffers: Vec<_> = (0..40)
        .map(|_| pool.try_allocate(1 << 20).unwrap().unwrap())
        .collect();
    drop(buffers);
    assert_eq!(figure(&pool, "bytes_idle"), 16 << 20);
    assert_eq!(figure(&pool, "bytes_in_use"), 0);
}

#[test]
fn memory_that_the_system_refuses_is_an_error_and_counts_no_longer() {
    let pool = BouncePool::new(usize::MAX);
    let len = isize::MAX as usize;
    assert_eq!(
        block_on(pool.allocate(len)).unwrap_err(),
        BounceError::OutOfMemory { len }
    );
    assert_eq!(
        BounceBuffer::unpooled(len).unwrap_err(),
        BounceError::OutOfMemory { len }
    );
    assert_eq!(figure(&pool, "bytes_in_use"), 0);
}

/// Counts its wake-ups and, like the waker of a task, keeps something alive.
struct Task {
    wakes: AtomicUsize,
    _holds: parking_lot::Mutex<Option<BounceBuffer>>,
}

impl Task {
    fn holding(buffer: Option<BounceBuffer>) -> Arc<Self> {
        Arc::new(Task {
            wakes: AtomicUsize::new(0),
            _holds: parking_lot::Mutex::new(buffer),
        })
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_waker_of_the_last_poll_is_woken_once() {
    let pool = BouncePool::new(PAGE);
    let all = pool.try_allocate(PAGE).unwrap().unwrap();
    let (first, last) = (Task::holding(None), Task::holding(None));
    let mut waiter = pin!(pool.allocate(PAGE));
    for task in [&first, &first, &last] {
        let waker = Waker::from(Arc::clone(task));
        assert!(
            waiter
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
    }
    drop(all);
    assert_eq!(first.wakes.load(Ordering::Relaxed), 0);
    assert_eq!(last.wakes.load(Ordering::Relaxed), 1);
    assert!(poll(waiter).is_some());
}

#[test]
fn a_task_that_goes_with_its_waker_may_hold_a_buffer() {
    let pool = BouncePool::new(2 * PAGE);
    let buffer = pool.try_allocate(PAGE).unwrap();
    let _other = pool.try_allocate(PAGE).unwrap().unwrap();
    let mut waiter = Box::pin(pool.allocate(2 * PAGE));
    let waker = Waker::from(Task::holding(buffer));
    assert!(
        waiter
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    // The queue now has the last reference to the task, and the task has a buffer of the pool.
    drop(waker);
    assert!(poll(waiter.as_mut()).is_none());
    assert_eq!(figure(&pool, "bytes_in_use"), PAGE as u64);

    let waker = Waker::from(Task::holding(pool.try_allocate(0).unwrap()));
    assert!(
        waiter
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    drop(waker);
    drop(waiter);
    assert_eq!(figure(&pool, "waiters"), 0);
}

#[test]
fn inspection_shows_every_figure() {
    let pool = BouncePool::new(4 * PAGE);
    let _buffer = pool.try_allocate(PAGE).unwrap().unwrap();
    let tree = block_on(inspect::inspect("", None, &pool)).unwrap();
    assert_eq!(
        tree.to_string(),
        r#"{"bytes_max":16384,"bytes_in_use":4096,"bytes_in_use_max":4096,"bytes_idle":0,"waiters":0,"allocations":1,"reuses":0,"waits":0,"too_large":0}"#
    );
}

#[test]
fn threads_that_share_a_pool_all_get_through_and_never_share_memory() {
    let pool = BouncePool::new(6 * PAGE);
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let pool = pool.clone();
            scope.spawn(move || {
                for round in 0..500 {
                    let mut buffer = block_on(pool.allocate((1 + round % 5) * PAGE)).unwrap();
                    let bytes = buffer.as_mut_slice().unwrap();
                    bytes.fill(thread);
                    std::thread::yield_now();
                    assert!(bytes.iter().all(|&byte| byte == thread));
                }
            });
        }
    });
    assert_eq!(figure(&pool, "bytes_in_use"), 0);
    assert_eq!(figure(&pool, "waiters"), 0);
    assert_eq!(figure(&pool, "allocations"), 2000);
}
