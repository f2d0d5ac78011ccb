//! What users change in a stack that writes through.
//!
//! Invariants:
//! - W1: a change is one operation of the [order](crate::order): whatever becomes of the future that asked for it, every later
//!   request for its sectors finds it finished (C4, C9).
//! - W2: what is written is copied from the caller's memory once, before the first layer sees it (C3).
//! - W3: layers change from the top down (L4). If one fails, the copies down to it are thrown away before anybody can have seen
//!   them. A copy that cannot be thrown away stays what reads find first: the failed request took effect where it holds it.
//! - W4: nothing is written beyond the end of a layer that is written through, so no copy is ever the only one.

use crate::copies;
use crate::erased::ZeroOptions;
use crate::stack::Stack;
use crate::stacked::StackedLayer;
use disk_backend::{DiskError, UnmapBehavior};
use planted::Bug;
use scsi_buffers::{BounceBuffer, PinnedBuffers, RequestBuffers};
use std::ops::Range;
use std::sync::Arc;

/// How much is copied, and written, in one operation.
pub(crate) const WRITE_BYTES_MAX: usize = 1 << 20;

/// Zeros that may give their space back, and are written as data where they must.
const ZEROS: ZeroOptions = ZeroOptions {
    fua: false,
    may_unmap: true,
    no_fallback: false,
};

/// What is to be done in every layer that takes what users write.
pub(crate) enum Change {
    Write {
        data: Data,
        sector: u64,
        fua: bool,
    },
    Zero {
        range: Range<u64>,
        options: ZeroOptions,
    },
    Unmap {
        range: Range<u64>,
        block_level_only: bool,
    },
}

/// What is written.
pub(crate) enum Data {
    /// A private copy (W2).
    Copy(BounceBuffer),
    /// The caller's own memory: a mistake ([`Bug::FetchedTwice`]).
    Callers(Box<PinnedBuffers>),
}

impl Data {
    fn buffers(&self) -> RequestBuffers<'_> {
        match self {
            Self::Copy(copy) => copy.buffers(false),
            Self::Callers(memory) => memory.buffers(),
        }
    }
}

impl Change {
    /// A write of `buffers` (W2).
    pub(crate) fn write(
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<Self, DiskError> {
        if planted::is_active(Bug::FetchedTwice)
            && let Some(memory) = buffers.pin()
        {
            let data = Data::Callers(Box::new(memory));
            return Ok(Self::Write { data, sector, fua });
        }
        let copy = copies::allocate(buffers.len())?;
        copy.buffers(true).copy_from(buffers)?;
        let data = Data::Copy(copy);
        Ok(Self::Write { data, sector, fua })
    }

    /// The sectors that change.
    pub(crate) fn range(&self, sector_shift: u32) -> Range<u64> {
        match self {
            Self::Write { data, sector, .. } => {
                *sector..sector + (data.buffers().len() as u64 >> sector_shift)
            }
            Self::Zero { range, .. } | Self::Unmap { range, .. } => range.clone(),
        }
    }

    /// Does it (W3).
    pub(crate) async fn carry_out(self, stack: Arc<Stack>) -> Result<(), DiskError> {
        let range = self.range(stack.sector_shift());
        // W4. The disk, too, may have become shorter since the request was checked: then nothing is touched, and no copy is thrown away that
        // may be ahead of what lies below since a crash.
        let end = stack.top().backing().sector_count();
        if end.min(stack.through_end()) < range.end {
            return Err(DiskError::IllegalBlock);
        }
        for (index, layer) in stack.written().iter().enumerate() {
            let is_copy = index < stack.copies().len();
            let result = match is_copy {
                true => self.apply(layer, range.clone(), false).await,
                false => self.apply_to_truth(&stack, range.clone()).await,
            };
            if let Err(error) = result {
                if planted::is_active(Bug::DivergenceAfterError) {
                    return Err(error);
                }
                let copies = stack.copies();
                for copy in &copies[..copies.len().min(index + 1)] {
                    copy.evict(range.clone()).await;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    async fn apply_to_truth(&self, stack: &Stack, range: Range<u64>) -> Result<(), DiskError> {
        if matches!(self, Self::Write { .. }) {
            return self.apply(stack.truth(), range, false).await;
        }
        for (part, next_is_zero) in stack.split_at_lower_end(range) {
            if !part.is_empty() {
                self.apply(stack.truth(), part, next_is_zero).await?;
            }
        }
        Ok(())
    }

    /// Changes `range`, which is all of it for a write, in one layer.
    async fn apply(
        &self,
        layer: &StackedLayer,
        range: Range<u64>,
        next_is_zero: bool,
    ) -> Result<(), DiskError> {
        match self {
            Self::Write { data, sector, fua } => layer.write(&data.buffers(), *sector, *fua).await,
            Self::Zero { options, .. } => layer.write_zeroes(range, *options, next_is_zero).await,
            Self::Unmap {
                block_level_only, ..
            } => match layer.backing().unmap_behavior() {
                UnmapBehavior::Zeroes => layer.unmap(range, *block_level_only, next_is_zero).await,
                // All copies must come to hold the same (L3).
                UnmapBehavior::Unspecified | UnmapBehavior::Ignored => {
                    layer.write_zeroes(range, ZEROS, next_is_zero).await
                }
            },
        }
    }
}

/// Resizes a stack that writes through (C10): growing from below, so that the layers below are never too short (W4), and shrinking
/// from the top. Each step is durable before the next, so that neither are they too short after a crash.
pub(crate) async fn resize(stack: Arc<Stack>, sector_count: u64) -> Result<(), DiskError> {
    let old = stack.top().backing().sector_count();
    if sector_count < old {
        stack.top().resize(sector_count).await?;
        for (above, layer) in stack.written().iter().zip(&stack.written()[1..]) {
            // A layer that was longer than the disk stays so, and so does one that has no other size.
            if layer.backing().sector_count() == old {
                above.sync_cache().await?;
                match layer.resize(sector_count).await {
                    Ok(()) | Err(DiskError::Unsupported) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        return Ok(());
    }
    for layer in stack.written()[1..].iter().rev() {
        grow_below_top(layer, old..sector_count).await?;
        layer.sync_cache().await?;
    }
    stack.top().resize(sector_count).await
}

/// Makes a layer below the top reach the end of `added`, with zeros in these sectors, some of which it may have had already.
async fn grow_below_top(layer: &StackedLayer, added: Range<u64>) -> Result<(), DiskError> {
    let had = layer.backing().sector_count();
    if had < added.end {
        layer.resize(added.end).await?;
    }
    let old = added.start..had.min(added.end);
    if !old.is_empty() {
        layer.write_zeroes(old, ZEROS, false).await?;
    }
    layer.shows_zeros(added);
    Ok(())
}
