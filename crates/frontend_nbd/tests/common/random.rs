//! Random numbers of a test, with the seed that has them again.

/// Random numbers, and their seed, which is printed if the test panics.
pub(crate) struct Random {
    pub(crate) numbers: fastrand::Rng,
    _seed: disk_contract::Seed,
}

/// One set of random numbers for each round: two that never change, and others each time; or only the one to replay.
pub(crate) fn rounds(fresh_count: u64) -> impl Iterator<Item = Random> {
    disk_contract::seeds(2, fresh_count).map(|seed| Random {
        numbers: fastrand::Rng::with_seed(seed.value()),
        _seed: seed,
    })
}
