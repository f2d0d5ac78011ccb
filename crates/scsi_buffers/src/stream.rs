//! Streaming through the memory of a request.

use crate::cursor::Cursor;
use crate::source::Direction;
use guestmem::AccessError;
use guestmem::MemoryRead;
use guestmem::MemoryWrite;
use guestmem::Segment;
use guestmem::copy;
use std::fmt;
use std::ops::Range;

/// Reads the memory of a request from front to back; see [`RequestBuffers::reader`](crate::RequestBuffers::reader).
#[derive(Clone)]
pub struct BufferReader<'a> {
    cursor: Cursor<'a>,
}

/// Writes the memory of a request from front to back; see [`RequestBuffers::writer`](crate::RequestBuffers::writer).
#[derive(Clone)]
pub struct BufferWriter<'a> {
    cursor: Cursor<'a>,
    direction: Direction,
}

impl<'a> BufferReader<'a> {
    #[inline]
    pub(crate) fn new(cursor: Cursor<'a>) -> Self {
        BufferReader { cursor }
    }
}

impl MemoryRead for BufferReader<'_> {
    #[inline]
    fn read(&mut self, data: &mut [u8]) -> Result<(), AccessError> {
        self.cursor
            .transfer(data.len(), Direction::ReadOnly, |segment, range| {
                copy::read(segment, &mut data[range]);
            })
    }

    fn skip(&mut self, len: usize) -> Result<(), AccessError> {
        self.cursor.try_skip(len)
    }

    fn len(&self) -> usize {
        self.cursor.len()
    }
}

impl<'a> BufferWriter<'a> {
    #[inline]
    pub(crate) fn new(cursor: Cursor<'a>, direction: Direction) -> Self {
        BufferWriter { cursor, direction }
    }

    /// As [`Cursor::transfer`], over memory that may be written.
    #[inline]
    fn transfer(
        &mut self,
        len: usize,
        each: impl FnMut(Segment<'a>, Range<usize>),
    ) -> Result<(), AccessError> {
        match self.direction {
            Direction::ReadOnly => Err(AccessError::ReadOnly),
            Direction::ReadWrite => self.cursor.transfer(len, Direction::ReadWrite, each),
        }
    }
}

impl MemoryWrite for BufferWriter<'_> {
    #[inline]
    fn write(&mut self, data: &[u8]) -> Result<(), AccessError> {
        self.transfer(data.len(), |segment, range| {
            // SAFETY: `BufferWriter::transfer` gives only memory that the request may write, resolved for writing.
            unsafe { copy::write(segment, &data[range]) };
        })
    }

    #[inline]
    fn fill(&mut self, byte: u8, len: usize) -> Result<(), AccessError> {
        self.transfer(len, |segment, _| {
            // SAFETY: as in `write`.
            unsafe { copy::fill(segment, byte) };
        })
    }

    fn skip(&mut self, len: usize) -> Result<(), AccessError> {
        self.cursor.try_skip(len)
    }

    fn len(&self) -> usize {
        self.cursor.len()
    }
}

impl fmt::Debug for BufferReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufferReader({} bytes left)", self.cursor.len())
    }
}

impl fmt::Debug for BufferWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufferWriter({} bytes left)", self.cursor.len())
    }
}
