//! What each daemon's life is like: how often everybody rests, and how it ends.

use std::time::Duration;

use super::random::Random;

/// How a time of work ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Everybody rests, and goes on with the same daemon.
    Rest,
    /// Everybody rests, and the daemon is ended and started again.
    RestAndRestart,
    /// The daemon is ended with everybody at work, and started again.
    RestartAtWork,
}

#[derive(Debug)]
pub(crate) struct Plan {
    random: Random,
    /// How often a daemon rests at most.
    rest_count_max: u64,
    /// Still to come in this life.
    rest_count: u64,
    last_was_at_work: bool,
}

impl Plan {
    pub(crate) fn new(seed: u64, minutes: u64) -> Self {
        let mut plan = Self {
            random: Random::of(seed, "plan"),
            rest_count_max: (minutes * 2).clamp(2, 40),
            rest_count: 1,
            last_was_at_work: false,
        };
        plan.last_was_at_work = plan.random.one_in(2);
        plan
    }

    /// How long to work, and what then.
    pub(crate) fn next(&mut self) -> (Duration, Ending) {
        let work = Duration::from_millis(self.random.between(2000, 7000));
        if self.rest_count > 0 {
            self.rest_count -= 1;
            return (work, Ending::Rest);
        }
        self.rest_count = self.random.below(self.rest_count_max + 1);
        self.last_was_at_work = !self.last_was_at_work;
        let ending = match self.last_was_at_work {
            true => Ending::RestartAtWork,
            false => Ending::RestAndRestart,
        };
        (work, ending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_every_ending_whatever_the_seed() {
        for seed in 0..50 {
            let mut plan = Plan::new(seed, 1);
            let mut spent = Duration::ZERO;
            let mut seen = Vec::new();
            while spent < Duration::from_secs(50) {
                let (work, ending) = plan.next();
                spent += work;
                seen.push(ending);
            }
            for ending in [Ending::Rest, Ending::RestAndRestart, Ending::RestartAtWork] {
                assert!(
                    seen.contains(&ending),
                    "seed {seed}: no {ending:?} in {seen:?}"
                );
            }
        }
    }

    #[test]
    fn a_long_run_has_lives_that_are_long_enough_to_see_growth() {
        let mut plan = Plan::new(3, 30);
        let mut longest = 0;
        let mut rests = 0;
        for _ in 0..300 {
            match plan.next().1 {
                Ending::Rest => rests += 1,
                _ => rests = 0,
            }
            longest = longest.max(rests);
        }
        assert!(longest > 12, "{longest}");
    }
}
