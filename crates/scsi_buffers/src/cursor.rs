//! Walking the entries of a request from front to back, one piece of host memory at a time.

use crate::source::Direction;
use crate::source::Source;
use guestmem::AccessError;
use guestmem::Segment;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Range;

/// A place in a source, and how many bytes are left from there.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    source: Source<'a>,
    /// The entry that holds `position`, or one before it.
    index: usize,
    /// Bytes from the beginning of the source.
    position: usize,
    len: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(crate) fn new(source: Source<'a>, position: usize, len: usize) -> Self {
        Cursor {
            source,
            index: source.index_of(position),
            position,
            len,
        }
    }

    /// How many bytes are left.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_fallible(&self) -> bool {
        self.source.is_fallible()
    }

    /// Steps over `len` bytes, which must be there.
    pub(crate) fn skip(&mut self, len: usize) {
        assert!(len <= self.len, "a skip stays inside");
        *self = Cursor::new(self.source, self.position + len, self.len - len);
    }

    /// The next piece, at most `max` bytes, and the entry it is in. There must be bytes left, and `max` must not be 0.
    #[inline]
    fn peek(&self, max: usize, direction: Direction) -> Result<(Segment<'a>, usize), AccessError> {
        let max = max.min(self.len);
        assert!(max > 0, "a piece has at least one byte");
        let ends = self.source.ends();
        let (index, entry_start, entry_rest) = if ends.is_empty() {
            (0, 0, max)
        } else {
            let mut index = self.index;
            // Empty entries, and those behind us.
            while ends[index] <= self.position {
                index += 1;
            }
            let start = if index == 0 { 0 } else { ends[index - 1] };
            (index, start, ends[index] - self.position)
        };
        let offset = self.position - entry_start;
        let segment = self
            .source
            .piece(index, offset, max.min(entry_rest), direction)?;
        Ok((segment, index))
    }

    /// The next piece, at most `max` bytes, and steps over it. There must be bytes left, and `max` must not be 0.
    /// After an error the cursor stands where it stood.
    #[inline]
    pub(crate) fn next_piece(
        &mut self,
        max: usize,
        direction: Direction,
    ) -> Result<Segment<'a>, AccessError> {
        let (segment, index) = self.peek(max, direction)?;
        self.step(index, segment.len());
        Ok(segment)
    }

    /// Calls `each` with the next `len` bytes, piece by piece, and the place of each piece among them, and steps over
    /// them; not at all unless every piece may be used.
    #[inline]
    pub(crate) fn transfer(
        &mut self,
        len: usize,
        direction: Direction,
        mut each: impl FnMut(Segment<'a>, Range<usize>),
    ) -> Result<(), AccessError> {
        self.check_left(len)?;
        if len == 0 {
            return Ok(());
        }
        // Nearly every call stays in one segment: then one look is check and answer.
        if let Some(segment) = self.source.in_only_segment(self.position, len) {
            self.step(0, len);
            each(segment, 0..len);
            return Ok(());
        }
        let (first, index) = self.peek(len, direction)?;
        if first.len() == len {
            self.step(index, len);
            each(first, 0..len);
            return Ok(());
        }
        self.check(len, direction)?;
        let mut done = 0;
        while done < len {
            let segment = self.next_piece(len - done, direction)?;
            each(segment, done..done + segment.len());
            done += segment.len();
        }
        Ok(())
    }

    /// Steps over `len` bytes that lie in the entry `index`.
    #[inline]
    fn step(&mut self, index: usize, len: usize) {
        self.index = index;
        self.position += len;
        self.len -= len;
    }

    /// Steps over `len` bytes if they are there.
    pub(crate) fn try_skip(&mut self, len: usize) -> Result<(), AccessError> {
        self.check_left(len)?;
        self.skip(len);
        Ok(())
    }

    #[inline]
    fn check_left(&self, len: usize) -> Result<(), AccessError> {
        if len <= self.len {
            return Ok(());
        }
        Err(AccessError::OutOfRange {
            address: 0,
            len: len as u64,
        })
    }

    /// Checks that the next `len` bytes, which must be there, are memory that may be used so.
    pub(crate) fn check(mut self, len: usize, direction: Direction) -> Result<(), AccessError> {
        if !self.is_fallible() {
            return Ok(());
        }
        let mut rest = len;
        while rest > 0 {
            rest -= self.next_piece(rest, direction)?.len();
        }
        Ok(())
    }
}

/// The host memory of a request in order; see [`RequestBuffers::segments`](crate::RequestBuffers::segments).
#[derive(Clone)]
pub struct RequestSegments<'a> {
    cursor: Cursor<'a>,
    is_failed: bool,
}

impl<'a> RequestSegments<'a> {
    pub(crate) fn new(cursor: Cursor<'a>) -> Self {
        RequestSegments {
            cursor,
            is_failed: false,
        }
    }
}

impl<'a> Iterator for RequestSegments<'a> {
    type Item = Result<Segment<'a>, AccessError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_failed || self.cursor.len() == 0 {
            return None;
        }
        let piece = self.cursor.next_piece(usize::MAX, Direction::ReadOnly);
        self.is_failed = piece.is_err();
        Some(piece)
    }
}

impl FusedIterator for RequestSegments<'_> {}

impl fmt::Debug for RequestSegments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestSegments({} bytes left)", self.cursor.len())
    }
}
