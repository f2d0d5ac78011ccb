//! An asynchronous reader-writer lock over ranges of numbers.
//!
//! Row 1 of the house: it knows nothing of disks. Disks use it to make their sectors change at one instant
//! (`disk_file`), frontends to exclude others from a read-modify-write, layers to complete work of several steps.
//!
//! ```
//! # futures_lite::future::block_on(async {
//! let lock = range_lock::RangeLock::new();
//! let writing = lock.write(0..4096).await;
//! assert!(lock.try_read(4095..8192).is_none());
//! assert!(lock.try_read(4096..8192).is_some());
//! drop(writing);
//! # });
//! ```
//!
//! **Guarantees.** Readers share, a writer excludes whatever overlaps its range; an empty range locks nothing. Requests that
//! conflict are served in the order in which they were first polled, so readers that keep coming never starve a writer, and
//! requests that do not conflict never wait for each other. A guard is owned (`'static + Send`): work that outlives the future
//! which began it takes its guard along. Dropping a waiting future takes it out of the queue and lets those behind it go on.
//! It needs no executor and starts no thread. Uncontended, a range inside one stripe costs one short mutex each way, no
//! allocation, and touches only memory of that stripe's shard (`cargo run --release -p range_lock --example uncontended`).
//! State is bounded by what is held and waiting.
//!
//! **What it does not do.** It guards nothing by itself: it does not own the data. There is no upgrade from read to write. A
//! task that waits for one range while it holds another can deadlock with a second such task: take one range per operation.
//! Between processes, use the locks of the operating system (`disk_file` does).
//!
//! **Failure.** Nothing here can fail. A guard that is leaked keeps its range locked for ever; a guard dropped by a panic
//! releases it, without poisoning.

mod claim;
mod queue;
mod waiter;

#[cfg(test)]
mod tests;

use claim::{Claim, Entered, Table};
use queue::Mode;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use waiter::Waiter;

/// The stripe length that [`RangeLock::new`] chooses: 1 MiB when addresses are bytes.
pub const STRIPE_LEN_DEFAULT: u64 = 1 << 20;

/// A reader-writer lock over ranges of `u64`; see the [crate documentation](crate).
///
/// Cloning is cheap and gives another handle of the same lock.
#[derive(Clone)]
pub struct RangeLock {
    table: Arc<Table>,
}

impl RangeLock {
    /// A lock for addresses in bytes: ranges in different stripes of [`STRIPE_LEN_DEFAULT`] rarely touch the same memory.
    #[must_use]
    pub fn new() -> Self {
        Self::with_stripe_len(STRIPE_LEN_DEFAULT)
    }

    /// A lock whose address space is spread over its shards in stripes of `stripe_len`.
    ///
    /// Only speed depends on it: choose a length that most ranges fit into, in the unit of the addresses.
    ///
    /// # Panics
    ///
    /// When `stripe_len` is not a power of two.
    #[must_use]
    pub fn with_stripe_len(stripe_len: u64) -> Self {
        assert!(
            stripe_len.is_power_of_two(),
            "stripe length {stripe_len} is not a power of two"
        );
        Self {
            table: Arc::new(Table::new(stripe_len.trailing_zeros())),
        }
    }

    /// Waits until no writer holds any of `range`, nor waits for it since before this request.
    ///
    /// The request takes its place in the queue when the future is first polled, and gives it up when the future is dropped.
    /// A range whose end is not above its start is empty: it waits for nothing and locks nothing.
    pub fn read(&self, range: Range<u64>) -> Acquire<'_> {
        Acquire {
            state: AcquireState::New {
                lock: self,
                range,
                mode: Mode::Shared,
            },
        }
    }

    /// Waits until nobody holds any of `range`, nor waits for it since before this request; otherwise like [`Self::read`].
    pub fn write(&self, range: Range<u64>) -> Acquire<'_> {
        Acquire {
            state: AcquireState::New {
                lock: self,
                range,
                mode: Mode::Exclusive,
            },
        }
    }

    /// The lock of `range` for reading, if [`Self::read`] would get it without waiting.
    #[must_use]
    pub fn try_read(&self, range: Range<u64>) -> Option<RangeGuard> {
        self.try_enter(range, Mode::Shared)
    }

    /// The lock of `range` for writing, if [`Self::write`] would get it without waiting.
    #[must_use]
    pub fn try_write(&self, range: Range<u64>) -> Option<RangeGuard> {
        self.try_enter(range, Mode::Exclusive)
    }

    fn try_enter(&self, range: Range<u64>, mode: Mode) -> Option<RangeGuard> {
        match self.table.enter(range, mode, None) {
            Entered::Granted(claim) => Some(RangeGuard { claim }),
            Entered::Refused => None,
            Entered::Waiting(..) => unreachable!("a request without a waker never waits"),
        }
    }
}

impl Default for RangeLock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RangeLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RangeLock").finish_non_exhaustive()
    }
}

/// A range that is locked until this is dropped.
///
/// It borrows nothing: it may move to another thread, and outlive the future and every handle of the lock.
#[must_use = "the range is unlocked at once when the guard is dropped"]
#[derive(Debug)]
pub struct RangeGuard {
    claim: Claim,
}

impl RangeGuard {
    /// The range that was asked for.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.claim.range()
    }

    /// Whether the range is locked for writing.
    #[must_use]
    pub fn is_write(&self) -> bool {
        self.claim.mode() == Mode::Exclusive
    }
}

/// The future of [`RangeLock::read`] and [`RangeLock::write`].
#[must_use = "futures do nothing unless polled"]
#[derive(Debug)]
pub struct Acquire<'a> {
    state: AcquireState<'a>,
}

#[derive(Debug)]
enum AcquireState<'a> {
    New {
        lock: &'a RangeLock,
        range: Range<u64>,
        mode: Mode,
    },
    Waiting {
        claim: Claim,
        waiter: Arc<Waiter>,
    },
    Done,
}

impl Future for Acquire<'_> {
    type Output = RangeGuard;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<RangeGuard> {
        let claim = match std::mem::replace(&mut self.state, AcquireState::Done) {
            AcquireState::New { lock, range, mode } => {
                match lock.table.enter(range, mode, Some(cx.waker())) {
                    Entered::Granted(claim) => claim,
                    Entered::Waiting(claim, waiter) => {
                        self.state = AcquireState::Waiting { claim, waiter };
                        return Poll::Pending;
                    }
                    Entered::Refused => unreachable!("a request with a waker waits"),
                }
            }
            AcquireState::Waiting { claim, waiter } => {
                if !waiter.poll_granted(cx.waker()) {
                    self.state = AcquireState::Waiting { claim, waiter };
                    return Poll::Pending;
                }
                claim
            }
            AcquireState::Done => panic!("a finished lock request was polled again"),
        };
        Poll::Ready(RangeGuard { claim })
    }
}
