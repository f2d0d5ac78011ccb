//! Values against their buckets.

use super::*;
use futures_lite::future::block_on;
use proptest::prelude::*;
use serde_json::json;

fn of(values: &[u64]) -> HistogramSnapshot {
    let histogram = Histogram::new();
    values.iter().for_each(|value| histogram.record(*value));
    histogram.snapshot()
}

#[test]
fn the_bounds_are_the_documented_ones() {
    let bounds: Vec<_> = (0..13).filter_map(bound).collect();
    assert_eq!(bounds, [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20]);
    assert_eq!(bound(BUCKET_COUNT - 2), Some(VALUE_MAX));
    assert_eq!(bound(BUCKET_COUNT - 1), None);
}

#[test]
fn a_value_lies_in_the_first_bucket_whose_bound_it_does_not_exceed() {
    for index in 0..BUCKET_COUNT - 1 {
        let bound = bound(index).unwrap();
        assert_eq!(index_of(bound), index, "{bound}");
        assert_eq!(index_of(bound + 1), index + 1, "{bound}");
    }
    assert_eq!(index_of(0), 0);
    assert_eq!(index_of(u64::MAX), BUCKET_COUNT - 1);
}

#[test]
fn nothing_recorded_is_zero_everywhere() {
    let nothing = of(&[]);
    assert_eq!(nothing, HistogramSnapshot::default());
    assert_eq!((nothing.count(), nothing.sum(), nothing.max()), (0, 0, 0));
    assert_eq!(nothing.quantile(0.99), 0);
    assert!(nothing.cumulative().all(|(_, count)| count == 0));
}

#[test]
fn it_is_shown_as_documented() {
    let histogram = Histogram::new();
    for value in [0, 9, 10, 11, u64::MAX / 2] {
        histogram.record(value);
    }
    let shown = block_on(crate::inspect("", None, &histogram)).unwrap();
    let max = u64::MAX / 2;
    assert_eq!(
        shown,
        json!({
            "count": 5, "sum": max + 30, "max": max, "p50": 10, "p90": max, "p99": max, "p999": max,
            "buckets": { "1": 1, "10": 2, "12": 1, "inf": 1 },
        })
    );
    let one = block_on(crate::inspect("buckets/12", None, &histogram)).unwrap();
    assert_eq!(one, json!(1));
}

#[test]
fn many_threads_record_without_losing_a_value() {
    let histogram = Histogram::new();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let histogram = &histogram;
            scope.spawn(move || (0..10_000).for_each(|i| histogram.record(i * 4 + thread)));
        }
    });
    let seen = histogram.snapshot();
    assert_eq!((seen.count(), seen.max()), (40_000, 39_999));
    assert_eq!(seen.sum(), 39_999 * 20_000);
}

proptest! {
    #[test]
    fn quantiles_are_at_most_a_quarter_above_the_true_ones(
        mut values in prop::collection::vec(prop_oneof![0_u64..100, 0..VALUE_MAX], 1..50),
        q in 0.0_f64..=1.0,
    ) {
        let seen = of(&values);
        values.sort_unstable();
        let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len());
        let (shown, exact) = (seen.quantile(q), values[rank - 1]);
        prop_assert!(shown >= exact.max(1).min(seen.max()), "{shown} for {exact}");
        prop_assert!(shown <= exact.max(1) + exact / 4, "{shown} for {exact}");
        prop_assert!(shown <= seen.max());
    }

    #[test]
    fn cumulative_counts_are_those_of_the_values(values in prop::collection::vec(any::<u64>(), 0..50)) {
        let seen = of(&values);
        prop_assert_eq!(seen.cumulative().count(), 41);
        for (bound, count) in seen.cumulative() {
            let exact = values.iter().filter(|value| **value <= bound).count() as u64;
            prop_assert_eq!(count, exact, "up to {}", bound);
        }
        let in_buckets: u64 = seen.buckets().map(|(_, count)| count).sum();
        prop_assert_eq!(in_buckets, seen.count());
    }

    #[test]
    fn several_together_are_as_one(left in prop::collection::vec(any::<u32>(), 0..20), right in prop::collection::vec(any::<u32>(), 0..20)) {
        let widen = |values: &[u32]| values.iter().map(|value| u64::from(*value)).collect::<Vec<_>>();
        let (left, right) = (widen(&left), widen(&right));
        let mut sum = of(&left);
        sum.add(&of(&right));
        prop_assert_eq!(&sum, &of(&[&left[..], &right].concat()));
        let alone = Histogram::new();
        left.iter().chain(&right).for_each(|value| alone.record_alone(*value));
        prop_assert_eq!(sum, alone.snapshot());
    }
}
