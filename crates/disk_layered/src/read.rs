//! How a request is read from the layers, and caches are filled with what they missed.
//!
//! What goes into a cache is read into memory of our own first: the caller's may change before it is stored (C3).

use crate::SectorBitmap;
use crate::copies;
use crate::operation::Operation;
use crate::order::{Observation, Order};
use crate::stack::Stack;
use disk_backend::DiskError;
use guestmem::MemoryWrite;
use planted::Bug;
use scsi_buffers::{BounceBuffer, RequestBuffers};
use smallvec::SmallVec;
use std::future::poll_fn;
use std::ops::Range;
use std::task::Poll;

mod at_once;

/// How much is read from below a cache at once: that much memory a request holds while it misses.
const MISS_BYTES_MAX: usize = 1 << 20;

/// One way down a stack.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub(crate) stack: &'a Stack,
    /// Where fills are noted; none if nothing shall be filled.
    pub(crate) order: Option<&'a Order>,
    /// In a stack that writes through: what tells whether a fill still may be made.
    pub(crate) observation: Option<&'a Observation<'a>>,
}

impl Pass<'_> {
    /// Reads `buffers` from `sector` on: each sector from the topmost layer that has it (L1).
    pub(crate) async fn read(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        let stack = self.stack;
        // The length of buffers in bytes is a usize, so their number of sectors is one.
        let count = buffers.len() >> stack.sector_shift();
        let mut answered = SectorBitmap::new(count);
        let mut shown = sector + count as u64;
        let mut index = stack.next(sector, &answered, 0).await;
        while index < stack.layers().len() {
            shown = read_layer(stack, index, buffers, sector, &mut answered, shown).await?;
            if answered.is_full() {
                return Ok(());
            }
            if self.fills(index) {
                // Boxed: its future is large, and hits need none of it.
                Box::pin(self.read_below(index, buffers, sector, &mut answered, shown)).await?;
                break;
            }
            index = stack.next(sector, &answered, index + 1).await;
        }
        zero_absent(buffers, &answered, stack.sector_shift())
    }

    /// Whether what this layer does not have is to be kept in it.
    fn fills(&self, index: usize) -> bool {
        let layers = self.stack.layers();
        self.order.is_some() && layers[index].is_cache() && index + 1 < layers.len()
    }

    /// Reads what no layer down to the cache at `cache` has, and keeps it there.
    async fn read_below(
        &self,
        cache: usize,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        answered: &mut SectorBitmap,
        shown: u64,
    ) -> Result<(), DiskError> {
        let stack = self.stack;
        if let Some(order) = self.order {
            let count = buffers.len() as u64 >> stack.sector_shift();
            order.help(&(sector..sector + count)).await;
        }
        let stripe = (MISS_BYTES_MAX as u64 >> stack.sector_shift()).max(1);
        // What lies beyond reads zero, and is not worth a place in a cache.
        let lower_end = stack.shown_end(cache + 1, shown).saturating_sub(sector);
        let mut from = 0;
        while let Some(run) = answered.next_clear_run(from) {
            // Up to a multiple of the limit: an aligned part lies in one chunk of a store.
            let room = stripe - (sector + run.start as u64) % stripe;
            let end = (run.end as u64).min(run.start as u64 + room).min(lower_end);
            let run = run.start..run.start.max(end as usize);
            if run.is_empty() {
                break;
            }
            let part = buffers.subrange(stack.len_of(run.start), stack.len_of(run.len()));
            self.read_missed(cache, &part, sector + run.start as u64)
                .await?;
            answered.set_range(run.clone());
            from = run.end;
        }
        Ok(())
    }

    /// Reads sectors that are absent down to the cache at `cache`, through a private copy.
    async fn read_missed(
        &self,
        cache: usize,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        let stack = self.stack;
        let copy = copies::allocate(buffers.len())?;
        let mut found = SectorBitmap::new(buffers.len() >> stack.sector_shift());
        let mut shown = sector + found.len() as u64;
        // The caches on the way, each with what was found above it.
        let mut missed: SmallVec<[(usize, SectorBitmap); 1]> = SmallVec::new();
        missed.push((cache, found.clone()));
        let mut index = stack.next(sector, &found, cache + 1).await;
        while index < stack.layers().len() {
            let memory = copy.buffers(true);
            shown = read_layer(stack, index, &memory, sector, &mut found, shown).await?;
            if found.is_full() {
                break;
            }
            if self.fills(index) {
                missed.push((index, found.clone()));
            }
            index = stack.next(sector, &found, index + 1).await;
        }
        zero_absent(&copy.buffers(true), &found, stack.sector_shift())?;
        buffers.copy_from(&copy.buffers(false))?;
        let fills = missed.into_iter().map(|(index, above)| Fill {
            index,
            runs: above.runs_until(&found),
        });
        self.fill(fills.collect(), copy, sector).await;
        Ok(())
    }

    /// Puts the parts of `copy`, which begins at `sector`, into their caches. The reply does not wait for more than a cache does
    /// at once: the rest is left to whoever comes by.
    async fn fill(&self, fills: Vec<Fill>, copy: BounceBuffer, sector: u64) {
        let Some(order) = self.order else {
            return;
        };
        let range = sector..sector + (copy.len() as u64 >> self.stack.sector_shift());
        let layers = fills.iter().map(|fill| &self.stack.layers()[fill.index]);
        let layers: SmallVec<[_; 1]> = layers.cloned().collect();
        let (shift, targets) = (self.stack.sector_shift(), layers.clone());
        let body = async move {
            let memory = copy.buffers(false);
            for (layer, fill) in targets.iter().zip(&fills) {
                for run in &fill.runs {
                    let part = memory.subrange(run.start << shift, run.len() << shift);
                    layer.fill(&part, sector + run.start as u64).await;
                }
            }
            Ok(())
        };
        let operation = Operation::new(Vec::new(), Box::pin(body));
        let may_begin = match self.observation {
            Some(observation) => observation.fill(&range, &operation),
            None => true,
        };
        if may_begin {
            poll_fn(|cx| {
                let _ = operation.poll(cx);
                Poll::Ready(())
            })
            .await;
        }
        let is_kept = operation.is_done()
            || (may_begin && self.observation.is_some())
            || (may_begin && order.keep_fill(&range, &operation));
        if !is_kept {
            layers.iter().for_each(|layer| layer.count_skipped_fill());
        }
    }
}

/// What one cache is filled with: runs of sectors, counted from the first one that was read.
struct Fill {
    index: usize,
    runs: Vec<Range<usize>>,
}

/// Reads what one layer has of the sectors that no layer above has, and returns how far it shows.
async fn read_layer(
    stack: &Stack,
    index: usize,
    buffers: &RequestBuffers<'_>,
    sector: u64,
    answered: &mut SectorBitmap,
    above: u64,
) -> Result<u64, DiskError> {
    let layer = &stack.layers()[index];
    loop {
        let shown = stack.shown_end(index, above);
        match layer.read(buffers, sector, answered, shown).await {
            Ok(()) => return Ok(shown),
            Err(_) if planted::is_active(Bug::WrongLayerAfterError) => return Ok(shown),
            // A lower layer that shrank under the read has fewer sectors to offer, and that is all (L5).
            Err(DiskError::IllegalBlock) if stack.shown_end(index, above) < shown => {}
            Err(error) => return Err(error),
        }
    }
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
