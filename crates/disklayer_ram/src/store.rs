//! Sectors in memory, present or absent.
//!
//! Invariants:
//! - I1: a request looks at the size while it holds the lock of the chunk that it touches; shrinking changes the size before
//!   it takes any of those locks. So nothing is stored beyond the end after a shrink has passed. Places for chunks are made, and the
//!   size is changed, with `growing` locked: either the shrink finds a place, or whoever uses the place finds the new size.
//! - I2: an absent sector at or beyond `smallest_sector_count` counts as an explicit zero: sectors that a resize added hide
//!   what lies below (C10), at no cost. The mark is lowered before a shrink empties any chunk, and is looked at after the
//!   chunk: whoever finds a sector emptied finds it hidden.
//! - I3: before the size changes, every chunk beyond the old end is empty. Whoever resizes empties what an earlier resize left,
//!   a step at a time, and waits for nobody's polling (C4).

use crate::chunk::{CHUNK_BYTES, Cleared, PAGE_BYTES, SectorState, Slot};
use crate::emptied::Emptied;
use crate::place::Place;
use crate::table::Table;
use disk_backend::{BlockExtent, BlockState, BlockStatus, DiskError};
use disk_layered::{LayerStatus, LayerWatch, SectorMarker, TryRead};
use event_listener::Event;
use guestmem::{MemoryRead, MemoryWrite};
use inspect::Counters;
use planted::Bug;
use scsi_buffers::{BufferReader, BufferWriter, RequestBuffers};
use std::ops::Range;
use std::sync::OnceLock;
use sync::atomic::{AtomicU64, Ordering};
use sync::{Mutex, Race};

mod fill;
mod torn;

/// Steps over chunks that cost next to nothing and are taken without letting others run: about 100 us.
const CHEAP_STEPS: u64 = 512;

/// See the head of this module.
#[derive(Debug)]
pub(crate) struct Store {
    sector_shift: u32,
    sector_count: AtomicU64,
    smallest_sector_count: AtomicU64,
    places: Table<Place>,
    /// Held while places for chunks are made, and while the size changes (I1).
    growing: Mutex<()>,
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
    pub(crate) const BYTES_MAX: u64 = Table::<Place>::CAPACITY * CHUNK_BYTES as u64;

    pub(crate) fn new(sector_shift: u32, sector_count: u64) -> Self {
        Self {
            sector_shift,
            sector_count: AtomicU64::new(sector_count),
            smallest_sector_count: AtomicU64::new(sector_count),
            places: Table::default(),
            growing: Mutex::new(()),
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
        self.pages.add(count as usize, pages as u64);
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
            self.read_piece(&piece, &mut writer, &mut |range| marker.set_range(range))?;
        }
        Ok(())
    }

    /// Reads what is no longer than a chunk; see [`LayerIo::try_read`](disk_layered::LayerIo::try_read).
    pub(crate) fn try_read(&self, buffers: &RequestBuffers<'_>, sector: u64) -> TryRead {
        if buffers.len() > CHUNK_BYTES {
            return TryRead::WouldBlock;
        }
        let end = sector + (buffers.len() as u64 >> self.sector_shift);
        let piece = self.piece_at(sector..end);
        if piece.range.end == end
            && let Some(found) = self.try_read_alike(&piece, buffers)
        {
            return found;
        }
        let mut writer = buffers.writer();
        let mut present = 0;
        for piece in self.pieces(sector, buffers.len()) {
            let mut count = |range: Range<u64>| present += range.end - range.start;
            if self.read_piece(&piece, &mut writer, &mut count).is_err() {
                return TryRead::WouldBlock;
            }
        }
        match present {
            0 => TryRead::Absent,
            all if all == buffers.len() as u64 >> self.sector_shift => TryRead::Done,
            _ => TryRead::WouldBlock,
        }
    }

    /// Reads a piece of which all is data, or nothing is there, as nearly every request finds it.
    #[inline]
    fn try_read_alike(&self, piece: &Piece, buffers: &RequestBuffers<'_>) -> Option<TryRead> {
        let slot = self.places.get(piece.chunk)?.read();
        self.check_end(piece.range.end).ok()?;
        if let Some(data) = slot.data(piece.sectors.clone()) {
            buffers.writer().write(data).ok()?;
            return Some(TryRead::Done);
        }
        let is_absent = slot.is_absent(piece.sectors.clone());
        (is_absent && piece.range.end <= self.hidden_from()).then_some(TryRead::Absent)
    }

    /// Reads what is there of a piece, and tells which sectors are.
    fn read_piece(
        &self,
        piece: &Piece,
        writer: &mut BufferWriter<'_>,
        present: &mut impl FnMut(Range<u64>),
    ) -> Result<(), DiskError> {
        let Some(place) = self.places.get(piece.chunk) else {
            self.check_end(piece.range.end)?;
            return self.read_absent(piece.range.clone(), writer, present);
        };
        let slot = place.read();
        self.check_end(piece.range.end)?;
        let mut at = piece.sectors.start;
        while at < piece.sectors.end {
            let (state, end) = slot.run(at, piece.sectors.end);
            let range = piece.absolute(at..end);
            match state {
                SectorState::Data => slot.read(at..end, writer)?,
                SectorState::Zero => writer.zero((end - at) << self.sector_shift)?,
                SectorState::Absent => self.read_absent(range.clone(), writer, present)?,
            }
            if state != SectorState::Absent {
                present(range);
            }
            at = end;
        }
        Ok(())
    }

    /// Leaves absent sectors to the layers below, but for those that a resize added (I2).
    fn read_absent(
        &self,
        range: Range<u64>,
        writer: &mut BufferWriter<'_>,
        present: &mut impl FnMut(Range<u64>),
    ) -> Result<(), DiskError> {
        let hidden_from = self.hidden_from().clamp(range.start, range.end);
        writer.skip(self.len_of(range.start..hidden_from))?;
        if hidden_from < range.end {
            writer.zero(self.len_of(hidden_from..range.end))?;
            present(hidden_from..range.end);
        }
        Ok(())
    }

    /// Writes what is no longer than a chunk, and returns whether it did. If not, nothing was changed: what lies in two chunks is
    /// stored when both are locked, and have memory for it.
    pub(crate) fn try_write(&self, buffers: &RequestBuffers<'_>, sector: u64) -> bool {
        if buffers.len() > CHUNK_BYTES || planted::is_active(Bug::TornSector) {
            return false;
        }
        let end = sector + (buffers.len() as u64 >> self.sector_shift);
        let piece = self.piece_at(sector..end);
        if piece.range.end == end && self.try_overwrite(&piece, buffers) {
            return true;
        }
        let mut reader = buffers.reader();
        let mut pieces = self.pieces(sector, buffers.len());
        match [pieces.next(), pieces.next()] {
            [None, _] => false,
            [Some(piece), None] => self.write_piece(&piece, &mut reader).is_ok(),
            [Some(first), Some(second)] => self.write_both(&first, &second, &mut reader).is_ok(),
        }
    }

    /// Writes over a piece of which all is data: then only that changes. Returns whether it did.
    #[inline]
    fn try_overwrite(&self, piece: &Piece, buffers: &RequestBuffers<'_>) -> bool {
        let Some(place) = self.places.get(piece.chunk) else {
            return false;
        };
        let mut slot = place.write();
        self.check_end(piece.range.end).is_ok()
            && slot
                .data_mut(piece.sectors.clone())
                .is_some_and(|data| buffers.reader().read(data).is_ok())
    }

    /// Writes two pieces, the first of which comes first, or neither. Nobody else locks two slots.
    fn write_both(
        &self,
        first: &Piece,
        second: &Piece,
        reader: &mut BufferReader<'_>,
    ) -> Result<(), DiskError> {
        let pieces = [first, second];
        let places = pieces.map(|piece| self.place_to_change(piece.chunk));
        let mut slots = places.map(Place::write);
        self.check_end(second.range.end)?;
        for slot in &mut slots {
            slot.reserve(self.sector_shift)?;
        }
        for ((slot, place), piece) in slots.iter_mut().zip(places).zip(pieces) {
            self.store_sectors(place, slot, piece.sectors.clone(), reader)?;
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
            self.write_piece(&piece, &mut reader)?;
        }
        Ok(())
    }

    fn write_piece(&self, piece: &Piece, reader: &mut BufferReader<'_>) -> Result<(), DiskError> {
        let place = self.place_to_change(piece.chunk);
        let mut slot = place.write();
        self.check_end(piece.range.end)?;
        self.store_sectors(place, &mut slot, piece.sectors.clone(), reader)
    }

    /// Stores sectors in the slot of a place that is locked.
    fn store_sectors(
        &self,
        place: &Place,
        slot: &mut Slot,
        sectors: Range<usize>,
        reader: &mut BufferReader<'_>,
    ) -> Result<(), DiskError> {
        let taken = slot.write(self.sector_shift, sectors, reader)?;
        if taken > 0 {
            self.count_pages(PageCount::Taken, taken);
            place.note_memory(slot);
        }
        Ok(())
    }

    /// Takes the content of sectors in the slot of a place that is locked.
    fn clear_sectors(
        &self,
        place: &Place,
        slot: &mut Slot,
        sectors: Range<usize>,
        hide: bool,
    ) -> Cleared {
        let cleared = slot.clear(self.sector_shift, sectors, hide);
        if cleared.pages > 0 {
            self.count_pages(PageCount::GivenBack, cleared.pages);
            place.note_memory(slot);
        }
        cleared
    }

    /// Has the processor fetch what will be read, as far as it lies in the first page.
    pub(crate) fn prefetch(&self, sector: u64, len: usize) {
        let chunk_shift = CHUNK_BYTES.trailing_zeros() - self.sector_shift;
        if let Some(place) = self.places.get(sector >> chunk_shift) {
            let offset = ((sector << self.sector_shift) as usize) % CHUNK_BYTES;
            place.prefetch(offset, len);
        }
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
        let mut emptied = Emptied::default();
        while at < range.end {
            let piece = self.piece_at(at..range.end);
            at = piece.range.end;
            let place = match hide {
                true => Some(self.place_to_change(piece.chunk)),
                false => self.places.get(piece.chunk),
            };
            let Some(place) = place else {
                self.check_end(piece.range.end)?;
                at = self.skip_unmade(piece.chunk).clamp(at, range.end);
                continue;
            };
            let cleared = {
                let mut slot = place.write();
                self.check_end(piece.range.end)?;
                self.clear_sectors(place, &mut slot, piece.sectors, hide)
            };
            cheap_steps += 1;
            if (!emptied.push(cleared) || cheap_steps == CHEAP_STEPS) && at < range.end {
                cheap_steps = 0;
                futures_lite::future::yield_now().await;
            }
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
        let Some(place) = self.places.get(piece.chunk) else {
            let end = self.skip_unmade(piece.chunk);
            self.check_end(range.end)?;
            return Ok((SectorState::Absent, end.clamp(piece.range.end, range.end)));
        };
        let slot = place.read();
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
        {
            let _growing = self.growing.lock();
            self.sector_count.store(sector_count, Ordering::Release);
        }
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
            let Some(place) = self.places.get(piece.chunk) else {
                let next = self.skip_unmade(piece.chunk);
                cut_off.start = next.clamp(piece.range.end, cut_off.end);
                continue;
            };
            cut_off.start = piece.range.end;
            let cleared = self.clear_sectors(place, &mut place.write(), piece.sectors, false);
            if cleared.pages > 0 {
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
        self.places.next_made(chunk).map_or(u64::MAX, |made| {
            made << (CHUNK_BYTES.trailing_zeros() - self.sector_shift)
        })
    }

    /// The place of a chunk that is about to change, made if need be.
    fn place_to_change(&self, chunk: u64) -> &Place {
        self.places.get(chunk).unwrap_or_else(|| {
            let _growing = self.growing.lock();
            self.places.get_or_make(chunk)
        })
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
