//! The portable routines: relaxed atomic accesses of one machine word, and of single bytes at the ends.

use std::ptr;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

const WORD_BYTES: usize = size_of::<usize>();

/// Bytes that travel through the stack at a time when both sides are shared.
const HOP_BYTES: usize = 512;

/// Splits `len` bytes at `shared` into single bytes up to a word border, whole words, and single bytes after them, and calls
/// `byte` and `word` with their offsets. Offsets given to `word` are at a word border of `shared`, and a word before `len`.
#[inline(always)]
fn walk(shared: *const u8, len: usize, mut byte: impl FnMut(usize), word: impl FnMut(usize)) {
    let head = shared.align_offset(WORD_BYTES).min(len);
    let words = head..len - (len - head) % WORD_BYTES;
    let tail = words.end..len;
    (0..head).for_each(&mut byte);
    words.step_by(WORD_BYTES).for_each(word);
    tail.for_each(byte);
}

/// The language has no hint for the processor.
pub(super) fn prefetch(_at: *const u8, _len: usize) {}

/// # Safety
/// `from` may be read for `len` bytes, by atomic accesses; `to` is ours to write for as many and does not overlap.
pub(super) unsafe fn read(to: *mut u8, from: *const u8, len: usize) {
    walk(
        from,
        len,
        // SAFETY: `i` is below `len`, for which the caller vouches.
        |i| unsafe { *to.add(i) = (*from.add(i).cast::<AtomicU8>()).load(Relaxed) },
        // SAFETY: `walk` leaves a word before `len`, for which the caller vouches, and aligns `from + i`.
        |i| unsafe {
            let word = (*from.add(i).cast::<AtomicUsize>()).load(Relaxed);
            ptr::write_unaligned(to.add(i).cast(), word);
        },
    );
}

/// # Safety
/// `to` may be written for `len` bytes, by atomic accesses; `from` may be read for as many, does not change, and does not overlap.
pub(super) unsafe fn write(to: *mut u8, from: *const u8, len: usize) {
    walk(
        to,
        len,
        // SAFETY: `i` is below `len`, for which the caller vouches.
        |i| unsafe { (*to.add(i).cast::<AtomicU8>()).store(*from.add(i), Relaxed) },
        // SAFETY: `walk` leaves a word before `len`, for which the caller vouches, and aligns `to + i`.
        |i| unsafe {
            let word = ptr::read_unaligned(from.add(i).cast());
            (*to.add(i).cast::<AtomicUsize>()).store(word, Relaxed);
        },
    );
}

/// # Safety
/// `to` may be written for `len` bytes, by atomic accesses.
pub(super) unsafe fn fill(to: *mut u8, byte: u8, len: usize) {
    let word = usize::from_ne_bytes([byte; WORD_BYTES]);
    walk(
        to,
        len,
        // SAFETY: `i` is below `len`, for which the caller vouches.
        |i| unsafe { (*to.add(i).cast::<AtomicU8>()).store(byte, Relaxed) },
        // SAFETY: `walk` leaves a word before `len`, for which the caller vouches, and aligns `to + i`.
        |i| unsafe { (*to.add(i).cast::<AtomicUsize>()).store(word, Relaxed) },
    );
}

/// # Safety
/// `from` may be read and `to` written for `len` bytes, by atomic accesses.
pub(super) unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    let mut hop = [0; HOP_BYTES];
    for start in (0..len).step_by(HOP_BYTES) {
        let count = HOP_BYTES.min(len - start);
        // SAFETY: `start + count` is at most `len`, for which the caller vouches; `hop` is ours and at least `count` long.
        unsafe {
            read(hop.as_mut_ptr(), from.add(start), count);
            write(to.add(start), hop.as_ptr(), count);
        }
    }
}
