//! Each planted bug is caught, from fixed seeds, within a fixed number of requests.

use planted::Bug;
use worlds::Broken;

/// How many requests there are to catch each of them.
const OPERATIONS_MAX: u64 = 400_000;

/// The seeds of the worlds, from the first on.
const FIRST_SEED: u64 = 1;

/// How many requests were made before the bug was caught, and how.
fn catch(bug: Bug) -> Option<(u64, String)> {
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
                let how = match failure.what {
                    Broken::Clause(violation) => violation.clause().to_string(),
                    Broken::Panic(_) => "a panic".to_owned(),
                };
                operations += u64::from(worlds::REQUESTS);
                return Some((operations, format!("{how}, in the world of seed {seed}")));
            }
        }
        if operations > OPERATIONS_MAX {
            return None;
        }
    }
    None
}

#[test]
#[expect(clippy::print_stdout, reason = "how each was caught is worth knowing")]
fn every_planted_bug_is_caught() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        match catch(*bug) {
            Some((operations, how)) => println!("{:32} {operations:>7} {how}", bug.name()),
            None => missed.push(bug.name()),
        }
    }
    assert!(
        missed.is_empty(),
        "not caught within {OPERATIONS_MAX} requests: {missed:?}"
    );
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
