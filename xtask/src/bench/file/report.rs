//! The tables.

use serde_json::Value;

use super::cases::{Against, Case};
use crate::Fallible;
use crate::bench::stats::{Comparison, Round, median};

/// What one measurement of one side says.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sample {
    pub(super) requests_per_second: f64,
    /// Of a server; zero where there is none.
    pub(super) cpu_us_per_request: f64,
}

/// Reads what `file_load` prints.
pub(super) fn our_sample(output: &str) -> Fallible<Sample> {
    let value: Value = serde_json::from_str(output).unwrap_or_default();
    let rate = || Some(value.get("request_count")?.as_f64()? / value.get("seconds")?.as_f64()?);
    let requests_per_second = rate().ok_or_else(|| format!("`file_load` printed `{output}`"))?;
    Ok(Sample {
        requests_per_second,
        cpu_us_per_request: 0.0,
    })
}

/// A table that is printed row by row.
pub(super) struct Table {
    has_cpu_time: bool,
    /// The rows that miss their goal.
    pub(super) missed: Vec<String>,
}

impl Table {
    pub(super) fn in_process() -> Self {
        Self {
            has_cpu_time: false,
            missed: Vec::new(),
        }
    }

    pub(super) fn served() -> Self {
        Self {
            has_cpu_time: true,
            missed: Vec::new(),
        }
    }

    pub(super) fn head(&self) -> String {
        let (cpu_names, cpu_lines) = if self.has_cpu_time {
            (" CPU us | peer's CPU us |", " ---: | ---: |")
        } else {
            ("", "")
        };
        format!(
            "| case | peer | ours | peer's | ratio | min - max | goal |{cpu_names}\n\
             | --- | --- | ---: | ---: | ---: | ---: | ---: |{cpu_lines}"
        )
    }

    /// The row of a case, which is noted if it misses its goal.
    pub(super) fn row(
        &mut self,
        case: &Case,
        name: &str,
        against: Against,
        rounds: &[(Round, [Sample; 2])],
    ) -> String {
        let all: Vec<_> = rounds.iter().map(|(round, _)| *round).collect();
        let comparison = Comparison::of(&all);
        let ratio = comparison.ratio_median;
        let goal = against.goal.map_or("-".to_owned(), |goal| {
            if ratio < goal {
                let row = format!("{name}: {ratio:.2} of {}, not {goal:.2}", against.name);
                self.missed.push(row);
                return format!("{goal:.2} (missed)");
            }
            format!("{goal:.2}")
        });
        let mut row = format!(
            "| {name} | {} | {} | {} | {ratio:.2} | {:.2} - {:.2} | {goal} |",
            against.name,
            case.rate(comparison.ours_median),
            case.rate(comparison.peers_median),
            comparison.ratio_min,
            comparison.ratio_max,
        );
        if self.has_cpu_time {
            let cpu = |side: usize| {
                median(
                    rounds
                        .iter()
                        .map(|(_, samples)| samples[side].cpu_us_per_request),
                )
            };
            row += &format!(" {:.1} | {:.1} |", cpu(0), cpu(1));
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::{CASES, STORAGE_DAEMON};
    use super::*;

    fn rounds(ours: f64) -> Vec<(Round, [Sample; 2])> {
        let sample = |requests_per_second, cpu_us_per_request| Sample {
            requests_per_second,
            cpu_us_per_request,
        };
        let round = Round {
            ours,
            peers: 100_000.0,
        };
        vec![(round, [sample(ours, 5.0), sample(100_000.0, 7.0)])]
    }

    #[test]
    fn a_row_that_misses_its_goal_is_noted() {
        let mut table = Table::served();
        let row = table.row(&CASES[0], "x", STORAGE_DAEMON, &rounds(130_000.0));
        assert!(row.ends_with("| 1.30 - 1.30 | 1.20 | 5.0 | 7.0 |"), "{row}");
        assert!(table.missed.is_empty());
        let row = table.row(&CASES[0], "x", STORAGE_DAEMON, &rounds(110_000.0));
        assert!(row.contains("1.20 (missed)"), "{row}");
        assert_eq!(table.missed.len(), 1);
        assert_eq!(
            table.head().matches('|').count(),
            2 * row.matches('|').count()
        );
    }

    #[test]
    fn our_rate_is_read_and_nonsense_is_an_error() {
        let sample = our_sample(r#"{"request_count": 500, "seconds": 2.0}"#).unwrap();
        assert!((sample.requests_per_second - 250.0).abs() < 1e-9);
        assert!(our_sample("oops").unwrap_err().contains("oops"));
    }
}
