//! What can go wrong with an access, and how code streams through memory of any kind.

use crate::plain;
use thiserror::Error;
use zerocopy::FromBytes;
use zerocopy::Immutable;
use zerocopy::IntoBytes;

/// Why memory could not be accessed. Nothing was transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AccessError {
    /// Part of the range is not memory, or lies beyond the end of the buffer.
    #[error(
        "{len} bytes at address {address:#x} are not all memory: give a range that lies inside it"
    )]
    OutOfRange {
        /// Where the access begins: a guest address or, in host memory, the offset from where the reader or writer stood.
        address: u64,
        /// How many bytes were asked for.
        len: u64,
    },
    /// A write to memory that may only be read.
    #[error("the memory may only be read: give memory that may be written")]
    ReadOnly,
}

impl AccessError {
    /// The error for `len` bytes at offset `offset` of host memory.
    pub(crate) fn beyond_end(offset: usize, len: usize) -> Self {
        AccessError::OutOfRange {
            address: offset as u64,
            len: len as u64,
        }
    }
}

/// A source of bytes that is read from front to back.
///
/// A call that fails moves nothing and does not advance. Empty calls succeed.
pub trait MemoryRead {
    /// Fills `data` with the next bytes and advances past them.
    ///
    /// # Errors
    /// [`AccessError::OutOfRange`] if fewer bytes are left, or if some of them are not memory.
    fn read(&mut self, data: &mut [u8]) -> Result<(), AccessError>;

    /// Advances by `len` bytes without reading them.
    ///
    /// # Errors
    /// [`AccessError::OutOfRange`] if fewer bytes are left.
    fn skip(&mut self, len: usize) -> Result<(), AccessError>;

    /// How many bytes are left.
    fn len(&self) -> usize;

    /// Whether nothing is left.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the next `size_of::<T>()` bytes as a `T`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn read_plain<T: FromBytes>(&mut self) -> Result<T, AccessError>
    where
        Self: Sized,
    {
        plain::read(|bytes| self.read(bytes))
    }
}

/// A destination of bytes that is written from front to back.
///
/// A call that fails moves nothing and does not advance. Empty calls succeed where writing is allowed at all.
pub trait MemoryWrite {
    /// Writes `data` over the next bytes and advances past them.
    ///
    /// # Errors
    /// [`AccessError::ReadOnly`] if the memory may only be read; [`AccessError::OutOfRange`] if fewer bytes are left, or if some of them are
    /// not memory.
    fn write(&mut self, data: &[u8]) -> Result<(), AccessError>;

    /// Sets the next `len` bytes to `byte` and advances past them.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn fill(&mut self, byte: u8, len: usize) -> Result<(), AccessError>;

    /// Advances by `len` bytes and leaves them as they are.
    ///
    /// # Errors
    /// [`AccessError::OutOfRange`] if fewer bytes are left.
    fn skip(&mut self, len: usize) -> Result<(), AccessError>;

    /// How many bytes are left.
    fn len(&self) -> usize;

    /// Whether nothing is left.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets the next `len` bytes to zero and advances past them.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn zero(&mut self, len: usize) -> Result<(), AccessError> {
        self.fill(0, len)
    }

    /// Writes the bytes of `value`.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn write_plain<T: IntoBytes + Immutable>(&mut self, value: &T) -> Result<(), AccessError>
    where
        Self: Sized,
    {
        self.write(value.as_bytes())
    }
}

impl MemoryRead for &[u8] {
    fn read(&mut self, data: &mut [u8]) -> Result<(), AccessError> {
        let Some((head, rest)) = self.split_at_checked(data.len()) else {
            return Err(AccessError::beyond_end(0, data.len()));
        };
        data.copy_from_slice(head);
        *self = rest;
        Ok(())
    }

    fn skip(&mut self, len: usize) -> Result<(), AccessError> {
        *self = self.get(len..).ok_or(AccessError::beyond_end(0, len))?;
        Ok(())
    }

    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

impl MemoryWrite for &mut [u8] {
    fn write(&mut self, data: &[u8]) -> Result<(), AccessError> {
        take_front(self, data.len())?.copy_from_slice(data);
        Ok(())
    }

    fn fill(&mut self, byte: u8, len: usize) -> Result<(), AccessError> {
        take_front(self, len)?.fill(byte);
        Ok(())
    }

    fn skip(&mut self, len: usize) -> Result<(), AccessError> {
        take_front(self, len).map(|_| ())
    }

    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

/// Splits the first `len` bytes off `slice`, or leaves it as it is.
fn take_front<'a>(slice: &mut &'a mut [u8], len: usize) -> Result<&'a mut [u8], AccessError> {
    if len > slice.len() {
        return Err(AccessError::beyond_end(0, len));
    }
    let (head, rest) = std::mem::take(slice).split_at_mut(len);
    *slice = rest;
    Ok(head)
}

impl<M: MemoryRead + ?Sized> MemoryRead for &mut M {
    fn read(&mut self, data: &mut [u8]) -> Result<(), AccessError> {
        (**self).read(data)
    }

    fn skip(&mut self, len: usize) -> Result<(), AccessError> {
        (**self).skip(len)
    }

    fn len(&self) -> usize {
        (**self).len()
    }
}

impl<M: MemoryWrite + ?Sized> MemoryWrite for &mut M {
    fn write(&mut self, data: &[u8]) -> Result<(), AccessError> {
        (**self).write(data)
    }

    fn fill(&mut self, byte: u8, len: usize) -> Result<(), AccessError> {
        (**self).fill(byte, len)
    }

    fn skip(&mut self, len: usize) -> Result<(), AccessError> {
        (**self).skip(len)
    }

    fn len(&self) -> usize {
        (**self).len()
    }
}
