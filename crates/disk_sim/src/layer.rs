//! Simulated storage as a layer: sectors can be absent.

use crate::crash::Crash;
use crate::image::{Cell, Image, Piece};
use crate::operation::all;
use crate::options::SimOptions;
use crate::store::{Store, pieces};
use clock::Clock;
use disk_backend::check::Intent;
use disk_backend::{
    BlockExtent, BlockState, BlockStatus, ContentStamp, DiskError, Persistence, UnmapBehavior,
};
use disk_layered::{LayerIo, LayerStatus, LayerWatch, SectorMarker, TryRead, WriteNoOverwrite};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A persistent layer of which everything is known; what is absent is as durable as what is there. Clones are the same layer.
///
/// One that is read-only refuses writes, zeroes, unmaps and resizes. As a cache it is filled and emptied all the same: that
/// changes where sectors come from, and not what users read, so it happens in a stack of which nobody may write anything too.
#[derive(Debug, Clone)]
pub struct SimLayer(Arc<Store>, Watched);

/// Whether a stack watches the layer by this handle: then what is done by it needs no telling. A clone is another handle.
#[derive(Debug, Default)]
struct Watched(AtomicBool);

impl Clone for Watched {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl SimLayer {
    /// A layer without any sectors of its own.
    ///
    /// # Panics
    /// If an option is outside of its range.
    pub fn new(options: SimOptions, clock: Clock) -> Self {
        let image = Image::new(options.sector_count, Cell::Absent);
        Self::from_image(image, options, clock)
    }

    /// A layer as a crash left it; its size is that of the image, whatever the options say.
    ///
    /// # Panics
    /// If it is the image of a disk, or an option is outside of its range.
    pub fn from_image(image: Image, options: SimOptions, clock: Clock) -> Self {
        assert!(!image.is_of_disk(), "sectors of a layer can be absent");
        Self(
            Arc::new(Store::new(options, clock, image)),
            Watched::default(),
        )
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
        range: Range<u64>,
        fua: bool,
    ) -> Result<(), DiskError> {
        let store = &self.0;
        let pieces = pieces(cells, store.options.atomic_write_sectors, Piece::Put);
        store.change(range, pieces, fua, self.is_watched()).await
    }

    fn is_watched(&self) -> bool {
        self.1.0.load(Ordering::Acquire)
    }

    /// The range, if the layer lets this be done, and reaches that far now (C1).
    fn checked(&self, intent: Intent, sector: u64, count: u64) -> Result<Range<u64>, DiskError> {
        let limits = self.0.limits(&self.0.state());
        limits.check_range(intent, sector, count)?;
        Ok(sector..sector + count)
    }

    fn range_of(
        &self,
        intent: Intent,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<Range<u64>, DiskError> {
        let count = buffers.len() as u64 / u64::from(self.0.options.sector_size);
        self.checked(intent, sector, count)
    }

    /// What stands for zeros.
    fn zero(&self, next_is_zero: bool) -> Cell {
        match next_is_zero && self.0.state().rng.bool() {
            true => Cell::Absent,
            false => Cell::Zero,
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl LayerIo for SimLayer {
    fn layer_type(&self) -> &str {
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

    fn is_logically_read_only(&self) -> bool {
        self.0.options.is_read_only
    }

    fn persistence(&self) -> Persistence {
        Persistence::Persistent
    }

    fn atomic_write_sectors(&self) -> u32 {
        self.0.options.atomic_write_sectors
    }

    fn may_be_emptied(&self) -> bool {
        false
    }

    fn expect_read(&self, _: u64, _: usize) {}

    /// Every request takes some time.
    fn try_read(&self, _: &RequestBuffers<'_>, _: u64) -> TryRead {
        TryRead::WouldBlock
    }

    fn try_write(&self, _: &RequestBuffers<'_>, _: u64, _: bool) -> bool {
        false
    }

    async fn read(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        mut marker: SectorMarker<'_>,
    ) -> Result<(), DiskError> {
        let range = self.range_of(Intent::Read, buffers, sector)?;
        self.0
            .read(buffers, range, |sector| marker.set(sector))
            .await
    }

    async fn write(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        let range = self.range_of(Intent::Write, buffers, sector)?;
        let cells = self.0.fetch(buffers, sector)?;
        self.put(cells, range, fua).await
    }

    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        may_unmap: bool,
        _no_fallback: bool,
        next_is_zero: bool,
    ) -> Result<(), DiskError> {
        let range = self.checked(Intent::Write, sector, count)?;
        let cells = all(range.clone(), &self.zero(may_unmap && next_is_zero));
        self.put(cells, range, fua).await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        self.0.flush().await
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
        let range = self.checked(Intent::Write, sector, count)?;
        let cells = self.0.unmapped(range.clone(), &self.zero(next_is_zero));
        self.put(cells, range, false).await
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        self.0.options.unmap_behavior
    }

    fn optimal_unmap_sectors(&self) -> u32 {
        1
    }

    async fn layer_status(&self, sector: u64, count: u64) -> Result<LayerStatus, DiskError> {
        let range = self.checked(Intent::Read, sector, count)?;
        self.0.state().settle(range.clone());
        self.0.pause().await;
        self.checked(Intent::Read, sector, count)?;
        let state = self.0.state();
        let is_absent = |sector: &u64| *state.current.cell(*sector) == Cell::Absent;
        let absent = range.clone().take_while(is_absent).count() as u64;
        if absent > 0 {
            return Ok(LayerStatus::Absent {
                sector_count: absent,
            });
        }
        let mut status = BlockStatus::default();
        for sector in range {
            let state = match state.current.cell(sector) {
                Cell::Absent => break,
                Cell::Zero => BlockState::Zero,
                Cell::Data(_) => BlockState::Data,
            };
            let extent = BlockExtent {
                sector_count: 1,
                state,
                layer: None,
            };
            if !status.push(extent) {
                break;
            }
        }
        Ok(LayerStatus::Present(status))
    }

    fn write_no_overwrite(&self) -> Option<impl WriteNoOverwrite> {
        Some(Fill(self))
    }

    /// Never fails, and is not told apart from being written when the power is cut.
    async fn evict(&self, sector: u64, count: u64) -> Result<(), DiskError> {
        // Of a read-only layer too: what it evicts it only had a copy of.
        let range = self.checked(Intent::Read, sector, count)?;
        let mut state = self.0.state();
        state.settle(range.clone());
        let pieces = VecDeque::from([Piece::Put(all(range, &Cell::Absent))]);
        let request = state.begin(pieces, self.is_watched());
        let evicted = state.step(request);
        state.end(request);
        evicted.map(drop)
    }

    fn watch(&self, watch: &LayerWatch) -> bool {
        let is_first = self.0.watch(watch);
        self.1.0.store(is_first, Ordering::Release);
        is_first
    }

    fn lower_shrank(&self, _sector_count: u64) {}

    async fn drain(&self) {
        self.0.state().settle(0..u64::MAX);
    }

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        self.0.resize(sector_count).await
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.0.wait_resize(sector_count).await
    }
}

/// The way to fill the layer as a cache.
struct Fill<'a>(&'a SimLayer);

impl WriteNoOverwrite for Fill<'_> {
    async fn write_no_overwrite(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        // Into a read-only layer too: users see no change.
        let range = self.0.range_of(Intent::Read, buffers, sector)?;
        let store = &self.0.0;
        let cells = store.fetch(buffers, sector)?;
        let pieces = pieces(cells, store.options.atomic_write_sectors, Piece::Fill);
        let is_known = self.0.is_watched();
        store.change(range, pieces, false, is_known).await
    }
}

impl Inspect for SimLayer {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond()
            .field("crash_steps", &self.crash().step_count());
    }
}
