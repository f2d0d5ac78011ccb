//! Each planted bug is caught, from fixed seeds, within a fixed number of requests.

use disk_contract::Clause;
use planted::Bug;
use worlds::Broken;

/// How many requests there are to catch each of them.
const OPERATIONS_MAX: u64 = 400_000;

/// The seeds of the worlds, from the first on.
const FIRST_SEED: u64 = 1;

/// What a bug may be caught by: the clauses it breaks for those who look, which need not be the rule of layers that it hurts.
fn breaks(bug: Bug) -> &'static [Clause] {
    use Clause::{C1, C2, C4, C5, C6, C7, C8, C9, C10, C11, C12};
    match bug {
        // An old value is read where a newer one had been, or comes back after a crash. Where requests failed or were dropped
        // meanwhile, it looks as if one of these had happened late.
        Bug::CacheFillOverNewerWrite
        | Bug::CacheFillAfterUnmap
        | Bug::LostResize
        | Bug::StaleIndex
        | Bug::UnmapUncovers => &[C2, C5, C6, C7, C8, C9, C11, C12],
        Bug::TornSector => &[C2, C11],
        Bug::FlushSkipsALayer => &[C5],
        Bug::DivergenceAfterError => &[C2, C5, C8],
        // A dropped resize, too, stops between two layers.
        Bug::DivergenceAfterDrop => &[C2, C5, C9, C10, C11],
        // The copy and what it is a copy of hold two values, and either is read.
        Bug::FetchedTwice => &[C2, C5, C6, C11],
        Bug::WrongLayerAfterError => &[C2],
        Bug::RangeOverflow => &[C1],
        Bug::FuaNotHonoured => &[C6],
        Bug::WaitsForAnotherCaller => &[C4],
        // What was there is gone, or something that never was is there, or what was flushed is not.
        // A sector that a crash left as it may cannot be read.
        Bug::OverwriteBeforeMark => &[C5, C6, C8, C11],
        Bug::RecordBeforeData | Bug::ChecksumNotChecked => &[C5, C6, C11],
        Bug::MissingFlush => &[C5, C6, C11],
        // What was flushed is what it was before.
        Bug::StaleCopy => &[C5, C6, C11],
        // The layer cannot be opened: a panic of the kit.
        Bug::TornSuperblock => &[C11],
    }
}

/// Whether a bug may be caught by a panic: a range that wraps around ends in an index that is out of bounds, and a durable layer that
/// cannot be opened any more has lost everything. That is also what comes of an operation that ends with its caller, where it was about
/// to write a superblock.
fn may_panic(bug: Bug) -> bool {
    matches!(
        bug,
        Bug::RangeOverflow
            | Bug::TornSuperblock
            | Bug::MissingFlush
            | Bug::ChecksumNotChecked
            | Bug::DivergenceAfterDrop
    )
}

/// How many requests were made before the bug was caught, and how; or what was wrong with that.
fn catch(bug: Bug) -> Result<(u64, String), String> {
    let _planted = planted::plant(bug);
    let mut operations = 0;
    for seed in FIRST_SEED.. {
        match worlds::run(seed) {
            Ok(report) => operations += report.operation_count,
            Err(failure) => {
                let replay = format!("replay: cargo xtask worlds --only {seed:#x}");
                let report = failure.to_string();
                assert!(report.ends_with(&replay), "{report}");
                assert_eq!(report.matches("replay:").count(), 1, "{report}");
                operations += u64::from(worlds::REQUESTS);
                let (is_it, by) = match &failure.what {
                    Broken::Clause(found) => (
                        breaks(bug).contains(&found.clause()),
                        found.clause().to_string(),
                    ),
                    Broken::Panic(_) => (may_panic(bug), "a panic".to_owned()),
                };
                return match is_it {
                    true => Ok((operations, format!("{by}, in the world of seed {seed}"))),
                    false => Err(format!("something else was caught, {by}:\n{failure}")),
                };
            }
        }
        if operations > OPERATIONS_MAX {
            break;
        }
    }
    Err(format!("not caught within {OPERATIONS_MAX} requests"))
}

#[test]
#[expect(clippy::print_stdout, reason = "how each was caught is worth knowing")]
fn every_planted_bug_is_caught() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        match catch(*bug) {
            Ok((operations, how)) => println!("{:32} {operations:>7} {how}", bug.name()),
            Err(what) => missed.push(format!("{bug}: {what}")),
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn without_a_bug_the_same_worlds_keep_the_contract() {
    let mut operations = 0;
    for seed in FIRST_SEED.. {
        let report = worlds::run(seed).unwrap_or_else(|failure| panic!("{failure}"));
        operations += report.operation_count;
        if operations > OPERATIONS_MAX {
            break;
        }
    }
}
