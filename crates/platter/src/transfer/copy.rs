//! Making one disk's content another's.

use super::chunks::{Chunk, Chunks, Measures};
use super::content::{self, Pair, Verdict};
use super::drive::drive;
use super::extents::Known;
use super::fault::{Fault, Side};
use super::view::View;
use super::{Effort, GRANULE_BYTES_MIN, Watch};
use disk_backend::Disk;
use guestmem::{MemoryRead, MemoryWrite};
use scsi_buffers::BouncePool;
use std::ops::ControlFlow;

/// What becomes of the bytes of a destination that lie beyond the end of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// They are made zero.
    Zero,
    /// They are left alone.
    Keep,
}

/// A copy to be made. The destination is at least as large as the source, and takes writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copy<'a> {
    pub(crate) source: &'a Disk,
    pub(crate) destination: &'a Disk,
    /// Whether the destination is known to read zero wherever the copy goes: it is then not read.
    pub(crate) is_blank: bool,
    pub(crate) tail: Tail,
}

/// What was done to how many bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) source_read_bytes: u64,
    pub(crate) destination_read_bytes: u64,
    /// Compared with what the destination holds, by reading or by what is known of it.
    pub(crate) compared_bytes: u64,
    pub(crate) written_bytes: u64,
    /// Made zero, with its space given back where the destination can.
    pub(crate) zeroed_bytes: u64,
    /// Left as they were, because they were right.
    pub(crate) skipped_bytes: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.source_read_bytes += other.source_read_bytes;
        self.destination_read_bytes += other.destination_read_bytes;
        self.compared_bytes += other.compared_bytes;
        self.written_bytes += other.written_bytes;
        self.zeroed_bytes += other.zeroed_bytes;
        self.skipped_bytes += other.skipped_bytes;
    }

    /// How far the copy got (P3).
    pub(crate) fn covered_bytes(&self) -> u64 {
        self.written_bytes + self.zeroed_bytes + self.skipped_bytes
    }
}

/// What became of a copy that met no fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Copied {
    pub(crate) tally: Tally,
    /// Whether it was done to its end.
    pub(crate) is_complete: bool,
}

/// Source and destination.
type Views<'a> = (View<'a>, View<'a>);

impl Copy<'_> {
    /// Up to where the destination may be changed.
    pub(crate) fn end(&self) -> u64 {
        self.end_of(self.views())
    }

    fn end_of(&self, (source, destination): Views<'_>) -> u64 {
        match self.tail {
            Tail::Zero => destination.size_bytes(),
            Tail::Keep => source
                .size_bytes()
                .next_multiple_of(destination.sector_size()),
        }
    }

    /// Copies, and flushes the destination at the end; also if `watch` ended it early. Source holes become holes of the
    /// destination, and so do zeros in its data.
    ///
    /// # Errors
    /// The first fault by offset. What was copied by then is not flushed.
    pub(crate) async fn run(&self, effort: Effort, watch: &dyn Watch) -> Result<Copied, Fault> {
        // Disks may grow while they are copied; what counts is how they were found.
        let views = self.views();
        let (source, destination) = views;
        let measures = measures(effort, self.end_of(views), &[source, destination]);
        let written_over = (!self.is_blank).then_some(destination);
        let chunks = Chunks::new(Known::new(source), written_over.map(Known::new), measures);
        let pool = pool(effort, &measures);
        let mut tally = Tally::default();
        let driven = drive(
            chunks,
            effort,
            watch,
            async |chunk| {
                if chunk.is_zero() {
                    return Ok(self.untouched(chunk));
                }
                let pair = content::load(&pool, (source, written_over), chunk, &measures).await?;
                self.store(views, &pair, chunk, measures.granule).await
            },
            |done| {
                tally.add(&done);
                ControlFlow::Continue(())
            },
        );
        let is_complete = match driven.await {
            Ok(is_complete) => is_complete,
            Err(fault) => return Err(destination.pinpoint(source.pinpoint(fault).await).await),
        };
        destination.close().await?;
        Ok(Copied { tally, is_complete })
    }

    fn views(&self) -> Views<'_> {
        (
            View::new(self.source, Side::First),
            View::new(self.destination, Side::Second),
        )
    }

    fn untouched(&self, chunk: &Chunk) -> Tally {
        Tally {
            compared_bytes: self.compared_bytes(chunk),
            skipped_bytes: chunk.len(),
            ..Tally::default()
        }
    }

    fn compared_bytes(&self, chunk: &Chunk) -> u64 {
        match self.is_blank {
            true => 0,
            false => chunk.len(),
        }
    }

    /// Writes what differs in a chunk.
    async fn store(
        &self,
        (source, destination): Views<'_>,
        pair: &Pair,
        chunk: &Chunk,
        granule: u64,
    ) -> Result<Tally, Fault> {
        self.keep_tail(source, pair, chunk);
        let mut tally = Tally {
            source_read_bytes: pair.first_read_bytes,
            destination_read_bytes: pair.second_read_bytes,
            compared_bytes: self.compared_bytes(chunk),
            ..Tally::default()
        };
        for (place, verdict) in content::verdicts(pair, chunk.len(), granule) {
            let len = place.end - place.start;
            let offset = chunk.range.start + place.start;
            match verdict {
                Verdict::Same => tally.skipped_bytes += len,
                Verdict::Zero => {
                    destination.zero(offset..offset + len).await?;
                    tally.zeroed_bytes += len;
                }
                Verdict::Data => {
                    let loaded = pair.first.as_ref().expect("zeros are not data");
                    let part = loaded
                        .buffers(false)
                        .subrange(place.start as usize, len as usize);
                    destination.write(&part, offset).await?;
                    tally.written_bytes += len;
                }
            }
        }
        Ok(tally)
    }

    /// Puts what the destination holds behind the end of the source where the source's zeros would go: its last sector may
    /// reach beyond. The granule in which the source ends is always read, because what is known of it ends in the middle.
    fn keep_tail(&self, source: View<'_>, pair: &Pair, chunk: &Chunk) {
        let (Tail::Keep, Some(first), Some(second)) = (self.tail, &pair.first, &pair.second) else {
            return;
        };
        let inside = source
            .size_bytes()
            .saturating_sub(chunk.range.start)
            .min(first.len() as u64) as usize;
        let mut kept = vec![0; first.len() - inside];
        let from = second.buffers(false).subrange(inside, kept.len());
        from.reader()
            .read(&mut kept)
            .expect("a bounce buffer is memory");
        let to = first.buffers(true).subrange(inside, kept.len());
        to.writer()
            .write(&kept)
            .expect("a bounce buffer can be written");
    }
}

/// The measures of a run over these disks.
pub(super) fn measures(effort: Effort, end: u64, views: &[View<'_>]) -> Measures {
    let sector_sizes = views.iter().map(View::sector_size);
    let granule = sector_sizes.fold(GRANULE_BYTES_MIN, u64::max);
    Measures {
        granule,
        chunk: effort.chunk_bytes.next_multiple_of(granule),
        end,
    }
}

/// Memory for all chunks in flight (P2): nobody ever waits for it.
pub(super) fn pool(effort: Effort, measures: &Measures) -> BouncePool {
    // Sizes are rounded up a little, by less than a half.
    BouncePool::new(3 * effort.depth * measures.chunk as usize)
}
