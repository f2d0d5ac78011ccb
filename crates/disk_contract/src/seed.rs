//! Where a run's random numbers come from.

/// The environment variable that replays a run: the seed that a failed one printed, decimal, or hexadecimal after `0x`.
pub const SEED_VARIABLE: &str = "DISK_CONTRACT_SEED";

/// The environment variable for long runs: how many seeds that were never used before each test adds to its fixed ones.
/// 1 unless set.
pub const FRESH_SEEDS_VARIABLE: &str = "DISK_CONTRACT_FRESH_SEEDS";

/// The seeds of a test: the one to replay, or the fixed ones and fresh ones.
///
/// # Panics
/// If one of the variables is not a number: whoever set it wants to know.
pub(crate) fn seeds(fixed_count: u64) -> Vec<u64> {
    if let Some(seed) = number(SEED_VARIABLE) {
        return vec![seed];
    }
    let fresh_count = number(FRESH_SEEDS_VARIABLE).unwrap_or(1);
    let fresh = (0..fresh_count).map(|_| fastrand::u64(..));
    (1..=fixed_count).chain(fresh).collect()
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
        assert_eq!(parse("0xseven"), None);
        assert_eq!(parse("18446744073709551616"), None);
    }
}
