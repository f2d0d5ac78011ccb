//! Facts about comparisons.

use super::super::fault::Attempt;
use super::*;

#[test]
fn equal_disks_have_no_difference_whatever_they_know_of_their_holes() {
    let mut bytes = noise(1, 64 * KIB);
    bytes[8192..20000].fill(0);
    let knows_nothing = Traits {
        says_all_is_data: true,
        ..Traits::default()
    };
    let (first, second) = (disk(&bytes, 512), probe(&bytes, 4096, knows_nothing));
    let found = compare(&first, &second).unwrap();
    assert_eq!((found.first_offset, found.different_bytes), (None, 0));
    assert_eq!(found.compared_bytes, 64 * KIB);
    assert!(found.is_complete);
}

#[test]
fn the_first_difference_is_named_and_every_differing_byte_counted() {
    let bytes = noise(1, 256 * KIB);
    let mut other = bytes.clone();
    for at in [70_001, 70_002, 70_500, 200_000] {
        other[at] ^= 0x10;
    }
    let found = compare(&disk(&bytes, 512), &disk(&other, 512)).unwrap();
    assert_eq!(found.first_offset, Some(70_001));
    assert_eq!(found.different_bytes, 4);
}

#[test]
fn data_differs_from_a_hole() {
    let mut bytes = vec![0; 64 * 1024];
    let hole = disk(&bytes, 512);
    bytes[33_000] = 1;
    let data = disk(&bytes, 512);
    for (first, second) in [(&hole, &data), (&data, &hole)] {
        let found = compare(first, second).unwrap();
        assert_eq!(
            (found.first_offset, found.different_bytes),
            (Some(33_000), 1)
        );
    }
}

#[test]
fn what_lies_beyond_the_end_of_the_shorter_counts_as_zeros() {
    let bytes = noise(1, 40 * KIB + 512);
    let mut longer = bytes.clone();
    longer.resize(64 * KIB as usize, 0);
    assert_eq!(
        compare(&disk(&bytes, 512), &disk(&longer, 4096))
            .unwrap()
            .first_offset,
        None
    );
    longer[50_000] = 1;
    for sides in [
        [disk(&bytes, 512), disk(&longer, 4096)],
        [disk(&longer, 512), disk(&bytes, 512)],
    ] {
        let found = compare(&sides[0], &sides[1]).unwrap();
        assert_eq!(
            (found.first_offset, found.different_bytes),
            (Some(50_000), 1)
        );
    }
}

#[test]
fn a_comparison_may_end_inside_of_a_sector_of_the_longer_disk() {
    let bytes = noise(1, 40 * KIB + 512);
    let mut longer = bytes.clone();
    longer.resize(64 * KIB as usize, 7);
    let (first, second) = (disk(&bytes, 512), disk(&longer, 8192));
    let comparison = Comparison {
        first: first.disk(),
        second: Some(second.disk()),
        end: bytes.len() as u64,
        only_first: false,
    };
    let found = block_on(comparison.run(EFFORT, &Counter::new(u64::MAX))).unwrap();
    assert_eq!(found.first_offset, None);
}

#[test]
fn a_comparison_that_looks_for_the_first_difference_finds_the_first_and_stops() {
    let bytes = noise(1, 1024 * KIB);
    let mut other = bytes.clone();
    for at in [20_000, 40_000, 60_000, 1_000_000] {
        other[at] ^= 1;
    }
    let (first, second) = (disk(&bytes, 512), disk(&other, 512));
    let comparison = Comparison {
        first: first.disk(),
        second: Some(second.disk()),
        end: 1024 * KIB,
        only_first: true,
    };
    let found = block_on(comparison.run(EFFORT, &Counter::new(u64::MAX))).unwrap();
    assert_eq!(found.first_offset, Some(20_000));
    assert!(!found.is_complete);
    assert!(found.compared_bytes < 200 * KIB, "{found:?}");
}

#[test]
fn content_is_found_by_comparing_with_nothing() {
    let mut bytes = vec![0; 128 * 1024];
    let found = |bytes: &[u8]| {
        let one = disk(bytes, 512);
        let comparison = Comparison {
            first: one.disk(),
            second: None,
            end: 128 * KIB,
            only_first: true,
        };
        let watch = Counter::new(u64::MAX);
        block_on(comparison.run(EFFORT, &watch))
            .unwrap()
            .first_offset
    };
    assert_eq!(found(&bytes), None);
    bytes[99_999] = 1;
    assert_eq!(found(&bytes), Some(99_999));
}

#[test]
fn a_sector_that_cannot_be_read_is_named_with_its_side() {
    let bad = Traits {
        bad_sector: Some(100),
        ..Traits::default()
    };
    let bytes = noise(1, 64 * KIB);
    let (first, second) = (disk(&bytes, 512), probe(&bytes, 512, bad));
    let fault = compare(&first, &second).unwrap_err();
    assert_eq!(fault.side, Side::Second);
    assert_eq!(fault.attempt, Attempt::Read(51_200..51_712));
    let fault = compare(&second, &first).unwrap_err();
    assert_eq!(fault.side, Side::First);
}

#[test]
fn the_first_difference_is_the_first_also_if_a_later_one_is_found_earlier() {
    let bytes = noise(1, 64 * KIB);
    let mut other = bytes.clone();
    other[500] ^= 1;
    other[20_000] ^= 1;
    for slow_sector in [0, 40] {
        let slow = Traits {
            slow_sector: Some(slow_sector),
            ..Traits::default()
        };
        let found = compare(&probe(&bytes, 512, slow), &disk(&other, 512)).unwrap();
        assert_eq!(found.first_offset, Some(500));
        assert_eq!(found.different_bytes, 2);
    }
}
