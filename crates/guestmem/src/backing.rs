//! The promise that memory makes before it may serve as guest memory.

use crate::Pages;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU8;

/// Memory that can back a [`GuestRegion`](crate::GuestRegion).
///
/// # Safety
/// `range` always gives the same base and length. From the first call until the implementor is dropped, and wherever it is
/// moved to, the bytes are one mapped allocation, at most `isize::MAX` long, that may be read and, if `is_writable`, written from any
/// thread, without ever raising a signal (a file mapping must not be truncated under it). Other Rust code in this
/// process accesses them only by atomic operations of one byte, or through this crate.
pub unsafe trait BackingMemory: 'static + Send + Sync {
    /// The first byte and the length in bytes. Called once, when the region is made.
    fn range(&mut self) -> (NonNull<AtomicU8>, usize);

    /// Whether the bytes may be written. Called once, when the region is made.
    fn is_writable(&self) -> bool {
        true
    }
}

// SAFETY: the pages are mapped at one address until they are dropped, read and write, and private to whoever owns the
// `Pages`: the region, which never makes a slice of them.
unsafe impl BackingMemory for Pages {
    fn range(&mut self) -> (NonNull<AtomicU8>, usize) {
        (self.base(), self.len())
    }
}
