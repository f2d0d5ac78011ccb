//! What the tests share: the daemon, the programs that talk to it, and a client of our own.

pub(crate) mod client;
pub(crate) mod control;
pub(crate) mod daemon;
pub(crate) mod layer;
pub(crate) mod process;
pub(crate) mod small;
pub(crate) mod tool;

pub(crate) use client::Client;
pub(crate) use daemon::Daemon;
pub(crate) use tool::{peers, run};

use std::path::Path;
use std::time::Duration;

/// How long anything may take. Only what hangs ever reaches it, so it is generous.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(120);

/// How long to wait between two looks at something that tells nobody when it changes.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(10);

pub(crate) const KIB: u64 = 1024;
pub(crate) const MIB: u64 = 1024 * KIB;

/// Numbers that look random and are the same on every run with the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number (SplitMix64).
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// Bytes without a zero among them, so that none can be mistaken for a hole.
    pub(crate) fn bytes(&mut self, len: u64) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.number().to_le_bytes());
        words
            .flatten()
            .map(|byte| byte | 1)
            .take(len.try_into().unwrap())
            .collect()
    }
}

/// Fails, naming the first byte that differs, unless both hold the same.
#[track_caller]
pub(crate) fn assert_same_bytes(found: &[u8], expected: &[u8]) {
    assert_eq!(found.len(), expected.len(), "lengths differ");
    let differs = found
        .iter()
        .zip(expected)
        .position(|(found, expected)| found != expected);
    if let Some(at) = differs {
        panic!(
            "byte {at} ({at:#x}) is {:#04x} and should be {:#04x}",
            found[at], expected[at]
        );
    }
}

/// Reads a whole file.
#[track_caller]
pub(crate) fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// Writes a whole file.
#[track_caller]
pub(crate) fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::write(path, bytes)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}
