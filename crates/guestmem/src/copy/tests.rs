//! Every routine, every short length, every alignment, with guard bytes around.

use super::*;
use proptest::prelude::*;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// One set of routines.
pub(super) struct Routines {
    pub(super) name: &'static str,
    pub(super) copies: [unsafe fn(*mut u8, *const u8, usize); 3],
    pub(super) fill: unsafe fn(*mut u8, u8, usize),
    /// The shortest length they take.
    pub(super) len_min: usize,
}

fn all_routines() -> Vec<Routines> {
    let mut all = vec![Routines {
        name: "words",
        copies: [words::read, words::write, words::copy],
        fill: words::fill,
        len_min: 0,
    }];
    #[cfg(target_arch = "x86_64")]
    all.extend(x86_64::tests::routines());
    all
}

/// Bytes that differ from their neighbours and from the guards.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8 + 1).collect()
}

const GUARD_BYTES: usize = 160;

/// Runs `routine` on the `len` bytes at `offset` of a guarded area and compares all of it with `expected` in their place.
fn check(name: &str, offset: usize, expected: &[u8], routine: impl FnOnce(*mut u8)) {
    let len = expected.len();
    let mut area = vec![0xEE; GUARD_BYTES + offset + len + GUARD_BYTES];
    let start = GUARD_BYTES + offset;
    routine(area[start..].as_mut_ptr());
    assert!(
        area[..start].iter().all(|&byte| byte == 0xEE),
        "{name}, {len} bytes at {offset}: wrote before"
    );
    assert!(
        area[start..start + len] == *expected,
        "{name}, {len} bytes at {offset}: wrong bytes"
    );
    assert!(
        area[start + len..].iter().all(|&byte| byte == 0xEE),
        "{name}, {len} bytes at {offset}: wrote after"
    );
}

fn check_all(len: usize, to_offset: usize, from_offset: usize) {
    let from = pattern(from_offset + len);
    let from = &from[from_offset..];
    for routines in all_routines()
        .iter()
        .filter(|routines| len >= routines.len_min)
    {
        for copy in routines.copies {
            // SAFETY: `check` gives `len` bytes and a guard of ours; `from` is `len` bytes long.
            check(routines.name, to_offset, from, |to| unsafe {
                copy(to, from.as_ptr(), len)
            });
        }
        // SAFETY: as above.
        check(routines.name, to_offset, &vec![0x5A; len], |to| unsafe {
            (routines.fill)(to, 0x5A, len);
        });
    }
}

#[test]
fn every_short_length_is_exact() {
    for len in 0..=600 {
        check_all(len, 0, 0);
    }
}

#[test]
fn lengths_where_another_routine_takes_over_are_exact() {
    for len in [2 << 10, 16 << 10, 64 << 10] {
        for len in [len - 1, len, len + 1] {
            check_all(len, 0, 0);
            check_all(len, 3, 1);
        }
    }
}

#[test]
fn every_alignment_is_exact() {
    for len in [0, 1, 3, 7, 8, 15, 31, 33, 63, 65, 127, 129, 191, 255, 513] {
        for to_offset in 0..33 {
            check_all(len, to_offset, (to_offset * 7) % 33);
        }
    }
}

proptest! {
    #[test]
    fn any_length_and_alignment_is_exact(len in 0_usize..20_000, to_offset in 0_usize..70, from_offset in 0_usize..70) {
        check_all(len, to_offset, from_offset);
    }
}

#[test]
fn a_hint_may_point_anywhere() {
    for at in [0, 1, 4096, usize::MAX - 100, isize::MAX as usize] {
        prefetch(std::ptr::without_provenance(at), usize::MAX);
        words::prefetch(std::ptr::without_provenance(at), usize::MAX);
    }
}

#[test]
fn a_read_meets_only_bytes_that_were_there() {
    let mut memory = vec![0xAA; 4096];
    let shared = Segment::from_mut(&mut memory);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for byte in [0x55, 0xAA].into_iter().cycle() {
                // SAFETY: the segment was made from `&mut`, and only segments touch the memory meanwhile.
                unsafe { fill(shared, byte) };
                if is_done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let mut bytes = vec![0; 4096];
        let mut strange = 0;
        for _ in 0..2000 {
            read(shared, &mut bytes);
            strange += bytes
                .iter()
                .filter(|byte| ![0xAA, 0x55].contains(byte))
                .count();
        }
        is_done.store(true, Ordering::Relaxed);
        assert_eq!(strange, 0);
    });
}

#[test]
#[should_panic = "a copy has one length"]
fn a_copy_of_two_lengths_panics() {
    read(Segment::from_slice(&[1, 2, 3]), &mut [0; 2]);
}
