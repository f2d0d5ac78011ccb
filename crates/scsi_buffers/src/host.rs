//! A request over memory of this process, borrowed from its owner.

use crate::RequestBuffers;
use crate::source::Direction;
use crate::source::HostList;
use crate::source::Source;
use guestmem::Segment;
use smallvec::SmallVec;
use std::fmt;

/// Describes borrowed host memory, and holds on to the borrow.
///
/// Its buffers cannot be pinned: the lender takes the memory back when this is dropped.
pub struct HostBuffers<'a> {
    segments: SmallVec<[Segment<'a>; 2]>,
    /// See [`HostList`].
    ends: SmallVec<[usize; 2]>,
    len: usize,
    direction: Direction,
}

impl<'a> HostBuffers<'a> {
    /// Memory to write (a disk read), or to read.
    #[inline]
    pub fn from_mut(bytes: &'a mut [u8]) -> Self {
        Self::one(Segment::from_mut(bytes), Direction::ReadWrite)
    }

    /// Memory to read only (a disk write).
    #[inline]
    pub fn from_ref(bytes: &'a [u8]) -> Self {
        Self::one(Segment::from_slice(bytes), Direction::ReadOnly)
    }

    /// Several stretches of memory to write or to read, in this order.
    ///
    /// # Panics
    /// If the total length is beyond `usize::MAX`.
    pub fn from_mut_slices(slices: impl IntoIterator<Item = &'a mut [u8]>) -> Self {
        Self::new(
            slices.into_iter().map(Segment::from_mut),
            Direction::ReadWrite,
        )
    }

    /// Several stretches of memory to read only, in this order; the same one may come more than once.
    ///
    /// # Panics
    /// If the total length is beyond `usize::MAX`.
    pub fn from_slices(slices: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self::new(
            slices.into_iter().map(Segment::from_slice),
            Direction::ReadOnly,
        )
    }

    #[inline]
    fn one(segment: Segment<'a>, direction: Direction) -> Self {
        let mut segments = SmallVec::new();
        segments.push(segment);
        HostBuffers {
            len: segment.len(),
            segments,
            ends: SmallVec::new(),
            direction,
        }
    }

    fn new(segments: impl Iterator<Item = Segment<'a>>, direction: Direction) -> Self {
        let segments: SmallVec<[_; 2]> = segments.collect();
        let mut ends = SmallVec::new();
        let mut len = 0_usize;
        for segment in &segments {
            len = len
                .checked_add(segment.len())
                .expect("the total length fits usize");
            ends.push(len);
        }
        HostBuffers {
            segments,
            ends,
            len,
            direction,
        }
    }

    /// How many bytes in all.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is not a single byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The request's view of the memory.
    #[inline]
    pub fn buffers(&self) -> RequestBuffers<'_> {
        let list = HostList {
            segments: &self.segments,
            ends: &self.ends,
        };
        RequestBuffers::new(Source::Borrowed(list), 0, self.len, self.direction)
    }
}

impl fmt::Debug for HostBuffers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.buffers().fmt(f)
    }
}
