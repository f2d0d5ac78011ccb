//! A case of `cargo xtask bench durable`: how long it takes to open a large layer.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::stats::median;
use super::{build, folder_in};
use crate::workspace::Workspace;
use crate::{Fallible, run};

pub(crate) const NAME: &str = "open 1 TiB, 100 GiB present";

/// What it may take.
const MILLISECONDS_MAX: f64 = 200.0;

/// How much of the file is no hole, at the most.
const FILE_BYTES: u64 = 512 << 20;

const ROUNDS: &str = "9";

/// Makes the layer in a folder below this one, and prints a row for each state of the page cache.
pub(crate) fn run(workspace: &Workspace, parent: &Path, is_checked: bool) -> Fallible {
    let program = build(workspace, &["bench"])?.join("durable_open");
    let folder = folder_in(parent, FILE_BYTES)?;
    let mut measure = Command::new(program);
    measure.arg(folder.path().join("large.plt"));
    measure.args(["--rounds", ROUNDS]);
    let output = run::output(&mut measure)?;
    let report: Value = serde_json::from_str(&output)
        .map_err(|error| format!("the benchmark printed `{output}`: {error}"))?;
    let log_mib = report["log_bytes"].as_f64().unwrap_or_default() / f64::from(1 << 20);
    println!("Medians of {ROUNDS} rounds, with {log_mib:.1} MiB of log to be read.\n");
    println!("| case | page cache | took | at the most | limit |");
    println!("| --- | --- | ---: | ---: | ---: |");
    let mut is_missed = false;
    for cache in ["cold", "warm"] {
        let rounds = report[format!("{cache}_ms")].as_array();
        let rounds = rounds.into_iter().flatten().filter_map(Value::as_f64);
        let rounds: Vec<f64> = rounds.collect();
        let longest = rounds.iter().copied().fold(f64::NAN, f64::max);
        let took = median(rounds);
        is_missed |= took > MILLISECONDS_MAX;
        println!(
            "| {NAME} | {cache} | {took:.1} ms | {longest:.1} ms | {MILLISECONDS_MAX:.0} ms |"
        );
    }
    println!();
    match is_missed && is_checked {
        true => Err("opening takes longer than it may".to_owned()),
        false => Ok(()),
    }
}
