//! Segments in the batches that a kernel takes.

use crate::RequestSegments;
use guestmem::AccessError;
use guestmem::Segment;
use smallvec::SmallVec;
use std::ops::Deref;

/// The most segments in one batch (Linux `IOV_MAX`).
pub const IOVEC_COUNT_MAX: usize = 1024;

/// The most bytes in one batch (Linux transfers no more in one call).
pub const IOVEC_BYTES_MAX: usize = 0x7fff_f000;

/// Segments of a batch that need no heap: 128 KiB in separate guest pages, wherever in the first page they begin.
const INLINE_COUNT: usize = 33;

/// One batch of segments; see [`RequestBuffers::iovecs`](crate::RequestBuffers::iovecs). Dereferences to the segments.
#[derive(Clone, Debug, Default)]
pub struct Iovecs<'a> {
    segments: SmallVec<[Segment<'a>; INLINE_COUNT]>,
    len_bytes: usize,
}

impl<'a> Iovecs<'a> {
    /// Takes segments until the batch is full.
    pub(crate) fn collect(mut segments: RequestSegments<'a>) -> Result<Self, AccessError> {
        let mut batch = Iovecs::default();
        while batch.segments.len() < IOVEC_COUNT_MAX && batch.len_bytes < IOVEC_BYTES_MAX {
            let Some(segment) = segments.next().transpose()? else {
                break;
            };
            let len = segment.len().min(IOVEC_BYTES_MAX - batch.len_bytes);
            batch.segments.push(segment.subsegment(0, len));
            batch.len_bytes += len;
        }
        Ok(batch)
    }

    /// How many bytes the batch covers: the next begins that much further.
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// The segments, laid out as `struct iovec`.
    pub fn as_slice(&self) -> &[Segment<'a>] {
        &self.segments
    }
}

impl<'a> Deref for Iovecs<'a> {
    type Target = [Segment<'a>];

    fn deref(&self) -> &[Segment<'a>] {
        &self.segments
    }
}
