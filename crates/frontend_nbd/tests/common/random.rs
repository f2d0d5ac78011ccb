//! Seeds of random tests, printed when one fails.

/// The environment variable that replays a run: the seed that a failed one printed.
const SEED_VARIABLE: &str = "FRONTEND_NBD_SEED";

/// Random numbers, and the seed they come from, which is printed if the test panics.
pub(crate) struct Random {
    pub(crate) numbers: fastrand::Rng,
    seed: u64,
}

/// One set of random numbers for each round: two that never change, and others each time; or only the one to replay.
pub(crate) fn rounds(fresh_count: usize) -> Vec<Random> {
    let seeds = match std::env::var(SEED_VARIABLE) {
        Ok(text) => vec![text.parse().expect("a decimal number")],
        Err(_) => {
            let fresh = (0..fresh_count).map(|_| fastrand::u64(..));
            (1..=2).chain(fresh).collect()
        }
    };
    let random = |seed| Random {
        numbers: fastrand::Rng::with_seed(seed),
        seed,
    };
    seeds.into_iter().map(random).collect()
}

impl Drop for Random {
    #[allow(clippy::print_stderr, reason = "whoever looks at the failure wants it")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with {SEED_VARIABLE}={}", self.seed);
        }
    }
}
