//! What a disk shares with its work on the pool and by rings: the file, the locks, and what was learnt about the file.

use crate::bounced::bounce_pool;
use crate::counters::Counters;
use crate::flush::Flusher;
use crate::here::Here;
use crate::image::Image;
use crate::properties::ImageKind;
use crate::size::Size;
use crate::watch::Watch;
use clock::Clock;
use disk_backend::DiskError;
use disk_backend::in_flight::InFlight;
use range_lock::RangeLock;
use scsi_buffers::BouncePool;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use uring::Ring;

/// The longest request that is served without another thread: copying it takes about 100 us.
pub(crate) const AT_ONCE_BYTES_MAX: usize = 1 << 20;

/// What the kernel writes into its cache wholly or not at all: its smallest page.
pub(crate) const PAGE_BYTES: u32 = 4096;

pub(crate) struct Shared {
    /// None where the kernel tells nothing about the file. Before the image: what is watched is open.
    pub(crate) watch: Option<Watch>,
    pub(crate) image: Arc<Image>,
    pub(crate) size: Arc<Size>,
    /// For looking at what is not watched; begun when it is needed first.
    pub(crate) clock: OnceLock<Clock>,
    /// By byte of the file. Whoever reads or changes bytes holds their range while the kernel works, no matter what becomes
    /// of the future that asked for it.
    pub(crate) locks: RangeLock,
    pub(crate) flusher: Arc<Flusher>,
    pub(crate) counters: Counters,
    /// For copies of memory that is only borrowed.
    pub(crate) bounce: BouncePool,
    /// Whether io_uring does what has to wait: it is wanted, the system allows it, and something here ever waits. Found out when the
    /// disk is opened, so that rings are made, or the lack of them is told, then.
    pub(crate) may_use_ring: bool,
    /// What runs, or will run, on the pool or by a ring. It may go on when its future is dropped.
    pub(crate) in_pool: Arc<InFlight>,
    pub(crate) may_read_without_waiting: Hope,
    pub(crate) may_write_without_waiting: Hope,
    pub(crate) here: Here,
    pub(crate) may_zero_range: Hope,
    pub(crate) may_reserve: Hope,
    #[cfg(test)]
    pub(crate) obstacle: crate::tests::Obstacle,
}

impl Shared {
    pub(crate) fn new(image: Arc<Image>, flusher: Arc<Flusher>) -> Self {
        let size = Arc::new(Size::new(Arc::clone(&image)));
        let watch = image.properties.can_be_watched.then(|| {
            let watch = Watch::new(&size);
            watch.inspect_err(|error| {
                let path = image.path.display();
                tracing::warn!(%path, %error, "cannot watch the image: another size is noticed late");
            })
        });
        Self {
            watch: watch.and_then(Result::ok),
            may_use_ring: image.may_use_ring
                && image.properties.kind != ImageKind::MemoryFile
                && Ring::of_this_thread().is_ok(),
            size,
            clock: OnceLock::new(),
            bounce: bounce_pool(),
            locks: RangeLock::new(),
            flusher,
            counters: Counters::default(),
            in_pool: Arc::default(),
            may_read_without_waiting: Hope::new(!image.is_direct),
            may_write_without_waiting: Hope::new(!image.is_direct),
            here: Here::new(
                image.may_write_here,
                (image.properties.kind == ImageKind::File).then_some(image.properties.block_bytes),
            ),
            may_zero_range: Hope::new(image.properties.may_zero_range),
            may_reserve: Hope::new(image.properties.kind != ImageKind::BlockDevice),
            image,
            #[cfg(test)]
            obstacle: crate::tests::Obstacle::default(),
        }
    }

    /// Whether the kernel tells when the file changes.
    pub(crate) fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// Whether nothing ever waits for a device.
    pub(crate) fn is_in_memory(&self) -> bool {
        self.image.properties.kind == ImageKind::MemoryFile
    }

    /// Whether a write can fail inside a sector, because the kernel writes a file by smaller parts.
    pub(crate) fn has_divided_sectors(&self) -> bool {
        self.image.sector_size > part_bytes(self.image.is_direct, self.image.properties.block_bytes)
    }

    /// Refuses changes after a failed flush (C8).
    pub(crate) fn check_writable(&self) -> Result<(), DiskError> {
        self.flusher
            .check()
            .map_err(|failed| DiskError::Io(failed.into()))
    }

    /// Names the file in an error whose own text does not.
    pub(crate) fn named(&self, error: io::Error) -> DiskError {
        match error.raw_os_error() {
            // The number is worth more to callers than the name.
            Some(_) => error.into(),
            None => io::Error::new(
                error.kind(),
                format!("{}: {error}", self.image.path.display()),
            )
            .into(),
        }
    }
}

/// What is written wholly or not at all where space runs out: a page of the cache, and past it a block of the file system.
fn part_bytes(is_direct: bool, block_bytes: u32) -> u32 {
    match is_direct {
        true => block_bytes.min(PAGE_BYTES),
        false => PAGE_BYTES,
    }
}

/// Something that the file system may turn out not to support: hoped for until it says so, once.
#[derive(Debug)]
pub(crate) struct Hope(AtomicBool);

impl Hope {
    pub(crate) fn new(is_alive: bool) -> Self {
        Self(AtomicBool::new(is_alive))
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn give_up(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_the_page_cache_space_runs_out_by_blocks() {
        assert_eq!(part_bytes(true, 1024), 1024);
        assert_eq!(part_bytes(true, 65536), 4096);
        assert_eq!(part_bytes(false, 1024), 4096);
    }
}
