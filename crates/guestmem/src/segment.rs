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
    #[inline]
    pub const fn from_slice(bytes: &'a [u8]) -> Self {
        Segment {
            base: bytes.as_ptr().cast(),
            len_bytes: bytes.len(),
            memory: PhantomData,
        }
    }

    /// Memory that may be read and written, borrowed exclusively for all of `'a`.
    #[inline]
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
    #[inline]
    pub const unsafe fn from_raw_parts(base: *const AtomicU8, len: usize) -> Self {
        Segment {
            base,
            len_bytes: len,
            memory: PhantomData,
        }
    }

    /// The length, in bytes.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len_bytes
    }

    /// Whether there is not a single byte.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len_bytes == 0
    }

    /// The first byte, for a kernel or a ring. What writes through it must know that the memory may be written.
    #[inline]
    pub const fn as_ptr(&self) -> *const AtomicU8 {
        self.base
    }

    /// The `len` bytes from `offset` on.
    ///
    /// # Panics
    /// If they do not lie inside the segment.
    #[inline]
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn the_layout_is_that_of_iovec() {
        /// `struct iovec` as POSIX has it.
        #[repr(C)]
        struct Iovec {
            iov_base: *mut std::ffi::c_void,
            iov_len: usize,
        }
        assert_eq!(size_of::<Segment<'_>>(), size_of::<Iovec>());
        assert_eq!(align_of::<Segment<'_>>(), align_of::<Iovec>());
        assert_eq!(offset_of!(Segment<'_>, base), offset_of!(Iovec, iov_base));
        assert_eq!(
            offset_of!(Segment<'_>, len_bytes),
            offset_of!(Iovec, iov_len)
        );
    }

    #[cfg(unix)]
    #[test]
    fn the_kernel_takes_segments_as_they_are() {
        use std::io::IoSlice;
        use std::io::Read;
        use std::io::Write;
        let segments = [
            Segment::from_slice(b"one "),
            Segment::default(),
            Segment::from_slice(b"two"),
        ];
        // SAFETY: on Unix an `IoSlice` has the layout of `struct iovec`, as a segment has, and these bytes do not change.
        let slices = unsafe { &*(&raw const segments).cast::<[IoSlice<'_>; 3]>() };
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        assert_eq!(writer.write_vectored(slices).unwrap(), 7);
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one two");
    }

    #[test]
    fn a_subsegment_of_a_subsegment_lies_where_it_should() {
        let bytes: [u8; 10] = std::array::from_fn(|i| i as u8);
        let inner = Segment::from_slice(&bytes)
            .subsegment(2, 7)
            .subsegment(3, 2);
        let mut read = [0; 2];
        crate::copy::read(inner, &mut read);
        assert_eq!(read, [5, 6]);
        assert!(inner.subsegment(2, 0).is_empty());
    }

    #[test]
    fn a_subsegment_outside_panics() {
        let segment = Segment::from_slice(&[0; 4]);
        for (offset, len) in [(0, 5), (5, 0), (4, 1), (1, usize::MAX), (usize::MAX, 1)] {
            let result = std::panic::catch_unwind(|| segment.subsegment(offset, len));
            assert!(result.is_err(), "{len} bytes at {offset}");
        }
    }

    #[test]
    fn segments_cross_threads_and_lifetimes_shrink() {
        fn assert_shared<T: Copy + Send + Sync>() {}
        assert_shared::<Segment<'_>>();
        fn shrink<'short>(long: Segment<'static>, _: &'short [u8]) -> Segment<'short> {
            long
        }
        assert_eq!(shrink(Segment::from_slice(b"abc"), &[]).len(), 3);
    }
}
