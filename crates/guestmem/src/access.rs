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

#[cfg(test)]
mod tests {
    use super::*;

    const TOO_LONG: AccessError = AccessError::OutOfRange { address: 0, len: 5 };

    #[test]
    fn a_slice_reads_to_its_end_and_no_further() {
        let mut reader: &[u8] = &[1, 2, 3, 4];
        assert_eq!(MemoryRead::read(&mut reader, &mut [0; 5]), Err(TOO_LONG));
        assert_eq!(reader.skip(5), Err(TOO_LONG));
        assert_eq!(MemoryRead::len(&reader), 4);
        assert_eq!(reader.read_plain::<u8>(), Ok(1));
        assert_eq!(reader.skip(1), Ok(()));
        assert_eq!(reader.read_plain::<[u8; 2]>(), Ok([3, 4]));
        assert!(MemoryRead::is_empty(&reader));
        assert_eq!(MemoryRead::read(&mut reader, &mut []), Ok(()));
    }

    #[test]
    fn a_slice_is_written_to_its_end_and_no_further() {
        let mut bytes = [9; 6];
        let mut writer: &mut [u8] = &mut bytes[..4];
        assert_eq!(MemoryWrite::write(&mut writer, &[0; 5]), Err(TOO_LONG));
        assert_eq!(MemoryWrite::fill(&mut writer, 0, 5), Err(TOO_LONG));
        assert_eq!(MemoryWrite::skip(&mut writer, 5), Err(TOO_LONG));
        assert_eq!(MemoryWrite::len(&writer), 4);
        writer.write_plain(&1_u8).unwrap();
        MemoryWrite::skip(&mut writer, 1).unwrap();
        writer.zero(2).unwrap();
        assert!(MemoryWrite::is_empty(&writer));
        assert_eq!(bytes, [1, 9, 0, 0, 9, 9]);
    }

    #[test]
    fn readers_and_writers_work_as_trait_objects() {
        fn put(mut to: impl MemoryWrite) {
            to.write_plain(&[1_u8, 2, 3, 4]).unwrap();
        }
        fn take(mut from: impl MemoryRead) -> u8 {
            from.read_plain().unwrap()
        }
        let mut bytes = [0; 4];
        let mut writer: &mut [u8] = &mut bytes;
        let writer: &mut dyn MemoryWrite = &mut writer;
        put(writer);
        let mut reader: &[u8] = &bytes;
        let reader: &mut dyn MemoryRead = &mut reader;
        assert_eq!(take(&mut *reader), 1);
        assert_eq!(reader.len(), 3);
    }

    #[test]
    fn errors_say_where_and_what_to_do() {
        let error = AccessError::OutOfRange {
            address: 0x1000,
            len: 512,
        };
        assert_eq!(
            error.to_string(),
            "512 bytes at address 0x1000 are not all memory: give a range that lies inside it"
        );
        assert_eq!(
            AccessError::ReadOnly.to_string(),
            "the memory may only be read: give memory that may be written"
        );
    }
}
