//! Where a run's random numbers come from.

/// The environment variable that replays a run: the seed that a failed one printed, decimal, or hexadecimal after `0x`.
pub const SEED_VARIABLE: &str = "DISK_CONTRACT_SEED";

/// The environment variable for long runs: how many seeds that were never used before each test adds to its fixed ones.
/// 1 unless set, or what the test says where it asks for [`seeds`] itself.
pub const FRESH_SEEDS_VARIABLE: &str = "DISK_CONTRACT_FRESH_SEEDS";

/// The seed of a random test. If the test panics before it is dropped, it prints how to have the same again.
#[derive(Debug)]
pub struct Seed(u64);

impl Seed {
    /// The number.
    pub fn value(&self) -> u64 {
        self.0
    }
}

impl Drop for Seed {
    #[expect(clippy::print_stderr, reason = "whoever looks at a failure wants it")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay: {}", replay_line(self.0));
        }
    }
}

/// The seeds of a random test that is not one of a [`Suite`](crate::Suite): the one of [`SEED_VARIABLE`], or `1..=fixed_count` and
/// `fresh_count` that were never used before; [`FRESH_SEEDS_VARIABLE`] takes more of those, or fewer.
///
/// ```
/// for seed in disk_contract::seeds(2, 1) {
///     let mut rng = fastrand::Rng::with_seed(seed.value());
///     assert!(rng.u8(..10) < 10);
/// }
/// ```
///
/// # Panics
/// If one of the variables is not a number: whoever set it wants to know.
pub fn seeds(fixed_count: u64, fresh_count: u64) -> impl Iterator<Item = Seed> {
    // One after the other: of several that are there, each would print its line.
    numbers(fixed_count, fresh_count).into_iter().map(Seed)
}

/// The same as plain numbers, for what prints them itself.
pub(crate) fn numbers(fixed_count: u64, fresh_count: u64) -> Vec<u64> {
    if let Some(seed) = number(SEED_VARIABLE) {
        return vec![seed];
    }
    let fresh_count = number(FRESH_SEEDS_VARIABLE).unwrap_or(fresh_count);
    let fresh = (0..fresh_count).map(|_| fastrand::u64(..));
    (1..=fixed_count).chain(fresh).collect()
}

/// How to run a test again with this seed alone.
pub(crate) fn replay_line(seed: u64) -> String {
    format!("{SEED_VARIABLE}={seed:#x} and the same test")
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    match parse(&text) {
        Some(number) => Some(number),
        None => {
            panic!("{variable}={text} is not a number: write it in decimal, or with 0x in front")
        }
    }
}

fn parse(text: &str) -> Option<u64> {
    match text.trim().strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.trim().parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_seed_can_be_read_back() {
        for seed in [0, 7, u64::MAX] {
            assert_eq!(parse(&format!("{seed:#x}")), Some(seed));
            assert_eq!(parse(&format!(" {seed}\n")), Some(seed));
        }
        let line = replay_line(u64::MAX);
        let (_, value) = line.split_once('=').unwrap();
        assert_eq!(parse(value.split_once(' ').unwrap().0), Some(u64::MAX));
        assert_eq!(parse("0xseven"), None);
        assert_eq!(parse("18446744073709551616"), None);
    }
}
