//! Simulated storage as a disk.

use crate::crash::Crash;
use crate::image::{Cell, Image, Piece};
use crate::operation::all;
use crate::options::SimOptions;
use crate::store::{Store, pieces};
use clock::Clock;
use disk_backend::check::Intent;
use disk_backend::pr::PersistentReservation;
use disk_backend::{
    BlockExtent, BlockState, BlockStatus, ContentStamp, DiskError, DiskIo, Persistence,
    UnmapBehavior,
};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;
use std::sync::Arc;

/// Persistent storage of which everything is known. Clones are the same disk.
///
/// It checks requests by itself too, as a backend whose size can change must.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Store>);

impl SimDisk {
    /// A disk of zeros.
    ///
    /// # Panics
    /// If an option is outside of its range.
    pub fn new(options: SimOptions, clock: Clock) -> Self {
        let image = Image::new(options.sector_count, Cell::Zero);
        Self::from_image(image, options, clock)
    }

    /// A disk as a crash left it; its size is that of the image, whatever the options say.
    ///
    /// # Panics
    /// If it is the image of a layer, or an option is outside of its range.
    pub fn from_image(image: Image, options: SimOptions, clock: Clock) -> Self {
        assert!(image.is_of_disk(), "a disk has all of its sectors");
        Self(Arc::new(Store::new(options, clock, image)))
    }

    /// What a crash now would find.
    pub fn crash(&self) -> Crash {
        self.0.crash()
    }

    /// From now on so many of a hundred requests fail.
    ///
    /// # Panics
    /// If it is more than 100.
    pub fn set_failure_percent(&self, percent: u8) {
        self.0.set_failure_percent(percent);
    }

    async fn put(
        &self,
        cells: Vec<(u64, Cell)>,
        sector: u64,
        count: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        let store = &self.0;
        let pieces = pieces(cells, store.options.atomic_write_sectors, Piece::Put);
        store
            .change(sector..sector + count, pieces, fua, false)
            .await
    }

    fn check(&self, intent: Intent, sector: u64, count: u64) -> Result<(), DiskError> {
        let limits = self.0.limits(&self.0.state());
        limits.check_range(intent, sector, count)
    }

    fn check_buffers(
        &self,
        intent: Intent,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<u64, DiskError> {
        let limits = self.0.limits(&self.0.state());
        limits.check_buffers(intent, buffers, sector)
    }
}

#[deny(clippy::missing_trait_methods)]
impl DiskIo for SimDisk {
    fn disk_type(&self) -> &str {
        "sim"
    }

    fn sector_count(&self) -> u64 {
        self.0.sector_count()
    }

    fn sector_size(&self) -> u32 {
        self.0.options.sector_size
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        None
    }

    fn content_stamp(&self) -> Option<ContentStamp> {
        None
    }

    fn physical_sector_size(&self) -> u32 {
        self.0.options.sector_size
    }

    fn is_fua_respected(&self) -> bool {
        self.0.options.is_fua_respected
    }

    fn is_read_only(&self) -> bool {
        self.0.options.is_read_only
    }

    fn persistence(&self) -> Persistence {
        Persistence::Persistent
    }

    fn atomic_write_sectors(&self) -> u32 {
        self.0.options.atomic_write_sectors
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        self.0.options.unmap_behavior
    }

    fn optimal_unmap_sectors(&self) -> u32 {
        1
    }

    fn pr(&self) -> Option<&dyn PersistentReservation> {
        None
    }

    async fn eject(&self) -> Result<(), DiskError> {
        Err(DiskError::UnsupportedEject)
    }

    fn expect_read(&self, _: u64, _: usize) {}

    /// Every request takes some time.
    fn try_read(&self, _: &RequestBuffers<'_>, _: u64) -> bool {
        false
    }

    fn try_write(&self, _: &RequestBuffers<'_>, _: u64, _: bool) -> bool {
        false
    }

    async fn read_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        let count = self.check_buffers(Intent::Read, buffers, sector)?;
        self.0.read(buffers, sector..sector + count, |_| ()).await
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        let count = self.check_buffers(Intent::Write, buffers, sector)?;
        let cells = self.0.fetch(buffers, sector)?;
        self.put(cells, sector, count, fua).await
    }

    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        _may_unmap: bool,
        _no_fallback: bool,
    ) -> Result<(), DiskError> {
        self.check(Intent::Write, sector, count)?;
        let cells = all(sector..sector + count, &Cell::Zero);
        self.put(cells, sector, count, fua).await
    }

    async fn unmap(
        &self,
        sector: u64,
        count: u64,
        _block_level_only: bool,
    ) -> Result<(), DiskError> {
        self.check(Intent::Write, sector, count)?;
        let cells = self.0.unmapped(sector..sector + count, &Cell::Zero);
        self.put(cells, sector, count, false).await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        self.0.flush().await
    }

    async fn close(&self) -> Result<(), DiskError> {
        self.sync_cache().await
    }

    async fn block_status(&self, sector: u64, count: u64) -> Result<BlockStatus, DiskError> {
        self.check(Intent::Read, sector, count)?;
        self.0.state().settle(sector..sector + count);
        self.0.pause().await;
        self.check(Intent::Read, sector, count)?;
        let state = self.0.state();
        let mut status = BlockStatus::default();
        for sector in sector..sector + count {
            let extent = BlockExtent {
                sector_count: 1,
                state: match state.current.cell(sector) {
                    Cell::Data(_) => BlockState::Data,
                    Cell::Zero | Cell::Absent => BlockState::Hole,
                },
                layer: None,
            };
            if !status.push(extent) {
                break;
            }
        }
        Ok(status)
    }

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        self.0.resize(sector_count).await
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.0.wait_resize(sector_count).await
    }

    async fn drain(&self) {
        self.0.state().settle(0..u64::MAX);
    }
}

impl Inspect for SimDisk {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond()
            .field("crash_steps", &self.crash().step_count());
    }
}
