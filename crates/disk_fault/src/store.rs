//! The disk below, and the writes that are kept back from it.
//!
//! A write that is kept back is copied once, and what users read of its sectors is the copy. It is written below, by anybody whom it
//! concerns, when a flush is asked for, when there are too many, or before something else changes its sectors.
//!
//! What a sector holds is what its piece says, or what is below if it has none. Invariants:
//! - S1: whoever reads looks for pieces before and after reading below, and takes what they say: what is below a piece, and may
//!   have come there in another order, is never seen.
//! - S2: a piece goes when a write of it has ended and no other change of its sectors below has ended, or been left alone,
//!   since that began (S4).
//! - S3: writing a piece is a future that owns what it needs, and whoever waits for it polls it: so it goes on without the request
//!   that began it (C4, C9). No two of them that are under way overlap.
//! - S4: a request that changes sectors directly begins when none of the pieces that it found there is left, and so is newer than
//!   they were. Those that came while it was under way are newer than it: when it ends or is dropped they get new versions, so that a
//!   write of them at the same time, which may have come first below, does not count.
//! - S5: after a flush each sector that had a piece when it was called has that below, or something newer.

mod answer;
mod change;

use crate::dice::Dice;
use crate::pieces::{Piece, Pieces};
use answer::{same_error, with_data};
use change::Change;
use disk_backend::{BlockStatus, Disk, DiskError};
use futures_util::FutureExt;
use futures_util::future::Shared;
use parking_lot::{Mutex, MutexGuard};
use rangemap::RangeSet;
use scsi_buffers::{BouncePool, RequestBuffers};
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most memory for writes that are kept back, in bytes.
pub(crate) const KEPT_BYTES_MAX: usize = 64 << 20;

/// The dice for the order of writing are those of a rule that is none.
const ORDER_ID: u64 = u64::MAX;

pub(crate) struct Store {
    pub(crate) disk: Disk,
    seed: u64,
    pool: BouncePool,
    state: Mutex<State>,
    /// How many pieces there are, and writes of them under way.
    busy: AtomicUsize,
}

#[derive(Default)]
struct State {
    pieces: Pieces,
    /// In no order.
    under_way: Vec<Writing>,
    numbers_used: u64,
    orders_begun: u64,
}

/// A piece that is being written below (S3).
#[derive(Clone)]
struct Writing {
    number: u64,
    sectors: Range<u64>,
    write: u64,
    version: u64,
    /// Where other changes below have ended, or been left alone, since it began: what it wrote there may have been replaced.
    disturbed: Arc<Mutex<RangeSet<u64>>>,
    run: Shared<Run>,
}

impl Writing {
    fn overlaps(&self, sectors: &Range<u64>) -> bool {
        self.sectors.start < sectors.end && sectors.start < self.sectors.end
    }
}

type Run = Pin<Box<dyn Future<Output = Result<(), Arc<DiskError>>> + Send>>;

impl State {
    /// A number that was never used.
    fn number(&mut self) -> u64 {
        self.numbers_used += 1;
        self.numbers_used
    }

    /// A write of a piece has ended well: the piece goes (S2), or what is left of it where others have not replaced it.
    fn let_go(&mut self, writing: &Writing) {
        debug_assert!(self.may_let_go(writing), "S2: {:?}", writing.disturbed);
        self.pieces
            .remove_version(&writing.sectors, writing.version);
    }

    /// Whether no other change has disturbed what would go: S2 without the versions by which it is kept.
    fn may_let_go(&self, writing: &Writing) -> bool {
        let pieces = self.pieces.overlapping(&writing.sectors);
        let mut going = pieces
            .iter()
            .filter(|piece| piece.version == writing.version);
        let disturbed = writing.disturbed.lock();
        going.all(|piece| !disturbed.overlaps(&piece.sectors))
    }

    /// What has to be written after a write that ended, so that it or something newer is below: its piece, where it did not count
    /// (S2), and what has replaced it, where something else may have come below over it.
    fn still_to_be_written(&self, writing: &Writing) -> Vec<Range<u64>> {
        let disturbed = writing.disturbed.lock();
        let pieces = self.pieces.overlapping(&writing.sectors);
        let kept = pieces
            .iter()
            .filter(|piece| piece.write == writing.write || disturbed.overlaps(&piece.sectors));
        kept.map(|piece| piece.within(&writing.sectors).sectors)
            .collect()
    }
}

impl Store {
    pub(crate) fn new(disk: Disk, seed: u64) -> Self {
        Self {
            disk,
            seed,
            pool: BouncePool::new(KEPT_BYTES_MAX),
            state: Mutex::default(),
            busy: AtomicUsize::new(0),
        }
    }

    pub(crate) async fn read(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        if !self.is_idle() {
            return Box::pin(self.read_over(buffers, sector)).await;
        }
        self.disk.read_vectored(buffers, sector).await?;
        if !self.is_idle() {
            self.take_pieces(buffers, sector)?;
        }
        Ok(())
    }

    pub(crate) async fn write(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        let sectors = sector..sector + (buffers.len() as u64 >> self.disk.sector_shift());
        self.settle_unless_idle(&sectors).await?;
        let _change = Change::new(self, sectors);
        self.disk.write_vectored(buffers, sector, fua).await
    }

    pub(crate) async fn zero(
        &self,
        sectors: Range<u64>,
        fua: bool,
        may_unmap: bool,
        no_fallback: bool,
    ) -> Result<(), DiskError> {
        self.settle_unless_idle(&sectors).await?;
        let count = sectors.end - sectors.start;
        let sector = sectors.start;
        let _change = Change::new(self, sectors);
        self.disk
            .write_zeroes(sector, count, fua, may_unmap, no_fallback)
            .await
    }

    pub(crate) async fn unmap(
        &self,
        sectors: Range<u64>,
        block_level_only: bool,
    ) -> Result<(), DiskError> {
        self.settle_unless_idle(&sectors).await?;
        let count = sectors.end - sectors.start;
        let sector = sectors.start;
        let _change = Change::new(self, sectors);
        self.disk.unmap(sector, count, block_level_only).await
    }

    pub(crate) async fn flush(&self) -> Result<(), DiskError> {
        self.settle_unless_idle(&(0..u64::MAX)).await?;
        self.disk.sync_cache().await
    }

    pub(crate) async fn status(&self, sector: u64, count: u64) -> Result<BlockStatus, DiskError> {
        let pieces = || match self.is_idle() {
            true => Vec::new(),
            false => {
                let state = self.state.lock();
                state.pieces.overlapping(&(sector..sector + count))
            }
        };
        let before = pieces();
        let status = self.disk.block_status(sector, count).await?;
        let found = before.into_iter().chain(pieces());
        let kept: RangeSet<u64> = found.map(|piece| piece.sectors).collect();
        Ok(match kept.is_empty() {
            true => status,
            false => with_data(&status, sector, &kept),
        })
    }

    pub(crate) async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        self.settle_unless_idle(&(0..u64::MAX)).await?;
        let result = self.disk.resize(sector_count).await;
        if !self.is_idle() {
            let mut state = self.state.lock();
            // What came meanwhile and was cut off shall not come back if the disk grows again.
            state.pieces.remove(&(self.disk.sector_count()..u64::MAX));
            self.note_busy(&state);
        }
        result
    }

    /// Closes the disk below.
    pub(crate) async fn close(&self) -> Result<(), DiskError> {
        self.disk.close().await
    }

    /// Ends the writes that are under way, whoever began them.
    pub(crate) async fn drain(&self) {
        if !self.is_idle() {
            let under_way = self.state.lock().under_way.clone();
            for writing in under_way {
                // A piece that could not be written stays, and whoever needs it below tries again.
                drop(self.finish(&writing).await);
            }
        }
        // Writes that begin meanwhile, and are left by whoever began them, are in flight below: they must get on as well (S3).
        let mut drain = pin!(self.disk.drain());
        let mut polled = Vec::new();
        poll_fn(|cx| {
            let drained = drain.as_mut().poll(cx);
            if drained.is_pending() && !self.is_idle() {
                polled.clone_from(&self.state.lock().under_way);
                for writing in &mut polled {
                    // Whoever needs its result asks again.
                    let _ = Pin::new(&mut writing.run).poll(cx);
                }
            }
            drained
        })
        .await;
    }

    /// Keeps a write back, of which at most `pieces_max` shall be kept: others are written first, as chance has it. What there
    /// is no memory for is written at once.
    pub(crate) async fn keep(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        pieces_max: usize,
    ) -> Result<(), DiskError> {
        let data = loop {
            match self.pool.try_allocate(buffers.len()) {
                Ok(Some(data)) => break data,
                Ok(None) if self.write_one_back().await? => {}
                Ok(None) | Err(_) => return self.write(buffers, sector, false).await,
            }
        };
        data.buffers(true).copy_from(buffers)?;
        let sectors = sector..sector + (data.len() as u64 >> self.disk.sector_shift());
        loop {
            {
                let mut state = self.state.lock();
                if sectors.end > self.disk.sector_count() {
                    return Err(DiskError::IllegalBlock);
                }
                if state.pieces.len() < pieces_max {
                    let version = state.number();
                    state.pieces.insert(Piece::new(sectors, data, version));
                    self.note_busy(&state);
                    return Ok(());
                }
            }
            self.write_one_back().await?;
        }
    }

    /// Throws away what is kept back, and says how many sectors that were. What is being written just now may arrive below or not.
    pub(crate) fn forget(&self) -> u64 {
        let mut state = self.state.lock();
        let count = state.pieces.sector_count();
        state.pieces = Pieces::default();
        self.note_busy(&state);
        count
    }

    /// How many sectors are kept back.
    pub(crate) fn kept_sector_count(&self) -> u64 {
        self.state.lock().pieces.sector_count()
    }

    fn is_idle(&self) -> bool {
        self.busy.load(Ordering::SeqCst) == 0
    }

    fn note_busy(&self, state: &State) {
        let busy = state.pieces.len() + state.under_way.len();
        self.busy.store(busy, Ordering::SeqCst);
    }

    /// Reads what has pieces, then below what has none, then what has got pieces meanwhile (S1).
    async fn read_over(&self, buffers: &RequestBuffers<'_>, sector: u64) -> Result<(), DiskError> {
        for range in self.take_pieces(buffers, sector)? {
            let part = self.part(buffers, sector, &range);
            self.disk.read_vectored(&part, range.start).await?;
        }
        self.take_pieces(buffers, sector)?;
        Ok(())
    }

    /// Reads those sectors of a request, which begins at `sector`, that have pieces, and returns the others.
    fn take_pieces(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<RangeSet<u64>, DiskError> {
        let shift = self.disk.sector_shift();
        let sectors = sector..sector + (buffers.len() as u64 >> shift);
        let pieces = self.state.lock().pieces.overlapping(&sectors);
        let mut missing = RangeSet::from_iter(std::iter::once(sectors.clone()));
        for piece in pieces.iter().map(|piece| piece.within(&sectors)) {
            let part = self.part(buffers, sector, &piece.sectors);
            part.copy_from(&piece.buffers(shift))?;
            missing.remove(piece.sectors);
        }
        Ok(missing)
    }

    /// The memory for some of the sectors of a request, which begins at `sector`.
    pub(crate) fn part<'a>(
        &self,
        buffers: &RequestBuffers<'a>,
        sector: u64,
        part: &Range<u64>,
    ) -> RequestBuffers<'a> {
        // Inside of the request, so these are numbers of bytes in memory.
        let bytes = |sectors: u64| (sectors << self.disk.sector_shift()) as usize;
        buffers.subrange(bytes(part.start - sector), bytes(part.end - part.start))
    }

    async fn settle_unless_idle(&self, sectors: &Range<u64>) -> Result<(), DiskError> {
        match self.is_idle() {
            true => Ok(()),
            false => Box::pin(self.settle(sectors)).await,
        }
    }

    /// Writes below all that is kept back of some sectors (S4, S5), in an order of chance.
    async fn settle(&self, sectors: &Range<u64>) -> Result<(), DiskError> {
        let (mut left, first_new, mut dice) = {
            let mut state = self.state.lock();
            let pieces = state.pieces.overlapping(sectors);
            let under_way = state.under_way.iter().map(|writing| &writing.sectors);
            let ranges = pieces.iter().map(|piece| &piece.sectors).chain(under_way);
            let left: RangeSet<u64> = ranges
                .filter(|range| range.start < sectors.end && sectors.start < range.end)
                .cloned()
                .collect();
            (left, state.number(), self.dice(&mut state))
        };
        while let Some(writing) = self.writing_of(&left, &mut dice) {
            self.finish(&writing).await?;
            if writing.number > first_new {
                left.remove(writing.sectors.clone());
                left.extend(self.state.lock().still_to_be_written(&writing));
            }
        }
        Ok(())
    }

    /// Writes one piece below, whichever chance names; says whether there was one.
    async fn write_one_back(&self) -> Result<bool, DiskError> {
        let mut dice = self.dice(&mut self.state.lock());
        let all = RangeSet::from_iter(std::iter::once(0..u64::MAX));
        match self.writing_of(&all, &mut dice) {
            Some(writing) => self.finish(&writing).await.map(|()| true),
            None => Ok(false),
        }
    }

    fn dice(&self, state: &mut State) -> Dice {
        state.orders_begun += 1;
        Dice::new(self.seed, ORDER_ID, state.orders_begun)
    }

    /// A write of a piece in one of these ranges: one that is under way, or a new one; none if there is nothing to be written.
    fn writing_of(&self, ranges: &RangeSet<u64>, dice: &mut Dice) -> Option<Writing> {
        let mut state = self.state.lock();
        let mut under_way = state.under_way.iter();
        let found = under_way.find(|writing| ranges.overlaps(&writing.sectors));
        if let Some(writing) = found {
            return Some(writing.clone());
        }
        // A disk that was cut off by somebody else has no place for what was there.
        state.pieces.remove(&(self.disk.sector_count()..u64::MAX));
        let wanted = |piece: &&Piece| ranges.overlaps(&piece.sectors);
        let count = state.pieces.iter().filter(wanted).count() as u64;
        self.note_busy(&state);
        let chosen = (count > 0).then(|| dice.below(count))?;
        let piece = state
            .pieces
            .iter()
            .filter(wanted)
            .nth(chosen as usize)?
            .clone();
        Some(self.begin(&mut state, piece))
    }

    /// Begins to write a piece (S3). Nothing that overlaps it is under way: that would have overlapped the ranges that were
    /// asked for, or else the rest of it is finished first.
    fn begin(&self, state: &mut MutexGuard<'_, State>, piece: Piece) -> Writing {
        let mut under_way = state.under_way.iter();
        if let Some(other) = under_way.find(|other| other.overlaps(&piece.sectors)) {
            return other.clone();
        }
        let disk = self.disk.clone();
        let shift = disk.sector_shift();
        let (sectors, write, version) = (piece.sectors.clone(), piece.write, piece.version);
        let run: Run = Box::pin(async move {
            let data = piece.buffers(shift);
            let written = disk.write_vectored(&data, piece.sectors.start, false);
            written.await.map_err(Arc::new)
        });
        let writing = Writing {
            number: state.number(),
            sectors,
            write,
            version,
            disturbed: Arc::default(),
            run: run.shared(),
        };
        // Only this adds to them, so one against the others is all of S3 that can be checked.
        let mut others = state.under_way.iter();
        debug_assert!(!others.any(|other| other.overlaps(&writing.sectors)), "S3");
        state.under_way.push(writing.clone());
        self.note_busy(state);
        writing
    }

    /// Gets a write to its end; if it is good, the piece is no longer needed. Nor is what was cut off with the end of the disk while
    /// it was being written.
    async fn finish(&self, writing: &Writing) -> Result<(), DiskError> {
        let result = writing.run.clone().await;
        let mut state = self.state.lock();
        let end = self.disk.sector_count();
        let is_cut_off = end < writing.sectors.end
            && matches!(&result, Err(error) if matches!(**error, DiskError::IllegalBlock));
        if is_cut_off {
            state.pieces.remove(&(end..u64::MAX));
        }
        let is_under_way = |other: &Writing| other.number == writing.number;
        // Several may wait for one write; the first of them tidies up.
        if let Some(index) = state.under_way.iter().position(is_under_way) {
            let ended = state.under_way.swap_remove(index);
            if result.is_ok() {
                state.let_go(&ended);
            }
            self.note_busy(&state);
        }
        drop(state);
        match is_cut_off {
            true => Ok(()),
            false => result.map_err(|error| same_error(&error)),
        }
    }
}
