use super::*;
use crate::bench::nbd::cases::CASES;
use crate::bench::nbd::contenders::choose;

/// Samples of one server: its rates by round, and what processor time each request took.
fn samples(rates: &[f64], cpu_us: u64) -> Vec<Sample> {
    let sample = |&requests_per_second| Sample {
        work: Work {
            request_count: 1000.0,
            requests_per_second,
        },
        cpu_time: Duration::from_micros(1000 * cpu_us),
    };
    rates.iter().map(sample).collect()
}

/// Ours, the null server, nbdkit's memory, and a null-co.
fn entries(ours: &[f64], limit: &[f64], memory: &[f64], null: &[f64]) -> Vec<Entry<'static>> {
    let chosen = choose(&["memory".to_owned(), "null-co".to_owned()]).unwrap();
    let rates = [ours, limit, memory, null];
    let entries = chosen.into_iter().zip(rates).enumerate();
    entries
        .map(|(index, (contender, rates))| Entry {
            contender,
            samples: samples(rates, [2, 1, 4, 1][index]),
        })
        .collect()
}

#[test]
fn a_row_compares_with_the_best_peer_round_by_round() {
    let entries = entries(
        &[8000.0, 2000.0, 4000.0],
        &[10000.0, 2500.0, 5000.0],
        &[4000.0, 1000.0, 4000.0],
        &[1000.0, 1000.0, 1000.0],
    );
    let row = Row::new(&CASES[0], &entries);
    assert_eq!(
        row.line(),
        "| 4 KiB random read, depth 1 | 4.0 k/s | 5.0 k/s | **4.0 k/s** | 1.0 k/s \
         | 2.00 | 1.00 - 2.00 | 0.80 | 2.0 (1.0) | 4.0 (nbdkit memory) | 0.50 |"
    );
    assert_eq!(row.summary().cpu_ratio, Some(0.5));
}

#[test]
fn the_best_peer_may_store_nothing_but_time_is_compared_with_one_that_stores() {
    let entries = entries(&[950.0], &[1000.0], &[500.0], &[1900.0]);
    let row = Row::new(&CASES[0], &entries);
    assert!(
        row.line().contains("| **1.9 k/s** | 0.50 |"),
        "{}",
        row.line()
    );
    assert!(
        row.line()
            .ends_with("| 0.95 (limit) | 2.0 (1.0) | 4.0 (nbdkit memory) | 0.50 |")
    );
    assert_eq!(row.summary().cpu_ratio, None, "the client is the limit");
}

#[test]
fn the_head_of_the_table_has_as_many_cells_as_a_row() {
    let entries = entries(&[2.0], &[2.0], &[1.0], &[1.0]);
    let contenders: Vec<_> = entries.iter().map(|entry| entry.contender).collect();
    let line = Row::new(&CASES[0], &entries).line();
    let cells = line.matches('|').count();
    for line in table_head(&contenders).lines() {
        assert_eq!(line.matches('|').count(), cells, "{line}");
    }
}

fn summary(case: &'static str, rate_ratio: f64, cpu_ratio: Option<f64>) -> Summary {
    Summary {
        case,
        rate_ratio,
        cpu_ratio,
    }
}

#[test]
fn goals_that_are_met_are_not_missed() {
    let verdict = Verdict::of(&[
        summary("a", 0.95, None),
        summary("b", 1.4, Some(0.7)),
        summary("c", 1.2, Some(0.6)),
    ]);
    assert!(verdict.missed.is_empty(), "{:?}", verdict.missed);
    assert_eq!(
        verdict.text,
        "Geometric mean of the ratios: 1.17; the goal is at least 1.10.\n\
         Lowest ratio: 0.95 (a); the goal is at least 0.95 in every row.\n\
         Highest ratio of CPU time where the client is not the limit: 0.70 (b); the goal is at most 0.70."
    );
}

#[test]
fn each_goal_is_missed_by_itself() {
    let missed = |rows: &[Summary]| Verdict::of(rows).missed;
    let good = summary("good", 1.5, Some(0.5));
    assert_eq!(
        missed(&[good, summary("slow", 0.9, None)]),
        ["slow: the ratio is 0.900"]
    );
    assert_eq!(
        missed(&[good, summary("costly", 1.5, Some(0.71))]),
        ["costly: the ratio of CPU time is 0.710"]
    );
    assert_eq!(
        missed(&[summary("even", 1.0, None)]),
        ["the geometric mean is 1.000"]
    );
}

#[test]
fn where_the_client_is_always_the_limit_no_time_is_compared() {
    let verdict = Verdict::of(&[summary("a", 1.2, None)]);
    assert!(
        verdict.text.contains("the limit in every row"),
        "{}",
        verdict.text
    );
}
