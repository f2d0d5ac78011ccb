//! The trait that a backend implements.

use crate::pr::PersistentReservation;
use crate::{
    BlockExtent, BlockState, BlockStatus, ContentStamp, DiskError, Persistence, UnmapBehavior,
    zeroes,
};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;
use std::future::Future;

/// A disk, as its implementor sees it. Users hold a [`Disk`](crate::Disk).
///
/// **Who checks.** [`Disk`](crate::Disk) checks every request before it gets here: buffers are whole sectors and may be used
/// as the request needs, the range lies inside the disk, nothing is written to a read-only disk, and the request is not
/// empty. An implementation may assert these; one whose size can change checks the range again under its own lock and returns
/// [`DiskError::IllegalBlock`]. Sectors are counted in units of [`sector_size`](Self::sector_size) from 0. Only what is asked of
/// [`try_read`](Self::try_read) and [`try_write`](Self::try_write) comes unchecked.
///
/// **Concurrency.** Any number of requests may run at once, overlapping or not. Sector by sector each takes effect at one
/// instant between its call and its completion (C2).
///
/// **Dropped futures.** The operation of a future that was polled and dropped may still happen, at one instant or never for
/// each sector. It keeps its place before later overlapping requests until it ends, and owns the memory that it touches
/// ([`RequestBuffers::pin`], or a bounce buffer), because a future can also be forgotten (C9). No request may wait for
/// something that only the polling of another caller's future can advance (C4).
///
/// **Metadata.** All but [`sector_count`](Self::sector_count) is fixed for the life of the value.
///
/// A wrapper forwards every method on purpose: deny `clippy::missing_trait_methods` on its `impl`.
pub trait DiskIo: 'static + Send + Sync + Inspect {
    /// The kind of disk in one word, as in `ram` or `file`; for people, not for programs.
    fn disk_type(&self) -> &str;

    /// The size of the disk in sectors, now.
    fn sector_count(&self) -> u64;

    /// The size of a sector in bytes: a power of two, at least 512.
    fn sector_size(&self) -> u32;

    /// An identity that stays with the content wherever it is opened, if there is one.
    fn disk_id(&self) -> Option<[u8; 16]>;

    /// What stands for the content, if the disk is read-only and can tell: what was kept of another content is then found to be of another.
    /// None if the content may change while the disk exists; [`Disk`](crate::Disk) gives none of one that is not read-only.
    ///
    /// A wrapper forwards it, unless what it shows is something else than what lies below it.
    fn content_stamp(&self) -> Option<ContentStamp> {
        None
    }

    /// The size in bytes that the medium writes without reading first: a power of two, at least the sector size.
    fn physical_sector_size(&self) -> u32;

    /// Whether a write with `fua` is durable when it completes (C6). Where not, [`Disk`](crate::Disk) flushes after it.
    fn is_fua_respected(&self) -> bool;

    /// Whether writes, zeroes and unmaps are refused.
    fn is_read_only(&self) -> bool;

    /// Whether what was flushed survives a crash.
    fn persistence(&self) -> Persistence;

    /// How many sectors, aligned to their own number, the store writes all or nothing across a crash. 0 if even a single
    /// sector may be torn; without meaning for a volatile disk.
    fn atomic_write_sectors(&self) -> u32 {
        1
    }

    /// Tells the disk that `count` sectors from `sector` on are no longer needed, with the effect that
    /// [`unmap_behavior`](Self::unmap_behavior) names (C7).
    ///
    /// `block_level_only` hints that only the mapping of whole blocks is to change; it never weakens the effect. Never empty,
    /// always inside the disk, and possibly as large as the disk: long work yields about every 100 us.
    fn unmap(
        &self,
        sector: u64,
        count: u64,
        block_level_only: bool,
    ) -> impl Future<Output = Result<(), DiskError>> + Send;

    /// What [`unmap`](Self::unmap) does.
    fn unmap_behavior(&self) -> UnmapBehavior;

    /// The smallest number of sectors, aligned to itself, for which [`unmap`](Self::unmap) gives space back.
    fn optimal_unmap_sectors(&self) -> u32 {
        1
    }

    /// The disk's persistent reservations, if it has any; whether it has is fixed for the life of the value.
    fn pr(&self) -> Option<&dyn PersistentReservation> {
        None
    }

    /// Ejects the medium, where there is one to eject.
    ///
    /// # Errors
    /// [`DiskError::UnsupportedEject`] unless implemented.
    fn eject(&self) -> impl Future<Output = Result<(), DiskError>> + Send {
        std::future::ready(Err(DiskError::UnsupportedEject))
    }

    /// Reads `buffers.len()` bytes from `sector` on into `buffers`. Sectors never written read zero.
    fn read_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> impl Future<Output = Result<(), DiskError>> + Send;

    /// A read of `len` bytes from `sector` on has been asked for, and follows if it is well-formed: a disk in memory has the processor
    /// fetch them while the request is checked. Nothing was checked, so they may lie anywhere. It takes some nanoseconds, and but for the time
    /// that it saves nobody can tell whether anything was done.
    fn expect_read(&self, sector: u64, len: usize) {
        let _ = (sector, len);
    }

    /// Does what [`read_vectored`](Self::read_vectored) does, if that takes no waiting, and returns whether it did. If not, `buffers`
    /// may have been overwritten, and [`Disk`](crate::Disk) goes the other way.
    ///
    /// This is asked first, so that what is in memory needs no future. **Nothing was checked before**: whatever is wrong with a
    /// request, or goes wrong, the answer is `false`, and the other way says what. Like its first poll, it takes some 100 us
    /// at most, with few exceptions.
    fn try_read(&self, buffers: &RequestBuffers<'_>, sector: u64) -> bool {
        let _ = (buffers, sector);
        false
    }

    /// Does what [`write_vectored`](Self::write_vectored) does, if that takes no waiting, and returns whether it did. If not, nothing
    /// was changed, or [`write_vectored`](Self::write_vectored) fails if this thread asks next for the same, from the same memory: what
    /// happened once must not happen twice (C2). Otherwise as [`try_read`](Self::try_read).
    fn try_write(&self, buffers: &RequestBuffers<'_>, sector: u64, fua: bool) -> bool {
        let _ = (buffers, sector, fua);
        false
    }

    /// Writes `buffers` from `sector` on; durable on completion if `fua` and
    /// [`is_fua_respected`](Self::is_fua_respected).
    ///
    /// The memory may change while it is read; what is stored twice is fetched once (C3).
    fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> impl Future<Output = Result<(), DiskError>> + Send;

    /// Writes zeros to `count` sectors from `sector` on: they read zero from completion until written.
    ///
    /// `fua` as for [`write_vectored`](Self::write_vectored). `may_unmap` allows giving the space back. With `no_fallback` the
    /// request fails with [`DiskError::Unsupported`] where it could only write zeros as data, which takes as long as writing.
    fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        may_unmap: bool,
        no_fallback: bool,
    ) -> impl Future<Output = Result<(), DiskError>> + Send {
        let _ = may_unmap;
        async move {
            for piece in zeroes::pieces(self.sector_size(), sector, count, no_fallback)? {
                if piece.sector != sector {
                    futures_lite::future::yield_now().await;
                }
                self.write_vectored(&piece.zeros, piece.sector, fua).await?;
            }
            Ok(())
        }
    }

    /// Makes every write, zeroing, unmap and resize that completed before the call durable (C5).
    ///
    /// After an error a later flush succeeds only once all that was not durable has been written again; a disk that cannot do
    /// that refuses writes until it is opened anew (C8).
    fn sync_cache(&self) -> impl Future<Output = Result<(), DiskError>> + Send;

    /// What is known, without reading, of `count` sectors from `sector` on: a bounded batch of extents, of which the first
    /// begins at `sector`. It may end early but is never empty.
    fn block_status(
        &self,
        sector: u64,
        count: u64,
    ) -> impl Future<Output = Result<BlockStatus, DiskError>> + Send {
        let _ = sector;
        std::future::ready(Ok(BlockStatus::one(BlockExtent {
            sector_count: count,
            state: BlockState::Data,
            layer: None,
        })))
    }

    /// Changes the size to `sector_count` sectors. Sectors that are added read zero (C10); those cut off are gone.
    ///
    /// # Errors
    /// [`DiskError::Unsupported`] unless implemented; [`DiskError::NoSpace`]; [`DiskError::ReadOnly`].
    fn resize(&self, sector_count: u64) -> impl Future<Output = Result<(), DiskError>> + Send {
        let _ = sector_count;
        std::future::ready(Err(DiskError::Unsupported))
    }

    /// Makes durable what completed before the call, as a flush does, and leaves what is stored as after a clean stop, where the disk
    /// tells that from a crash. For whoever lets go of it. It may be used further: a change takes the mark of the clean stop back.
    ///
    /// Right as it is for a disk that has no such mark; a wrapper forwards it.
    fn close(&self) -> impl Future<Output = Result<(), DiskError>> + Send {
        self.sync_cache()
    }

    /// Completes as soon as the size differs from `sector_count` sectors, with the size then (C10). May wait for ever, so a
    /// caller races it with whatever else it waits for. A disk whose size never changes returns
    /// [`std::future::pending`] once it has compared.
    fn wait_resize(&self, sector_count: u64) -> impl Future<Output = u64> + Send;

    /// Waits until no operation runs any more that was begun before the call and whose future has been dropped (C9). What is
    /// begun meanwhile, and what goes on in a future that lives, may go on: [`Disk`](crate::Disk) waits for the latter first.
    ///
    /// Right as it is for a disk whose operations end with their futures; a wrapper forwards it to each disk below that such a
    /// future may have used. [`InFlight`](crate::in_flight::InFlight) counts and waits for those that need it.
    fn drain(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}
