//! Owning the memory of a request beyond the request.

use crate::GuestRange;
use crate::RequestBuffers;
use crate::bounce::BounceMemory;
use crate::source::Direction;
use crate::source::GuestList;
use crate::source::HostList;
use crate::source::Source;
use guestmem::GuestMemory;
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;

/// Owns the memory of a request, so that a kernel or another thread may use it after the request's future is gone.
///
/// Guest memory stays mapped; a bounce buffer is neither used again nor counted as free, also when the pin is forgotten. A
/// pin is no lock: a guest may still change its memory.
#[derive(Clone)]
pub struct PinnedBuffers {
    memory: Pinned,
    start: usize,
    len: usize,
    direction: Direction,
}

#[derive(Clone)]
enum Pinned {
    Static(&'static HostList<'static>),
    Bounce(Arc<BounceMemory>),
    Guest {
        memory: GuestMemory,
        ranges: SmallVec<[GuestRange; 4]>,
        ends: SmallVec<[usize; 4]>,
    },
}

static NO_BYTES: HostList<'static> = HostList {
    segments: &[],
    ends: &[],
};

impl PinnedBuffers {
    /// Pins `len` bytes at `start` of a source, if that can be.
    pub(crate) fn new(
        source: &Source<'_>,
        start: usize,
        len: usize,
        direction: Direction,
    ) -> Option<Self> {
        let (memory, start) = match source {
            // Nobody can take back what is nothing.
            _ if len == 0 => (Pinned::Static(&NO_BYTES), 0),
            Source::Borrowed(_) => return None,
            Source::Static(list) => (Pinned::Static(list), start),
            Source::Bounce(memory) => (Pinned::Bounce(Arc::clone(memory)), start),
            Source::Guest(memory, list) => pin_guest(memory, list, start, len),
        };
        Some(PinnedBuffers {
            memory,
            start,
            len,
            direction,
        })
    }

    /// The buffers that were pinned.
    pub fn buffers(&self) -> RequestBuffers<'_> {
        let source = match &self.memory {
            Pinned::Static(list) => Source::Static(list),
            Pinned::Bounce(memory) => Source::Bounce(memory),
            Pinned::Guest {
                memory,
                ranges,
                ends,
            } => Source::Guest(memory, GuestList { ranges, ends }),
        };
        RequestBuffers::new(source, self.start, self.len, self.direction)
    }
}

/// Keeps those ranges that the `len` bytes (not 0) at `start` touch, and says where in them the bytes begin.
fn pin_guest(
    memory: &GuestMemory,
    list: &GuestList<'_>,
    start: usize,
    len: usize,
) -> (Pinned, usize) {
    let first = list.ends.partition_point(|&end| end <= start);
    let last = list.ends.partition_point(|&end| end < start + len);
    let skipped = first.checked_sub(1).map_or(0, |before| list.ends[before]);
    let pinned = Pinned::Guest {
        memory: memory.clone(),
        ranges: list.ranges[first..=last].into(),
        ends: list.ends[first..=last]
            .iter()
            .map(|end| end - skipped)
            .collect(),
    };
    (pinned, start - skipped)
}

impl fmt::Debug for PinnedBuffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PinnedBuffers")
            .field(&self.buffers())
            .finish()
    }
}
