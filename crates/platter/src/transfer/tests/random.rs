//! Any two disks: after a copy they are equal, and a second one has nothing to do.

use super::*;
use proptest::prelude::*;

/// Sectors of a disk, each zero, data, or data of a few repeating kinds, so that sources and destinations often agree.
fn sectors(count: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec((0..4_u8, 1..24_usize), 1..40).prop_map(move |runs| {
        let mut kinds = Vec::new();
        for (kind, len) in runs {
            kinds.extend(std::iter::repeat_n(kind, len));
        }
        kinds.resize(count, 0);
        kinds
    })
}

fn bytes(kinds: &[u8], sector_size: u32) -> Vec<u8> {
    kinds
        .iter()
        .enumerate()
        .flat_map(|(index, kind)| match kind {
            0 => vec![0; sector_size as usize],
            kind => noise(kind.wrapping_add(index as u8), u64::from(sector_size)),
        })
        .collect()
}

fn any_disk() -> impl Strategy<Value = (Vec<u8>, u32, bool)> {
    (
        prop::sample::select(vec![512_u32, 4096, 8192]),
        1..200_usize,
        any::<bool>(),
    )
        .prop_flat_map(|(sector_size, count, says_all_is_data)| {
            sectors(count)
                .prop_map(move |kinds| (bytes(&kinds, sector_size), sector_size, says_all_is_data))
        })
}

fn built((bytes, sector_size, says_all_is_data): &(Vec<u8>, u32, bool)) -> Probe {
    let traits = Traits {
        says_all_is_data: *says_all_is_data,
        ..Traits::default()
    };
    probe(bytes, *sector_size, traits)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_a_copy_both_disks_are_equal_and_nothing_is_left_to_write(
        from in any_disk(),
        to in any_disk(),
        keeps_tail in any::<bool>(),
    ) {
        // The destination is as long as the source, or longer.
        let mut to = to;
        let need = from.0.len().next_multiple_of(to.1 as usize);
        if to.0.len() < need {
            to.0.resize(need, 0x77);
        }
        let tail = if keeps_tail { Tail::Keep } else { Tail::Zero };
        let (source, destination) = (built(&from), built(&to));
        copy_as(&source, &destination, false, tail).unwrap();
        let mut expected = from.0.clone();
        match tail {
            Tail::Keep => expected.extend_from_slice(&to.0[from.0.len()..]),
            Tail::Zero => expected.resize(to.0.len(), 0),
        }
        let found = content(&destination);
        prop_assert_eq!(found.iter().zip(&expected).position(|(a, b)| a != b), None);
        // What was written differed: by the granule.
        let granule = 4096.max(from.1).max(to.1) as usize;
        for range in destination.take_log().written {
            for start in (range.start as usize..range.end as usize).step_by(granule) {
                let end = (start + granule).min(range.end as usize);
                prop_assert!(to.0[start..end] != expected[start..end], "{start}..{end} was written in vain");
            }
        }
        if tail == Tail::Zero {
            prop_assert_eq!(compare(&source, &destination).unwrap().first_offset, None);
        }
        copy_as(&source, &destination, false, tail).unwrap();
        let log = destination.take_log();
        prop_assert_eq!((log.written, log.zeroed), (vec![], vec![]));
    }

    #[test]
    fn a_comparison_finds_what_a_plain_look_finds(first in any_disk(), second in any_disk()) {
        let found = compare(&built(&first), &built(&second)).unwrap();
        let len = first.0.len().max(second.0.len());
        let byte = |disk: &[u8], at: usize| disk.get(at).copied().unwrap_or(0);
        let differing: Vec<usize> =
            (0..len).filter(|at| byte(&first.0, *at) != byte(&second.0, *at)).collect();
        prop_assert_eq!(found.first_offset, differing.first().map(|at| *at as u64));
        prop_assert_eq!(found.different_bytes, differing.len() as u64);
        prop_assert_eq!(found.compared_bytes, len as u64);
    }
}
