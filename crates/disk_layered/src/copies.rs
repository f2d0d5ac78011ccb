//! Memory for private copies of what requests carry, where a layer must not see what the caller's memory becomes (C3), or an
//! operation may outlive its caller (C9).
//!
//! All stacks of the process share it: fresh pages for each copy cost more than the copying, and a thousand idle disks shall keep none.

use disk_backend::DiskError;
use scsi_buffers::{BounceBuffer, BouncePool};
use std::cell::Cell;
use std::sync::LazyLock;

/// What is kept for the next copies, in bytes. Copies are at most 1 MiB, and most are a few pages.
const POOL_BYTES_MAX: usize = 4 << 20;

static POOL: LazyLock<BouncePool> = LazyLock::new(|| BouncePool::new(POOL_BYTES_MAX));

/// Memory for a copy of `len` bytes. Nobody waits for it: what the pool cannot give comes from the system (C4).
///
/// # Errors
/// [`DiskError::NoSpace`] if the system has none.
pub(crate) fn allocate(len: usize) -> Result<BounceBuffer, DiskError> {
    let pooled = match POOL.try_allocate(len) {
        Ok(Some(copy)) => Ok(copy),
        Ok(None) | Err(_) => BounceBuffer::unpooled(len),
    };
    pooled.map_err(|_| DiskError::NoSpace)
}

/// Memory that each thread which needs it keeps, in bytes: as much as most requests have.
const SCRATCH_BYTES: usize = 16 << 10;

thread_local! {
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Lets `work` have memory of `len` bytes, of unspecified content, while it runs; none if the pool and the system have none.
pub(crate) fn with_scratch<T>(len: usize, work: impl FnOnce(&mut [u8]) -> T) -> Option<T> {
    if len > SCRATCH_BYTES {
        let mut copy = allocate(len).ok()?;
        return copy.as_mut_slice().map(work);
    }
    // Work inside of work, as in a stack inside of a stack, finds none, and leaves its own.
    let kept = SCRATCH.try_with(Cell::take).ok().flatten();
    let mut scratch = kept.unwrap_or_else(|| vec![0; SCRATCH_BYTES].into());
    let result = work(&mut scratch[..len]);
    // A thread that is ending keeps none.
    let _ = SCRATCH.try_with(|place| place.set(Some(scratch)));
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_inside_of_work_has_memory_of_its_own() {
        let sum = with_scratch(4, |outer| {
            outer.fill(1);
            with_scratch(SCRATCH_BYTES, |inner| inner.fill(2)).unwrap();
            with_scratch(SCRATCH_BYTES + 1, |inner| inner.fill(3)).unwrap();
            outer.iter().map(|byte| u32::from(*byte)).sum::<u32>()
        });
        assert_eq!(sum, Some(4));
    }

    /// One test: the pool is one for all of the process.
    #[test]
    fn memory_is_used_again_and_beyond_the_pool_comes_from_the_system() {
        let reuses = || {
            let value = futures_lite::future::block_on(inspect::inspect("reuses", None, &*POOL));
            value.unwrap().to_string().parse::<u64>().unwrap()
        };
        drop(allocate(4096).unwrap());
        let before = reuses();
        drop(allocate(4096).unwrap());
        assert_eq!(reuses(), before + 1);
        let len = 1 << 20;
        let copies: Vec<_> = (0..2 * POOL_BYTES_MAX / len)
            .map(|_| allocate(len).unwrap())
            .collect();
        assert!(copies.iter().all(|copy| copy.len() == len));
        let larger = allocate(2 * POOL_BYTES_MAX).unwrap();
        assert_eq!(larger.len(), 2 * POOL_BYTES_MAX);
    }
}
