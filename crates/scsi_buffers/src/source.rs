//! Where the bytes of a request are: the list of entries, each a host segment or a guest range.

use crate::GuestRange;
use crate::bounce::BounceMemory;
use guestmem::AccessError;
use guestmem::GuestMemory;
use guestmem::Segment;
use std::sync::Arc;

/// What the request may do with its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The memory may only be read (a disk write).
    ReadOnly,
    /// The memory may be read and written (a disk read).
    ReadWrite,
}

/// The entries of a request, and what keeps their memory alive.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// Host memory that somebody lends for `'a`.
    Borrowed(HostList<'a>),
    /// Host memory that lives for ever.
    Static(&'static HostList<'static>),
    /// One entry: a bounce buffer.
    Bounce(&'a Arc<BounceMemory>),
    /// Ranges of guest memory, resolved when they are used.
    Guest(&'a GuestMemory, GuestList<'a>),
}

/// Host segments in order. `ends[i]` is the number of bytes in the entries up to and including `i`; there may be none for a single
/// segment.
#[derive(Clone, Copy)]
pub(crate) struct HostList<'a> {
    pub(crate) segments: &'a [Segment<'a>],
    pub(crate) ends: &'a [usize],
}

/// Guest ranges in order, with `ends` as in [`HostList`]: always as many.
#[derive(Clone, Copy)]
pub(crate) struct GuestList<'a> {
    pub(crate) ranges: &'a [GuestRange],
    pub(crate) ends: &'a [usize],
}

impl<'a> Source<'a> {
    /// The entry that `position` bytes from the beginning lie in.
    #[inline]
    pub(crate) fn index_of(&self, position: usize) -> usize {
        match self.ends() {
            [] => 0,
            ends => ends.partition_point(|&end| end <= position),
        }
    }

    /// The running totals of the entries' lengths; empty where there is one entry at most.
    #[inline]
    pub(crate) fn ends(&self) -> &'a [usize] {
        match self {
            Source::Borrowed(list) => list.ends,
            Source::Static(list) => list.ends,
            Source::Bounce(_) => &[],
            Source::Guest(_, list) => list.ends,
        }
    }

    /// Whether resolving an entry can fail.
    #[inline]
    pub(crate) fn is_fallible(&self) -> bool {
        matches!(self, Source::Guest(..))
    }

    /// The `len` bytes from `offset` on, which must be there, of what is a single segment.
    #[inline]
    pub(crate) fn in_only_segment(&self, offset: usize, len: usize) -> Option<Segment<'a>> {
        match self {
            Source::Borrowed(HostList {
                segments: [segment],
                ..
            }) => Some(segment.subsegment(offset, len)),
            _ => None,
        }
    }

    /// The first piece of `len` bytes (not 0) that begin at `offset` inside entry `index`.
    #[inline]
    pub(crate) fn piece(
        &self,
        index: usize,
        offset: usize,
        len: usize,
        direction: Direction,
    ) -> Result<Segment<'a>, AccessError> {
        match self {
            Source::Borrowed(list) => Ok(list.segments[index].subsegment(offset, len)),
            Source::Static(list) => Ok(list.segments[index].subsegment(offset, len)),
            Source::Bounce(memory) => Ok(memory.segment().subsegment(offset, len)),
            Source::Guest(memory, list) => {
                guest_piece(memory, list.ranges[index], offset, len, direction)
            }
        }
    }
}

/// The first piece of `len` bytes (not 0) that begin at `offset` inside a range.
fn guest_piece(
    memory: &GuestMemory,
    range: GuestRange,
    offset: usize,
    len: usize,
    direction: Direction,
) -> Result<Segment<'_>, AccessError> {
    // The guest knows the range it described, not the piece of it where that broke.
    let out_of_range = AccessError::OutOfRange {
        address: range.address,
        len: range.len as u64,
    };
    let address = range
        .address
        .checked_add(offset as u64)
        .ok_or(out_of_range)?;
    let mut segments = match direction {
        Direction::ReadOnly => memory.segments(address, len),
        Direction::ReadWrite => memory.writable_segments(address, len),
    };
    let first = segments
        .next()
        .expect("a range of at least one byte has a piece");
    first.map_err(|error| match error {
        AccessError::OutOfRange { .. } => out_of_range,
        other => other,
    })
}
