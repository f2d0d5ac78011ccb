//! Copying and comparing the content of two disks.
//!
//! A run goes over both disks from the front. What they know without reading ([`Disk::block_status`](disk_backend::Disk::block_status))
//! cuts it into chunks; several chunks are worked on at once; within a chunk content is looked at by the *granule*: 4 KiB, or the
//! larger of the two sector sizes. Disks of different sizes and sector sizes are compared as bytes: beyond its end a disk reads
//! zero.
//!
//! **P1** Chunks follow each other without a gap; each begins at a multiple of the granule. **P2** At most `depth` chunks are in
//! flight, with at most two buffers each. **P3** Every byte that was covered is counted once, as written, zeroed or skipped.
//! **P4** After a fault or a stop no chunk begins, and those that have begun end: nothing is in flight when a run returns.
//!
//! It speaks of the *first* and the *second* disk; for a copy these are the source and the destination.

mod chunks;
mod compare;
mod content;
mod copy;
mod drive;
mod extents;
mod fault;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use compare::{Comparison, Differences};
pub(crate) use copy::{Copied, Copy, Tail};
pub(crate) use extents::{Extent, Extents, Joined};
pub(crate) use fault::{Fault, Side};
pub(crate) use view::View;

/// The smallest piece that is written or left out by its content, unless a disk's sectors are larger.
const GRANULE_BYTES_MIN: u64 = 4096;

/// How much is done at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// How many chunks are in flight, at least 1.
    pub(crate) depth: usize,
    /// The length of a chunk. Raised to the granule, where that is longer.
    pub(crate) chunk_bytes: u64,
}

/// Who watches a run, and may end it.
pub(crate) trait Watch {
    /// Whether the run is to end early.
    fn is_stopped(&self) -> bool;
    /// So many more bytes of the run are done with.
    fn advance(&self, bytes: u64);
}
