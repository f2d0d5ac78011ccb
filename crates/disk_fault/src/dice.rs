//! What chance decides, from a seed: the same for the same numbers, in every version of every program.

/// A source of random numbers for one request and one rule. Its numbers are those of SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The dice of request `number` of the rule `rule`.
    pub(crate) fn new(seed: u64, rule: u64, number: u64) -> Self {
        let mut dice = Self(seed);
        for part in [rule, number] {
            // Adding alone would give neighbouring rules each other's requests.
            dice.0 = dice.next() ^ part;
        }
        dice
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// A number from 0 to just below 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_seed_stay_what_they_were() {
        let mut dice = Dice::new(1, 2, 3);
        let found: Vec<u64> = (0..3).map(|_| dice.below(1000)).collect();
        assert_eq!(found, GOLDEN);
    }

    const GOLDEN: [u64; 3] = [814, 267, 255];

    #[test]
    fn every_part_of_a_die_matters() {
        let first = |seed, rule, number| Dice::new(seed, rule, number).next();
        let one = first(5, 6, 7);
        for other in [
            first(6, 6, 7),
            first(5, 7, 7),
            first(5, 6, 8),
            first(5, 7, 6),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn numbers_keep_within_their_bounds() {
        let mut dice = Dice::new(0, 0, 0);
        for _ in 0..1000 {
            assert!(dice.below(3) < 3);
            assert_eq!(dice.below(1), 0);
            assert!((0.0..1.0).contains(&dice.fraction()));
        }
    }
}
