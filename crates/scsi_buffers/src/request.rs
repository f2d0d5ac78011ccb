//! [`RequestBuffers`]: what every disk and layer is handed.

use crate::BufferReader;
use crate::BufferWriter;
use crate::Iovecs;
use crate::PinnedBuffers;
use crate::RequestSegments;
use crate::cursor::Cursor;
use crate::source::Direction;
use crate::source::HostList;
use crate::source::Source;
use crate::zeros;
use guestmem::AccessError;
use guestmem::Segment;
use guestmem::copy;
use std::fmt;

/// The memory of one request, or of a part of it: segments in order, a total length in bytes, and the direction allowed.
///
/// It is a description: copying it copies no data, and it stays valid while the memory changes under it. Guest ranges
/// are resolved when they are used, so a range that is no memory shows itself as an [`AccessError`] then.
///
/// Invariant (I1): `start + len` is at most the total length of the source's entries.
#[derive(Clone, Copy)]
pub struct RequestBuffers<'a> {
    source: Source<'a>,
    start: usize,
    len: usize,
    direction: Direction,
}

impl<'a> RequestBuffers<'a> {
    #[inline]
    pub(crate) fn new(source: Source<'a>, start: usize, len: usize, direction: Direction) -> Self {
        RequestBuffers {
            source,
            start,
            len,
            direction,
        }
    }

    /// No bytes at all.
    pub const fn empty() -> RequestBuffers<'static> {
        RequestBuffers {
            source: Source::Borrowed(HostList {
                segments: &[],
                ends: &[],
            }),
            start: 0,
            len: 0,
            direction: Direction::ReadWrite,
        }
    }

    /// `len` bytes that read zero and may not be written, without any allocation; `None` above
    /// [`zeros_max_len`](Self::zeros_max_len). They can be pinned.
    pub fn zeros(len: usize) -> Option<RequestBuffers<'static>> {
        (len <= Self::zeros_max_len()).then_some(RequestBuffers {
            source: Source::Static(&zeros::LIST),
            start: 0,
            len,
            direction: Direction::ReadOnly,
        })
    }

    /// The most bytes [`zeros`](Self::zeros) gives: at least 1 MiB.
    pub const fn zeros_max_len() -> usize {
        zeros::LEN_MAX
    }

    /// The total length, in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is not a single byte.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the request may write this memory: it serves a disk read.
    #[inline]
    pub fn is_writable(&self) -> bool {
        self.direction == Direction::ReadWrite
    }

    /// Whether the host address and the length of every segment are multiples of `alignment`, as a kernel demands for direct
    /// I/O. `false` too if some of it is no memory: who bounces such a request meets the error there.
    ///
    /// # Panics
    /// If `alignment` is not a power of two.
    pub fn is_aligned(&self, alignment: usize) -> bool {
        assert!(
            alignment.is_power_of_two(),
            "alignment {alignment} is not a power of two"
        );
        self.segments().all(|segment| {
            segment.is_ok_and(|segment| {
                (segment.as_ptr().addr() | segment.len()) & (alignment - 1) == 0
            })
        })
    }

    /// The `len` bytes from `offset` on. Allocates nothing.
    ///
    /// # Panics
    /// If they do not lie inside these buffers.
    pub fn subrange(&self, offset: usize, len: usize) -> RequestBuffers<'a> {
        assert!(
            offset <= self.len && len <= self.len - offset,
            "subrange of {len} bytes at {offset} is not inside {} bytes",
            self.len
        );
        RequestBuffers {
            start: self.start + offset,
            len,
            ..*self
        }
    }

    /// Reads the bytes from front to back.
    #[inline]
    pub fn reader(&self) -> BufferReader<'a> {
        BufferReader::new(self.cursor())
    }

    /// Writes the bytes from front to back. If they may only be read, each write fails with [`AccessError::ReadOnly`].
    #[inline]
    pub fn writer(&self) -> BufferWriter<'a> {
        BufferWriter::new(self.cursor(), self.direction)
    }

    /// Checks that every byte is memory. After `Ok`, reading cannot fail.
    ///
    /// # Errors
    /// [`AccessError::OutOfRange`] for the first range that is no memory, as the guest described it.
    #[inline]
    pub fn check_readable(&self) -> Result<(), AccessError> {
        if !self.source.is_fallible() {
            return Ok(());
        }
        self.cursor().check(self.len, Direction::ReadOnly)
    }

    /// Checks that every byte is memory that may be written. After `Ok`, writing cannot fail.
    ///
    /// # Errors
    /// [`AccessError::ReadOnly`] if the request, or some of the memory, may only be read; [`AccessError::OutOfRange`]
    /// for the first range that is no memory.
    #[inline]
    pub fn check_writable(&self) -> Result<(), AccessError> {
        if !self.is_writable() {
            return Err(AccessError::ReadOnly);
        }
        if !self.source.is_fallible() {
            return Ok(());
        }
        self.cursor().check(self.len, Direction::ReadWrite)
    }

    /// All of this memory as one segment, if it is one: checked on the way as [`check_writable`](Self::check_writable) does if
    /// it `is_to_be_written`, and else as [`check_readable`](Self::check_readable). `None` if it is several, or none, and then nothing is known of it.
    ///
    /// # Errors
    /// As those have.
    pub fn one_segment(&self, is_to_be_written: bool) -> Result<Option<Segment<'a>>, AccessError> {
        if is_to_be_written && !self.is_writable() {
            return Err(AccessError::ReadOnly);
        }
        if self.len == 0 {
            return Ok(None);
        }
        let direction = match is_to_be_written {
            true => Direction::ReadWrite,
            false => Direction::ReadOnly,
        };
        let first = self.cursor().next_piece(self.len, direction)?;
        Ok((first.len() == self.len).then_some(first))
    }

    /// The host memory in order, trimmed at both ends; no empty segments. After an error the iterator ends.
    ///
    /// Whoever writes through the segments calls [`check_writable`](Self::check_writable) first: only that looks at the direction.
    pub fn segments(&self) -> RequestSegments<'a> {
        RequestSegments::new(self.cursor())
    }

    /// The next batch for a kernel, from `offset` on: as many segments as one call takes. Empty at the end.
    ///
    /// Whoever lets the kernel write through it calls [`check_writable`](Self::check_writable) first, and whoever lets go of it while the
    /// kernel works owns the memory by [`pin`](Self::pin).
    ///
    /// # Errors
    /// [`AccessError::OutOfRange`] if some of the batch is no memory.
    ///
    /// # Panics
    /// If `offset` is beyond the end.
    pub fn iovecs(&self, offset: usize) -> Result<Iovecs<'a>, AccessError> {
        let rest = self.len.saturating_sub(offset);
        Iovecs::collect(self.subrange(offset, rest).segments())
    }

    /// An owner of this memory that may outlive the request; `None` if the memory is borrowed from somebody who can take
    /// it back: then bounce.
    pub fn pin(&self) -> Option<PinnedBuffers> {
        PinnedBuffers::new(&self.source, self.start, self.len, self.direction)
    }

    /// Copies all of `from` over all of these bytes. Where both are the same memory, which bytes end up there is unspecified.
    ///
    /// # Errors
    /// As [`check_writable`](Self::check_writable) here and [`check_readable`](Self::check_readable) there; nothing is copied then.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn copy_from(&self, from: &RequestBuffers<'_>) -> Result<(), AccessError> {
        assert_eq!(self.len, from.len, "a copy has one length");
        self.check_writable()?;
        from.check_readable()?;
        let (mut to, mut from) = (self.cursor(), from.cursor());
        while to.len() > 0 {
            // Both cursors step by the shorter of the two pieces.
            let source = { from }.next_piece(usize::MAX, Direction::ReadOnly)?;
            let target = to.next_piece(source.len(), Direction::ReadWrite)?;
            let source = source.subsegment(0, target.len());
            from.skip(target.len());
            // SAFETY: `check_writable` found that `target` may be written, and the cursor gave it for writing.
            unsafe { copy::copy(target, source) };
        }
        Ok(())
    }

    #[inline]
    fn cursor(&self) -> Cursor<'a> {
        Cursor::new(self.source, self.start, self.len)
    }
}

impl fmt::Debug for RequestBuffers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBuffers")
            .field("len", &self.len)
            .field("is_writable", &self.is_writable())
            .finish_non_exhaustive()
    }
}
