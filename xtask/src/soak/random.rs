//! Numbers that look random, and are the same for the same seed.

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Numbers of their own for whoever is called `name`, so that nobody's depend on how often others ask.
    pub(crate) fn of(seed: u64, name: &str) -> Self {
        let start = name
            .bytes()
            .fold(seed, |state, byte| mixed(state ^ u64::from(byte)));
        Self(start)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// A number from `first` to `last`.
    pub(crate) fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// True once in `count` times.
    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let index = self.below(from.len() as u64);
        &from[usize::try_from(index).expect("an index fits")]
    }
}

pub(crate) fn mixed(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_seed_give_the_same_numbers_again_and_others_give_others() {
        let first = |seed, name| Random::of(seed, name).number();
        assert_eq!(first(7, "fio 0"), first(7, "fio 0"));
        assert_ne!(first(7, "fio 0"), first(7, "fio 1"));
        assert_ne!(first(7, "fio 0"), first(8, "fio 0"));
    }

    #[test]
    fn numbers_stay_within_their_bounds_and_reach_them() {
        let mut random = Random::of(1, "bounds");
        let numbers: Vec<_> = (0..200).map(|_| random.between(3, 6)).collect();
        assert_eq!(
            (numbers.iter().min(), numbers.iter().max()),
            (Some(&3), Some(&6))
        );
    }
}
