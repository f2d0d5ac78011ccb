//! The trait that a layer implements.

use crate::{LayerWatch, SectorMarker};
use disk_backend::{BlockStatus, ContentStamp, DiskError, Persistence, UnmapBehavior, zeroes};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;
use std::future::Future;

/// What a layer could do at once; see [`LayerIo::try_read`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryRead {
    /// Every sector was present, and was read.
    Done,
    /// Every sector is absent. The memory may have been overwritten with anything.
    Absent,
    /// It is to be read in the other way. The memory may have been overwritten with anything.
    WouldBlock,
}

/// A layer: like a [`DiskIo`](disk_backend::DiskIo), but a sector may be *absent*, and is then looked for further down.
///
/// **Who checks.** [`LayeredDisk`](crate::LayeredDisk) checks every request before it gets here, as
/// [`Disk`](disk_backend::Disk) does for disks: whole sectors, inside the layer, not empty, usable memory. A layer whose size
/// can change checks the range again under its own lock and returns [`DiskError::IllegalBlock`].
///
/// **Concurrency, dropped futures, metadata.** As for [`DiskIo`](disk_backend::DiskIo).
///
/// A wrapper forwards every method on purpose: deny `clippy::missing_trait_methods` on its `impl`.
pub trait LayerIo: 'static + Send + Sync + Inspect {
    /// The kind of layer in one word, as in `ram`; for people, not for programs.
    fn layer_type(&self) -> &str;

    /// The size of the layer in sectors, now. Beyond it every sector is absent.
    fn sector_count(&self) -> u64;

    /// The size of a sector in bytes; the same for all layers of a disk.
    fn sector_size(&self) -> u32;

    /// An identity that stays with the content, if the layer has one of its own.
    fn disk_id(&self) -> Option<[u8; 16]>;

    /// What stands for what the layer holds: which sectors, and what is in them. As [`DiskIo::content_stamp`](disk_backend::DiskIo::content_stamp);
    /// none unless the layer is [read-only](Self::is_logically_read_only).
    fn content_stamp(&self) -> Option<ContentStamp> {
        None
    }

    /// The size in bytes that the medium writes without reading first: a power of two, at least the sector size.
    fn physical_sector_size(&self) -> u32;

    /// Whether a write with `fua` is durable when it completes (C6).
    fn is_fua_respected(&self) -> bool;

    /// Whether the layer refuses to be changed by those who write to the disk.
    fn is_logically_read_only(&self) -> bool;

    /// Whether what was flushed survives a crash.
    fn persistence(&self) -> Persistence;

    /// As [`DiskIo::atomic_write_sectors`](disk_backend::DiskIo::atomic_write_sectors).
    fn atomic_write_sectors(&self) -> u32 {
        1
    }

    /// Whether the layer may lose all that it holds at any time, a restart included, because it takes itself for a copy of what lies below.
    ///
    /// Fixed for the life of the value. Such a layer is refused where it would hold the only copy of what is written (L4), and whoever
    /// asks for the identity of a disk gets that of what lies below it. Say `true` if anything but [`evict`](Self::evict) makes sectors
    /// absent that were written.
    fn may_be_emptied(&self) -> bool {
        false
    }

    /// Reads the sectors from `sector` on that the layer has into their places in `buffers`, and marks them.
    ///
    /// Sectors that are absent are left unmarked; their places in `buffers` may be overwritten with anything.
    fn read(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        marker: SectorMarker<'_>,
    ) -> impl Future<Output = Result<(), DiskError>> + Send;

    /// As [`DiskIo::expect_read`](disk_backend::DiskIo::expect_read). The layer on top is told, whether or not it has the sectors, and the one below that an index finds.
    fn expect_read(&self, sector: u64, len: usize) {
        let _ = (sector, len);
    }

    /// Reads as [`read`](Self::read) does, if that takes no waiting, and all of the sectors are present or all are absent. Whatever goes
    /// wrong, the answer is [`TryRead::WouldBlock`], and [`read`](Self::read) says what. It takes at most some 100 us, with few
    /// exceptions. A layer that can be filled is filled at once, too, by [`WriteNoOverwrite::try_write_no_overwrite`]; without that a miss
    /// reads from below twice.
    fn try_read(&self, buffers: &RequestBuffers<'_>, sector: u64) -> TryRead {
        let _ = (buffers, sector);
        TryRead::WouldBlock
    }

    /// Writes as [`write`](Self::write) does, if that takes no waiting, and returns whether it did. If not, nothing was changed, or
    /// [`write`](Self::write) fails if this thread asks next for the same, from the same memory.
    fn try_write(&self, buffers: &RequestBuffers<'_>, sector: u64, fua: bool) -> bool {
        let _ = (buffers, sector, fua);
        false
    }

    /// Writes `buffers` from `sector` on: the sectors are then present.
    fn write(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> impl Future<Output = Result<(), DiskError>> + Send;

    /// Writes zeros to `count` sectors from `sector` on. They may become absent only if `next_is_zero`; otherwise they are
    /// present and read zero. The other parameters as for
    /// [`DiskIo::write_zeroes`](disk_backend::DiskIo::write_zeroes).
    fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        may_unmap: bool,
        no_fallback: bool,
        next_is_zero: bool,
    ) -> impl Future<Output = Result<(), DiskError>> + Send {
        let _ = (may_unmap, next_is_zero);
        async move {
            for piece in zeroes::pieces(self.sector_size(), sector, count, no_fallback)? {
                if piece.sector != sector {
                    futures_lite::future::yield_now().await;
                }
                self.write(&piece.zeros, piece.sector, fua).await?;
            }
            Ok(())
        }
    }

    /// Makes durable what completed before the call (C5).
    fn sync_cache(&self) -> impl Future<Output = Result<(), DiskError>> + Send;

    /// As [`DiskIo::close`](disk_backend::DiskIo::close).
    fn close(&self) -> impl Future<Output = Result<(), DiskError>> + Send {
        self.sync_cache()
    }

    /// Gives up the content of `count` sectors from `sector` on.
    ///
    /// `next_is_zero` says that the layers below read zero there, now and until the sectors are written. Only then may a
    /// sector become absent: otherwise a layer hides what lies below by an explicit zero, or keeps the sector's content, as
    /// its [`unmap_behavior`](Self::unmap_behavior) says (L3). A sector that is absent already counts like any other.
    fn unmap(
        &self,
        sector: u64,
        count: u64,
        block_level_only: bool,
        next_is_zero: bool,
    ) -> impl Future<Output = Result<(), DiskError>> + Send;

    /// What [`unmap`](Self::unmap) does, whatever lies below.
    fn unmap_behavior(&self) -> UnmapBehavior;

    /// The smallest number of sectors, aligned to itself, for which [`unmap`](Self::unmap) gives space back.
    fn optimal_unmap_sectors(&self) -> u32 {
        1
    }

    /// What the layer knows, without reading, of `count` sectors from `sector` on; never empty, and bounded.
    fn layer_status(
        &self,
        sector: u64,
        count: u64,
    ) -> impl Future<Output = Result<LayerStatus, DiskError>> + Send;

    /// The way to fill the layer as a cache, if it has one.
    fn write_no_overwrite(&self) -> Option<impl WriteNoOverwrite> {
        None::<NoOverwriteUnsupported>
    }

    /// Throws away what the layer holds of `count` sectors from `sector` on: each becomes absent, whatever lies below, or stays as
    /// it is. Only for sectors that the layer has a copy of: what lies below then shows. This is how a copy that a failed
    /// write-through left behind is taken back (L4).
    ///
    /// # Errors
    /// [`DiskError::Unsupported`] unless implemented; any error if some sectors stay.
    fn evict(&self, sector: u64, count: u64) -> impl Future<Output = Result<(), DiskError>> + Send {
        let _ = (sector, count);
        std::future::ready(Err(DiskError::Unsupported))
    }

    /// Whether the layer promises to call [`LayerWatch::begin_change`] whenever sectors become present, or the size changes, in any other
    /// way than by the methods of this handle. A stack that neither writes nor fills such a layer need not ask it again about what
    /// it does not have. Called once, before the first request.
    ///
    /// The default makes no promise: then the layer is asked in every read that gets as far down.
    fn watch(&self, watch: &LayerWatch) -> bool {
        let _ = watch;
        false
    }

    /// A layer below has become smaller behind the back of whoever made the stack: from sector `sector_count` on, what is absent reads zero
    /// from now on, also when that layer is larger again (L5).
    ///
    /// Only a layer that outlives the stack need remember it, by the next flush: until then the stack does. Takes no waiting. A layer that
    /// only has copies is not told.
    fn lower_shrank(&self, sector_count: u64) {
        let _ = sector_count;
    }

    /// Waits until no operation runs any more that began before the call, those of dropped futures included (C9). A layer whose
    /// operations end with their futures needs nothing more than the default, which is ready at once.
    fn drain(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Changes the size of the layer. Sectors that are added are present and read zero, whatever lies below (C10).
    ///
    /// # Errors
    /// [`DiskError::Unsupported`] unless implemented; [`DiskError::NoSpace`].
    fn resize(&self, sector_count: u64) -> impl Future<Output = Result<(), DiskError>> + Send {
        let _ = sector_count;
        std::future::ready(Err(DiskError::Unsupported))
    }

    /// Completes as soon as the size differs from `sector_count` sectors, with the size then.
    fn wait_resize(&self, sector_count: u64) -> impl Future<Output = u64> + Send;
}

/// Writing only what is absent: how a cache is filled without undoing what happened since the data was read (L2).
pub trait WriteNoOverwrite: Send + Sync {
    /// Writes those sectors from `sector` on that are absent, each atomically with finding it absent, and leaves the others
    /// as they are.
    fn write_no_overwrite(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> impl Future<Output = Result<(), DiskError>> + Send;

    /// Writes as [`write_no_overwrite`](Self::write_no_overwrite) does, if that takes no waiting, and returns whether it did. If not,
    /// some of the sectors may have been written.
    fn try_write_no_overwrite(&self, buffers: &RequestBuffers<'_>, sector: u64) -> bool {
        let _ = (buffers, sector);
        false
    }
}

/// The [`WriteNoOverwrite`] of layers that have none: it has no values.
#[derive(Debug)]
pub enum NoOverwriteUnsupported {}

impl WriteNoOverwrite for NoOverwriteUnsupported {
    async fn write_no_overwrite(
        &self,
        _buffers: &RequestBuffers<'_>,
        _sector: u64,
    ) -> Result<(), DiskError> {
        match *self {}
    }
}

/// What a layer knows of the sectors from the one asked about on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerStatus {
    /// So many sectors, at least one, are absent.
    Absent {
        /// The length of the run.
        sector_count: u64,
    },
    /// The sectors of this batch are all present. An extent's layer is none, or that of a layer further inside.
    Present(BlockStatus),
}
