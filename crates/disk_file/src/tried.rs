//! What a thread tried to write at once, in vain: whoever asks for the same in earnest then need not have it tried again. If it failed, that is
//! its outcome: a part of it may be made, and to make it anew would be a second change, after what others wrote meanwhile (C2).
//!
//! [`Disk`](disk_backend::Disk) asks in earnest in the same breath, on the same thread. Of who does not, that is forgotten with the next write
//! that this thread tries in vain.

use crate::shared::Shared;
use disk_backend::DiskError;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::{Arc, Weak};

/// A write that was tried.
pub(crate) struct Tried {
    disk: Weak<Shared>,
    range: Range<u64>,
    /// How it failed. None if none of it was made.
    pub(crate) error: Option<DiskError>,
}

thread_local! {
    static LAST: RefCell<Option<Tried>> = const { RefCell::new(None) };
}

impl Tried {
    pub(crate) fn note(disk: &Arc<Shared>, range: Range<u64>, error: Option<DiskError>) {
        let disk = Arc::downgrade(disk);
        let tried = Self { disk, range, error };
        // A thread that is ending may have no place for it any more.
        let before = LAST.try_with(|last| last.replace(Some(tried)));
        drop(before);
    }

    /// Whether that is what this thread tried last, and failed.
    pub(crate) fn has_failed(disk: &Arc<Shared>, range: &Range<u64>) -> bool {
        LAST.try_with(|last| match &*last.borrow() {
            Some(tried) => tried.error.is_some() && tried.is(disk, range),
            None => false,
        })
        .unwrap_or(false)
    }

    /// Whether that is what this thread tried last; and forgets it.
    pub(crate) fn take(disk: &Arc<Shared>, range: &Range<u64>) -> Option<Self> {
        LAST.try_with(|last| last.borrow_mut().take_if(|tried| tried.is(disk, range)))
            .unwrap_or(None)
    }

    fn is(&self, disk: &Arc<Shared>, range: &Range<u64>) -> bool {
        // No other disk is given its place as long as it is held here.
        std::ptr::eq(self.disk.as_ptr(), Arc::as_ptr(disk)) && self.range == *range
    }
}
