//! One stretch of shared memory, laid out as the kernel's `struct iovec`.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::AtomicU8;

/// A stretch of host memory that may change at any moment: a pointer and a length in bytes.
///
/// It has the layout of the kernel's `struct iovec`, so a slice of segments is handed to `preadv` or a ring as it is.
///
/// For all of `'a` the memory is mapped and may be read. Whether it may also be written is not known here but to whoever
/// made the segment: writing is `unsafe` ([`copy::write`](crate::copy::write)), and safe code writes through the checked
/// [`GuestMemory`](crate::GuestMemory) or a `BufferWriter` of `scsi_buffers`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Segment<'a> {
    base: *const AtomicU8,
    len_bytes: usize,
    memory: PhantomData<&'a [AtomicU8]>,
}

// SAFETY: a segment gives the access that `&'a [AtomicU8]` gives (and less: no safe writing), which is `Send`.
unsafe impl Send for Segment<'_> {}
// SAFETY: as above; `&[AtomicU8]` is `Sync`.
unsafe impl Sync for Segment<'_> {}

impl<'a> Segment<'a> {
    /// Memory that may only be read.
    pub const fn from_slice(bytes: &'a [u8]) -> Self {
        Segment {
            base: bytes.as_ptr().cast(),
            len_bytes: bytes.len(),
            memory: PhantomData,
        }
    }

    /// Memory that may be read and written, borrowed exclusively for all of `'a`.
    pub const fn from_mut(bytes: &'a mut [u8]) -> Self {
        Segment {
            base: bytes.as_mut_ptr().cast_const().cast(),
            len_bytes: bytes.len(),
            memory: PhantomData,
        }
    }

    /// Memory that may be read and written, and that others may access at the same time.
    pub const fn from_atomics(bytes: &'a [AtomicU8]) -> Self {
        Segment {
            base: bytes.as_ptr(),
            len_bytes: bytes.len(),
            memory: PhantomData,
        }
    }

    /// A segment from its parts.
    ///
    /// # Safety
    /// For all of `'a`, the `len` bytes at `base` are one mapped allocation that may be read, and nobody accesses them as
    /// plain Rust memory in conflict with the accesses made through the segment.
    pub const unsafe fn from_raw_parts(base: *const AtomicU8, len: usize) -> Self {
        Segment {
            base,
            len_bytes: len,
            memory: PhantomData,
        }
    }

    /// The length, in bytes.
    pub const fn len(&self) -> usize {
        self.len_bytes
    }

    /// Whether there is not a single byte.
    pub const fn is_empty(&self) -> bool {
        self.len_bytes == 0
    }

    /// The first byte, for a kernel or a ring. What writes through it must know that the memory may be written.
    pub const fn as_ptr(&self) -> *const AtomicU8 {
        self.base
    }

    /// The `len` bytes from `offset` on.
    ///
    /// # Panics
    /// If they do not lie inside the segment.
    pub const fn subsegment(&self, offset: usize, len: usize) -> Segment<'a> {
        assert!(
            offset <= self.len_bytes && len <= self.len_bytes - offset,
            "subsegment out of range"
        );
        Segment {
            // SAFETY: `offset` is at most the length of the one allocation that `base` points to.
            base: unsafe { self.base.add(offset) },
            len_bytes: len,
            memory: PhantomData,
        }
    }
}

impl Default for Segment<'_> {
    fn default() -> Self {
        Segment::from_slice(&[])
    }
}

impl fmt::Debug for Segment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Segment({:p}, {} bytes)", self.base, self.len_bytes)
    }
}
