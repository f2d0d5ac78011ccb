//! Sectors in memory, present or absent.
//!
//! Invariants:
//! - I1: a request looks at the size while it holds the lock of the chunk that it touches; shrinking changes the size before
//!   it takes any of those locks. So nothing is stored beyond the end after a shrink has passed. For a chunk without a place
//!   two fences stand in for the lock: either the shrink finds the place that a request made, or the request finds the new size.
//! - I2: an absent sector at or beyond `smallest_sector_count` counts as an explicit zero: sectors that a resize added hide
//!   what lies below (C10), at no cost. The mark is lowered before a shrink empties any chunk, and is looked at after the
//!   chunk: whoever finds a sector emptied finds it hidden.
//! - I3: before the size changes, every chunk beyond the old end is empty. Whoever resizes empties what an earlier resize left,
//!   a step at a time, and waits for nobody's polling (C4).

use crate::chunk::{CHUNK_BYTES, PAGE_BYTES, SectorState, Slot};
use crate::table::Table;
use disk_backend::{BlockExtent, BlockState, BlockStatus, DiskError};
use disk_layered::{LayerStatus, LayerWatch, SectorMarker, WriteNoOverwrite};
use event_listener::Event;
use guestmem::MemoryWrite;
use inspect::Counters;
use planted::Bug;
use scsi_buffers::RequestBuffers;
use std::ops::Range;
use std::sync::OnceLock;
use sync::atomic::{AtomicU64, Ordering, fence};
use sync::{Mutex, Race, RwLock};

mod torn;

/// Steps over chunks that cost next to nothing and are taken without letting others run: about 100 us.
const CHEAP_STEPS: u64 = 2048;

/// See the head of this module.
#[derive(Debug)]
pub(crate) struct Store {
    sector_shift: u32,
    sector_count: AtomicU64,
    smallest_sector_count: AtomicU64,
    slots: Table<RwLock<Slot>>,
    pages: Counters<{ PageCount::N }>,
    resized: Event,
    /// Told of each change of the size.
    watch: OnceLock<LayerWatch>,
    /// The sectors that a shrink cut off and that have yet to be emptied. Held only for a step at a time.
    cut_off: Mutex<Range<u64>>,
}

/// What is counted of the pages that hold data.
#[derive(Clone, Copy)]
pub(crate) enum PageCount {
    Taken,
    GivenBack,
}

impl PageCount {
    const N: usize = Self::GivenBack as usize + 1;
}

/// The part of a request that lies in one chunk.
struct Piece {
    chunk: u64,
    /// The sectors, counted from the beginning of the disk.
    range: Range<u64>,
    /// The same, counted from the beginning of the chunk.
    sectors: Range<usize>,
}

impl Store {
    /// The largest store, in bytes.
    pub(crate) const BYTES_MAX: u64 = Table::<RwLock<Slot>>::CAPACITY * CHUNK_BYTES as u64;

    pub(crate) fn new(sector_shift: u32, sector_count: u64) -> Self {
        Self {
            sector_shift,
            sector_count: AtomicU64::new(sector_count),
            smallest_sector_count: AtomicU64::new(sector_count),
            slots: Table::default(),
            pages: Counters::new(),
            resized: Event::new(),
            watch: OnceLock::new(),
            cut_off: Mutex::new(0..0),
        }
    }

    pub(crate) fn sector_shift(&self) -> u32 {
        self.sector_shift
    }

    pub(crate) fn sector_count(&self) -> u64 {
        self.sector_count.load(Ordering::Acquire)
    }

    /// The memory that holds data, in bytes.
    pub(crate) fn committed_bytes(&self) -> u64 {
        let taken = self.page_count(PageCount::Taken);
        // The two are not read at one instant.
        taken.saturating_sub(self.page_count(PageCount::GivenBack)) * PAGE_BYTES as u64
    }

    /// How many pages of memory have been taken, or given back, so far.
    pub(crate) fn page_count(&self, count: PageCount) -> u64 {
        self.pages.get(count as usize)
    }

    fn count_pages(&self, count: PageCount, pages: usize) {
        if pages > 0 {
            self.pages.add(count as usize, pages as u64);
        }
    }

    pub(crate) async fn read(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        mut marker: SectorMarker<'_>,
    ) -> Result<(), DiskError> {
        let mut writer = buffers.writer();
        for piece in self.pieces(sector, buffers.len()) {
            self.yield_between_chunks(&piece, sector).await;
            let Some(slot) = self.slots.get(piece.chunk) else {
                self.check_end(piece.range.end)?;
                self.read_absent(piece.range, &mut writer, &mut marker)?;
                continue;
            };
            let slot = slot.read();
            self.check_end(piece.range.end)?;
            let mut at = piece.sectors.start;
            while at < piece.sectors.end {
                let (state, end) = slot.run(at, piece.sectors.end);
                let range = piece.absolute(at..end);
                match state {
                    SectorState::Data => slot.read(at..end, &mut writer)?,
                    SectorState::Zero => writer.zero((end - at) << self.sector_shift)?,
                    SectorState::Absent => {
                        self.read_absent(range, &mut writer, &mut marker)?;
                        at = end;
                        continue;
                    }
                }
                marker.set_range(range);
                at = end;
            }
        }
        Ok(())
    }

    /// Leaves absent sectors to the layers below, but for those that a resize added (I2).
    fn read_absent(
        &self,
        range: Range<u64>,
        writer: &mut impl MemoryWrite,
        marker: &mut SectorMarker<'_>,
    ) -> Result<(), DiskError> {
        let hidden_from = self.hidden_from().clamp(range.start, range.end);
        writer.skip(self.len_of(range.start..hidden_from))?;
        if hidden_from < range.end {
            writer.zero(self.len_of(hidden_from..range.end))?;
            marker.set_range(hidden_from..range.end);
        }
        Ok(())
    }

    pub(crate) async fn write(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        let mut reader = buffers.reader();
        for piece in self.pieces(sector, buffers.len()) {
            self.yield_between_chunks(&piece, sector).await;
            if planted::is_active(Bug::TornSector) {
                let offset = self.len_of(sector..piece.range.start);
                Box::pin(self.store_half_a_sector(buffers, offset, &piece)).await?;
            }
            let mut slot = self.slot_to_change(piece.chunk).write();
            self.check_end(piece.range.end)?;
            let taken = slot.write(self.sector_shift, piece.sectors, &mut reader)?;
            self.count_pages(PageCount::Taken, taken);
        }
        Ok(())
    }

    /// Makes sectors absent that were written since the disk was made; those that a resize added, which hide what lies below even
    /// when absent (I2), stay as they are.
    ///
    /// # Errors
    /// [`DiskError::Unsupported`] if some of them stay.
    pub(crate) async fn evict(&self, range: Range<u64>) -> Result<(), DiskError> {
        let end = range.end.min(self.hidden_from());
        if range.start < end {
            self.clear(range.start..end, false).await?;
        }
        match end < range.end {
            true => Err(DiskError::Unsupported),
            false => Ok(()),
        }
    }

    /// Takes the content of a range away: its sectors become explicit zeros if `hide`, else absent.
    pub(crate) async fn clear(&self, range: Range<u64>, hide: bool) -> Result<(), DiskError> {
        let mut at = range.start;
        let mut cheap_steps = 0;
        while at < range.end {
            let piece = self.piece_at(at..range.end);
            at = piece.range.end;
            let slot = match hide {
                true => Some(self.slot_to_change(piece.chunk)),
                false => self.slots.get(piece.chunk),
            };
            let Some(slot) = slot else {
                self.check_end(piece.range.end)?;
                at = self.skip_unmade(piece.chunk).clamp(at, range.end);
                continue;
            };
            let freed = {
                let mut slot = slot.write();
                self.check_end(piece.range.end)?;
                slot.clear(self.sector_shift, piece.sectors, hide)
            };
            self.count_pages(PageCount::GivenBack, freed);
            cheap_steps += 1;
            if (freed > 0 || cheap_steps == CHEAP_STEPS) && at < range.end {
                cheap_steps = 0;
                futures_lite::future::yield_now().await;
            }
        }
        Ok(())
    }

    /// Writes the absent sectors of a piece from their places in `buffers`.
    fn fill_piece(&self, buffers: &RequestBuffers<'_>, piece: &Piece) -> Result<(), DiskError> {
        let slot = self.slot_to_change(piece.chunk);
        let nothing = (SectorState::Absent, piece.sectors.end);
        let was_absent = sync::is_planted(Race::FillLooksBeforeLock)
            && slot.read().run(piece.sectors.start, piece.sectors.end) == nothing;
        let mut slot = slot.write();
        self.check_end(piece.range.end)?;
        // I2: looked at after the slot, which whoever shrinks empties only when the mark is down.
        let filled = self.hidden_from().clamp(piece.range.start, piece.range.end);
        let end = piece.sectors.start + (filled - piece.range.start) as usize;
        let mut at = piece.sectors.start;
        while at < end {
            let (state, run_end) = slot.run(at, end);
            let is_absent = match planted::is_active(Bug::CacheFillAfterUnmap) {
                true => state != SectorState::Data,
                false => state == SectorState::Absent,
            };
            if is_absent || was_absent {
                let run = piece.absolute(at..run_end);
                let offset = self.len_of(piece.range.start..run.start);
                let mut reader = buffers.subrange(offset, self.len_of(run)).reader();
                let taken = slot.write(self.sector_shift, at..run_end, &mut reader)?;
                self.count_pages(PageCount::Taken, taken);
            }
            at = run_end;
        }
        Ok(())
    }

    /// What is known of the sectors from `range.start` on: a bounded look.
    ///
    /// # Errors
    /// [`DiskError::IllegalBlock`] if a shrink took some of what was looked at.
    pub(crate) fn status(&self, range: Range<u64>) -> Result<LayerStatus, DiskError> {
        let mut status = BlockStatus::default();
        let mut absent = 0;
        let mut at = range.start;
        for _ in 0..CHEAP_STEPS {
            if at >= range.end {
                break;
            }
            let (mut state, mut end) = self.run(at..range.end)?;
            if state == SectorState::Absent {
                let hidden_from = self.hidden_from();
                match at < hidden_from {
                    true => end = end.min(hidden_from),
                    false => state = SectorState::Zero,
                }
            }
            let block = match state {
                SectorState::Absent if status.sector_count() > 0 => break,
                SectorState::Absent => {
                    absent += end - at;
                    at = end;
                    continue;
                }
                _ if absent > 0 => break,
                SectorState::Zero => BlockState::Zero,
                SectorState::Data => BlockState::Data,
            };
            let extent = BlockExtent {
                sector_count: end - at,
                state: block,
                layer: None,
            };
            if !status.push(extent) {
                break;
            }
            at = end;
        }
        Ok(match absent {
            0 => LayerStatus::Present(status),
            sector_count => LayerStatus::Absent { sector_count },
        })
    }

    /// The state of the first sector of `range`, and where the run of such sectors ends as far as one chunk tells.
    fn run(&self, range: Range<u64>) -> Result<(SectorState, u64), DiskError> {
        let piece = self.piece_at(range.clone());
        let Some(slot) = self.slots.get(piece.chunk) else {
            let end = self.skip_unmade(piece.chunk);
            self.check_end(range.end)?;
            return Ok((SectorState::Absent, end.clamp(piece.range.end, range.end)));
        };
        let slot = slot.read();
        self.check_end(piece.range.end)?;
        let (state, end) = slot.run(piece.sectors.start, piece.sectors.end);
        Ok((state, piece.absolute(piece.sectors.start..end).end))
    }

    /// Changes the size. Sectors that are added read zero, whatever lies below; those cut off give their memory back.
    ///
    /// If the future is dropped, the size may have changed; memory still to be given back then is at the next resize.
    pub(crate) async fn resize(&self, sector_count: u64) {
        while !self.try_resize(sector_count) {
            futures_lite::future::yield_now().await;
        }
        while !self.empty_some(&mut self.cut_off.lock()) {
            futures_lite::future::yield_now().await;
        }
    }

    /// Changes the size if nothing is left of an earlier shrink (I3), else takes a step to that end.
    fn try_resize(&self, sector_count: u64) -> bool {
        let mut cut_off = self.cut_off.lock();
        if !self.empty_some(&mut cut_off) {
            return false;
        }
        let changing = self.watch.get().map(LayerWatch::begin_change);
        let old = self.sector_count();
        // I2: before the size changes, so that no request sees an added sector as merely absent.
        if !planted::is_active(Bug::LostResize) {
            self.smallest_sector_count
                .fetch_min(sector_count.min(old), Ordering::AcqRel);
        }
        *cut_off = sector_count..old;
        self.sector_count.store(sector_count, Ordering::Release);
        // I1: pairs with the fence of `slot_to_change`.
        fence(Ordering::SeqCst);
        drop(changing);
        self.resized.notify(usize::MAX);
        true
    }

    /// Takes a step towards making the sectors that were cut off absent, and those done out of `cut_off`. Returns whether
    /// nothing is left.
    fn empty_some(&self, cut_off: &mut Range<u64>) -> bool {
        for _ in 0..CHEAP_STEPS {
            if cut_off.is_empty() {
                return true;
            }
            let piece = self.piece_at(cut_off.clone());
            let Some(slot) = self.slots.get(piece.chunk) else {
                let next = self.skip_unmade(piece.chunk);
                cut_off.start = next.clamp(piece.range.end, cut_off.end);
                continue;
            };
            cut_off.start = piece.range.end;
            let freed = slot.write().clear(self.sector_shift, piece.sectors, false);
            self.count_pages(PageCount::GivenBack, freed);
            if freed > 0 {
                break;
            }
        }
        cut_off.is_empty()
    }

    /// Whether `watch` will be told of each change of the size: it is, if it is the first.
    pub(crate) fn watch(&self, watch: &LayerWatch) -> bool {
        self.watch.set(watch.clone()).is_ok()
    }

    pub(crate) async fn wait_resize(&self, sector_count: u64) -> u64 {
        loop {
            let listener = self.resized.listen();
            let now = self.sector_count();
            if now != sector_count {
                return now;
            }
            listener.await;
        }
    }

    /// The first sector of the first chunk at or after `chunk` that has a place.
    fn skip_unmade(&self, chunk: u64) -> u64 {
        self.slots.next_made(chunk).map_or(u64::MAX, |made| {
            made << (CHUNK_BYTES.trailing_zeros() - self.sector_shift)
        })
    }

    /// The place of a chunk that is about to change, made if need be.
    fn slot_to_change(&self, chunk: u64) -> &RwLock<Slot> {
        let slot = self.slots.get_or_make(chunk);
        // I1: pairs with the fence of `try_resize`. Taking the slot's lock afterwards does not order the two as this does.
        fence(Ordering::SeqCst);
        slot
    }

    /// I1: whoever calls holds the lock of the chunk that `end` lies in, or finds that the chunk has none.
    fn check_end(&self, end: u64) -> Result<(), DiskError> {
        match end <= self.sector_count() || sync::is_planted(Race::SizeCheckedBeforeLock) {
            true => Ok(()),
            false => Err(DiskError::IllegalBlock),
        }
    }

    /// Where absent sectors begin to count as zeros (I2).
    fn hidden_from(&self) -> u64 {
        self.smallest_sector_count.load(Ordering::Acquire)
    }

    fn len_of(&self, range: Range<u64>) -> usize {
        // Only for ranges inside a request, whose length in bytes is a usize.
        ((range.end - range.start) as usize) << self.sector_shift
    }

    fn pieces(&self, sector: u64, len: usize) -> impl Iterator<Item = Piece> + use<'_> {
        let end = sector + (len as u64 >> self.sector_shift);
        let mut at = sector;
        std::iter::from_fn(move || {
            let piece = (at < end).then(|| self.piece_at(at..end))?;
            at = piece.range.end;
            Some(piece)
        })
    }

    /// Lets others run between the chunks of a request that is longer than one. Any other is done at once, wherever it lies.
    async fn yield_between_chunks(&self, piece: &Piece, sector: u64) {
        if piece.range.start - sector >= CHUNK_BYTES as u64 >> self.sector_shift {
            futures_lite::future::yield_now().await;
        }
    }

    /// The beginning of a range that lies in one chunk.
    fn piece_at(&self, range: Range<u64>) -> Piece {
        let chunk_shift = CHUNK_BYTES.trailing_zeros() - self.sector_shift;
        let chunk = range.start >> chunk_shift;
        let base = chunk << chunk_shift;
        let end = range.end.min(base + (1 << chunk_shift));
        Piece {
            chunk,
            sectors: (range.start - base) as usize..(end - base) as usize,
            range: range.start..end,
        }
    }
}

impl Piece {
    /// Sectors of the chunk, counted from the beginning of the disk.
    fn absolute(&self, sectors: Range<usize>) -> Range<u64> {
        let base = self.range.start - self.sectors.start as u64;
        base + sectors.start as u64..base + sectors.end as u64
    }
}

impl WriteNoOverwrite for &Store {
    /// Absent sectors that a resize added count as zeros of the disk's own (I2), so they are left alone.
    async fn write_no_overwrite(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        for piece in self.pieces(sector, buffers.len()) {
            self.yield_between_chunks(&piece, sector).await;
            let offset = self.len_of(sector..piece.range.start);
            let part = buffers.subrange(offset, self.len_of(piece.range.clone()));
            self.fill_piece(&part, &piece)?;
        }
        Ok(())
    }
}
