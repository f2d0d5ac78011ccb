//! The handle that users hold.

use crate::check::{Intent, Limits};
use crate::erased::DynDisk;
use crate::in_flight::InFlight;
use crate::pr::PersistentReservation;
use crate::{
    BlockStatus, ContentStamp, DiskError, DiskIo, InvalidDisk, Persistence, UnmapBehavior,
};
use inspect::Inspect;
use planted::Bug;
use scsi_buffers::RequestBuffers;
use std::fmt;
use std::sync::Arc;

/// A disk, whatever it is made of. Cheap to clone: clones are the same disk.
///
/// Every request is checked here, once, for all backends (C1): whole sectors, read-only, range, memory, in this order; then
/// nothing was transferred. A request of no sectors succeeds inside the disk, its end included, without reaching the backend. Before
/// that a backend may do a request at once ([`DiskIo::try_read`]); it then has looked that nothing is wrong with it.
///
/// A request is in flight from the first poll of its future until that completes or is dropped; one whose future is forgotten
/// stays in flight for ever. The inspection tree shows the number as `requests_in_flight`. See [`drain`](Self::drain).
#[derive(Clone)]
pub struct Disk(Arc<Inner>);

struct Inner {
    metadata: Metadata,
    in_flight: InFlight,
    backend: Box<dyn DynDisk>,
}

/// What a backend says of itself for its whole life.
#[derive(Debug, Inspect)]
struct Metadata {
    disk_type: String,
    sector_size: u32,
    #[inspect(skip)]
    sector_shift: u32,
    physical_sector_size: u32,
    #[inspect(with = "inspect_disk_id")]
    disk_id: Option<[u8; 16]>,
    #[inspect(with = "inspect_content_stamp")]
    content_stamp: Option<ContentStamp>,
    is_read_only: bool,
    is_fua_respected: bool,
    unmap_behavior: UnmapBehavior,
    optimal_unmap_sectors: u32,
    persistence: Persistence,
    atomic_write_sectors: u32,
    supports_pr: bool,
}

impl Disk {
    /// Makes a backend into a disk.
    ///
    /// # Errors
    /// [`InvalidDisk`] if its sector sizes are not powers of two, the logical one at least 512 bytes, and the physical one at
    /// least the logical one.
    pub fn new<T: DiskIo>(backend: T) -> Result<Self, InvalidDisk> {
        let metadata = Metadata::read(&backend)?;
        Ok(Self(Arc::new(Inner {
            metadata,
            in_flight: InFlight::new(),
            backend: Box::new(backend),
        })))
    }

    /// See [`DiskIo::disk_type`].
    pub fn disk_type(&self) -> &str {
        &self.0.metadata.disk_type
    }

    /// The size of the disk in sectors, now.
    pub fn sector_count(&self) -> u64 {
        self.0.backend.sector_count()
    }

    /// The size of a sector in bytes.
    pub fn sector_size(&self) -> u32 {
        self.0.metadata.sector_size
    }

    /// The binary logarithm of the sector size: `bytes >> sector_shift` is a number of sectors.
    pub fn sector_shift(&self) -> u32 {
        self.0.metadata.sector_shift
    }

    /// See [`DiskIo::disk_id`].
    pub fn disk_id(&self) -> Option<[u8; 16]> {
        self.0.metadata.disk_id
    }

    /// See [`DiskIo::content_stamp`]; none of a disk that is not read-only.
    pub fn content_stamp(&self) -> Option<ContentStamp> {
        self.0.metadata.content_stamp
    }

    /// The physical sector size in bytes.
    pub fn physical_sector_size(&self) -> u32 {
        self.0.metadata.physical_sector_size
    }

    /// Whether the backend makes FUA writes durable by itself. [`write_vectored`](Self::write_vectored) honours FUA either
    /// way.
    pub fn is_fua_respected(&self) -> bool {
        self.0.metadata.is_fua_respected
    }

    /// Whether the disk refuses to be changed.
    pub fn is_read_only(&self) -> bool {
        self.0.metadata.is_read_only
    }

    /// Whether what was flushed survives a crash.
    pub fn persistence(&self) -> Persistence {
        self.0.metadata.persistence
    }

    /// See [`DiskIo::atomic_write_sectors`].
    pub fn atomic_write_sectors(&self) -> u32 {
        self.0.metadata.atomic_write_sectors
    }

    /// What [`unmap`](Self::unmap) does.
    pub fn unmap_behavior(&self) -> UnmapBehavior {
        self.0.metadata.unmap_behavior
    }

    /// See [`DiskIo::optimal_unmap_sectors`].
    pub fn optimal_unmap_sectors(&self) -> u32 {
        self.0.metadata.optimal_unmap_sectors
    }

    /// The disk's persistent reservations, as its user's, if it has any.
    pub fn pr(&self) -> Option<&dyn PersistentReservation> {
        self.0.backend.pr()
    }

    /// Reads `buffers.len()` bytes from `sector` on.
    ///
    /// # Errors
    /// Those of C1 (see [`Disk`]), or the backend's; the content of `buffers` is then unspecified.
    #[inline]
    pub fn read_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> impl Future<Output = Result<(), DiskError>> + Send {
        self.expect_read(sector, buffers.len());
        async move {
            let _counted = self.0.in_flight.begin();
            if self.0.backend.try_read(buffers, sector) {
                return Ok(());
            }
            if self.limits().check_buffers(Intent::Read, buffers, sector)? == 0 {
                return Ok(());
            }
            self.0.backend.read_vectored(buffers, sector).await
        }
    }

    /// Tells the disk that a read of `len` bytes from `sector` on will follow soon, for whoever knows that before it makes the request.
    /// It is only a hint, which takes some nanoseconds; [`read_vectored`](Self::read_vectored) gives it by itself, when it is called and
    /// before its future is first polled. See [`DiskIo::expect_read`].
    #[inline]
    pub fn expect_read(&self, sector: u64, len: usize) {
        self.0.backend.expect_read(sector, len);
    }

    /// Reads as [`read_vectored`](Self::read_vectored) does, if that takes no waiting, and returns whether it did. If not, `buffers` may
    /// have been overwritten; call the other.
    ///
    /// There is no need to ask this first: the other does. It is for callers that do something else than await what would block, a layer
    /// made of a disk among them.
    pub fn try_read(&self, buffers: &RequestBuffers<'_>, sector: u64) -> bool {
        let _counted = self.0.in_flight.begin();
        self.0.backend.try_read(buffers, sector)
    }

    /// Writes as [`write_vectored`](Self::write_vectored) does, if that takes no waiting, and returns whether it did. If not, nothing
    /// was changed; call the other. See [`try_read`](Self::try_read).
    pub fn try_write(&self, buffers: &RequestBuffers<'_>, sector: u64, fua: bool) -> bool {
        let _counted = self.0.in_flight.begin();
        self.try_write_counted(buffers, sector, honoured(fua))
    }

    fn try_write_counted(&self, buffers: &RequestBuffers<'_>, sector: u64, fua: bool) -> bool {
        (!fua || self.is_fua_respected()) && self.0.backend.try_write(buffers, sector, fua)
    }

    /// Writes `buffers` from `sector` on. With `fua` it is durable on completion, if the disk is persistent at all: where the
    /// backend does not do that by itself, the write is followed by a flush.
    ///
    /// # Errors
    /// Those of C1 (see [`Disk`]), or the backend's; each sector then holds its old or its new content (C8).
    #[inline]
    pub async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        let fua = honoured(fua);
        let _counted = self.0.in_flight.begin();
        if self.try_write_counted(buffers, sector, fua) {
            return Ok(());
        }
        if self
            .limits()
            .check_buffers(Intent::Write, buffers, sector)?
            == 0
        {
            return Ok(());
        }
        self.0.backend.write_vectored(buffers, sector, fua).await?;
        self.emulate_fua(fua).await
    }

    /// Writes zeros to `count` sectors from `sector` on; see [`DiskIo::write_zeroes`].
    ///
    /// # Errors
    /// [`DiskError::Unsupported`] if `no_fallback` and zeros could only be written as data; those of C1; the backend's.
    pub async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        may_unmap: bool,
        no_fallback: bool,
    ) -> Result<(), DiskError> {
        self.limits().check_range(Intent::Write, sector, count)?;
        if count == 0 {
            return Ok(());
        }
        let _counted = self.0.in_flight.begin();
        self.0
            .backend
            .write_zeroes(sector, count, fua, may_unmap, no_fallback)
            .await?;
        self.emulate_fua(fua).await
    }

    /// Gives up the content of `count` sectors from `sector` on, with the effect that
    /// [`unmap_behavior`](Self::unmap_behavior) names (C7).
    ///
    /// # Errors
    /// Those of C1 (see [`Disk`]), or the backend's.
    pub async fn unmap(
        &self,
        sector: u64,
        count: u64,
        block_level_only: bool,
    ) -> Result<(), DiskError> {
        self.limits().check_range(Intent::Write, sector, count)?;
        if count == 0 || self.unmap_behavior() == UnmapBehavior::Ignored {
            return Ok(());
        }
        let _counted = self.0.in_flight.begin();
        self.0.backend.unmap(sector, count, block_level_only).await
    }

    /// Makes durable what completed before the call (C5).
    ///
    /// # Errors
    /// The backend's; see C8 for what holds after a failed flush.
    pub async fn sync_cache(&self) -> Result<(), DiskError> {
        let _counted = self.0.in_flight.begin();
        self.0.backend.sync_cache().await
    }

    /// Makes durable what completed before the call, and leaves what is stored as after a clean stop, where a crash would leave it
    /// otherwise: for the last who uses the disk. It may be used further, which takes that back.
    ///
    /// # Errors
    /// The backend's, as for [`sync_cache`](Self::sync_cache).
    pub async fn close(&self) -> Result<(), DiskError> {
        let _counted = self.0.in_flight.begin();
        self.0.backend.close().await
    }

    /// What is known, without reading, of `count` sectors from `sector` on; empty only if `count` is 0.
    ///
    /// # Errors
    /// [`DiskError::IllegalBlock`], or the backend's.
    pub async fn block_status(&self, sector: u64, count: u64) -> Result<BlockStatus, DiskError> {
        self.limits().check_range(Intent::Read, sector, count)?;
        if count == 0 {
            return Ok(BlockStatus::default());
        }
        let _counted = self.0.in_flight.begin();
        let status = self.0.backend.block_status(sector, count).await?;
        status.checked(count)
    }

    /// Ejects the medium.
    ///
    /// # Errors
    /// [`DiskError::UnsupportedEject`] from most disks.
    pub async fn eject(&self) -> Result<(), DiskError> {
        let _counted = self.0.in_flight.begin();
        self.0.backend.eject().await
    }

    /// Changes the size to `sector_count` sectors; sectors that are added read zero (C10).
    ///
    /// # Errors
    /// [`DiskError::ReadOnly`], [`DiskError::Unsupported`], or the backend's.
    pub async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        if self.is_read_only() {
            return Err(DiskError::ReadOnly);
        }
        let _counted = self.0.in_flight.begin();
        self.0.backend.resize(sector_count).await
    }

    /// Completes as soon as the size differs from `sector_count` sectors, with the size then; waits for ever if it never
    /// does.
    pub async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.0.backend.wait_resize(sector_count).await
    }

    /// Waits until nothing is in flight any more that began before the first poll, through any clone: neither a request whose
    /// future lives, nor the operation of one whose future was dropped (C9). What begins meanwhile may go on.
    ///
    /// Requests are those that this type's methods make, but for [`wait_resize`](Self::wait_resize), and commands of
    /// [`pr`](Self::pr) are none. Do not wait for your own: a request whose future you hold and do not poll may never end.
    /// It is no flush; to know that all is durable, drain and then [`sync_cache`](Self::sync_cache).
    pub async fn drain(&self) {
        self.0.in_flight.drain().await;
        // Only now: what was dropped while we waited began before this call.
        self.0.backend.drain().await;
    }

    async fn emulate_fua(&self, fua: bool) -> Result<(), DiskError> {
        if fua && !self.is_fua_respected() {
            self.0.backend.sync_cache().await?;
        }
        Ok(())
    }

    fn limits(&self) -> Limits {
        Limits {
            sector_shift: self.0.metadata.sector_shift,
            sector_count: self.sector_count(),
            is_read_only: self.0.metadata.is_read_only,
        }
    }
}

impl Metadata {
    fn read(backend: &impl DiskIo) -> Result<Self, InvalidDisk> {
        let logical = backend.sector_size();
        let physical = backend.physical_sector_size();
        if !logical.is_power_of_two() || logical < 512 {
            return Err(InvalidDisk::InvalidSectorSize(logical));
        }
        if !physical.is_power_of_two() || physical < logical {
            return Err(InvalidDisk::InvalidPhysicalSectorSize { physical, logical });
        }
        Ok(Self {
            disk_type: backend.disk_type().to_owned(),
            sector_size: logical,
            sector_shift: logical.trailing_zeros(),
            physical_sector_size: physical,
            disk_id: backend.disk_id(),
            // Here, for all backends: what may be written has no stamp that stays.
            content_stamp: backend.content_stamp().filter(|_| backend.is_read_only()),
            is_read_only: backend.is_read_only(),
            is_fua_respected: backend.is_fua_respected(),
            unmap_behavior: backend.unmap_behavior(),
            optimal_unmap_sectors: backend.optimal_unmap_sectors(),
            persistence: backend.persistence(),
            atomic_write_sectors: backend.atomic_write_sectors(),
            supports_pr: backend.pr().is_some(),
        })
    }
}

/// What a wish for a durable write becomes.
fn honoured(fua: bool) -> bool {
    fua && !planted::is_active(Bug::FuaNotHonoured)
}

fn inspect_disk_id(id: &Option<[u8; 16]>) -> Option<String> {
    id.map(|id| format!("{:032x}", u128::from_be_bytes(id)))
}

fn inspect_content_stamp(stamp: &Option<ContentStamp>) -> Option<String> {
    stamp.map(|stamp| stamp.to_string())
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("metadata", &self.0.metadata)
            .field("sector_count", &self.sector_count())
            .finish_non_exhaustive()
    }
}

impl Inspect for Disk {
    /// The size and the metadata, then whatever the backend shows of itself.
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond()
            .field("sector_count", &self.sector_count())
            .field("requests_in_flight", &self.0.in_flight)
            .merge(&self.0.metadata)
            .merge(&*self.0.backend);
    }
}
