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
/// Guest memory is kept mapped; a bounce buffer is neither reused nor counted as free. The guest may still change its memory: a pin is no lock.
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

impl PinnedBuffers {
    pub(crate) fn new(
        source: &Source<'_>,
        start: usize,
        len: usize,
        direction: Direction,
    ) -> Option<Self> {
        let memory = match source {
            Source::Borrowed(_) if len == 0 => {
                return RequestBuffers::zeros(0).and_then(|buffers| buffers.pin());
            }
            Source::Borrowed(_) => return None,
            Source::Static(list) => Pinned::Static(list),
            Source::Bounce(memory) => Pinned::Bounce(Arc::clone(memory)),
            Source::Guest(memory, list) => Pinned::Guest {
                memory: GuestMemory::clone(memory),
                ranges: list.ranges.into(),
                ends: list.ends.into(),
            },
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

impl fmt::Debug for PinnedBuffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PinnedBuffers")
            .field(&self.buffers())
            .finish()
    }
}
