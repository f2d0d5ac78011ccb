//! The disk that a list of layers makes.

use crate::attach::DiskLayerMetadata;
use crate::change::{self, Change, WRITE_BYTES_MAX};
use crate::copies;
use crate::current::{Current, Share};
use crate::erased::ZeroOptions;
use crate::operation::{self, Body};
use crate::order::{EVERYTHING, Order};
use crate::read::Pass;
use crate::stack::Stack;
use crate::stacked::StackedLayer;
use crate::{InvalidLayer, InvalidLayeredDisk, LayerConfiguration, LayerWatch};
use disk_backend::check::{Intent, Limits};
use disk_backend::pr::PersistentReservation;
use disk_backend::{BlockExtent, BlockState, BlockStatus, ContentStamp, DiskError, DiskIo};
use disk_backend::{Persistence, UnmapBehavior};
use inspect::Inspect;
use planted::Bug;
use scsi_buffers::RequestBuffers;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// How often a read begins anew because a change disturbed it, before it takes a place among the changes.
const READ_ATTEMPTS: usize = 3;

/// A part of a status that covers so many sectors may have taken a layer long to find: others run before the next part.
const STATUS_PART_SECTORS_LONG: u64 = 1 << 21;

/// A disk made of layers.
///
/// Where one layer takes the writes, requests go straight to the layers: each of these orders its own. Where several do, or
/// caches are filled, the requests that overlap are ordered as the invariants R1 to R5 (`order`) and W1 to W4 (`change`) say.
pub struct LayeredDisk {
    read_only: bool,
    metadata: DiskLayerMetadata,
    stack: Current<Stack>,
    order: Order,
}

impl LayeredDisk {
    /// Builds a disk from its layers, top first. Layers attach from the bottom up, each told of the one below.
    ///
    /// The disk has the size of its top layer, the largest physical sector size of any layer, and the identity of the topmost
    /// layer that has one and keeps what it holds; all else follows from the layers that take the writes: the top, and as many below as are written
    /// through to.
    ///
    /// # Errors
    /// [`InvalidLayeredDisk`], with the index of the layer at fault.
    pub async fn new(
        read_only: bool,
        layers: Vec<LayerConfiguration>,
    ) -> Result<Self, InvalidLayeredDisk> {
        let through_count = count_write_through(&layers)?;
        let watch = LayerWatch::default();
        let mut list = Vec::new();
        let mut lower = None;
        for (index, configuration) in layers.into_iter().enumerate().rev() {
            let is_written = index <= through_count && !read_only;
            let layer = StackedLayer::attach(configuration, lower, is_written, &watch)
                .await
                .and_then(|layer| check_writable(layer, is_written))
                .and_then(|layer| {
                    let is_last_written = index == through_count && !read_only;
                    check_kept(layer, is_last_written, lower.is_none())
                })
                .map_err(|error| InvalidLayeredDisk::Layer { index, error })?;
            lower = Some(layer.metadata(lower));
            list.push(Arc::new(layer));
        }
        list.reverse();
        let metadata = lower.ok_or(InvalidLayeredDisk::NoLayers)?;
        check_lengths(&list[..=through_count])?;
        StackedLayer::appoint_keepers(&list, through_count);
        let stack = Stack::new(list, through_count, metadata.sector_size, watch);
        Ok(Self {
            read_only,
            metadata,
            order: Order::new(stack.sector_shift()),
            stack: Current::new(stack),
        })
    }

    /// The same disk, whose reads ask one layer after the other, and remember nothing of what these do not have. It is slower if it
    /// has many layers, and saves up to 192 MiB of memory.
    #[must_use]
    pub fn without_index(self) -> Self {
        let stack = self.stack.get().forgetful().without_index();
        self.stack.set(&Arc::new(stack));
        self
    }

    /// The stack for a read, without an index that may be wrong (N3).
    fn stack_to_read(&self) -> Share<Stack> {
        let stack = self.stack.get();
        if !stack.is_outdated() {
            return stack;
        }
        let renewed = stack.forgetful();
        if renewed.is_outdated() {
            // A change is under way, or another one has begun. Whoever comes later finds the old stack, and tries again.
            return Share::new(Arc::new(renewed.without_index()));
        }
        // Two at once make two, one of which is forgotten with what it learnt.
        let renewed = Arc::new(renewed);
        self.stack.set(&renewed);
        Share::new(renewed)
    }

    fn limits(&self, stack: &Stack) -> Limits {
        Limits {
            sector_shift: stack.sector_shift(),
            sector_count: stack.top().backing().sector_count(),
            is_read_only: self.read_only,
        }
    }

    /// Whether there are changes of several steps, which a request must not meet half-way.
    fn is_ordered(&self, stack: &Stack) -> bool {
        stack.is_write_through() && !self.read_only
    }

    /// Makes a change of several steps (W1).
    async fn change(&self, range: Range<u64>, body: Body) -> Result<(), DiskError> {
        operation::run(&self.order.change(range, body).await).await
    }

    async fn carry_out(&self, stack: &Arc<Stack>, change: Change) -> Result<(), DiskError> {
        let range = change.range(stack.sector_shift());
        match range.is_empty() {
            true => Ok(()),
            false => {
                let body = change.carry_out(Arc::clone(stack));
                self.change(range, Box::pin(body)).await
            }
        }
    }

    async fn write_through(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        let stack = self.stack.get();
        for (offset, part) in pieces(buffers, WRITE_BYTES_MAX) {
            let sector = sector + (offset as u64 >> stack.sector_shift());
            let change = Change::write(&part, sector, fua)?;
            self.carry_out(&stack, change).await?;
        }
        Ok(())
    }

    /// Reads where changes of several steps may run (R2).
    async fn read_observed(
        &self,
        stack: &Arc<Stack>,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        range: Range<u64>,
    ) -> Result<(), DiskError> {
        for _ in 0..READ_ATTEMPTS {
            let Some(observation) = self.order.observe(&range).await else {
                continue;
            };
            let pass = Pass {
                stack,
                order: Some(&self.order),
                observation: Some(&observation),
            };
            let result = pass.read(buffers, sector).await;
            if observation.end() {
                return result;
            }
        }
        // Boxed: its future is large, and seldom needed.
        Box::pin(self.read_in_turns(stack, buffers, sector)).await
    }

    async fn read_in_turns(
        &self,
        stack: &Arc<Stack>,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        for (offset, part) in pieces(buffers, WRITE_BYTES_MAX) {
            let sector = sector + (offset as u64 >> stack.sector_shift());
            self.read_in_turn(stack, &part, sector).await?;
        }
        Ok(())
    }

    /// Reads as an operation: it waits for the changes before it, and those after it wait for it. So it owns its memory (C9).
    async fn read_in_turn(
        &self,
        stack: &Arc<Stack>,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        let copy = copies::allocate(buffers.len())?;
        let copy = Arc::new(copy);
        let range = sector..sector + (buffers.len() as u64 >> stack.sector_shift());
        let (stack, target) = (Arc::clone(stack), Arc::clone(&copy));
        let body = async move {
            let pass = Pass {
                stack: &stack,
                order: None,
                observation: None,
            };
            pass.read(&target.buffers(true), sector).await
        };
        operation::run(&self.order.turn(range, Box::pin(body)).await).await?;
        Ok(buffers.copy_from(&copy.buffers(false))?)
    }

    /// A batch of what the stack knows; as [`DiskIo::block_status`].
    async fn status(&self, stack: &Stack, range: Range<u64>) -> Result<BlockStatus, DiskError> {
        let mut all = BlockStatus::default();
        loop {
            let from = range.start + all.sector_count();
            if from == range.end {
                return Ok(all);
            }
            let part = stack.status(from..range.end).await?;
            if !part.extents().iter().all(|extent| all.push(*extent)) {
                return Ok(all);
            }
            // A layer may have looked for as long as it should, and the next part may be joined to this one, and so on.
            let is_last = from + part.sector_count() == range.end;
            if part.sector_count() >= STATUS_PART_SECTORS_LONG && !is_last {
                futures_lite::future::yield_now().await;
            }
        }
    }
}

/// A request's memory in parts of at most `len_max` bytes, a multiple of any sector size, each with its offset.
fn pieces<'a>(
    buffers: &RequestBuffers<'a>,
    len_max: usize,
) -> impl Iterator<Item = (usize, RequestBuffers<'a>)> {
    let buffers = *buffers;
    let offsets = (0..buffers.len()).step_by(len_max);
    offsets.map(move |offset| {
        let len = len_max.min(buffers.len() - offset);
        (offset, buffers.subrange(offset, len))
    })
}

/// How many layers write through.
fn count_write_through(layers: &[LayerConfiguration]) -> Result<usize, InvalidLayeredDisk> {
    let invalid = |index, error| Err(InvalidLayeredDisk::Layer { index, error });
    let count = layers
        .iter()
        .take_while(|layer| layer.write_through)
        .count();
    if count > 0 && count == layers.len() {
        return invalid(count - 1, InvalidLayer::NothingToWriteThrough);
    }
    match layers[count..].iter().position(|layer| layer.write_through) {
        Some(further) => invalid(count + further, InvalidLayer::WriteThroughNotContiguous),
        None => Ok(count),
    }
}

fn check_writable(layer: StackedLayer, is_written: bool) -> Result<StackedLayer, InvalidLayer> {
    match is_written && layer.backing().is_logically_read_only() {
        true => Err(InvalidLayer::ReadOnly),
        false => Ok(layer),
    }
}

/// A layer that may be emptied holds copies only (L4): of what another one further down takes as well, or of what was read from below. Only
/// here all of the layers are known, and which of them takes what.
fn check_kept(
    layer: StackedLayer,
    is_last_written: bool,
    is_lowest: bool,
) -> Result<StackedLayer, InvalidLayer> {
    match layer.backing().may_be_emptied() {
        true if is_last_written => Err(InvalidLayer::OnlyCopy),
        true if is_lowest => Err(InvalidLayer::CopyOfNothing),
        true | false => Ok(layer),
    }
}

/// What users write must have a place in every layer that takes it.
fn check_lengths(written: &[Arc<StackedLayer>]) -> Result<(), InvalidLayeredDisk> {
    let needed = written[0].backing().sector_count();
    for (index, layer) in written.iter().enumerate() {
        let found = layer.backing().sector_count();
        if found < needed {
            let error = InvalidLayer::TooShortToWriteThrough { found, needed };
            return Err(InvalidLayeredDisk::Layer { index, error });
        }
    }
    Ok(())
}

#[deny(clippy::missing_trait_methods)]
impl DiskIo for LayeredDisk {
    fn disk_type(&self) -> &str {
        "layered"
    }

    fn sector_count(&self) -> u64 {
        self.stack.get().top().backing().sector_count()
    }

    fn sector_size(&self) -> u32 {
        self.metadata.sector_size
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        self.metadata.disk_id
    }

    fn content_stamp(&self) -> Option<ContentStamp> {
        self.metadata.content_stamp.filter(|_| self.read_only)
    }

    fn physical_sector_size(&self) -> u32 {
        self.metadata.physical_sector_size
    }

    fn is_fua_respected(&self) -> bool {
        self.stack.get().is_fua_respected()
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn persistence(&self) -> Persistence {
        self.stack.get().persistence()
    }

    fn atomic_write_sectors(&self) -> u32 {
        self.stack.get().atomic_write_sectors()
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        self.stack.get().unmap_behavior()
    }

    fn optimal_unmap_sectors(&self) -> u32 {
        self.stack.get().optimal_unmap_sectors()
    }

    fn expect_read(&self, sector: u64, len: usize) {
        let stack = self.stack.get();
        stack.top().backing().expect_read(sector, len);
        if let Some(layer) = stack.expected_below(sector) {
            layer.backing().expect_read(sector, len);
        }
    }

    fn try_read(&self, buffers: &RequestBuffers<'_>, sector: u64) -> bool {
        let stack = self.stack.get();
        let checked = self
            .limits(&stack)
            .check_buffers(Intent::Read, buffers, sector);
        if !matches!(checked, Ok(1..)) || self.is_ordered(&stack) || stack.is_outdated() {
            return false;
        }
        let pass = Pass {
            stack: &stack,
            order: Some(&self.order),
            observation: None,
        };
        pass.try_read(buffers, sector)
    }

    fn try_write(&self, buffers: &RequestBuffers<'_>, sector: u64, fua: bool) -> bool {
        let stack = self.stack.get();
        let checked = self
            .limits(&stack)
            .check_buffers(Intent::Write, buffers, sector);
        matches!(checked, Ok(1..))
            && !stack.is_write_through()
            && stack.top().try_write(buffers, sector, fua)
    }

    async fn read_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        let stack = self.stack_to_read();
        let limits = self.limits(&stack);
        let count = limits.check_buffers(Intent::Read, buffers, sector)?;
        if self.is_ordered(&stack) && count > 0 {
            let range = sector..sector + count;
            return self.read_observed(&stack, buffers, sector, range).await;
        }
        let pass = Pass {
            stack: &stack,
            order: Some(&self.order),
            observation: None,
        };
        pass.read(buffers, sector).await
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        let stack = self.stack.get();
        let count = self
            .limits(&stack)
            .check_buffers(Intent::Write, buffers, sector)?;
        match (count, stack.is_write_through()) {
            (0, _) => Ok(()),
            (_, false) => stack.top().write(buffers, sector, fua).await,
            (_, true) => Box::pin(self.write_through(buffers, sector, fua)).await,
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
        let stack = self.stack.get();
        self.limits(&stack)
            .check_range(Intent::Write, sector, count)?;
        let options = ZeroOptions {
            fua,
            may_unmap,
            no_fallback,
        };
        let range = sector..sector + count;
        if stack.is_write_through() {
            let change = Change::Zero { range, options };
            return self.carry_out(&stack, change).await;
        }
        for (range, next_is_zero) in stack.split_at_lower_end(range) {
            if !range.is_empty() {
                stack
                    .top()
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
        let stack = self.stack.get();
        self.limits(&stack)
            .check_range(Intent::Write, sector, count)?;
        if stack.unmap_behavior() == UnmapBehavior::Ignored {
            return Ok(());
        }
        let range = sector..sector + count;
        if stack.is_write_through() {
            let change = Change::Unmap {
                range,
                block_level_only,
            };
            return self.carry_out(&stack, change).await;
        }
        for (range, next_is_zero) in stack.split_at_lower_end(range) {
            if !range.is_empty() {
                stack
                    .top()
                    .unmap(range, block_level_only, next_is_zero)
                    .await?;
            }
        }
        Ok(())
    }

    /// Flushes every layer that took changes since its last good flush, the top first, also those that are no longer on top.
    /// All are tried; the first error counts.
    async fn sync_cache(&self) -> Result<(), DiskError> {
        let stack = self.stack.get();
        let mut result = Ok(());
        for layer in stack.layers() {
            if planted::is_active(Bug::FlushSkipsALayer) && Arc::ptr_eq(layer, stack.truth()) {
                continue;
            }
            result = result.and(layer.sync_cache().await);
        }
        result
    }

    async fn block_status(&self, sector: u64, count: u64) -> Result<BlockStatus, DiskError> {
        let stack = self.stack.get();
        self.limits(&stack)
            .check_range(Intent::Read, sector, count)?;
        let range = sector..sector + count;
        if !self.is_ordered(&stack) || count == 0 {
            return self.status(&stack, range).await;
        }
        for _ in 0..READ_ATTEMPTS {
            if let Some(observation) = self.order.observe(&range).await {
                let status = self.status(&stack, range.clone()).await;
                if observation.end() {
                    return status;
                }
            }
        }
        // Somebody writes here all the time, and data is what is never wrong to say (C12).
        Ok(BlockStatus::one(BlockExtent {
            sector_count: count,
            state: BlockState::Data,
            layer: None,
        }))
    }

    /// A stack has no reservations: its layers may be shared with other disks, which would not heed them.
    fn pr(&self) -> Option<&dyn PersistentReservation> {
        None
    }

    /// Closes every layer, top first, also after one of them failed.
    async fn close(&self) -> Result<(), DiskError> {
        // A cache that takes its time is still being filled: what it was about to keep is worth something the next time.
        self.order.drain().await;
        // In the right order, and by one flush for all that are to be flushed together.
        let mut result = self.sync_cache().await;
        for layer in self.stack.get().layers() {
            result = result.and(layer.backing().close().await);
        }
        result
    }

    /// Finishes what dropped requests left behind, then waits for every layer.
    async fn drain(&self) {
        let stack = self.stack.get();
        self.order.drain().await;
        let layers = async {
            for layer in stack.layers() {
                layer.backing().drain().await;
            }
        };
        // What begins meanwhile, and is left by whoever began it, is in flight in the layers.
        self.order.advance_during(layers).await;
    }

    /// Nothing composed of layers can be ejected.
    async fn eject(&self) -> Result<(), DiskError> {
        Err(DiskError::UnsupportedEject)
    }

    /// Resizes the top layer: the size of the disk is its top layer's (C10). What is written through to it is resized as well.
    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        if self.read_only {
            return Err(DiskError::ReadOnly);
        }
        let stack = self.stack.get();
        match stack.is_write_through() {
            false => stack.top().resize(sector_count).await,
            true => {
                let body = change::resize(Arc::clone(&stack), sector_count);
                self.change(EVERYTHING, Box::pin(body)).await
            }
        }
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        let top = Arc::clone(self.stack.get().top());
        top.backing().wait_resize(sector_count).await
    }
}

impl fmt::Debug for LayeredDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayeredDisk")
            .field("read_only", &self.read_only)
            .field("metadata", &self.metadata)
            .field("layers", &self.stack.get().layers().len())
            .finish()
    }
}

impl Inspect for LayeredDisk {
    fn inspect(&self, req: inspect::Request<'_>) {
        let stack = self.stack.get();
        req.respond().field_with("layers", |req| {
            let mut response = req.respond();
            for (index, layer) in stack.layers().iter().enumerate() {
                response.field(&index.to_string(), &**layer);
            }
        });
    }
}
