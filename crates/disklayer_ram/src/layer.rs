//! The layer, and the layer to be.

use crate::RamDiskError;
use crate::store::{PageCount, Store};
use disk_backend::{ContentStamp, DiskError, Persistence, UnmapBehavior};
use disk_layered::{
    DiskLayerMetadata, LayerAttach, LayerIo, LayerStatus, LayerWatch, SectorMarker, TryRead,
    WriteNoOverwrite,
};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;

const DEFAULT_SECTOR_SIZE_BYTES: u32 = 512;

/// A layer in memory. What was never written to it is absent.
#[derive(Debug)]
pub struct RamDiskLayer {
    store: Store,
}

impl RamDiskLayer {
    /// A layer of `size` bytes with sectors of 512 bytes.
    ///
    /// # Errors
    /// [`RamDiskError::EmptyDisk`], [`RamDiskError::NotSectorMultiple`], [`RamDiskError::TooLarge`].
    pub fn new(size: u64) -> Result<Self, RamDiskError> {
        Self::new_with_sector_size(size, DEFAULT_SECTOR_SIZE_BYTES)
    }

    /// A layer of `size` bytes with sectors of `sector_size` bytes.
    ///
    /// # Errors
    /// As for [`new`](Self::new), and [`RamDiskError::InvalidSectorSize`] unless it is a power of two from 512 to 65536.
    pub fn new_with_sector_size(size: u64, sector_size: u32) -> Result<Self, RamDiskError> {
        if !sector_size.is_power_of_two() || !(512..=65536).contains(&sector_size) {
            return Err(RamDiskError::InvalidSectorSize(sector_size));
        }
        if size == 0 {
            return Err(RamDiskError::EmptyDisk);
        }
        if !size.is_multiple_of(u64::from(sector_size)) {
            return Err(RamDiskError::NotSectorMultiple { size, sector_size });
        }
        if size > Store::BYTES_MAX {
            return Err(RamDiskError::TooLarge(size));
        }
        let sector_shift = sector_size.trailing_zeros();
        Ok(Self {
            store: Store::new(sector_shift, size >> sector_shift),
        })
    }

    /// Checks a size given in sectors.
    fn check_sector_count(&self, sector_count: u64) -> Result<(), RamDiskError> {
        match sector_count {
            0 => Err(RamDiskError::EmptyDisk),
            n if n > Store::BYTES_MAX >> self.store.sector_shift() => Err(RamDiskError::TooLarge(
                n.saturating_mul(1 << self.store.sector_shift()),
            )),
            _ => Ok(()),
        }
    }

    fn set_sector_count(&self, new: &str) -> Result<(), String> {
        let sector_count = new
            .parse()
            .map_err(|_| format!("{new:?} is not a number of sectors"))?;
        self.check_sector_count(sector_count)
            .map_err(|error| error.to_string())?;
        futures_lite::future::block_on(self.store.resize(sector_count));
        Ok(())
    }
}

impl Inspect for RamDiskLayer {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond()
            .field_mut_with("sector_count", |new| {
                new.map_or(Ok(()), |new| self.set_sector_count(new))
                    .map(|()| self.store.sector_count())
            })
            .field("committed_size", &self.store.committed_bytes())
            .counter("pages_taken", self.store.page_count(PageCount::Taken))
            .counter(
                "pages_given_back",
                self.store.page_count(PageCount::GivenBack),
            );
    }
}

#[deny(clippy::missing_trait_methods)]
impl LayerIo for RamDiskLayer {
    fn layer_type(&self) -> &str {
        "ram"
    }

    fn sector_count(&self) -> u64 {
        self.store.sector_count()
    }

    fn sector_size(&self) -> u32 {
        1 << self.store.sector_shift()
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        None
    }

    fn content_stamp(&self) -> Option<ContentStamp> {
        None
    }

    /// Memory is taken by the page, so a smaller write costs a whole one.
    fn physical_sector_size(&self) -> u32 {
        self.sector_size().max(guestmem::PAGE_SIZE_BYTES as u32)
    }

    fn is_fua_respected(&self) -> bool {
        true
    }

    fn is_logically_read_only(&self) -> bool {
        false
    }

    fn persistence(&self) -> Persistence {
        Persistence::Volatile
    }

    fn atomic_write_sectors(&self) -> u32 {
        1
    }

    fn may_be_emptied(&self) -> bool {
        false
    }

    fn expect_read(&self, sector: u64, len: usize) {
        self.store.prefetch(sector, len);
    }

    fn try_read(&self, buffers: &RequestBuffers<'_>, sector: u64) -> TryRead {
        self.store.try_read(buffers, sector)
    }

    fn try_write(&self, buffers: &RequestBuffers<'_>, sector: u64, _fua: bool) -> bool {
        self.store.try_write(buffers, sector)
    }

    async fn read(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        marker: SectorMarker<'_>,
    ) -> Result<(), DiskError> {
        self.store.read(buffers, sector, marker).await
    }

    async fn write(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        _fua: bool,
    ) -> Result<(), DiskError> {
        self.store.write(buffers, sector).await
    }

    /// Takes memory back whatever the options say: zeros are never stored as data here.
    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        _fua: bool,
        _may_unmap: bool,
        _no_fallback: bool,
        next_is_zero: bool,
    ) -> Result<(), DiskError> {
        self.store
            .clear(sector..sector + count, !next_is_zero)
            .await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        Ok(())
    }

    async fn close(&self) -> Result<(), DiskError> {
        self.sync_cache().await
    }

    async fn unmap(
        &self,
        sector: u64,
        count: u64,
        _block_level_only: bool,
        next_is_zero: bool,
    ) -> Result<(), DiskError> {
        self.store
            .clear(sector..sector + count, !next_is_zero)
            .await
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        UnmapBehavior::Zeroes
    }

    fn optimal_unmap_sectors(&self) -> u32 {
        self.physical_sector_size() / self.sector_size()
    }

    async fn layer_status(&self, sector: u64, count: u64) -> Result<LayerStatus, DiskError> {
        self.store.status(sector..sector + count)
    }

    fn write_no_overwrite(&self) -> Option<impl WriteNoOverwrite> {
        Some(&self.store)
    }

    /// Sectors that a resize added stay: they are zeros of the disk's own, not a copy.
    async fn evict(&self, sector: u64, count: u64) -> Result<(), DiskError> {
        self.store.evict(sector..sector + count).await
    }

    /// Only its size can change by other means, by an update of its entry in the tree for inspection.
    fn watch(&self, watch: &LayerWatch) -> bool {
        self.store.watch(watch)
    }

    /// It is gone with the stack, which remembers it.
    fn lower_shrank(&self, _sector_count: u64) {}

    /// Every operation ends with its future.
    async fn drain(&self) {}

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        self.check_sector_count(sector_count)
            .map_err(|error| match error {
                RamDiskError::TooLarge(_) => DiskError::NoSpace,
                _ => DiskError::InvalidInput,
            })?;
        self.store.resize(sector_count).await;
        Ok(())
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.store.wait_resize(sector_count).await
    }
}

/// A [`RamDiskLayer`] to be: what is not given is taken from the layer below.
#[derive(Debug, Clone, Default)]
pub struct LazyRamDiskLayer {
    len: Option<u64>,
    sector_size: Option<u32>,
}

impl LazyRamDiskLayer {
    /// A layer of the size and the sector size of the layer below.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a size of its own, in bytes.
    #[must_use]
    pub fn with_len(mut self, len: u64) -> Self {
        self.len = Some(len);
        self
    }

    /// With a sector size of its own, in bytes.
    #[must_use]
    pub fn with_sector_size(mut self, sector_size: u32) -> Self {
        self.sector_size = Some(sector_size);
        self
    }
}

impl LayerAttach for LazyRamDiskLayer {
    type Error = RamDiskError;
    type Layer = RamDiskLayer;

    async fn attach(self, lower: Option<DiskLayerMetadata>) -> Result<RamDiskLayer, RamDiskError> {
        let len = match (self.len, lower) {
            (Some(len), _) => len,
            (None, Some(lower)) => lower
                .sector_count
                .checked_mul(u64::from(lower.sector_size))
                .ok_or(RamDiskError::TooLarge(u64::MAX))?,
            (None, None) => return Err(RamDiskError::UnknownSize),
        };
        let sector_size = self
            .sector_size
            .or(lower.map(|lower| lower.sector_size))
            .unwrap_or(DEFAULT_SECTOR_SIZE_BYTES);
        RamDiskLayer::new_with_sector_size(len, sector_size)
    }
}
