//! `cargo xtask bench instructions`: what a request costs, counted and not timed, so that no noise of the machine is in it.
//!
//! Valgrind counts all of a program. So each side of a case runs twice, with some operations and with twice as many: the difference is
//! that of the operations.

use std::path::Path;
use std::process::Command;

use super::{build, demand};
use crate::peers::Peer;
use crate::workspace::Workspace;
use crate::{Fallible, run};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the cases whose name contains this
    #[arg(long, default_value = "")]
    case: String,
}

/// The hottest cases, as `bench` calls them.
///
/// With the number of copies that the limit makes, if ours makes one of them by a string move: to the processor that is one instruction,
/// and to valgrind as many as it moves bytes.
const CASES: &[(&str, Option<u64>)] = &[
    ("RAM, 4 KiB random read", None),
    ("RAM, 4 KiB random overwrite", Some(1)),
    (
        "64 layers, 4 KiB read of sectors no upper layer covers",
        None,
    ),
    ("read cache over RAM, 4 KiB warm hit", None),
    ("read cache over RAM, 4 KiB cold miss", Some(3)),
];

/// What one operation of a case copies at a time.
const COPY_BYTES: u64 = 4096;

/// How many operations the shorter run does.
const OPERATIONS: u64 = 10_000;

const VALGRIND: Peer = Peer {
    tool: "valgrind",
    package: "valgrind",
};

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Fallible {
    demand(&[VALGRIND])?;
    let cases: Vec<_> = CASES
        .iter()
        .filter(|(case, _)| case.contains(&args.case))
        .collect();
    if cases.is_empty() {
        let names: Vec<_> = CASES.iter().map(|(case, _)| *case).collect();
        return Err(format!(
            "no case is called `{}`; there are:\n  {}",
            args.case,
            names.join("\n  ")
        ));
    }
    let bench = build(workspace, &["bench"])?.join("bench");
    println!("Instructions of one operation, and of its limit alone.\n");
    println!("| case | ours | of the limit | besides |\n| --- | ---: | ---: | ---: |");
    for (case, copies) in cases {
        let [ours, limit] = ["ours", "limit"].map(|side| per_operation(&bench, case, side));
        println!("{}", row(case, ours?, limit?, *copies));
    }
    Ok(())
}

fn per_operation(bench: &Path, case: &str, side: &str) -> Fallible<u64> {
    let few = count(bench, case, side, OPERATIONS)?;
    let many = count(bench, case, side, 2 * OPERATIONS)?;
    let difference = many.checked_sub(few);
    let difference = difference.ok_or("twice as many operations executed fewer instructions")?;
    Ok(difference / OPERATIONS)
}

/// The instructions of a program that does so many operations.
fn count(bench: &Path, case: &str, side: &str, operations: u64) -> Fallible<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=cachegrind", "--cache-sim=no"])
        .args(["--cachegrind-out-file=/dev/null", "--log-fd=1"])
        .arg(bench)
        .args(["--case", case, "--side", side])
        .args(["--operations", &operations.to_string()]);
    let output = run::output(&mut valgrind)?;
    instructions(&output).ok_or_else(|| format!("valgrind printed no count:\n{output}"))
}

/// The count in a line such as `==7== I   refs:      1,234`.
fn instructions(output: &str) -> Option<u64> {
    let line = output.lines().find(|line| line.contains("refs:"))?;
    let (_, number) = line.split_once("refs:")?;
    number.trim().replace(',', "").parse().ok()
}

/// A line of the table. A string move is left out of ours, and the copy that it stands for out of what the limit would need.
fn row(case: &str, ours: u64, limit: u64, copies: Option<u64>) -> String {
    let ours = ours.saturating_sub(copies.map_or(0, |_| COPY_BYTES));
    let limit_of_same = limit - copies.map_or(0, |copies| limit / copies);
    let besides = i128::from(ours) - i128::from(limit_of_same);
    format!("| {case} | {ours} | {limit} | {besides} |")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_what_valgrind_prints() {
        let output = "==7== Cachegrind\n==7== \n==7== I   refs:      1,174,400,518\n";
        assert_eq!(instructions(output), Some(1_174_400_518));
        assert_eq!(instructions("==7== killed\n"), None);
    }

    #[test]
    fn a_row_says_what_is_besides_the_limit() {
        assert_eq!(row("reads", 900, 300, None), "| reads | 900 | 300 | 600 |");
    }

    #[test]
    fn a_string_move_counts_for_nothing_on_either_side() {
        let row = row("misses", 4096 + 900, 300, Some(3));
        assert_eq!(row, "| misses | 900 | 300 | 700 |");
    }
}
