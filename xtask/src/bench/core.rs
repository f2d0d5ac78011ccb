//! `cargo xtask bench core`: disks in process, against plain copies of the same bytes.

use serde_json::Value;

use super::stats::{Comparison, Round};
use crate::workspace::Workspace;
use crate::{Fallible, run};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often each case is measured
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only the cases whose name contains this
    #[arg(long, default_value = "")]
    case: String,
}

/// What the rounds of a case measured.
struct Measured {
    name: String,
    limit: String,
    goal: f64,
    rounds: Vec<Round>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Fallible {
    let mut bench = run::cargo(workspace);
    bench.args(["run", "--quiet", "--release", "--package", "bench", "--"]);
    bench.args(["--rounds", &args.rounds.to_string(), "--case", &args.case]);
    let cases = collect(&run::output(&mut bench)?)?;
    if cases.is_empty() {
        return Err(format!("no case is called `{}`", args.case));
    }
    println!(
        "Nanoseconds for one operation; medians of {} rounds, ours and the limit in turns; the ratio is the median of the rounds' \
         ratios. A slowdown is how many times longer two threads take than one.\n",
        args.rounds
    );
    println!("| case | limit | ours | of the limit | ratio | min - max | goal |");
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: |");
    for case in &cases {
        println!("{}", row(case));
    }
    Ok(())
}

/// The rounds of each case, in the order in which cases appear.
fn collect(output: &str) -> Fallible<Vec<Measured>> {
    let mut cases: Vec<Measured> = Vec::new();
    for line in output.lines() {
        let value: Value = serde_json::from_str(line)
            .map_err(|error| format!("the benchmark printed `{line}`: {error}"))?;
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| {
            let number = value[key].as_f64();
            number.ok_or_else(|| format!("the benchmark printed `{line}`, without {key}"))
        };
        let round = Round {
            ours: number("ours_ns")?,
            peers: number("limit_ns")?,
        };
        match cases.last_mut() {
            Some(last) if last.name == text("case") => last.rounds.push(round),
            _ => cases.push(Measured {
                name: text("case"),
                limit: text("limit"),
                goal: number("goal")?,
                rounds: vec![round],
            }),
        }
    }
    Ok(cases)
}

fn row(case: &Measured) -> String {
    let comparison = Comparison::of(&case.rounds);
    let amount = |value: f64| match value < 10.0 {
        true => format!("{value:.2}"),
        false => format!("{value:.0}"),
    };
    format!(
        "| {} | {} | {} | {} | {:.2} | {:.2} - {:.2} | {:.2} |",
        case.name,
        case.limit,
        amount(comparison.ours_median),
        amount(comparison.peers_median),
        comparison.ratio_median,
        comparison.ratio_min,
        comparison.ratio_max,
        case.goal,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_gathered_by_case_and_nonsense_is_refused() {
        let line = |case: &str, ours: f64| {
            format!(
                r#"{{"case":"{case}","limit":"copy","goal":1.5,"ours_ns":{ours},"limit_ns":100.0}}"#
            )
        };
        let output = [
            line("read", 120.0),
            line("read", 140.0),
            line("write", 300.0),
        ]
        .join("\n");
        let cases = collect(&output).unwrap();
        let names: Vec<_> = cases
            .iter()
            .map(|case| (&*case.name, case.rounds.len()))
            .collect();
        assert_eq!(names, [("read", 2), ("write", 1)]);
        assert_eq!(
            row(&cases[0]),
            "| read | copy | 130 | 100 | 1.30 | 1.20 - 1.40 | 1.50 |"
        );
        assert!(collect("hello").is_err());
        assert!(collect("{}").is_err());
    }
}
