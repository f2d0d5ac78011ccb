//! The portable routines: relaxed atomic accesses of one machine word, and of single bytes at the ends.

use std::ptr;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

const WORD_BYTES: usize = size_of::<usize>();

/// Bytes that travel through the stack at a time when both sides are shared.
const HOP_BYTES: usize = 512;

/// Splits `len` bytes at `shared` into single bytes up to a word border, whole words, and single bytes after them: the
/// end of the first part and the end of the second.
fn split(shared: *const u8, len: usize) -> (usize, usize) {
    let head = shared.align_offset(WORD_BYTES).min(len);
    (head, head + (len - head) / WORD_BYTES * WORD_BYTES)
}

/// # Safety
/// `from` may be read for `len` bytes, by atomic accesses; `to` is ours to write for as many and does not overlap.
pub(super) unsafe fn read(to: *mut u8, from: *const u8, len: usize) {
    let (words_start, words_end) = split(from, len);
    for i in (0..words_start).chain(words_end..len) {
        // SAFETY: `i` is below `len`, for which the caller vouches.
        unsafe { *to.add(i) = (*from.add(i).cast::<AtomicU8>()).load(Relaxed) };
    }
    for i in (words_start..words_end).step_by(WORD_BYTES) {
        // SAFETY: `i + WORD_BYTES` is at most `len`, for which the caller vouches, and `split` aligned `from + i` to a word.
        unsafe {
            let word = (*from.add(i).cast::<AtomicUsize>()).load(Relaxed);
            ptr::write_unaligned(to.add(i).cast(), word);
        }
    }
}

/// # Safety
/// `to` may be written for `len` bytes, by atomic accesses; `from` may be read for as many, does not change, and does not overlap.
pub(super) unsafe fn write(to: *mut u8, from: *const u8, len: usize) {
    let (words_start, words_end) = split(to, len);
    for i in (0..words_start).chain(words_end..len) {
        // SAFETY: `i` is below `len`, for which the caller vouches.
        unsafe { (*to.add(i).cast::<AtomicU8>()).store(*from.add(i), Relaxed) };
    }
    for i in (words_start..words_end).step_by(WORD_BYTES) {
        // SAFETY: `i + WORD_BYTES` is at most `len`, for which the caller vouches, and `split` aligned `to + i` to a word.
        unsafe {
            let word = ptr::read_unaligned(from.add(i).cast());
            (*to.add(i).cast::<AtomicUsize>()).store(word, Relaxed);
        }
    }
}

/// # Safety
/// `to` may be written for `len` bytes, by atomic accesses.
pub(super) unsafe fn fill(to: *mut u8, byte: u8, len: usize) {
    let (words_start, words_end) = split(to, len);
    for i in (0..words_start).chain(words_end..len) {
        // SAFETY: `i` is below `len`, for which the caller vouches.
        unsafe { (*to.add(i).cast::<AtomicU8>()).store(byte, Relaxed) };
    }
    let word = usize::from_ne_bytes([byte; WORD_BYTES]);
    for i in (words_start..words_end).step_by(WORD_BYTES) {
        // SAFETY: `i + WORD_BYTES` is at most `len`, for which the caller vouches, and `split` aligned `to + i` to a word.
        unsafe { (*to.add(i).cast::<AtomicUsize>()).store(word, Relaxed) };
    }
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
