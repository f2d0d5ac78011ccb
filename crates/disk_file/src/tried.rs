//! What a thread tried to write at once, in vain: whoever asks for the same in earnest then need not have it tried again. If it failed, that is
//! its outcome: a part of it may be made, and to make it anew would be a second change, after what others wrote meanwhile (C2).
//!
//! [`Disk`](disk_backend::Disk) asks in earnest in the same breath, on the same thread, with the same memory. Of who does not, that is forgotten with
//! the next write of this thread to this disk, or the next that it tries in vain.

use crate::shared::Shared;
use disk_backend::DiskError;
use scsi_buffers::RequestBuffers;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::{Arc, Weak};

/// A write that was tried.
pub(crate) struct Tried {
    disk: Weak<Shared>,
    range: Range<u64>,
    /// Where its memory begins.
    memory: usize,
    /// How it failed. None if none of it was made.
    pub(crate) error: Option<DiskError>,
}

thread_local! {
    static LAST: RefCell<Option<Tried>> = const { RefCell::new(None) };
}

impl Tried {
    pub(crate) fn note(
        disk: &Arc<Shared>,
        range: Range<u64>,
        buffers: &RequestBuffers<'_>,
        error: Option<DiskError>,
    ) {
        let tried = Self {
            disk: Arc::downgrade(disk),
            range,
            memory: memory_of(buffers),
            error,
        };
        // A thread that is ending may have no place for it any more.
        let before = LAST.try_with(|last| last.replace(Some(tried)));
        drop(before);
    }

    /// Whether that is what this thread tried last, and failed.
    pub(crate) fn has_failed(
        disk: &Arc<Shared>,
        range: &Range<u64>,
        buffers: &RequestBuffers<'_>,
    ) -> bool {
        LAST.try_with(|last| match &*last.borrow() {
            Some(tried) => tried.error.is_some() && tried.is(disk, range, buffers),
            None => false,
        })
        .unwrap_or(false)
    }

    /// What this thread tried last of this disk, if that is it; and forgets it in any case.
    pub(crate) fn take(
        disk: &Arc<Shared>,
        range: &Range<u64>,
        buffers: &RequestBuffers<'_>,
    ) -> Option<Self> {
        let last = LAST.try_with(|last| last.borrow_mut().take_if(|tried| tried.is_of(disk)));
        let last = last.ok().flatten();
        last.filter(|tried| tried.is(disk, range, buffers))
    }

    fn is_of(&self, disk: &Arc<Shared>) -> bool {
        // No other disk is given its place as long as it is held here.
        std::ptr::eq(self.disk.as_ptr(), Arc::as_ptr(disk))
    }

    fn is(&self, disk: &Arc<Shared>, range: &Range<u64>, buffers: &RequestBuffers<'_>) -> bool {
        self.is_of(disk) && self.range == *range && self.memory == memory_of(buffers)
    }
}

/// Where memory begins; 0 if it is none.
fn memory_of(buffers: &RequestBuffers<'_>) -> usize {
    match buffers.segments().next() {
        Some(Ok(first)) => first.as_ptr().addr(),
        Some(Err(_)) | None => 0,
    }
}
