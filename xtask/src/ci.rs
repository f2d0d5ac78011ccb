//! `cargo xtask ci`: everything that a change must pass. A failing step does not hide the ones after
//! it; what happened to each, and how long it took, is said at the end.

use std::time::{Duration, Instant};

use crate::workspace::Workspace;
use crate::{Fallible, docs, fuzz, guest, kills, peers, run, soak, test, tidy, worlds};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install the real programs that the interop tests need
    #[arg(long)]
    install: bool,
}

/// What became of one step.
struct Outcome {
    step: &'static str,
    took: Duration,
    result: Fallible,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Fallible {
    run::run(run::cargo(workspace).args(["--version", "--verbose"]))?;
    let mut tests = None;
    let outcomes = [
        step("fmt", || {
            run::run(run::cargo(workspace).args(["fmt", "--all", "--check"]))
        }),
        step("clippy", || clippy(workspace)),
        step("tidy", || tidy::run(workspace)),
        step("docs", || docs::check_rustdoc(workspace)),
        step("test", || {
            let summary = test::run(
                workspace,
                &test::Args {
                    install: args.install,
                    ring: None,
                },
            )?;
            tests = Some(summary);
            Ok(())
        }),
        step("fuzz", || {
            let args = fuzz::Args {
                seconds: 10,
                target: None,
            };
            fuzz::examples(workspace)?;
            fuzz::run(workspace, &args)
        }),
        step("worlds", || {
            let args = worlds::Args {
                seconds: 45,
                seed: None,
                only: None,
            };
            worlds::run(workspace, &args)
        }),
        step("kills", || {
            let args = kills::Args {
                kills: 10,
                seed: None,
            };
            kills::run(workspace, &args)
        }),
        step("soak", || soak(workspace)),
        step("guest", || guest(workspace, args.install)),
    ];
    println!("\n{}", table(&outcomes));
    let verdict = verdict(&outcomes);
    if let (Ok(()), Some(tests)) = (&verdict, tests) {
        println!("ci: every step passed\n{tests}");
    }
    verdict
}

fn clippy(workspace: &Workspace) -> Fallible {
    // What is only compiled where bugs can be planted, or threads steered, is looked at as well.
    for what in [&["--workspace"], test::WITH_BUGS, test::EXPLORED] {
        let mut command = run::cargo(workspace);
        command.arg("clippy").args(what);
        run::run(command.args(["--all-targets", "--", "-D", "warnings"]))?;
    }
    fuzz::clippy(workspace)
}

/// A minute of it. As with tests, a missing program is a failure only where nobody is watching.
fn soak(workspace: &Workspace) -> Fallible {
    let missing = soak::missing();
    if !missing.is_empty() && !peers::is_ci() {
        let line = peers::install_line(&missing);
        println!("skipped: the soak needs what is not here; install it with:\n  {line}");
        return Ok(());
    }
    let args = soak::Args {
        minutes: 1,
        seed: None,
    };
    soak::run(workspace, &args)
}

/// Some power cuts, and the same where something must be found.
fn guest(workspace: &Workspace, may_fetch: bool) -> Fallible {
    let missing = guest::missing(workspace, may_fetch);
    if let Err(what) = missing.and_then(|kit| kit.map(drop))
        && !peers::is_ci()
    {
        println!("skipped: the guest needs what is not here: {what}");
        return Ok(());
    }
    let usual = guest::Args {
        rounds: 3,
        disk: None,
        part: None,
        planted: false,
        seed: None,
        install: may_fetch,
    };
    guest::run(workspace, &usual)?;
    let planted = guest::Args {
        planted: true,
        part: Some(guest::Part::Kill),
        ..usual
    };
    guest::run(workspace, &planted)
}

fn step(step: &'static str, work: impl FnOnce() -> Fallible) -> Outcome {
    println!("\n== {step}");
    let begun = Instant::now();
    let result = work();
    if let Err(message) = &result {
        println!("{step} failed: {message}");
    }
    Outcome {
        step,
        took: begun.elapsed(),
        result,
    }
}

/// One line for each step, and the total.
fn table(outcomes: &[Outcome]) -> String {
    let mut lines = String::new();
    for Outcome { step, took, result } in outcomes {
        let word = if result.is_ok() { "passed" } else { "FAILED" };
        lines += &format!("{step:<8} {word}  {:>7.1} s\n", took.as_secs_f64());
    }
    let total: Duration = outcomes.iter().map(|outcome| outcome.took).sum();
    lines + &format!("{:<8} {:<6}  {:>7.1} s", "total", "", total.as_secs_f64())
}

fn verdict(outcomes: &[Outcome]) -> Fallible {
    let failed = outcomes.iter().filter(|outcome| outcome.result.is_err());
    let failed: Vec<_> = failed.map(|outcome| outcome.step).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!(
        "ci: {} of {} steps failed: {}",
        failed.len(),
        outcomes.len(),
        failed.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(step: &'static str, result: Fallible) -> Outcome {
        Outcome {
            step,
            took: Duration::from_millis(1500),
            result,
        }
    }

    #[test]
    fn one_failed_step_fails_the_whole_and_is_named() {
        let outcomes = [
            outcome("fmt", Ok(())),
            outcome("tidy", Err("a link".into())),
        ];
        assert_eq!(
            verdict(&outcomes).unwrap_err(),
            "ci: 1 of 2 steps failed: tidy"
        );
        assert_eq!(verdict(&outcomes[..1]), Ok(()));
    }

    #[test]
    fn the_table_ends_with_the_total() {
        let outcomes = [
            outcome("fmt", Ok(())),
            outcome("tidy", Err("a link".into())),
        ];
        let table = table(&outcomes);
        assert!(table.contains("tidy     FAILED      1.5 s\n"), "{table}");
        assert!(table.ends_with("3.0 s"), "{table}");
    }
}
