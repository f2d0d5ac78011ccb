//! What a simulated store is like.

use disk_backend::UnmapBehavior;
use std::time::Duration;

/// The smallest sector that a disk may have, in bytes.
const SECTOR_SIZE_MIN: u32 = 512;

/// What a [`SimDisk`](crate::SimDisk) or a [`SimLayer`](crate::SimLayer) is like. What is outside of the ranges given here is a
/// mistake of the test that asks for it: the store panics when it is made.
#[derive(Debug, Clone)]
pub struct SimOptions {
    /// The size in sectors at first.
    pub sector_count: u64,
    /// The size of a sector in bytes: a power of two, at least 512.
    pub sector_size: u32,
    /// How many sectors, aligned to as many, are never torn by a crash. At least one.
    pub atomic_write_sectors: u32,
    /// Whether a FUA write is durable when it completes. Otherwise the flag is ignored, and the store says so.
    pub is_fua_respected: bool,
    /// What an unmap does. `Unspecified`: each sector becomes zero or stays, as the dice fall.
    pub unmap_behavior: UnmapBehavior,
    /// Whether the store refuses to be changed.
    pub is_read_only: bool,
    /// The longest that a request waits between two of its steps, in simulated time.
    pub latency_max: Duration,
    /// Whether it takes no more changes and flushes once a flush failed, as a file whose kernel has dropped what it could not write
    /// (C8): until it is made anew from what a crash leaves. Reads go on, and a cache can still be emptied.
    pub refuses_after_failed_flush: bool,
    /// How many of a hundred requests fail, 0 to 100. What fails takes effect in part or not at all.
    pub failure_percent: u8,
    /// What all dice of the store come from.
    pub seed: u64,
}

impl SimOptions {
    /// A store of so many sectors of `sector_size` bytes that takes writes, never fails, tears between sectors, respects FUA, and
    /// makes zeros of what is unmapped; a step of a request takes up to a millisecond.
    pub fn new(sector_count: u64, sector_size: u32, seed: u64) -> Self {
        Self {
            sector_count,
            sector_size,
            atomic_write_sectors: 1,
            is_fua_respected: true,
            unmap_behavior: UnmapBehavior::Zeroes,
            is_read_only: false,
            latency_max: Duration::from_millis(1),
            refuses_after_failed_flush: false,
            failure_percent: 0,
            seed,
        }
    }

    /// Panics unless each option is in its range.
    pub(crate) fn assert_legal(&self) {
        let size = self.sector_size;
        assert!(
            size.is_power_of_two() && size >= SECTOR_SIZE_MIN,
            "sector_size is {size}, and not a power of two of at least {SECTOR_SIZE_MIN}"
        );
        assert!(
            self.atomic_write_sectors > 0,
            "atomic_write_sectors is 0, but a sector is never torn"
        );
        assert_percent(self.failure_percent);
    }
}

/// Panics unless it is a part of a hundred.
pub(crate) fn assert_percent(percent: u8) {
    assert!(percent <= 100, "failure_percent is {percent}, beyond 100");
}
