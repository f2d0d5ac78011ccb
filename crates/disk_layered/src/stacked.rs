//! A layer in its place in a stack.

use crate::attach::DiskLayerMetadata;
use crate::erased::{DynLayer, ZeroOptions};
use crate::flush::FlushTracker;
use crate::{
    InvalidLayer, LayerConfiguration, LayerStatus, LayerWatch, SectorBitmap, SectorMarker, TryRead,
};
use disk_backend::{ContentStamp, DiskError, InvalidDisk, LayerId, Persistence};
use inspect::{Counters, Inspect};
use planted::Bug;
use scsi_buffers::RequestBuffers;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, OnceLock, Weak};
use sync::Mutex;
use sync::atomic::{AtomicU64, Ordering};

/// A layer and what the stack remembers about it.
pub(crate) struct StackedLayer {
    id: LayerId,
    backing: Box<dyn DynLayer>,
    /// Whether the backing keeps anything, so that there is something to flush.
    is_persistent: bool,
    /// The smallest size since the layer was attached, in sectors. Below the top, the layer counts as absent beyond it, also
    /// when it grows later (L5). Changed only with `looking` locked.
    smallest_sector_count: AtomicU64,
    looking: Mutex<()>,
    /// The layer that is told when this one has shrunk, if there is one.
    keeper: OnceLock<Weak<StackedLayer>>,
    flushes: FlushTracker,
    /// Whether what is read from below is kept here.
    is_cache: bool,
    /// Whether it only ever holds what it was given from below, so that what lies below is what shows.
    is_transparent: bool,
    /// Whether the layer says so when it changes in other ways than by requests of the stack.
    is_watched: bool,
    counters: Counters<{ Count::N }>,
}

/// What is counted of a layer, in bytes unless said otherwise.
#[derive(Clone, Copy)]
enum Count {
    /// Read from it.
    Hit,
    /// Asked of it, and absent.
    Missed,
    Written,
    Filled,
    /// Fills that failed, in number.
    FillFailures,
    /// Fills that were not tried: something changed meanwhile, or too many were unfinished. In number.
    FillsSkipped,
    /// Copies that could not be thrown away after a failed write-through, in number.
    EvictionFailures,
}

impl Count {
    const N: usize = Self::EvictionFailures as usize + 1;
}

impl Inspect for StackedLayer {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond()
            .field("id", &self.id)
            .field("layer_type", self.backing.layer_type())
            .field_with("counters", |req| self.inspect_counters(req))
            .field_with("backing", |req| self.backing.inspect(req));
    }
}

impl StackedLayer {
    fn inspect_counters(&self, req: inspect::Request<'_>) {
        let count = |count| self.counters.get(count as usize);
        let mut response = req.respond();
        response
            .counter("bytes_hit", count(Count::Hit))
            .counter("bytes_missed", count(Count::Missed))
            .counter("bytes_written", count(Count::Written));
        if self.is_cache {
            response
                .counter("bytes_filled", count(Count::Filled))
                .counter("fill_failures", count(Count::FillFailures))
                .counter("fills_skipped", count(Count::FillsSkipped));
        }
        response.counter("eviction_failures", count(Count::EvictionFailures));
    }

    fn count(&self, count: Count, by: u64) {
        self.counters.add(count as usize, by);
    }

    /// Attaches a layer above `lower`, which will take what users write, or not.
    pub(crate) async fn attach(
        configuration: LayerConfiguration,
        lower: Option<DiskLayerMetadata>,
        is_written: bool,
        watch: &LayerWatch,
    ) -> Result<Self, InvalidLayer> {
        let backing = configuration.layer.attach(lower).await?;
        check_sector_sizes(&*backing, lower)?;
        if configuration.read_cache && !backing.has_write_no_overwrite() {
            return Err(InvalidLayer::ReadCacheUnsupported);
        }
        let is_persistent = backing.persistence() == Persistence::Persistent;
        // One that is only filled, and begins with nothing, is as good as one that says that it is a copy. One that outlives the stack
        // would have to say so: it holds something the next time, and to find out costs more than a look.
        let is_only_filled = configuration.read_cache && !is_written && !is_persistent;
        let is_transparent =
            backing.may_be_emptied() || is_only_filled && holds_nothing(&*backing).await;
        Ok(Self {
            id: LayerId::allocate(),
            is_transparent,
            is_persistent,
            smallest_sector_count: AtomicU64::new(backing.sector_count()),
            looking: Mutex::new(()),
            keeper: OnceLock::new(),
            flushes: FlushTracker::new(backing.is_logically_read_only()),
            is_cache: configuration.read_cache,
            is_watched: backing.watch(watch),
            counters: Counters::new(),
            backing,
        })
    }

    pub(crate) fn backing(&self) -> &dyn DynLayer {
        &*self.backing
    }

    pub(crate) fn is_persistent(&self) -> bool {
        self.is_persistent
    }

    pub(crate) fn is_cache(&self) -> bool {
        self.is_cache
    }

    /// Whether a layer that takes no writes changes only when it says so (N1 of `index`).
    pub(crate) fn is_still(&self) -> bool {
        self.is_watched && !self.is_cache
    }

    /// What this layer and those below are together. A copy of what lies below shows that: an identity of its own would be another one when it
    /// has been emptied.
    pub(crate) fn metadata(&self, lower: Option<DiskLayerMetadata>) -> DiskLayerMetadata {
        let own_id = match self.is_transparent {
            true => None,
            false => self.backing.disk_id(),
        };
        DiskLayerMetadata {
            disk_id: own_id.or(lower.and_then(|l| l.disk_id)),
            content_stamp: self.content_stamp(lower),
            sector_size: self.backing.sector_size(),
            sector_count: self.backing.sector_count(),
            physical_sector_size: self
                .backing
                .physical_sector_size()
                .max(lower.map_or(0, |l| l.physical_sector_size)),
        }
    }

    /// What stands for what this layer and those below show together: none if any of them may change.
    fn content_stamp(&self, lower: Option<DiskLayerMetadata>) -> Option<ContentStamp> {
        let below = lower.map(|lower| lower.content_stamp);
        if self.is_transparent {
            return below.flatten();
        }
        let own = self.backing.content_stamp();
        let own = own.filter(|_| self.backing.is_logically_read_only())?;
        match below {
            None => Some(own),
            Some(below) => below.map(|below| own.over(below)),
        }
    }

    /// How many sectors show from below the top (L5).
    pub(crate) fn visible_sector_count(&self) -> u64 {
        let now = self.backing.sector_count();
        let smallest = self.smallest_sector_count.load(Ordering::Acquire);
        match now < smallest {
            true => self.note_shrinkage(),
            false => smallest,
        }
    }

    /// Looks again at the size: a resize of the disk may have ended since, and its sectors show (see
    /// [`shows_zeros`](Self::shows_zeros)).
    fn note_shrinkage(&self) -> u64 {
        let _looking = self.looking.lock();
        let now = self.backing.sector_count();
        let before = self.smallest_sector_count.load(Ordering::Acquire);
        let smallest = now.min(before);
        // Told first: whoever finds the new mark may flush, and that has to keep it.
        let keeper = self.keeper.get().and_then(Weak::upgrade);
        if let Some(keeper) = keeper.filter(|_| smallest < before) {
            let accepting = keeper.accepting();
            keeper.backing.lower_shrank(smallest);
            accepting.end();
        }
        self.smallest_sector_count
            .store(smallest, Ordering::Release);
        smallest
    }

    /// Lets each layer that shrinks tell the one above it, which may outlive the stack (L5); layers top first, of which so many have copies
    /// of what is written.
    ///
    /// Copies are not told: what they do not have is what lies below, and stays so. The layer above them is, because they only have what
    /// lay below; one that may have more than that ends the search, for that shows.
    pub(crate) fn appoint_keepers(layers: &[Arc<Self>], copy_count: usize) {
        for (index, layer) in layers.iter().enumerate() {
            let above = layers[..index].iter().enumerate().rev();
            let mut above = above.skip_while(|(_, above)| above.is_transparent);
            if let Some((_, keeper)) = above.next().filter(|(index, _)| *index >= copy_count) {
                let _ = layer.keeper.set(Arc::downgrade(keeper));
            }
        }
    }

    /// Answers those sectors of a read that no layer above has answered, as far as this layer has them.
    ///
    /// `answered` is the bitmap of the whole read, whose first sector is `sector`. Only sectors below `end` are asked for.
    pub(crate) async fn read(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        answered: &mut SectorBitmap,
        end: u64,
    ) -> Result<(), DiskError> {
        let shift = self.backing.sector_size().trailing_zeros();
        let answered_before = answered.set_count();
        let mut asked_count = 0;
        let mut from = 0;
        while let Some(run) = answered.next_clear_run(from) {
            from = run.end;
            let asked = sector + run.start as u64..(sector + run.end as u64).min(end);
            if asked.is_empty() {
                break;
            }
            let part = buffers.subrange(
                run.start << shift,
                ((asked.end - asked.start) as usize) << shift,
            );
            let marker = SectorMarker::new(answered, sector, asked.clone());
            self.backing.read(&part, asked.start, marker).await?;
            asked_count += (asked.end - asked.start) as usize;
        }
        let hit_count = answered.set_count() - answered_before;
        if hit_count > 0 {
            self.count(Count::Hit, (hit_count as u64) << shift);
        }
        if hit_count < asked_count {
            self.count(Count::Missed, ((asked_count - hit_count) as u64) << shift);
        }
        Ok(())
    }

    /// Reads at once, if the layer can, and has all of it or nothing; see [`LayerIo::try_read`](crate::LayerIo::try_read). Nothing is
    /// counted before the whole read is done.
    pub(crate) fn try_read(&self, buffers: &RequestBuffers<'_>, sector: u64) -> TryRead {
        self.backing.try_read(buffers, sector)
    }

    pub(crate) fn count_hit(&self, len: usize) {
        self.count(Count::Hit, len as u64);
    }

    pub(crate) fn count_missed(&self, len: usize) {
        self.count(Count::Missed, len as u64);
    }

    /// Writes at once, if the layer can, and keeps nothing that would have to be flushed.
    pub(crate) fn try_write(&self, buffers: &RequestBuffers<'_>, sector: u64, fua: bool) -> bool {
        let is_done = !self.is_persistent && self.backing.try_write(buffers, sector, fua);
        if is_done {
            self.count(Count::Written, buffers.len() as u64);
        }
        is_done
    }

    /// Keeps what was read from below: the sectors that are absent take it (L2). A failure only counts.
    pub(crate) async fn fill(&self, buffers: &RequestBuffers<'_>, sector: u64) {
        let filling = match planted::is_active(Bug::CacheFillOverNewerWrite) {
            true => self.backing.write(buffers, sector, false),
            false => self.backing.write_no_overwrite(buffers, sector),
        };
        match filling.await {
            Ok(()) => self.count(Count::Filled, buffers.len() as u64),
            Err(_) => self.count(Count::FillFailures, 1),
        }
    }

    /// Keeps at once what was read from below, and returns whether it did; see [`fill`](Self::fill).
    pub(crate) fn try_fill(&self, buffers: &RequestBuffers<'_>, sector: u64) -> bool {
        let is_filled = !planted::is_active(Bug::CacheFillOverNewerWrite)
            && self.backing.try_write_no_overwrite(buffers, sector);
        if is_filled {
            self.count(Count::Filled, buffers.len() as u64);
        }
        is_filled
    }

    pub(crate) fn count_skipped_fill(&self) {
        self.count(Count::FillsSkipped, 1);
    }

    /// Throws away a copy that may not be what the layers below hold (L4).
    pub(crate) async fn evict(&self, range: Range<u64>) {
        let accepting = self.accepting();
        let result = self
            .backing
            .evict(range.start, range.end - range.start)
            .await;
        accepting.end();
        if result.is_err() {
            self.count(Count::EvictionFailures, 1);
        }
    }

    /// These sectors were added by a resize of the disk and read zero, so they show if all before them do.
    pub(crate) fn shows_zeros(&self, added: Range<u64>) {
        let _looking = self.looking.lock();
        let smallest = self.smallest_sector_count.load(Ordering::Acquire);
        if smallest >= added.start {
            let smallest = smallest.max(added.end);
            self.smallest_sector_count
                .store(smallest, Ordering::Release);
        }
    }

    pub(crate) async fn write(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        let accepting = self.accepting();
        let result = self.backing.write(buffers, sector, fua).await;
        accepting.end();
        if result.is_ok() {
            self.count(Count::Written, buffers.len() as u64);
        }
        result
    }

    pub(crate) async fn write_zeroes(
        &self,
        range: Range<u64>,
        options: ZeroOptions,
        next_is_zero: bool,
    ) -> Result<(), DiskError> {
        let accepting = self.accepting();
        let result = self
            .backing
            .write_zeroes(range.start, range.end - range.start, options, next_is_zero)
            .await;
        accepting.end();
        result
    }

    pub(crate) async fn unmap(
        &self,
        range: Range<u64>,
        block_level_only: bool,
        next_is_zero: bool,
    ) -> Result<(), DiskError> {
        let next_is_zero = next_is_zero || planted::is_active(Bug::UnmapUncovers);
        let accepting = self.accepting();
        let result = self
            .backing
            .unmap(
                range.start,
                range.end - range.start,
                block_level_only,
                next_is_zero,
            )
            .await;
        accepting.end();
        result
    }

    pub(crate) async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        let accepting = self.accepting();
        let result = self.backing.resize(sector_count).await;
        accepting.end();
        result
    }

    /// Counts what the layer takes from now on, whatever becomes of the request's future.
    fn accepting(&self) -> Accepting<'_> {
        Accepting(self.is_persistent.then_some(&self.flushes))
    }

    /// Flushes the layer if it is persistent and took changes since its last good flush (C5).
    pub(crate) async fn sync_cache(&self) -> Result<(), DiskError> {
        if let Some(point) = self.flushes.begin() {
            self.backing.sync_cache().await?;
            self.flushes.finish(point);
        }
        Ok(())
    }

    /// What the layer knows of the sectors from `range.start` on: how many are absent, or the extents it answers for.
    ///
    /// The range is not empty, and lies inside the layer.
    pub(crate) async fn status(
        &self,
        range: Range<u64>,
    ) -> Result<ControlFlow<disk_backend::BlockStatus, u64>, DiskError> {
        let count = range.end - range.start;
        match self.backing.layer_status(range.start, count).await? {
            LayerStatus::Absent { sector_count } => {
                Ok(ControlFlow::Continue(sector_count.clamp(1, count)))
            }
            LayerStatus::Present(mut status) => {
                status.name_layer(self.id);
                Ok(ControlFlow::Break(status.checked(count)?))
            }
        }
    }
}

/// A change of a layer under way: something changed, or may have, if it fails or is dropped.
struct Accepting<'a>(Option<&'a FlushTracker>);

impl Accepting<'_> {
    fn end(mut self) {
        if let Some(flushes) = self.0.take() {
            flushes.accept();
        }
    }
}

impl Drop for Accepting<'_> {
    fn drop(&mut self) {
        if let Some(flushes) = self.0 {
            flushes.abandon();
        }
    }
}

/// So often is a layer asked whether it holds anything.
const QUESTIONS_MAX: usize = 256;

/// Whether every sector is absent; if that cannot be found out in passing, it is not so.
async fn holds_nothing(layer: &dyn DynLayer) -> bool {
    let end = layer.sector_count();
    let mut at = 0;
    for _ in 0..QUESTIONS_MAX {
        if at >= end {
            return true;
        }
        match layer.layer_status(at, end - at).await {
            Ok(LayerStatus::Absent { sector_count }) => at += sector_count.max(1),
            Ok(LayerStatus::Present(_)) | Err(_) => return false,
        }
    }
    false
}

fn check_sector_sizes(
    layer: &dyn DynLayer,
    lower: Option<DiskLayerMetadata>,
) -> Result<(), InvalidLayer> {
    let found = layer.sector_size();
    let physical = layer.physical_sector_size();
    if !found.is_power_of_two() || found < 512 {
        return Err(InvalidLayer::InvalidSectorSize(
            InvalidDisk::InvalidSectorSize(found),
        ));
    }
    if !physical.is_power_of_two() || physical < found {
        return Err(InvalidLayer::InvalidSectorSize(
            InvalidDisk::InvalidPhysicalSectorSize {
                physical,
                logical: found,
            },
        ));
    }
    match lower {
        Some(lower) if lower.sector_size != found => Err(InvalidLayer::SectorSizeMismatch {
            found,
            lower: lower.sector_size,
        }),
        _ => Ok(()),
    }
}
