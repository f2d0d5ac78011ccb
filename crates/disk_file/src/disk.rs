//! The disk itself: opening, and the methods of the trait.

use crate::OpenError;
use crate::counters::Count;
use crate::flush::{FlushFailed, Flusher, Reach, SyncPlace};
use crate::image::Image;
use crate::properties::{ImageKind, Properties};
use crate::shared::Shared;
use crate::transfer::{Claim, Intent};
use crate::zeroing::Zeroing;
use disk_backend::pr::PersistentReservation;
use disk_backend::{BlockStatus, ContentStamp, DiskError, DiskIo, Persistence, UnmapBehavior};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// How to open a file as a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDiskOptions {
    /// Whether the disk takes no writes. The file is opened for reading alone.
    pub read_only: bool,
    /// Whether a file that is missing or empty is made `size_bytes` long, all zeros. One that is there must have that size.
    pub create: bool,
    /// The size of the file to create; only with `create`, which needs it.
    pub size_bytes: Option<u64>,
    /// The size of a sector in bytes: a power of two from 512 to 65536.
    pub sector_size: u32,
    /// Whether requests go past the page cache (`O_DIRECT`): each then waits for the medium, and what was read is not kept.
    pub direct: bool,
    /// Whether io_uring does what has to wait. Where the system allows none, threads do, as they do without this.
    pub io_uring: bool,
    /// Whether all writes are handed over to io_uring or to a thread that might wait, also where hardly any does: short writes through the
    /// page cache of a file system that cannot be told not to wait. Otherwise the thread that polls makes them, as long as they take no
    /// longer on average than a poll may. In writes that wait, and take two ticks of the kernel's coarse clock or more (2 to 20 ms, as it
    /// was built), the threads that use the disk together spend, of any time, a twentieth, 50 ms, and in each thread the one write that made it too
    /// much, however long that takes. What takes more than 30 s counts as that: mostly the process was stopped in it. So where a device can
    /// stall for longer, this is to be set.
    ///
    /// Needed where a write can wait for something that the thread that polls must do: a file on a file system, or on a device under it,
    /// that this thread serves. Block devices, and file systems that are known to be served by others, are handed over anyway.
    pub hand_over_writes: bool,
}

impl Default for FileDiskOptions {
    /// An existing file, read and written in sectors of 512 bytes, by io_uring.
    fn default() -> Self {
        Self {
            read_only: false,
            create: false,
            size_bytes: None,
            sector_size: 512,
            direct: false,
            io_uring: true,
            hand_over_writes: false,
        }
    }
}

/// A raw image in a file, or a block device; see the [crate documentation](crate).
///
/// Dropping it closes the file, and gives up its locks, once the operations in flight have ended; it does not flush.
pub struct FileDisk {
    pub(crate) shared: Arc<Shared>,
}

impl FileDisk {
    /// Opens, or creates, the file at `path`, and locks it. Blocks: call it where that is allowed.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is changed then.
    pub fn open(path: &Path, options: &FileDiskOptions) -> Result<Self, OpenError> {
        let image = Arc::new(Image::open(path, options)?);
        let place = match image.properties.kind {
            ImageKind::MemoryFile => SyncPlace::AtOnce,
            ImageKind::File | ImageKind::BlockDevice => SyncPlace::InPool,
        };
        let flusher = Flusher::new(place, {
            let image = Arc::clone(&image);
            move |reach| match reach {
                Reach::Data => image.file().sync_data(),
                Reach::DataAndTime => image.file().sync_all(),
            }
        });
        Ok(Self {
            shared: Arc::new(Shared::new(image, flusher)),
        })
    }

    fn image(&self) -> &Image {
        &self.shared.image
    }

    fn properties(&self) -> &Properties {
        &self.image().properties
    }

    fn offset(&self, sector: u64) -> u64 {
        sector * u64::from(self.image().sector_size)
    }

    fn byte_range(&self, sector: u64, count: u64) -> Range<u64> {
        self.offset(sector)..self.offset(sector + count)
    }

    pub(crate) async fn flush_if(&self, wanted: bool) -> Result<(), DiskError> {
        if !wanted {
            return Ok(());
        }
        self.flushed(self.shared.flusher.flush().await)
    }

    fn flushed(&self, outcome: Result<(), FlushFailed>) -> Result<(), DiskError> {
        outcome.map_err(|failed| {
            self.shared.counters.add(Count::FlushFailures, 1);
            DiskError::Io(failed.into())
        })
    }
}

#[deny(clippy::missing_trait_methods)]
impl DiskIo for FileDisk {
    fn disk_type(&self) -> &str {
        "file"
    }

    fn sector_count(&self) -> u64 {
        self.shared.size.sector_count()
    }

    fn sector_size(&self) -> u32 {
        self.image().sector_size
    }

    /// None: no number of a file stays with its content when it is copied or replaced.
    fn disk_id(&self) -> Option<[u8; 16]> {
        None
    }

    /// The time of the last change of a file, as it was when the file was opened.
    fn content_stamp(&self) -> Option<ContentStamp> {
        self.image().content_stamp
    }

    fn physical_sector_size(&self) -> u32 {
        self.properties().physical_sector_size
    }

    fn is_fua_respected(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        self.image().is_read_only
    }

    fn persistence(&self) -> Persistence {
        Persistence::Persistent
    }

    fn atomic_write_sectors(&self) -> u32 {
        u32::from(self.image().sector_size <= self.properties().untorn_bytes)
    }

    async fn unmap(
        &self,
        sector: u64,
        count: u64,
        _block_level_only: bool,
    ) -> Result<(), DiskError> {
        if !self.properties().can_punch {
            return Ok(());
        }
        self.shared.counters.add(Count::Unmaps, 1);
        self.zero(self.byte_range(sector, count), Zeroing::Unmap)
            .await
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        if self.properties().can_punch {
            UnmapBehavior::Zeroes
        } else {
            UnmapBehavior::Ignored
        }
    }

    fn optimal_unmap_sectors(&self) -> u32 {
        let sectors =
            self.properties().unmap_granularity_bytes / u64::from(self.image().sector_size);
        u32::try_from(sectors).unwrap_or(u32::MAX).max(1)
    }

    fn pr(&self) -> Option<&dyn PersistentReservation> {
        None
    }

    async fn eject(&self) -> Result<(), DiskError> {
        Err(DiskError::UnsupportedEject)
    }

    fn expect_read(&self, _: u64, _: usize) {}

    fn try_read(&self, buffers: &RequestBuffers<'_>, sector: u64) -> bool {
        self.read_if_at_once(buffers, sector)
    }

    fn try_write(&self, buffers: &RequestBuffers<'_>, sector: u64, fua: bool) -> bool {
        !fua && self.write_if_at_once(buffers, sector)
    }

    async fn read_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        self.read(buffers, self.offset(sector)).await
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        self.write(buffers, self.offset(sector), fua).await
    }

    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        may_unmap: bool,
        no_fallback: bool,
    ) -> Result<(), DiskError> {
        self.shared.counters.add(Count::Zeroings, 1);
        self.zero(
            self.byte_range(sector, count),
            Zeroing::Zero {
                may_unmap,
                no_fallback,
            },
        )
        .await?;
        self.flush_if(fua).await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        if self.image().is_read_only {
            return Ok(());
        }
        self.shared.counters.add(Count::Flushes, 1);
        self.flush_if(true).await
    }

    async fn close(&self) -> Result<(), DiskError> {
        if self.image().is_read_only {
            return Ok(());
        }
        self.shared.counters.add(Count::Flushes, 1);
        self.flushed(self.shared.flusher.flush_for_good().await)
    }

    async fn block_status(&self, sector: u64, count: u64) -> Result<BlockStatus, DiskError> {
        let range = self.byte_range(sector, count);
        match self.shared.try_claim(range.clone(), Intent::Read) {
            Claim::Held(guard) => {
                drop(guard);
                self.in_pool_unclaimed(move |shared| shared.status(range))
                    .await
            }
            claim @ Claim::Wanted(..) => {
                self.in_pool(claim, move |shared| shared.status(range))
                    .await
            }
        }
    }

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        if self.is_read_only() {
            return Err(DiskError::ReadOnly);
        }
        self.set_sector_count(sector_count).await
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.wait_for_other_size(sector_count).await
    }

    async fn drain(&self) {
        self.shared.in_pool.drain().await;
        self.shared.flusher.drain().await;
    }
}

impl Inspect for FileDisk {
    fn inspect(&self, request: inspect::Request<'_>) {
        let image = self.image();
        request
            .respond()
            .field("path", &image.path)
            .field("kind", &image.properties.kind)
            .field("is_direct", &image.is_direct)
            .field("io_uring", &self.shared.may_use_ring)
            .field("may_write_here", &image.may_write_here)
            .field("size_bytes", &self.shared.size.bytes())
            .field("tail_bytes", &self.shared.size.tail_bytes())
            .field("is_watched", &self.shared.is_watched())
            .field("is_locked", &image.locked.is_locked())
            .field("can_punch", &image.properties.can_punch)
            .field("flush_has_failed", &self.shared.flusher.has_failed())
            .field("syncs", &self.shared.flusher.syncs())
            .field("operations_in_pool", &*self.shared.in_pool)
            .field("bounce_pool", &self.shared.bounce)
            .field("counters", &self.shared.counters);
    }
}

impl fmt::Debug for FileDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileDisk")
            .field("image", self.image())
            .finish_non_exhaustive()
    }
}
