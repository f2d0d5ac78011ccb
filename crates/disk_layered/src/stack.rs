//! The list of layers of a disk, and what follows from their places in it.

use crate::index::{Index, Moment};
use crate::stacked::StackedLayer;
use crate::{LayerWatch, SectorBitmap};
use disk_backend::{BlockExtent, BlockState, BlockStatus, DiskError, Persistence, UnmapBehavior};
use planted::Bug;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use sync::Race;

/// Layers, top first.
///
/// Invariants: S1, there is at least one layer, and one more than write through; S2, a stack is never changed: it is replaced
/// as a whole, and a request uses one from beginning to end; S3, only [`written`](Self::written) layers take what users write,
/// and each of them holds what the one above it holds of that (write-through, L4).
pub(crate) struct Stack {
    layers: Vec<Arc<StackedLayer>>,
    /// How many layers, from the top, write through.
    through_count: usize,
    sector_shift: u32,
    watch: LayerWatch,
    /// When the index was made.
    indexed_at: Moment,
    index: Option<Index>,
}

impl Stack {
    pub(crate) fn new(
        layers: Vec<Arc<StackedLayer>>,
        through_count: usize,
        sector_size: u32,
        watch: LayerWatch,
    ) -> Self {
        assert!(through_count < layers.len(), "S1");
        let sector_shift = sector_size.trailing_zeros();
        // Before the layers are asked anything (N2).
        let indexed_at = watch.moment();
        let first_indexed = match planted::is_active(Bug::StaleIndex) {
            true => 0,
            false => through_count + 1,
        };
        let index = Index::new(&layers, first_indexed, sector_shift);
        Self {
            layers,
            through_count,
            sector_shift,
            watch,
            indexed_at,
            index,
        }
    }

    /// The same layers without what is known of them; with an index of nothing if this has one.
    pub(crate) fn forgetful(&self) -> Self {
        let sector_size = 1 << self.sector_shift;
        let mut stack = Self::new(
            self.layers.clone(),
            self.through_count,
            sector_size,
            self.watch.clone(),
        );
        if self.index.is_none() {
            stack.index = None;
        }
        stack
    }

    /// The same without an index.
    pub(crate) fn without_index(mut self) -> Self {
        self.index = None;
        self
    }

    /// Whether the index may be wrong by now (N3).
    pub(crate) fn is_outdated(&self) -> bool {
        self.index.is_some()
            && (self.watch.moment() != self.indexed_at || !self.indexed_at.is_quiet())
            && !sync::is_planted(Race::IndexOutlivesChange)
    }

    /// The next layer, at `from` or further down, that may hold a sector which is not answered, `sector` being the first of the bitmap; the
    /// number of layers if none may.
    pub(crate) async fn next(&self, sector: u64, answered: &SectorBitmap, from: usize) -> usize {
        match (self.next_known(sector, answered, from), &self.index) {
            (Some(next), _) => next,
            (None, None) => from,
            (None, Some(index)) => {
                // Boxed: its future is large, and needed once for each region.
                let sectors = sector..sector + answered.len() as u64;
                Box::pin(index.learn(&self.layers, sectors)).await;
                self.next_known(sector, answered, from).unwrap_or(from)
            }
        }
    }

    /// The same, if nobody has to be asked. Run by run: what is answered is no reason to ask anybody.
    fn next_known(&self, sector: u64, answered: &SectorBitmap, from: usize) -> Option<usize> {
        let (mut next, mut start) = (self.layers.len(), 0);
        while let Some(run) = answered.next_clear_run(start).filter(|_| next > from) {
            start = run.end;
            let sectors = sector + run.start as u64..sector + run.end as u64;
            next = next.min(self.try_next(&sectors, from)?);
        }
        Some(next)
    }

    /// The next layer that may hold any of these sectors, if nobody has to be asked.
    #[inline]
    pub(crate) fn try_next(&self, sectors: &Range<u64>, from: usize) -> Option<usize> {
        match &self.index {
            Some(index) if from >= index.first() => index.next(sectors, from),
            _ => Some(from),
        }
    }

    /// Where a sector will probably be found if no layer that takes writes has it, as far as the index knows.
    #[inline]
    pub(crate) fn expected_below(&self, sector: u64) -> Option<&StackedLayer> {
        let index = self.index.as_ref()?;
        let sectors = sector..sector.checked_add(1)?;
        let layer = index.next(&sectors, index.first())?;
        self.layers.get(layer).map(|layer| &**layer)
    }

    #[inline]
    pub(crate) fn layers(&self) -> &[Arc<StackedLayer>] {
        &self.layers
    }

    #[inline]
    pub(crate) fn top(&self) -> &Arc<StackedLayer> {
        &self.layers[0]
    }

    #[inline]
    pub(crate) fn sector_shift(&self) -> u32 {
        self.sector_shift
    }

    pub(crate) fn len_of(&self, sector_count: usize) -> usize {
        sector_count << self.sector_shift
    }

    /// Whether a change takes several steps.
    #[inline]
    pub(crate) fn is_write_through(&self) -> bool {
        self.through_count > 0
    }

    /// The layers that take what users write, top first.
    pub(crate) fn written(&self) -> &[Arc<StackedLayer>] {
        &self.layers[..=self.through_count]
    }

    /// The last of those: what it holds is the disk's, and the others have copies.
    pub(crate) fn truth(&self) -> &Arc<StackedLayer> {
        &self.layers[self.through_count]
    }

    /// The copies, top first.
    pub(crate) fn copies(&self) -> &[Arc<StackedLayer>] {
        &self.layers[..self.through_count]
    }

    /// How far the layers that are written through all reach, or reached since they were attached: nothing shows, and nothing is
    /// written, beyond (L4, L5).
    #[inline]
    pub(crate) fn through_end(&self) -> u64 {
        let below_top = self.written()[1..].iter();
        let ends = below_top.map(|layer| layer.visible_sector_count());
        ends.min().unwrap_or(u64::MAX)
    }

    /// How far a layer shows, given how far the one above it does: what lies beyond the end of a layer below the top reads zero,
    /// and hides the layers further down as well, as if the layers from there on were a disk of their own (L5).
    #[inline]
    pub(crate) fn shown_end(&self, index: usize, above: u64) -> u64 {
        match index {
            0 if self.through_count == 0 => above,
            0 => above.min(self.through_end()),
            _ => above.min(self.layers[index].visible_sector_count()),
        }
    }

    /// The range as two parts: where a layer below the written ones may show, and where all of them read zero.
    pub(crate) fn split_at_lower_end(&self, range: Range<u64>) -> [(Range<u64>, bool); 2] {
        // Nothing shows through beyond the end of a layer, so the first one below bounds them all (L5).
        let lower_end = match self.layers.get(self.through_count + 1) {
            // A sector that becomes absent could be filled with what was read before (L2); an explicit zero cannot.
            Some(_) if self.truth().is_cache() => u64::MAX,
            Some(layer) => layer.visible_sector_count(),
            None => 0,
        };
        let lower_end = lower_end.clamp(range.start, range.end);
        [
            (range.start..lower_end, false),
            (lower_end..range.end, true),
        ]
    }

    /// Every written layer: a copy that is not durable may be the one that is read after a crash.
    pub(crate) fn is_fua_respected(&self) -> bool {
        let mut written = self.written().iter();
        written.all(|layer| layer.backing().is_fua_respected())
    }

    /// That of the truth: copies are thrown away when a write fails (L4), and what was flushed must survive without them (C5).
    pub(crate) fn persistence(&self) -> Persistence {
        match self.truth().is_persistent() {
            true => Persistence::Persistent,
            false => Persistence::Volatile,
        }
    }

    /// The least of the persistent layers among the written ones: any of them may be the one that is read after a crash (C11).
    pub(crate) fn atomic_write_sectors(&self) -> u32 {
        let persistent = self.written().iter().filter(|layer| layer.is_persistent());
        let sectors = persistent.map(|layer| layer.backing().atomic_write_sectors());
        sectors
            .min()
            .unwrap_or_else(|| self.top().backing().atomic_write_sectors())
    }

    /// What the truth makes of it; where it is more than nothing, copies follow, by writing zeros if need be (L3).
    pub(crate) fn unmap_behavior(&self) -> UnmapBehavior {
        match self.truth().backing().unmap_behavior() {
            UnmapBehavior::Unspecified if self.is_write_through() => UnmapBehavior::Zeroes,
            behavior => behavior,
        }
    }

    pub(crate) fn optimal_unmap_sectors(&self) -> u32 {
        let written = self.written().iter();
        let sectors = written.map(|layer| layer.backing().optimal_unmap_sectors());
        sectors.max().unwrap_or(1)
    }

    /// What the stack knows of the sectors from `range.start` on: a batch from the topmost layer that has the first of them.
    pub(crate) async fn status(&self, range: Range<u64>) -> Result<BlockStatus, DiskError> {
        let mut end = range.end;
        for (index, layer) in self.layers.iter().enumerate() {
            let status = loop {
                let shown = self.shown_end(index, end);
                if shown <= range.start {
                    return Ok(hole(range.start..end));
                }
                match layer.status(range.start..shown).await {
                    Err(DiskError::IllegalBlock) if self.shown_end(index, end) < shown => {}
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
}

/// The status of sectors that no layer has.
fn hole(range: Range<u64>) -> BlockStatus {
    BlockStatus::one(BlockExtent {
        sector_count: range.end - range.start,
        state: BlockState::Hole,
        layer: None,
    })
}
