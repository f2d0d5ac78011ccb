//! `cargo xtask fuzz`: builds every fuzz target once, and runs each for some seconds on what the repository has as its beginning.
//!
//! It is what `cargo fuzz build -s none` builds, with the same counters, without needing `cargo-fuzz` to be installed. What is found
//! stays below `target/`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::workspace::{Workspace, read};
use crate::{Fallible, run};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long each target runs
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u32,
    /// Run this target only (the name of a folder of `fuzz/corpus`)
    #[arg(long)]
    pub(crate) target: Option<String>,
}

/// The counters that libFuzzer steers by. As `cargo fuzz` has them, but for the code generation units: one takes twice as long to build.
const INSTRUMENTED: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
];
/// Named, so that build scripts and macros are not instrumented.
fn platform() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}
/// A single input that takes longer is a hang, and one that needs more memory a leak.
const INPUT_SECONDS_MAX: u32 = 20;
const MEMORY_MIB_MAX: u32 = 2048;

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Fallible {
    let manifest = read(&workspace.root.join("fuzz/Cargo.toml"))?;
    let targets = chosen(targets(&manifest)?, args.target.as_deref())?;
    build(workspace)?;
    // One that fails does not hide what the others find.
    let mut failures = Vec::new();
    for target in &targets {
        match try_target(workspace, target, args.seconds) {
            Ok(line) => println!("fuzz: {target:<18} {line}"),
            Err(failure) => {
                println!("fuzz: {failure}");
                failures.push(failure);
            }
        }
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(failures.join("\n")),
    }
}

/// The names of all targets, in the order of the manifest.
fn targets(manifest: &str) -> Fallible<Vec<String>> {
    let manifest: toml::Table = manifest
        .parse()
        .map_err(|error| format!("fuzz/Cargo.toml is wrong: {error}"))?;
    let binaries = manifest.get("bin").and_then(toml::Value::as_array);
    let names = binaries
        .into_iter()
        .flatten()
        .filter_map(|one| one.get("name")?.as_str());
    Ok(names.map(str::to_owned).collect())
}

fn chosen(all: Vec<String>, wanted: Option<&str>) -> Fallible<Vec<String>> {
    let Some(wanted) = wanted else { return Ok(all) };
    if all.iter().any(|name| name == wanted) {
        return Ok(vec![wanted.to_owned()]);
    }
    Err(format!(
        "there is no fuzz target {wanted}; there are: {}",
        all.join(", ")
    ))
}

/// The crate is no member of the workspace: what is done to the whole workspace leaves it out.
const MANIFEST: &[&str] = &["--manifest-path", "fuzz/Cargo.toml"];

/// As for all other crates. Where the targets are built nothing of it would be of use, since that is for other flags.
pub(crate) fn clippy(workspace: &Workspace) -> Fallible {
    run::run(
        run::cargo(workspace)
            .args(["clippy", "--locked", "--all-targets"])
            .args(MANIFEST)
            .arg("--target-dir")
            .arg(checked_in(workspace))
            .args(["--", "-D", "warnings"]),
    )
}

/// Runs the examples of the crate's library. There are no other tests: the targets are.
pub(crate) fn examples(workspace: &Workspace) -> Fallible {
    run::run(
        run::cargo(workspace)
            .args(["test", "--quiet", "--locked", "--doc"])
            .args(MANIFEST)
            .arg("--target-dir")
            .arg(checked_in(workspace)),
    )
}

/// Checks the form of the crate, too.
fn build(workspace: &Workspace) -> Fallible {
    run::run(
        run::cargo(workspace)
            .args(["fmt", "--check"])
            .args(MANIFEST),
    )?;
    run::run(
        run::cargo(workspace)
            .env("RUSTFLAGS", INSTRUMENTED.join(" "))
            .args([
                "build",
                "--locked",
                "--release",
                "--bins",
                "--target",
                &platform(),
            ])
            .args(MANIFEST)
            .arg("--target-dir")
            .arg(built_in(workspace)),
    )
}

fn checked_in(workspace: &Workspace) -> PathBuf {
    workspace.target.join("fuzz-checks")
}

fn built_in(workspace: &Workspace) -> PathBuf {
    workspace.target.join("fuzz")
}

/// Runs one target and returns what it did.
fn try_target(workspace: &Workspace, target: &str, seconds: u32) -> Fallible<String> {
    let program = built_in(workspace)
        .join(platform())
        .join("release")
        .join(target);
    let scratch = built_in(workspace).join("found").join(target);
    std::fs::create_dir_all(&scratch)
        .map_err(|error| format!("cannot make {}: {error}", scratch.display()))?;
    // What a run leaves in the folder for temporary files, it leaves here.
    let temporary =
        tempfile::tempdir().map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    let output = Command::new(&program)
        .current_dir(&workspace.root)
        .env("TMPDIR", temporary.path())
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
        .arg(format!("-artifact_prefix={}/failed-", scratch.display()))
        .arg("-print_final_stats=1")
        .arg(&scratch)
        .arg(format!("fuzz/corpus/{target}"))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
    let told = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(summary(&told, seconds));
    }
    // What it tried before is of no use to anybody.
    let from = told
        .find("panicked at")
        .or(told.find("==ERROR"))
        .unwrap_or(0);
    println!("{}", &told[told[..from].rfind('\n').unwrap_or(0)..]);
    Err(failure(target, &program, &told))
}

/// What libFuzzer counted.
fn summary(told: &str, seconds: u32) -> String {
    let count = |name: &str| -> u64 {
        let line = told.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().parse().ok()).unwrap_or(0)
    };
    let runs = count("stat::number_of_executed_units:");
    let peak = count("stat::peak_rss_mb:");
    let per_second = runs / u64::from(seconds.max(1));
    format!("{runs:>9} runs in {seconds} s, {per_second} per second, {peak} MiB at most")
}

/// What to tell about a failure: how to have it again.
fn failure(target: &str, program: &Path, told: &str) -> String {
    let unit = told
        .lines()
        .find_map(|line| line.split_once("Test unit written to "));
    match unit {
        Some((_, unit)) => format!(
            "the fuzz target {target} failed; to run the same again: {} {unit}",
            program.display()
        ),
        None => format!("the fuzz target {target} failed, and kept no input"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_those_of_the_manifest_and_each_has_a_beginning() {
        let workspace = Workspace::load().unwrap();
        let manifest = read(&workspace.root.join("fuzz/Cargo.toml")).unwrap();
        let targets = targets(&manifest).unwrap();
        assert!(targets.contains(&"nbd_handshake".to_owned()));
        for target in targets {
            let corpus = workspace.root.join("fuzz/corpus").join(&target);
            let count = std::fs::read_dir(&corpus).map_or(0, Iterator::count);
            assert!(count > 0, "{target} has no corpus");
        }
    }

    #[test]
    fn a_target_that_is_not_there_is_an_error_with_those_that_are() {
        let all = || vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(chosen(all(), Some("b")).unwrap(), ["b"]);
        assert_eq!(chosen(all(), None).unwrap(), all());
        assert!(chosen(all(), Some("c")).unwrap_err().ends_with("a, b"));
    }

    #[test]
    fn a_failure_says_how_to_have_it_again() {
        let told = "x\nartifact_prefix='y'; Test unit written to target/failed-crash-1\n";
        let message = failure("a", Path::new("bin/a"), told);
        assert!(
            message.ends_with("bin/a target/failed-crash-1"),
            "{message}"
        );
        assert!(failure("a", Path::new("bin/a"), "").contains("no input"));
    }

    #[test]
    fn runs_are_counted_as_libfuzzer_tells_them() {
        let told = "stat::number_of_executed_units: 500\nstat::peak_rss_mb:             38\n";
        assert_eq!(
            summary(told, 10).trim_start(),
            "500 runs in 10 s, 50 per second, 38 MiB at most"
        );
    }
}
