//! The disk that a list of layers makes.

use crate::attach::DiskLayerMetadata;
use crate::erased::ZeroOptions;
use crate::stacked::{LayerList, StackedLayer};
use crate::{InvalidLayer, InvalidLayeredDisk, LayerConfiguration, SectorBitmap};
use arc_swap::ArcSwap;
use disk_backend::check::{Intent, Limits};
use disk_backend::pr::PersistentReservation;
use disk_backend::{
    BlockExtent, BlockState, BlockStatus, DiskError, DiskIo, Persistence, UnmapBehavior,
};
use guestmem::MemoryWrite;
use inspect::Inspect;
use scsi_buffers::RequestBuffers;
use std::fmt;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

/// A disk made of layers.
///
/// Invariants: I1, the list is never empty, and all its layers have the sector size of the disk; I2, a list is never changed:
/// it is replaced as a whole, and a request uses one list from beginning to end; I3, only the top layer is written.
pub struct LayeredDisk {
    read_only: bool,
    metadata: DiskLayerMetadata,
    layers: ArcSwap<LayerList>,
}

impl LayeredDisk {
    /// Builds a disk from its layers, top first. Layers attach from the bottom up, each told of the one below.
    ///
    /// The disk has the size of its top layer, the largest physical sector size of any layer, and the identity of the topmost
    /// layer that has one; all else is the top layer's.
    ///
    /// # Errors
    /// [`InvalidLayeredDisk`], with the index of the layer at fault.
    pub async fn new(
        read_only: bool,
        layers: Vec<LayerConfiguration>,
    ) -> Result<Self, InvalidLayeredDisk> {
        check_write_through(&layers)?;
        let mut list = LayerList::new();
        let mut lower = None;
        for (index, configuration) in layers.into_iter().enumerate().rev() {
            let layer = StackedLayer::attach(configuration, lower)
                .await
                .and_then(|layer| check_writable(layer, index == 0 && !read_only))
                .map_err(|error| InvalidLayeredDisk::Layer { index, error })?;
            lower = Some(layer.metadata(lower));
            list.push(Arc::new(layer));
        }
        list.reverse();
        Ok(Self {
            read_only,
            metadata: lower.ok_or(InvalidLayeredDisk::NoLayers)?,
            layers: ArcSwap::from_pointee(list),
        })
    }

    fn limits(&self, layers: &LayerList) -> Limits {
        Limits {
            sector_shift: self.metadata.sector_size.trailing_zeros(),
            sector_count: top(layers).backing().sector_count(),
            is_read_only: self.read_only,
        }
    }

    fn top(&self) -> Arc<StackedLayer> {
        Arc::clone(top(&self.layers.load()))
    }
}

/// The layer that takes the writes (I1, I3).
fn top(layers: &LayerList) -> &Arc<StackedLayer> {
    &layers[0]
}

/// The range as two parts: where a layer below the top may show, and where all of them read zero.
fn split_at_lower_end(layers: &LayerList, range: Range<u64>) -> [(Range<u64>, bool); 2] {
    // Nothing shows through beyond the end of a layer, so the first one below the top bounds them all (L5).
    let lower_end = layers
        .get(1)
        .map_or(0, |layer| layer.visible_sector_count())
        .clamp(range.start, range.end);
    [
        (range.start..lower_end, false),
        (lower_end..range.end, true),
    ]
}

/// How far a layer shows, given how far the one above it does: what lies beyond the end of a layer below the top reads zero,
/// and hides the layers further down as well, as if the layers from there on were a disk of their own (L5).
fn shown_end(index: usize, layer: &StackedLayer, above: u64) -> u64 {
    match index {
        0 => above,
        _ => above.min(layer.visible_sector_count()),
    }
}

/// What the stack knows of the sectors from `range.start` on: a batch from the topmost layer that has the first of them.
async fn status_from(layers: &LayerList, range: Range<u64>) -> Result<BlockStatus, DiskError> {
    let mut end = range.end;
    for (index, layer) in layers.iter().enumerate() {
        let status = loop {
            let shown = shown_end(index, layer, end);
            if shown <= range.start {
                return Ok(hole(range.start..end));
            }
            match layer.status(range.start..shown).await {
                Err(DiskError::IllegalBlock) if shown_end(index, layer, end) < shown => {}
                result => break result?,
            }
        };
        match status {
            ControlFlow::Break(status) => return Ok(status),
            ControlFlow::Continue(absent) => end = range.start + absent,
        }
    }
    Ok(hole(range.start..end))
}

/// The status of sectors that no layer has.
fn hole(range: Range<u64>) -> BlockStatus {
    BlockStatus::one(BlockExtent {
        sector_count: range.end - range.start,
        state: BlockState::Hole,
        layer: None,
    })
}

fn check_write_through(layers: &[LayerConfiguration]) -> Result<(), InvalidLayeredDisk> {
    let invalid = |index, error| Err(InvalidLayeredDisk::Layer { index, error });
    for (index, layer) in layers.iter().enumerate() {
        if layer.write_through {
            if index > 0 && !layers[index - 1].write_through {
                return invalid(index, InvalidLayer::WriteThroughNotContiguous);
            }
            if index + 1 == layers.len() {
                return invalid(index, InvalidLayer::NothingToWriteThrough);
            }
            return invalid(index, InvalidLayer::NotAvailable("write_through"));
        }
        if layer.read_cache {
            return invalid(index, InvalidLayer::NotAvailable("read_cache"));
        }
    }
    Ok(())
}

fn check_writable(layer: StackedLayer, is_written: bool) -> Result<StackedLayer, InvalidLayer> {
    match is_written && layer.backing().is_logically_read_only() {
        true => Err(InvalidLayer::ReadOnly),
        false => Ok(layer),
    }
}

#[deny(clippy::missing_trait_methods)]
impl DiskIo for LayeredDisk {
    fn disk_type(&self) -> &str {
        "layered"
    }

    fn sector_count(&self) -> u64 {
        top(&self.layers.load()).backing().sector_count()
    }

    fn sector_size(&self) -> u32 {
        self.metadata.sector_size
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        self.metadata.disk_id
    }

    fn physical_sector_size(&self) -> u32 {
        self.metadata.physical_sector_size
    }

    fn is_fua_respected(&self) -> bool {
        self.top().backing().is_fua_respected()
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn persistence(&self) -> Persistence {
        self.top().backing().persistence()
    }

    fn atomic_write_sectors(&self) -> u32 {
        self.top().backing().atomic_write_sectors()
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        self.top().backing().unmap_behavior()
    }

    fn optimal_unmap_sectors(&self) -> u32 {
        self.top().backing().optimal_unmap_sectors()
    }

    async fn read_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        let layers = self.layers.load();
        let limits = self.limits(&layers);
        let count = limits.check_buffers(Intent::Read, buffers, sector)?;
        let end = sector + count;
        // The length of buffers in bytes is a usize, so their number of sectors is one.
        let mut answered = SectorBitmap::new(count as usize);
        let mut shown = end;
        for (index, layer) in layers.iter().enumerate() {
            loop {
                let above = shown;
                shown = shown_end(index, layer, above);
                match layer.read(buffers, sector, &mut answered, shown).await {
                    Ok(()) => break,
                    // A lower layer that shrank under the read has fewer sectors to offer, and that is all (L5).
                    Err(DiskError::IllegalBlock) if shown_end(index, layer, above) < shown => {}
                    Err(error) => return Err(error),
                }
            }
            if answered.is_full() {
                return Ok(());
            }
        }
        zero_absent(buffers, &answered, limits.sector_shift)
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        let layers = self.layers.load();
        match self
            .limits(&layers)
            .check_buffers(Intent::Write, buffers, sector)?
        {
            0 => Ok(()),
            _ => top(&layers).write(buffers, sector, fua).await,
        }
    }

    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        may_unmap: bool,
        no_fallback: bool,
    ) -> Result<(), DiskError> {
        let layers = self.layers.load();
        self.limits(&layers)
            .check_range(Intent::Write, sector, count)?;
        let options = ZeroOptions {
            fua,
            may_unmap,
            no_fallback,
        };
        for (range, next_is_zero) in split_at_lower_end(&layers, sector..sector + count) {
            if !range.is_empty() {
                top(&layers)
                    .write_zeroes(range, options, next_is_zero)
                    .await?;
            }
        }
        Ok(())
    }

    async fn unmap(
        &self,
        sector: u64,
        count: u64,
        block_level_only: bool,
    ) -> Result<(), DiskError> {
        let layers = self.layers.load();
        self.limits(&layers)
            .check_range(Intent::Write, sector, count)?;
        if top(&layers).backing().unmap_behavior() == UnmapBehavior::Ignored {
            return Ok(());
        }
        for (range, next_is_zero) in split_at_lower_end(&layers, sector..sector + count) {
            if !range.is_empty() {
                top(&layers)
                    .unmap(range, block_level_only, next_is_zero)
                    .await?;
            }
        }
        Ok(())
    }

    /// Flushes every layer that took changes since its last good flush, the top first, also those that are no longer on top.
    /// All are tried; the first error counts.
    async fn sync_cache(&self) -> Result<(), DiskError> {
        let layers = self.layers.load_full();
        let mut result = Ok(());
        for layer in layers.iter() {
            result = result.and(layer.sync_cache().await);
        }
        result
    }

    async fn block_status(&self, sector: u64, count: u64) -> Result<BlockStatus, DiskError> {
        let layers = self.layers.load_full();
        self.limits(&layers)
            .check_range(Intent::Read, sector, count)?;
        let end = sector + count;
        let mut all = BlockStatus::default();
        loop {
            let from = sector + all.sector_count();
            if from == end {
                return Ok(all);
            }
            let part = status_from(&layers, from..end).await?;
            if !part.extents().iter().all(|extent| all.push(*extent)) {
                return Ok(all);
            }
        }
    }

    fn pr(&self) -> Option<&dyn PersistentReservation> {
        None
    }

    /// Nothing composed of layers can be ejected.
    async fn eject(&self) -> Result<(), DiskError> {
        Err(DiskError::UnsupportedEject)
    }

    /// Resizes the top layer: the size of the disk is its top layer's (C10).
    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        if self.read_only {
            return Err(DiskError::ReadOnly);
        }
        self.top().resize(sector_count).await
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.top().backing().wait_resize(sector_count).await
    }

    /// Nothing of the stack itself goes on without its future; what layers leave behind is not waited for.
    async fn drain(&self) {}
}

/// Zeros the sectors that no layer has (L1).
fn zero_absent(
    buffers: &RequestBuffers<'_>,
    answered: &SectorBitmap,
    sector_shift: u32,
) -> Result<(), DiskError> {
    let mut from = 0;
    while let Some(run) = answered.next_clear_run(from) {
        from = run.end;
        let len = run.len() << sector_shift;
        buffers
            .subrange(run.start << sector_shift, len)
            .writer()
            .zero(len)?;
    }
    Ok(())
}

impl fmt::Debug for LayeredDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayeredDisk")
            .field("read_only", &self.read_only)
            .field("metadata", &self.metadata)
            .field("layers", &self.layers.load().len())
            .finish()
    }
}

impl Inspect for LayeredDisk {
    fn inspect(&self, req: inspect::Request<'_>) {
        let layers = self.layers.load();
        req.respond().field_with("layers", |req| {
            let mut response = req.respond();
            for (index, layer) in layers.iter().enumerate() {
                response.field(&index.to_string(), &**layer);
            }
        });
    }
}
