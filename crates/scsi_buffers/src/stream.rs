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
    pub(crate) fn new(cursor: Cursor<'a>) -> Self {
        BufferReader { cursor }
    }
}

impl MemoryRead for BufferReader<'_> {
    fn read(&mut self, data: &mut [u8]) -> Result<(), AccessError> {
        transfer(
            &mut self.cursor,
            data.len(),
            Direction::ReadOnly,
            |segment, range| {
                copy::read(segment, &mut data[range]);
            },
        )
    }

    fn skip(&mut self, len: usize) -> Result<(), AccessError> {
        skip(&mut self.cursor, len)
    }

    fn len(&self) -> usize {
        self.cursor.len()
    }
}

impl<'a> BufferWriter<'a> {
    pub(crate) fn new(cursor: Cursor<'a>, direction: Direction) -> Self {
        BufferWriter { cursor, direction }
    }

    /// As [`transfer`], over memory that may be written.
    fn transfer(
        &mut self,
        len: usize,
        each: impl FnMut(Segment<'a>, Range<usize>),
    ) -> Result<(), AccessError> {
        match self.direction {
            Direction::ReadOnly => Err(AccessError::ReadOnly),
            Direction::ReadWrite => transfer(&mut self.cursor, len, Direction::ReadWrite, each),
        }
    }
}

impl MemoryWrite for BufferWriter<'_> {
    fn write(&mut self, data: &[u8]) -> Result<(), AccessError> {
        self.transfer(data.len(), |segment, range| {
            // SAFETY: `BufferWriter::transfer` gives only memory that the request may write, resolved for writing.
            unsafe { copy::write(segment, &data[range]) };
        })
    }

    fn fill(&mut self, byte: u8, len: usize) -> Result<(), AccessError> {
        self.transfer(len, |segment, _| {
            // SAFETY: as in `write`.
            unsafe { copy::fill(segment, byte) };
        })
    }

    fn skip(&mut self, len: usize) -> Result<(), AccessError> {
        skip(&mut self.cursor, len)
    }

    fn len(&self) -> usize {
        self.cursor.len()
    }
}

/// Calls `each` with the next `len` bytes, piece by piece, and the place of each piece among them, and advances; not at
/// all unless every piece may be used.
fn transfer<'a>(
    cursor: &mut Cursor<'a>,
    len: usize,
    direction: Direction,
    mut each: impl FnMut(Segment<'a>, Range<usize>),
) -> Result<(), AccessError> {
    check_left(cursor, len)?;
    if len == 0 {
        return Ok(());
    }
    // Nearly every call stays in one segment: then one look is check and answer.
    let mut next = *cursor;
    let first = next.next_piece(len, direction)?;
    if first.len() < len {
        next.check(len - first.len(), direction)?;
    }
    each(first, 0..first.len());
    let mut done = first.len();
    while done < len {
        let segment = next.next_piece(len - done, direction)?;
        each(segment, done..done + segment.len());
        done += segment.len();
    }
    *cursor = next;
    Ok(())
}

fn skip(cursor: &mut Cursor<'_>, len: usize) -> Result<(), AccessError> {
    check_left(cursor, len)?;
    cursor.skip(len);
    Ok(())
}

fn check_left(cursor: &Cursor<'_>, len: usize) -> Result<(), AccessError> {
    if len <= cursor.len() {
        return Ok(());
    }
    Err(AccessError::OutOfRange {
        address: 0,
        len: len as u64,
    })
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
