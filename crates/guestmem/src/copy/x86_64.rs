//! The routines for x86-64: vector moves in inline assembly.
//!
//! Assembly, because a plain copy of memory that changes meanwhile is undefined, and atomics of one word are several times
//! slower. To the language each routine is a series of relaxed atomic loads and stores of single bytes, in no
//! particular order and some of them done twice with the same result: the processor accesses each byte of a vector move
//! at most once, and never tears a byte. Atomic loads of memory that may only be read are allowed at these sizes.
//!
//! Where a length is no multiple of the vector, the last vector overlaps the one before: no loop over single bytes.
//!
//! `rep movsb` takes over where the target is not in a near cache, because it overwrites whole lines without fetching what they held. Of
//! memory of our own, a store's, that is to be expected from 2 KiB on: a random page of a large RAM disk took 194 ns that way and 223 by
//! vectors, and 261 against 340 amid locks, which wait for stores (in the nearest cache, 29 against 23). A request's memory has mostly been
//! used a moment ago: there it pays from 16 KiB on. Other alignments cost little, but for a target that lies less than a line behind the source, when
//! both are taken within a page: 64 KiB took 3.9 us then, and 2.8 by vectors.

use crate::PAGE_SIZE_BYTES;
use std::arch::asm;
use std::arch::is_x86_feature_detected;

/// Lengths up to here are a handful of moves, without a loop.
const SHORT_BYTES: usize = 32;

/// From so many bytes on `rep movsb` is used for memory of our own.
const STRING_BYTES_MIN_OWN: usize = 2 << 10;

/// The same for the memory of requests.
const STRING_BYTES_MIN_SHARED: usize = 16 << 10;

/// As [`copy`], to memory of our own.
///
/// # Safety
/// `from` may be read for `len` bytes, by atomic accesses; `to` is ours to write for as many and does not overlap.
pub(super) unsafe fn read(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller vouches for `len` bytes on both sides.
    unsafe { copy_or_move_string(to, from, len, STRING_BYTES_MIN_OWN) }
}

/// As [`copy`], from memory of our own.
///
/// # Safety
/// `to` may be written for `len` bytes, by atomic accesses; `from` is unchanging for as many, and does not overlap.
pub(super) unsafe fn write(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller vouches for `len` bytes on both sides.
    unsafe { copy_or_move_string(to, from, len, STRING_BYTES_MIN_SHARED) }
}

/// # Safety
/// As for [`copy`]; the two do not overlap.
#[inline]
unsafe fn copy_or_move_string(to: *mut u8, from: *const u8, len: usize, string_min: usize) {
    // SAFETY: the caller vouches for `len` bytes on both sides.
    unsafe {
        let behind = to.addr().wrapping_sub(from.addr()) % PAGE_SIZE_BYTES;
        let is_slow = (1..LINE_BYTES).contains(&behind);
        if len >= string_min && !is_slow && is_x86_feature_detected!("ermsb") {
            copy_string(to, from, len);
        } else {
            copy(to, from, len);
        }
    }
}

/// # Safety
/// `from` may be read and `to` written for `len` bytes, by atomic accesses.
pub(super) unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller vouches for `len` bytes on both sides; the vector routines get more than `SHORT_BYTES`, and AVX only where it is.
    unsafe {
        if len <= SHORT_BYTES {
            copy_short(to, from, len);
        } else if is_x86_feature_detected!("avx") {
            copy_avx(to, from, len);
        } else {
            copy_sse2(to, from, len);
        }
    }
}

/// # Safety
/// `to` may be written for `len` bytes, by atomic accesses.
pub(super) unsafe fn fill(to: *mut u8, byte: u8, len: usize) {
    let pattern = spread(byte);
    // SAFETY: the caller vouches for `len` bytes; the vector routines get more than `SHORT_BYTES`, and AVX only where it is.
    unsafe {
        if len <= SHORT_BYTES {
            fill_short(to, pattern, len);
        } else if is_x86_feature_detected!("avx") {
            fill_avx(to, pattern, len);
        } else {
            fill_sse2(to, pattern, len);
        }
    }
}

/// The unit in which a processor fetches memory.
const LINE_BYTES: usize = 64;

/// A hint for each line, eight at a time: those of the last that are too many do no harm. What is longer than a page or two the
/// processor notices, and fetches, by itself.
#[inline]
pub(super) fn prefetch(at: *const u8, len: usize) {
    for offset in (0..len).step_by(8 * LINE_BYTES) {
        // SAFETY: the instructions are hints: they access no memory as far as anybody can tell, and fault nowhere.
        unsafe {
            asm!(
                "prefetcht0 byte ptr [{at}]",
                "prefetcht0 byte ptr [{at} + 64]",
                "prefetcht0 byte ptr [{at} + 128]",
                "prefetcht0 byte ptr [{at} + 192]",
                "prefetcht0 byte ptr [{at} + 256]",
                "prefetcht0 byte ptr [{at} + 320]",
                "prefetcht0 byte ptr [{at} + 384]",
                "prefetcht0 byte ptr [{at} + 448]",
                at = in(reg) at.addr().wrapping_add(offset),
                options(nostack, preserves_flags, nomem),
            );
        }
    }
}

/// Eight times `byte`.
fn spread(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Moves the first and the last bytes of a range by two accesses of one width, which may overlap.
macro_rules! copy_ends {
    ($to:ident, $from:ident, $len:ident, $width:literal, $size:literal, $class:ident, $modifier:literal, $move:literal) => {
        asm!(
            concat!($move, " {a", $modifier, "}, ", $size, " ptr [{from}]"),
            concat!($move, " {b", $modifier, "}, ", $size, " ptr [{from} + {len} - ", $width, "]"),
            concat!($move, " ", $size, " ptr [{to}], {a", $modifier, "}"),
            concat!($move, " ", $size, " ptr [{to} + {len} - ", $width, "], {b", $modifier, "}"),
            from = in(reg) $from,
            to = in(reg) $to,
            len = in(reg) $len,
            a = out($class) _,
            b = out($class) _,
            options(nostack, preserves_flags),
        )
    };
}

/// # Safety
/// As for [`copy`]; `len` is at most [`SHORT_BYTES`].
unsafe fn copy_short(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: each arm accesses the first and the last `width` bytes of `len`, which is at least `width`; the caller vouches for them.
    unsafe {
        match len {
            0 => {}
            1 => copy_ends!(to, from, len, 1, "byte", reg_byte, "", "mov"),
            2..4 => copy_ends!(to, from, len, 2, "word", reg, ":x", "mov"),
            4..8 => copy_ends!(to, from, len, 4, "dword", reg, ":e", "mov"),
            8..16 => copy_ends!(to, from, len, 8, "qword", reg, ":r", "mov"),
            _ => copy_ends!(to, from, len, 16, "xmmword", xmm_reg, "", "movups"),
        }
    }
}

/// Sets the first and the last bytes of a range by two stores of one width, which may overlap.
macro_rules! fill_ends {
    ($to:ident, $pattern:ident, $len:ident, $width:literal, $size:literal, $class:ident, $modifier:literal, $move:literal) => {
        asm!(
            concat!($move, " ", $size, " ptr [{to}], {pattern", $modifier, "}"),
            concat!($move, " ", $size, " ptr [{to} + {len} - ", $width, "], {pattern", $modifier, "}"),
            to = in(reg) $to,
            len = in(reg) $len,
            pattern = in($class) $pattern,
            options(nostack, preserves_flags),
        )
    };
}

/// # Safety
/// As for [`fill`]; `len` is at most [`SHORT_BYTES`].
unsafe fn fill_short(to: *mut u8, pattern: u64, len: usize) {
    let byte = pattern as u8;
    // SAFETY: each arm accesses the first and the last bytes of `len`, at most as wide; the caller vouches for them.
    unsafe {
        match len {
            0 => {}
            1 => fill_ends!(to, byte, len, 1, "byte", reg_byte, "", "mov"),
            2..4 => fill_ends!(to, pattern, len, 2, "word", reg, ":x", "mov"),
            4..8 => fill_ends!(to, pattern, len, 4, "dword", reg, ":e", "mov"),
            8..16 => fill_ends!(to, pattern, len, 8, "qword", reg, ":r", "mov"),
            _ => {
                // Four stores of eight bytes reach up to 32.
                fill_ends!(to, pattern, len, 8, "qword", reg, ":r", "mov");
                let (to, len) = (to.add(8), len - 16);
                fill_ends!(to, pattern, len, 8, "qword", reg, ":r", "mov");
            }
        }
    }
}

/// Whole blocks of 128 bytes from the front, then the last 128 bytes; shorter ranges by halves of that.
///
/// # Safety
/// As for [`copy`]; `len` is above [`SHORT_BYTES`], and the processor has AVX.
#[target_feature(enable = "avx")]
unsafe fn copy_avx(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: label 2 moves blocks of 128 while more than 128 bytes are left, and 3 the last 128 of at least that many; 4 moves the first
    // and last 64 of at least 64, 5 the first and last 32 of at least 32: nothing outside `len`, for which the caller vouches.
    // `vzeroupper` touches all sixteen registers; all are declared.
    unsafe {
        asm!(
            "cmp {len}, 64",
            "jb 5f",
            "cmp {len}, 128",
            "jb 4f",
            "je 3f",
            "2:",
            "vmovdqu ymm0, [{from}]",
            "vmovdqu ymm1, [{from} + 32]",
            "vmovdqu ymm2, [{from} + 64]",
            "vmovdqu ymm3, [{from} + 96]",
            "vmovdqu [{to}], ymm0",
            "vmovdqu [{to} + 32], ymm1",
            "vmovdqu [{to} + 64], ymm2",
            "vmovdqu [{to} + 96], ymm3",
            "sub {from}, -128",
            "sub {to}, -128",
            "add {len}, -128",
            "cmp {len}, 128",
            "ja 2b",
            "3:",
            "vmovdqu ymm0, [{from} + {len} - 128]",
            "vmovdqu ymm1, [{from} + {len} - 96]",
            "vmovdqu ymm2, [{from} + {len} - 64]",
            "vmovdqu ymm3, [{from} + {len} - 32]",
            "vmovdqu [{to} + {len} - 128], ymm0",
            "vmovdqu [{to} + {len} - 96], ymm1",
            "vmovdqu [{to} + {len} - 64], ymm2",
            "vmovdqu [{to} + {len} - 32], ymm3",
            "jmp 6f",
            "4:",
            "vmovdqu ymm0, [{from}]",
            "vmovdqu ymm1, [{from} + 32]",
            "vmovdqu ymm2, [{from} + {len} - 64]",
            "vmovdqu ymm3, [{from} + {len} - 32]",
            "vmovdqu [{to}], ymm0",
            "vmovdqu [{to} + 32], ymm1",
            "vmovdqu [{to} + {len} - 64], ymm2",
            "vmovdqu [{to} + {len} - 32], ymm3",
            "jmp 6f",
            "5:",
            "vmovdqu ymm0, [{from}]",
            "vmovdqu ymm1, [{from} + {len} - 32]",
            "vmovdqu [{to}], ymm0",
            "vmovdqu [{to} + {len} - 32], ymm1",
            "6:",
            "vzeroupper",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            len = inout(reg) len => _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _,
            out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm7") _,
            out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nostack),
        );
    }
}

/// As [`copy_avx`] with blocks of 64 bytes, on any x86-64.
///
/// # Safety
/// As for [`copy`]; `len` is above [`SHORT_BYTES`].
unsafe fn copy_sse2(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: label 2 moves blocks of 64 while more than 64 bytes are left, and 3 the last 64 of at least that many; 4 moves the first
    // and last 32 of at least 32: nothing outside `len`, for which the caller vouches.
    unsafe {
        asm!(
            "cmp {len}, 64",
            "jb 4f",
            "je 3f",
            "2:",
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 48]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "movups [{to} + 32], {c}",
            "movups [{to} + 48], {d}",
            "add {from}, 64",
            "add {to}, 64",
            "add {len}, -64",
            "cmp {len}, 64",
            "ja 2b",
            "3:",
            "movups {a}, [{from} + {len} - 64]",
            "movups {b}, [{from} + {len} - 48]",
            "movups {c}, [{from} + {len} - 32]",
            "movups {d}, [{from} + {len} - 16]",
            "movups [{to} + {len} - 64], {a}",
            "movups [{to} + {len} - 48], {b}",
            "movups [{to} + {len} - 32], {c}",
            "movups [{to} + {len} - 16], {d}",
            "jmp 5f",
            "4:",
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + {len} - 32]",
            "movups {d}, [{from} + {len} - 16]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "movups [{to} + {len} - 32], {c}",
            "movups [{to} + {len} - 16], {d}",
            "5:",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            len = inout(reg) len => _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack),
        );
    }
}

/// # Safety
/// As for [`copy`]; the two do not overlap.
#[inline]
unsafe fn copy_string(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: moves `len` bytes, for which the caller vouches; the direction flag is clear, as it is at every call.
    unsafe {
        asm!(
            "rep movsb",
            inout("rdi") to => _,
            inout("rsi") from => _,
            inout("rcx") len => _,
            options(nostack, preserves_flags),
        );
    }
}

/// # Safety
/// As for [`fill`]; `len` is above [`SHORT_BYTES`], and the processor has AVX.
#[target_feature(enable = "avx")]
unsafe fn fill_avx(to: *mut u8, pattern: u64, len: usize) {
    // SAFETY: as `copy_avx`: label 2 stores blocks of 128 while more than 128 bytes are left, 3 the last 128 of at least that many, 4 the first and
    // last 64 of at least 64, 5 the first and last 32 of at least 32.
    unsafe {
        asm!(
            "vmovq xmm0, {pattern}",
            "vpunpcklqdq xmm0, xmm0, xmm0",
            "vinsertf128 ymm0, ymm0, xmm0, 1",
            "cmp {len}, 64",
            "jb 5f",
            "cmp {len}, 128",
            "jb 4f",
            "je 3f",
            "2:",
            "vmovdqu [{to}], ymm0",
            "vmovdqu [{to} + 32], ymm0",
            "vmovdqu [{to} + 64], ymm0",
            "vmovdqu [{to} + 96], ymm0",
            "sub {to}, -128",
            "add {len}, -128",
            "cmp {len}, 128",
            "ja 2b",
            "3:",
            "vmovdqu [{to} + {len} - 128], ymm0",
            "vmovdqu [{to} + {len} - 96], ymm0",
            "vmovdqu [{to} + {len} - 64], ymm0",
            "vmovdqu [{to} + {len} - 32], ymm0",
            "jmp 6f",
            "4:",
            "vmovdqu [{to}], ymm0",
            "vmovdqu [{to} + 32], ymm0",
            "vmovdqu [{to} + {len} - 64], ymm0",
            "vmovdqu [{to} + {len} - 32], ymm0",
            "jmp 6f",
            "5:",
            "vmovdqu [{to}], ymm0",
            "vmovdqu [{to} + {len} - 32], ymm0",
            "6:",
            "vzeroupper",
            pattern = in(reg) pattern,
            to = inout(reg) to => _,
            len = inout(reg) len => _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _,
            out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm7") _,
            out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nostack),
        );
    }
}

/// # Safety
/// As for [`fill`]; `len` is above [`SHORT_BYTES`].
unsafe fn fill_sse2(to: *mut u8, pattern: u64, len: usize) {
    // SAFETY: label 2 stores blocks of 64 while more than 64 bytes are left, and 3 the last 64 of at least that many; 4 stores the first
    // and last 32 of at least 32: nothing outside `len`, for which the caller vouches.
    unsafe {
        asm!(
            "movq {a}, {pattern}",
            "punpcklqdq {a}, {a}",
            "cmp {len}, 64",
            "jb 4f",
            "je 3f",
            "2:",
            "movups [{to}], {a}",
            "movups [{to} + 16], {a}",
            "movups [{to} + 32], {a}",
            "movups [{to} + 48], {a}",
            "add {to}, 64",
            "add {len}, -64",
            "cmp {len}, 64",
            "ja 2b",
            "3:",
            "movups [{to} + {len} - 64], {a}",
            "movups [{to} + {len} - 48], {a}",
            "movups [{to} + {len} - 32], {a}",
            "movups [{to} + {len} - 16], {a}",
            "jmp 5f",
            "4:",
            "movups [{to}], {a}",
            "movups [{to} + 16], {a}",
            "movups [{to} + {len} - 32], {a}",
            "movups [{to} + {len} - 16], {a}",
            "5:",
            pattern = in(reg) pattern,
            to = inout(reg) to => _,
            len = inout(reg) len => _,
            a = out(xmm_reg) _,
            options(nostack),
        );
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::copy::tests::Routines;

    /// The sets that this machine can run.
    pub(in crate::copy) fn routines() -> Vec<Routines> {
        let mut all = vec![
            Routines {
                name: "x86-64",
                copies: [read, write, copy],
                fill,
                len_min: 0,
            },
            Routines {
                name: "sse2",
                copies: [copy_sse2, copy_sse2, copy_sse2],
                // SAFETY: whoever calls it vouches for `len` bytes, above `SHORT_BYTES`.
                fill: |to, byte, len| unsafe { fill_sse2(to, spread(byte), len) },
                len_min: SHORT_BYTES + 1,
            },
        ];
        if is_x86_feature_detected!("avx") {
            all.push(Routines {
                name: "avx",
                copies: [copy_avx, copy_avx, copy_avx],
                // SAFETY: as above, and the processor has AVX.
                fill: |to, byte, len| unsafe { fill_avx(to, spread(byte), len) },
                len_min: SHORT_BYTES + 1,
            });
        }
        all
    }
}
