//! A layer that anybody can see to be right.

use super::size::Resized;
use crate::LayerSpec;
use disk_backend::{
    BlockExtent, BlockState, BlockStatus, ContentStamp, DiskError, Persistence, UnmapBehavior,
};
use disk_layered::{LayerIo, LayerStatus, LayerWatch, SectorMarker, TryRead, WriteNoOverwrite};
use guestmem::{MemoryRead, MemoryWrite};
use inspect::Inspect;
use parking_lot::Mutex;
use scsi_buffers::RequestBuffers;
use std::ops::Range;

/// A layer in a list of sectors behind one lock; the counterpart of [`ReferenceDisk`](crate::ReferenceDisk).
#[derive(Debug)]
pub struct ReferenceLayer {
    sector_size: u32,
    sectors: Mutex<Vec<Sector>>,
    resized: Resized,
    unmap_behavior: UnmapBehavior,
    can_be_filled: bool,
    is_read_only: bool,
}

/// What the layer knows of a sector.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sector {
    Absent,
    Zero,
    Data(Box<[u8]>),
}

impl ReferenceLayer {
    /// A layer without any sectors of its own.
    pub fn new(spec: LayerSpec) -> Self {
        Self {
            sector_size: spec.sector_size,
            // What does not fit a usize does not fit memory.
            sectors: Mutex::new(vec![Sector::Absent; spec.sector_count as usize]),
            resized: Resized::default(),
            unmap_behavior: UnmapBehavior::Zeroes,
            can_be_filled: true,
            is_read_only: false,
        }
    }

    /// With another behaviour than `Zeroes`. `Unspecified`: odd sectors become zero, even ones keep what they hold.
    #[must_use]
    pub fn with_unmap_behavior(mut self, unmap_behavior: UnmapBehavior) -> Self {
        self.unmap_behavior = unmap_behavior;
        self
    }

    /// Without a way to be filled as a cache.
    #[must_use]
    pub fn without_write_no_overwrite(mut self) -> Self {
        self.can_be_filled = false;
        self
    }

    /// One that says that it is not to be written. (It would take writes all the same.)
    #[must_use]
    pub fn logically_read_only(mut self) -> Self {
        self.is_read_only = true;
        self
    }

    /// Makes all sectors of the range absent: what lies below shows.
    ///
    /// # Panics
    /// If the layer has no such sectors.
    pub fn make_absent(&self, range: Range<u64>) {
        self.sectors.lock()[range.start as usize..range.end as usize].fill(Sector::Absent);
    }

    fn clear(&self, sector: u64, count: u64, next_is_zero: bool) -> Result<(), DiskError> {
        let mut sectors = self.sectors.lock();
        let range = check_end(&sectors, sector, count)?;
        sectors[range].fill(match next_is_zero {
            true => Sector::Absent,
            // What lies below must not show (L3).
            false => Sector::Zero,
        });
        Ok(())
    }

    fn read_now(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        mut mark: impl FnMut(u64),
    ) -> Result<(), DiskError> {
        let sectors = self.sectors.lock();
        let range = check_end(&sectors, sector, self.count_of(buffers))?;
        let mut writer = buffers.writer();
        for (sector, content) in (sector..).zip(&sectors[range]) {
            match content {
                Sector::Absent => {
                    writer.skip(self.sector_size as usize)?;
                    continue;
                }
                Sector::Zero => writer.zero(self.sector_size as usize)?,
                Sector::Data(bytes) => writer.write(bytes)?,
            }
            mark(sector);
        }
        Ok(())
    }

    fn write_now(&self, buffers: &RequestBuffers<'_>, sector: u64) -> Result<(), DiskError> {
        let mut sectors = self.sectors.lock();
        let range = check_end(&sectors, sector, self.count_of(buffers))?;
        let mut reader = buffers.reader();
        for content in &mut sectors[range] {
            let mut bytes = vec![0; self.sector_size as usize];
            reader.read(&mut bytes)?;
            *content = Sector::Data(bytes.into());
        }
        Ok(())
    }

    /// Writes those sectors that are absent.
    fn fill_now(&self, buffers: &RequestBuffers<'_>, sector: u64) -> Result<(), DiskError> {
        let mut sectors = self.sectors.lock();
        let range = check_end(&sectors, sector, self.count_of(buffers))?;
        let mut reader = buffers.reader();
        for content in &mut sectors[range] {
            let mut bytes = vec![0; self.sector_size as usize];
            reader.read(&mut bytes)?;
            if *content == Sector::Absent {
                *content = Sector::Data(bytes.into());
            }
        }
        Ok(())
    }

    fn count_of(&self, buffers: &RequestBuffers<'_>) -> u64 {
        (buffers.len() / self.sector_size as usize) as u64
    }
}

/// The size may have changed since the stack looked.
fn check_end(sectors: &[Sector], sector: u64, count: u64) -> Result<Range<usize>, DiskError> {
    match sector + count <= sectors.len() as u64 {
        true => Ok(sector as usize..(sector + count) as usize),
        false => Err(DiskError::IllegalBlock),
    }
}

#[deny(clippy::missing_trait_methods)]
impl LayerIo for ReferenceLayer {
    fn layer_type(&self) -> &str {
        "reference"
    }

    fn sector_count(&self) -> u64 {
        self.sectors.lock().len() as u64
    }

    fn sector_size(&self) -> u32 {
        self.sector_size
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        None
    }

    fn content_stamp(&self) -> Option<ContentStamp> {
        None
    }

    fn physical_sector_size(&self) -> u32 {
        self.sector_size
    }

    fn is_fua_respected(&self) -> bool {
        true
    }

    fn is_logically_read_only(&self) -> bool {
        self.is_read_only
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

    fn expect_read(&self, _: u64, _: usize) {}

    fn try_read(&self, buffers: &RequestBuffers<'_>, sector: u64) -> TryRead {
        let count = self.count_of(buffers) as usize;
        let mut present = 0;
        match self.read_now(buffers, sector, |_| present += 1) {
            Ok(()) if present == count => TryRead::Done,
            Ok(()) if present == 0 => TryRead::Absent,
            _ => TryRead::WouldBlock,
        }
    }

    fn try_write(&self, buffers: &RequestBuffers<'_>, sector: u64, _fua: bool) -> bool {
        self.write_now(buffers, sector).is_ok()
    }

    async fn read(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        mut marker: SectorMarker<'_>,
    ) -> Result<(), DiskError> {
        self.read_now(buffers, sector, |sector| marker.set(sector))
    }

    async fn write(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        _fua: bool,
    ) -> Result<(), DiskError> {
        self.write_now(buffers, sector)
    }

    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        _fua: bool,
        _may_unmap: bool,
        _no_fallback: bool,
        next_is_zero: bool,
    ) -> Result<(), DiskError> {
        self.clear(sector, count, next_is_zero)
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
        match self.unmap_behavior {
            UnmapBehavior::Zeroes => self.clear(sector, count, next_is_zero),
            UnmapBehavior::Ignored => Ok(()),
            UnmapBehavior::Unspecified => {
                let mut odd = (sector..sector + count).filter(|sector| sector % 2 == 1);
                odd.try_for_each(|sector| self.clear(sector, 1, next_is_zero))
            }
        }
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        self.unmap_behavior
    }

    fn optimal_unmap_sectors(&self) -> u32 {
        1
    }

    async fn layer_status(&self, sector: u64, count: u64) -> Result<LayerStatus, DiskError> {
        let sectors = self.sectors.lock();
        let range = check_end(&sectors, sector, count)?;
        let known = &sectors[range];
        let absent = known.iter().take_while(|s| **s == Sector::Absent).count();
        if absent > 0 {
            let sector_count = absent as u64;
            return Ok(LayerStatus::Absent { sector_count });
        }
        let mut status = BlockStatus::default();
        for content in known {
            let state = match content {
                Sector::Absent => break,
                Sector::Zero => BlockState::Hole,
                Sector::Data(_) => BlockState::Data,
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
        self.can_be_filled.then_some(Fill(self))
    }

    async fn evict(&self, sector: u64, count: u64) -> Result<(), DiskError> {
        let mut sectors = self.sectors.lock();
        let range = check_end(&sectors, sector, count)?;
        sectors[range].fill(Sector::Absent);
        Ok(())
    }

    /// Its clones are the same layer, and tests change it by them.
    fn watch(&self, _watch: &LayerWatch) -> bool {
        false
    }

    fn lower_shrank(&self, _sector_count: u64) {}

    async fn drain(&self) {}

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        let count = usize::try_from(sector_count).map_err(|_| DiskError::NoSpace)?;
        // What is added reads zero, whatever lies below (C10).
        self.sectors.lock().resize(count, Sector::Zero);
        self.resized.notify();
        Ok(())
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.resized
            .wait(sector_count, || self.sector_count())
            .await
    }
}

/// The way to fill the layer as a cache.
struct Fill<'a>(&'a ReferenceLayer);

impl WriteNoOverwrite for Fill<'_> {
    async fn write_no_overwrite(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        self.0.fill_now(buffers, sector)
    }

    fn try_write_no_overwrite(&self, buffers: &RequestBuffers<'_>, sector: u64) -> bool {
        self.0.fill_now(buffers, sector).is_ok()
    }
}

impl Inspect for ReferenceLayer {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond().field("sectors", &self.sectors.lock().len());
    }
}
