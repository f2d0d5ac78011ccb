//! The only code that moves bytes in and out of shared memory.

use crate::Segment;

mod words;

use words as machine;

/// Reads all of `from` into `to`. Bytes that change meanwhile are read old or new, one by one.
///
/// # Panics
/// If the lengths differ.
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
pub unsafe fn write(to: Segment<'_>, from: &[u8]) {
    assert_eq!(to.len(), from.len(), "a copy has one length");
    // SAFETY: the caller promises that `to` may be written; `from` is as long, and unchanging.
    unsafe { machine::write(to.as_ptr().cast_mut().cast(), from.as_ptr(), from.len()) }
}

/// Sets all of `to` to `byte`.
///
/// # Safety
/// As for [`write`].
pub unsafe fn fill(to: Segment<'_>, byte: u8) {
    // SAFETY: the caller promises that `to` may be written.
    unsafe { machine::fill(to.as_ptr().cast_mut().cast(), byte, to.len()) }
}

/// Copies all of `from` over all of `to`. Where the two overlap, which bytes end up there is unspecified.
///
/// # Safety
/// As for [`write`].
///
/// # Panics
/// If the lengths differ.
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
