//! The few statistics that a comparison needs.

/// The middle of the values; of an even number of them, the mean of the two in the middle. Panics if there
/// are none, or one is not a number.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    assert!(!sorted.is_empty(), "the median of nothing");
    sorted.sort_by(|a, b| a.partial_cmp(b).expect("a measurement is a number"));
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

/// The mean of factors: as far below the largest as above the smallest, in the same sense. Panics if there are none.
pub(crate) fn geometric_mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let logarithms: Vec<f64> = values.into_iter().map(f64::ln).collect();
    assert!(!logarithms.is_empty(), "the mean of nothing");
    (logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp()
}

/// What one round measured: ours and the peer's rate, right after each other.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    pub(crate) ours: f64,
    pub(crate) peers: f64,
}

impl Round {
    pub(crate) fn ratio(self) -> f64 {
        self.ours / self.peers
    }
}

/// What all rounds of a case say.
pub(crate) struct Comparison {
    pub(crate) ours_median: f64,
    pub(crate) peers_median: f64,
    /// The median of the ratios of each round: the two halves of a round share the machine's mood, two rounds
    /// do not.
    pub(crate) ratio_median: f64,
    pub(crate) ratio_min: f64,
    pub(crate) ratio_max: f64,
}

impl Comparison {
    /// Panics without a round.
    pub(crate) fn of(rounds: &[Round]) -> Self {
        let ratios = || rounds.iter().map(|round| round.ratio());
        Self {
            ours_median: median(rounds.iter().map(|round| round.ours)),
            peers_median: median(rounds.iter().map(|round| round.peers)),
            ratio_median: median(ratios()),
            ratio_min: ratios().fold(f64::INFINITY, f64::min),
            ratio_max: ratios().fold(0.0, f64::max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "these halves are exact")]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn twice_and_half_make_one() {
        assert!((geometric_mean([2.0, 0.5]) - 1.0).abs() < 1e-9);
        assert!((geometric_mean([1.0, 4.0, 2.0]) - 2.0).abs() < 1e-9);
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "these quotients are exact")]
    fn ratios_are_taken_within_each_round() {
        // The machine slowed to a quarter in the last two rounds; ours stayed twice as fast.
        let rounds =
            [(8.0, 4.0), (2.0, 1.0), (2.0, 0.5)].map(|(ours, peers)| Round { ours, peers });
        let comparison = Comparison::of(&rounds);
        assert_eq!(comparison.ratio_median, 2.0);
        assert_eq!((comparison.ratio_min, comparison.ratio_max), (2.0, 4.0));
        assert_eq!(
            (comparison.ours_median, comparison.peers_median),
            (2.0, 1.0)
        );
    }
}
