//! What the measurements say: the rows of the table, and whether the goals are met.

use std::time::Duration;

use super::cases::Case;
use super::contenders::{Contender, Role};
use crate::bench::fio::Work;
use crate::bench::stats::{Comparison, Round, geometric_mean, median};

/// What the goals are. Each is a ratio of ours to a peer's.
const RATE_MEAN_MIN: f64 = 1.1;
const RATE_MIN: f64 = 0.95;
/// Only where the client is not the limit: a rate that nobody can raise says nothing of who would be faster.
const CPU_MAX: f64 = 0.7;

/// From what ratio to the null server on the client or the protocol is the limit.
const LIMIT_REACHED: f64 = 0.9;

/// One measurement of one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) work: Work,
    /// What the server's processor did meanwhile.
    pub(crate) cpu_time: Duration,
}

/// A server, and its samples of one case, by round.
pub(crate) struct Entry<'a> {
    pub(crate) contender: &'a Contender,
    pub(crate) samples: Vec<Sample>,
}

/// A case of which every round is measured.
pub(crate) struct Row<'a> {
    case: &'a Case,
    entries: &'a [Entry<'a>],
    /// The peer with the highest median rate, with data or without.
    best: &'a Entry<'a>,
    /// Ours to `best`.
    rate: Comparison,
    /// Our rate as a part of the null server's.
    part_of_limit: f64,
    /// The best peer that stores data, whose time is compared with ours.
    best_with_data: &'a Entry<'a>,
    /// Microseconds per request, ours and that peer's.
    cpu_us: Round,
    /// The same of the null server: what a request costs us without a store.
    null_cpu_us: f64,
}

impl Entry<'_> {
    fn rate(&self) -> f64 {
        let rates = self.samples.iter().map(|one| one.work.requests_per_second);
        median(rates)
    }

    /// Over all rounds: the kernel counts in steps that are coarse for one.
    fn cpu_us_per_request(&self) -> f64 {
        let cpu_s: f64 = self
            .samples
            .iter()
            .map(|one| one.cpu_time.as_secs_f64())
            .sum();
        let requests: f64 = self.samples.iter().map(|one| one.work.request_count).sum();
        cpu_s * 1e6 / requests
    }

    fn against(&self, other: &Entry<'_>) -> Comparison {
        let pairs = self.samples.iter().zip(&other.samples);
        let rounds: Vec<_> = pairs
            .map(|(ours, others)| Round {
                ours: ours.work.requests_per_second,
                peers: others.work.requests_per_second,
            })
            .collect();
        Comparison::of(&rounds)
    }
}

impl<'a> Row<'a> {
    /// Panics unless ours, the limit and a peer that stores data are among the entries, each with as many samples as the others.
    pub(crate) fn new(case: &'a Case, entries: &'a [Entry<'a>]) -> Self {
        let find = |role| {
            let found = entries.iter().find(|entry| entry.contender.role == role);
            found.expect("ours and the limit always take part")
        };
        let (ours, limit) = (find(Role::Ours), find(Role::Limit));
        let best = fastest(entries.iter().filter(|entry| entry.contender.is_peer()));
        let with_data = |entry: &&Entry<'_>| entry.contender.role == Role::PeerWithData;
        let best_with_data = fastest(entries.iter().filter(with_data));
        Self {
            case,
            entries,
            best,
            rate: ours.against(best),
            part_of_limit: ours.against(limit).ratio_median,
            best_with_data,
            cpu_us: Round {
                ours: ours.cpu_us_per_request(),
                peers: best_with_data.cpu_us_per_request(),
            },
            null_cpu_us: limit.cpu_us_per_request(),
        }
    }

    fn client_is_limit(&self) -> bool {
        self.part_of_limit >= LIMIT_REACHED
    }

    /// What the row is to the verdict, which outlives the samples.
    pub(crate) fn summary(&self) -> Summary {
        Summary {
            case: self.case.name,
            rate_ratio: self.rate.ratio_median,
            cpu_ratio: (!self.client_is_limit()).then(|| self.cpu_us.ratio()),
        }
    }

    /// The row as a line of the table.
    pub(crate) fn line(&self) -> String {
        let rates = self.entries.iter().map(|entry| {
            let rate = self.case.rate(entry.rate());
            let is_best = std::ptr::eq(entry, self.best);
            if is_best { format!("**{rate}**") } else { rate }
        });
        let Comparison {
            ratio_median,
            ratio_min,
            ratio_max,
            ..
        } = self.rate;
        let mark = if self.client_is_limit() {
            " (limit)"
        } else {
            ""
        };
        let cells: Vec<_> = std::iter::once(self.case.name.to_owned())
            .chain(rates)
            .chain([
                format!("{ratio_median:.2}"),
                format!("{ratio_min:.2} - {ratio_max:.2}"),
                format!("{:.2}{mark}", self.part_of_limit),
                format!("{:.1} ({:.1})", self.cpu_us.ours, self.null_cpu_us),
                format!(
                    "{:.1} ({})",
                    self.cpu_us.peers, self.best_with_data.contender.name
                ),
                format!("{:.2}", self.cpu_us.ratio()),
            ])
            .collect();
        format!("| {} |", cells.join(" | "))
    }
}

fn fastest<'a>(entries: impl Iterator<Item = &'a Entry<'a>>) -> &'a Entry<'a> {
    entries
        .max_by(|a, b| a.rate().total_cmp(&b.rate()))
        .expect("a peer that stores data always takes part")
}

/// The two lines above the rows.
pub(crate) fn table_head(contenders: &[&Contender]) -> String {
    let names: Vec<_> = contenders.iter().map(|contender| contender.name).collect();
    let columns = names.len() + 6;
    format!(
        "| case | {} | ratio | min - max | of the null server | CPU us (null server's) | peer's CPU us | CPU ratio |\n| --- |{}",
        names.join(" | "),
        " ---: |".repeat(columns)
    )
}

/// What remains of a row for the verdict.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    case: &'static str,
    rate_ratio: f64,
    /// None where the client is the limit.
    cpu_ratio: Option<f64>,
}

/// The rows together.
pub(crate) struct Verdict {
    /// Lines for whoever reads the table.
    pub(crate) text: String,
    /// The goals that are missed.
    pub(crate) missed: Vec<String>,
}

impl Verdict {
    /// Panics without a row.
    pub(crate) fn of(rows: &[Summary]) -> Self {
        let mean = geometric_mean(rows.iter().map(|row| row.rate_ratio));
        let lowest = rows
            .iter()
            .min_by(|a, b| a.rate_ratio.total_cmp(&b.rate_ratio))
            .expect("a mean was taken of them");
        let mut text = format!(
            "Geometric mean of the ratios: {mean:.2}; the goal is at least {RATE_MEAN_MIN:.2}.\n\
             Lowest ratio: {:.2} ({}); the goal is at least {RATE_MIN:.2} in every row.\n",
            lowest.rate_ratio, lowest.case
        );
        let timed = rows
            .iter()
            .filter_map(|row| Some((row.case, row.cpu_ratio?)));
        let costliest = timed.max_by(|a, b| a.1.total_cmp(&b.1));
        text += &match costliest {
            Some((case, ratio)) => format!(
                "Highest ratio of CPU time where the client is not the limit: {ratio:.2} ({case}); the goal is at most {CPU_MAX:.2}."
            ),
            None => "The client is the limit in every row, so none is held to a ratio of CPU time."
                .to_owned(),
        };
        Self {
            text,
            missed: missed(rows, mean),
        }
    }
}

/// The goals that the rows miss, in words.
fn missed(rows: &[Summary], mean: f64) -> Vec<String> {
    let mut missed = Vec::new();
    if mean < RATE_MEAN_MIN {
        missed.push(format!("the geometric mean is {mean:.3}"));
    }
    for row in rows {
        let case = row.case;
        if row.rate_ratio < RATE_MIN {
            missed.push(format!("{case}: the ratio is {:.3}", row.rate_ratio));
        }
        if let Some(ratio) = row.cpu_ratio.filter(|ratio| *ratio > CPU_MAX) {
            missed.push(format!("{case}: the ratio of CPU time is {ratio:.3}"));
        }
    }
    missed
}

#[cfg(test)]
mod tests;
