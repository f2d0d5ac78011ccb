//! The only code that moves bytes in and out of shared memory.
//!
//! A guest, a kernel or another thread may change the memory while a copy runs. So that this is no data race, every
//! access to the shared side is, to the language, a relaxed atomic access: bytes arrive old or new, each whole, in no promised
//! order. What orders a copy with other work is the lock, queue or system call around it.
//!
//! Two sets of routines do the work: vector moves in assembly for x86-64, and a portable loop over machine words for the
//! rest, and for sanitizers, which cannot see into assembly (feature `portable_copy`).
//!
//! One hole remains in the portable set: the language leaves it open what racing atomics of *different sizes* mean, and two
//! of our own copies may meet at different alignments. The compiler and all processors define it byte by byte, as we need.

use crate::Segment;

#[cfg(test)]
mod tests;
#[cfg(any(test, miri, feature = "portable_copy", not(target_arch = "x86_64")))]
mod words;
#[cfg(target_arch = "x86_64")]
#[cfg(any(test, not(any(miri, feature = "portable_copy"))))]
mod x86_64;

#[cfg(any(miri, feature = "portable_copy", not(target_arch = "x86_64")))]
use words as machine;
#[cfg(all(target_arch = "x86_64", not(any(miri, feature = "portable_copy"))))]
use x86_64 as machine;

/// Tells the processor that up to a page from `at` on is about to be read or written, so that it is fetched meanwhile.
///
/// It accesses nothing: an address where no memory is any more costs a little time, and that is all.
#[inline]
pub fn prefetch(at: *const u8, len: usize) {
    machine::prefetch(at, len.min(crate::PAGE_SIZE_BYTES));
}

/// Reads all of `from` into `to`. Bytes that change meanwhile are read old or new, one by one.
///
/// # Panics
/// If the lengths differ.
#[inline]
pub fn read(from: Segment<'_>, to: &mut [u8]) {
    assert_eq!(from.len(), to.len(), "a copy has one length");
    // SAFETY: a segment may be read for its lifetime; `to` is as long, and exclusively ours.
    unsafe { machine::read(to.as_mut_ptr(), from.as_ptr().cast(), to.len()) }
}

/// Writes `from` over all of `to`.
///
/// # Safety
/// The memory of `to` may be written: it was made from memory that may be, and nobody holds a `&[u8]` or `&mut [u8]` to it that is used meanwhile.
///
/// # Panics
/// If the lengths differ.
#[inline]
pub unsafe fn write(to: Segment<'_>, from: &[u8]) {
    assert_eq!(to.len(), from.len(), "a copy has one length");
    // SAFETY: the caller promises that `to` may be written; `from` is as long, and unchanging.
    unsafe { machine::write(to.as_ptr().cast_mut().cast(), from.as_ptr(), from.len()) }
}

/// Sets all of `to` to `byte`.
///
/// # Safety
/// As for [`write()`].
#[inline]
pub unsafe fn fill(to: Segment<'_>, byte: u8) {
    // SAFETY: the caller promises that `to` may be written.
    unsafe { machine::fill(to.as_ptr().cast_mut().cast(), byte, to.len()) }
}

/// Copies all of `from` over all of `to`. Where the two overlap, which bytes end up there is unspecified.
///
/// # Safety
/// As for [`write()`].
///
/// # Panics
/// If the lengths differ.
#[inline]
pub unsafe fn copy(to: Segment<'_>, from: Segment<'_>) {
    assert_eq!(to.len(), from.len(), "a copy has one length");
    // SAFETY: `from` may be read, and the caller promises that `to` may be written.
    unsafe {
        machine::copy(
            to.as_ptr().cast_mut().cast(),
            from.as_ptr().cast(),
            to.len(),
        )
    }
}
