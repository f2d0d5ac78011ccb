//! Copies of small first writes, on their way into the log with the record of them.
//!
//! A record must not say that data is there which a crash may have taken (D1). Where the entry that has the record has the data as well, it is
//! there in any case, and one flush of the store makes both durable. What is small and written for the first time is therefore written to its
//! place from a copy, and the copy is kept until the next flush. Invariants:
//! - K1: each sector that has become data since the last flush of the store that succeeded began is what a copy here says; or the copies are
//!   not *complete*, and D1 takes a flush of its own.
//! - K2: whoever writes to the place of a sector that is data lets copies of it be not complete, before that begins. With the sector's page
//!   locked, as whoever adds a copy.
//! - K3: there are never more of them than an entry takes, and little enough that writing them twice is cheaper than a flush.

use crate::format::{BLOCK_BYTES, COPIES_MAX, ENTRY_MAGIC};
use parking_lot::Mutex;
use scsi_buffers::{BounceBuffer, BouncePool, RequestBuffers};
use std::ops::Range;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// How many bytes of them there are in a layer, at the most (K3).
const BYTES_MAX: usize = 128 << 10;

/// Memory for the copies of all layers. When there is none, nothing is copied.
static POOL: LazyLock<BouncePool> = LazyLock::new(|| BouncePool::new(64 * BYTES_MAX));

/// See the head of this module.
#[derive(Debug)]
pub(crate) struct Copies {
    /// Whether the layer may have any.
    is_enabled: bool,
    /// Whether there is one: only a hint, but for those whose page is locked.
    has_any: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    list: Vec<Copy>,
    bytes: usize,
    /// Not K1.
    is_incomplete: bool,
}

/// Data, and the first sector of the layer that it is of.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) sector: u64,
    pub(crate) data: BounceBuffer,
}

/// What a flush takes of them. Dropped before it is [durable](Self::are_durable), it leaves them not complete.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    from: &'a Copies,
    /// None if they are not complete.
    list: Option<Vec<Copy>>,
    is_over: bool,
}

impl Copies {
    pub(crate) fn new(is_enabled: bool) -> Self {
        Self {
            is_enabled,
            has_any: AtomicBool::new(false),
            inner: Mutex::default(),
        }
    }

    /// A copy of what is about to be written, if it is to be kept then.
    pub(crate) fn copy_of(&self, memory: &RequestBuffers<'_>) -> Option<BounceBuffer> {
        let is_wanted = self.is_enabled && memory.len() <= BYTES_MAX && {
            let inner = self.inner.lock();
            !inner.is_incomplete && inner.has_room(memory.len())
        };
        if !is_wanted {
            return None;
        }
        let copy = POOL.try_allocate(memory.len()).ok()??;
        copy.buffers(true).copy_from(memory).ok()?;
        Some(copy)
    }

    /// Sectors from this one on have become data, in the place that was written from a copy, or without one. With their page locked.
    pub(crate) fn note_data(&self, sector: u64, copy: Option<BounceBuffer>) {
        if !self.is_enabled {
            return;
        }
        let mut inner = self.inner.lock();
        match copy {
            Some(mut data) if !inner.is_incomplete && inner.has_room(data.len()) => {
                // It would be taken for an entry where entries are looked for.
                let looks_like_entry = data.as_slice().is_none_or(|bytes| {
                    bytes
                        .chunks(BLOCK_BYTES)
                        .any(|block| block.starts_with(&ENTRY_MAGIC))
                });
                match looks_like_entry {
                    true => inner.give_up(),
                    false => inner.add(sector, data),
                }
            }
            _ => inner.give_up(),
        }
        self.has_any
            .store(!inner.list.is_empty(), Ordering::Relaxed);
    }

    /// Sectors that are data are about to be something else, in their places (K2). With their page locked.
    pub(crate) fn note_over(&self, sectors: Range<u64>, sector_shift: u32) {
        if !self.has_any.load(Ordering::Relaxed) {
            return;
        }
        let mut inner = self.inner.lock();
        let is_over = |copy: &Copy| {
            let end = copy.sector + (copy.data.len() >> sector_shift) as u64;
            copy.sector < sectors.end && sectors.start < end
        };
        if inner.list.iter().any(is_over) {
            inner.give_up();
            self.has_any.store(false, Ordering::Relaxed);
        }
    }

    /// Takes what there is, for a flush: after the images of the pages are taken, so that what becomes data meanwhile has its copy here.
    pub(crate) fn take(&self) -> Taken<'_> {
        let mut inner = self.inner.lock();
        self.has_any.store(false, Ordering::Relaxed);
        let taken = std::mem::take(&mut *inner);
        let is_complete = self.is_enabled && !taken.is_incomplete;
        Taken {
            from: self,
            list: is_complete.then_some(taken.list),
            is_over: false,
        }
    }
}

impl Inner {
    fn has_room(&self, len: usize) -> bool {
        self.list.len() < COPIES_MAX && self.bytes + len.next_multiple_of(BLOCK_BYTES) <= BYTES_MAX
    }

    /// An older copy of the same sectors was of what has been cleared since: the newer one comes after it.
    fn add(&mut self, sector: u64, data: BounceBuffer) {
        self.bytes += data.len().next_multiple_of(BLOCK_BYTES);
        self.list.push(Copy { sector, data });
    }

    fn give_up(&mut self) {
        self.list.clear();
        self.bytes = 0;
        self.is_incomplete = true;
    }
}

impl Taken<'_> {
    /// The copies, if they are complete.
    pub(crate) fn list(&self) -> Option<&[Copy]> {
        self.list.as_deref()
    }

    /// How many blocks of the log they take.
    pub(crate) fn block_count(&self) -> usize {
        let list = self.list.iter().flatten();
        list.map(|copy| copy.data.len().div_ceil(BLOCK_BYTES)).sum()
    }

    /// A flush of the store has made durable what they are copies of: none is needed any more.
    pub(crate) fn forget(&mut self) {
        self.list = None;
    }

    /// What they are copies of is durable.
    pub(crate) fn are_durable(mut self) {
        self.is_over = true;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.from.inner.lock().give_up();
        }
    }
}
