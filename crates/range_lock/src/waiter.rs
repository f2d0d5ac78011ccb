//! One request that waits: how many shards still hold it up, and whom to wake when none does.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Waker;

/// Shared between the waiting future and its entries in the shards that hold it up.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// Only falls. The release that brings it to zero owes the wake-up.
    shards_blocked: AtomicU32,
    waker: Mutex<Option<Waker>>,
}

impl Waiter {
    pub(crate) fn new(shards_blocked: u32, waker: &Waker) -> Self {
        debug_assert!(shards_blocked > 0);
        Self {
            shards_blocked: AtomicU32::new(shards_blocked),
            waker: Mutex::new(Some(waker.clone())),
        }
    }

    /// Notes that one shard holds the request up no longer; true when it was the last one.
    pub(crate) fn unblock_shard(&self) -> bool {
        // Release pairs with the acquire of the owner's check: what was done under the released ranges is seen by it.
        self.shards_blocked.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Wakes the owner. Called without any shard's mutex: a waker is foreign code.
    pub(crate) fn wake(&self) {
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether the request is granted; if not, `waker` is woken once it is.
    pub(crate) fn poll_granted(&self, waker: &Waker) -> bool {
        // The mutex is held from the check to the store, so that `wake` comes after the store or the check sees zero.
        let mut slot = self.waker.lock();
        if self.is_granted() {
            return true;
        }
        match &mut *slot {
            Some(old) => old.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
        false
    }

    pub(crate) fn is_granted(&self) -> bool {
        self.shards_blocked.load(Ordering::Acquire) == 0
    }
}

#[cfg(test)]
impl Waiter {
    pub(crate) fn shards_blocked(&self) -> usize {
        self.shards_blocked.load(Ordering::Acquire) as usize
    }
}
