//! Writing, clearing and filling.

use crate::core::{Core, other};
use crate::data::Data;
use crate::format::{State, sums_of};
use crate::journal::{begin_use, flush};
use crate::layer::SECTORS_BETWEEN_YIELDS;
use crate::page::{Begun, Clear, Inner, Page, Work, Writing};
use disk_backend::DiskError;
use operation::Operation;
use parking_lot::Mutex;
use planted::Bug;
use scsi_buffers::RequestBuffers;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How much is written in one operation that owns its memory, in bytes.
pub(crate) const WORK_BYTES_MAX: usize = 1 << 20;

/// How often a page is read for an eviction.
const EVICTION_TRIES: u32 = 8;

impl Core {
    /// Whether there is something to be done before a part of a change: the store shall say that the layer is in use, and the pages in
    /// memory shall not all be dirty.
    pub(crate) async fn prepare(self: &Arc<Self>) -> Result<(), DiskError> {
        if self.store.is_read_only() {
            return Err(DiskError::ReadOnly);
        }
        begin_use(self).await?;
        let held = self.journal.held_count();
        if held > self.cache.pages_max() / 2 {
            self.journal.close_all();
            let result = self.flush().await;
            // It is no flush that anybody asked for; but without it there is no memory for more.
            if held > self.cache.pages_max() {
                result?;
            }
        }
        Ok(())
    }

    /// Makes durable what completed before the call, and then gives back some of the space that is not needed any more.
    pub(crate) async fn flush(self: &Arc<Self>) -> Result<(), DiskError> {
        flush(self).await?;
        self.punch_some().await;
        Ok(())
    }

    pub(crate) async fn write(
        self: &Arc<Self>,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        let _change = self.journal.begin_change();
        let shift = self.layout.sector_shift();
        let count = (buffers.len() >> shift) as u64;
        let mut is_durable = true;
        let (mut opened_to, mut _opened) = (sector, Vec::new());
        for part in self.layout.parts(sector..sector + count) {
            self.prepare().await?;
            if self.layout.is_verified() && part.first >= opened_to {
                let stripes = self.opened_stripes_max();
                opened_to = part.first + stripes * u64::from(self.layout.stripe_sectors);
                let sectors = part.first..opened_to.min(sector + count);
                _opened = self.open_all(sectors).await?;
            }
            let offset = ((part.first - sector) as usize) << shift;
            let memory = buffers.subrange(offset, part.sectors.len() << shift);
            let page = self.page(part.stripe).await?;
            is_durable &= self.write_part(&page, &memory, part.sectors, fua).await?;
        }
        match fua && !is_durable {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    /// Writes a part; returns whether that is durable, if `fua`.
    async fn write_part(
        self: &Arc<Self>,
        page: &Arc<Page>,
        memory: &RequestBuffers<'_>,
        sectors: Range<u32>,
        fua: bool,
    ) -> Result<bool, DiskError> {
        let shift = self.layout.sector_shift();
        let begin = page.stripe * u64::from(self.layout.stripe_sectors);
        let mut at = sectors.start;
        let mut is_durable = true;
        while at < sectors.end {
            let place = |run: &Range<u32>| {
                let offset = ((run.start - sectors.start) as usize) << shift;
                memory.subrange(offset, run.len() << shift)
            };
            match self.begin_write(page, at..sectors.end, fua, place).await? {
                Begin::Over(writing, is_on_record) => {
                    let first = self.data_sector(page.stripe, at);
                    let fua = fua && is_on_record;
                    let memory = place(&writing.sectors);
                    self.store.write_vectored(&memory, first, fua).await?;
                    at = writing.sectors.end;
                    is_durable &= is_on_record;
                }
                Begin::Work(begun, end, is_on_record) => {
                    run(&begun.work).await?;
                    at = end;
                    is_durable &= is_on_record;
                }
            }
            // What was cut off meanwhile is nowhere.
            self.check_end(begin + u64::from(at))?;
        }
        Ok(is_durable)
    }

    /// Begins a write, after the work that it must wait for (P2), and when it may be written there (V2).
    async fn begin_write<'a>(
        self: &Arc<Self>,
        page: &Arc<Page>,
        sectors: Range<u32>,
        fua: bool,
        place: impl Fn(&Range<u32>) -> RequestBuffers<'a>,
    ) -> Result<Begin, DiskError> {
        let begin = page.stripe * u64::from(self.layout.stripe_sectors);
        // Held from the look that finds something sealed to the next one: so the stripe is not closed between.
        let mut opening = None;
        loop {
            self.reserve(page).await?;
            let work = {
                let mut inner = page.lock();
                self.check_end(begin + u64::from(sectors.end))?;
                if let Some(work) = inner.work_on(&sectors) {
                    Some(work)
                } else if let Some(run) = inner.states.data_at_start(&sectors) {
                    let is_on_record = self.is_on_record(&inner);
                    if inner.verified.is_none() {
                        let writing = self.begin_over(page, &mut inner, run);
                        return Ok(Begin::Over(writing, is_on_record));
                    }
                    let run = self.short(run);
                    if !self.is_sealed(&inner, &run) {
                        let data = self.data_of(&place(&run))?;
                        let (end, fua) = (run.end, fua && is_on_record);
                        let begun = self.begin_data(page, &mut inner, run, data, Kind::Write(fua));
                        return Ok(Begin::Work(begun, end, is_on_record));
                    }
                    match opening {
                        None => opening = self.open(page, &mut inner),
                        Some(_) => self.note_dirty(&mut inner, page.stripe),
                    }
                    None
                } else {
                    // P2: none of it is data.
                    let run = self.short(inner.states.up_to_data(sectors.clone()));
                    if !self.is_sealed(&inner, &run) {
                        let data = self.first_data_of(&place(&run))?;
                        let end = run.end;
                        let kind = Kind::Write(false);
                        let begun = self.begin_data(page, &mut inner, run, data, kind);
                        return Ok(Begin::Work(begun, end, false));
                    }
                    // It was cleared; the next flush has that on record.
                    None
                }
            };
            match work {
                Some(work) => work.finish().await,
                // V2
                None => flush(self).await?,
            }
        }
    }

    /// Whether what is written over data of a page is durable if the store says so.
    fn is_on_record(&self, inner: &Inner) -> bool {
        !inner.is_dirty && !inner.is_logging && self.journal.is_plain()
    }

    /// Begins to write to the place of data, which stays data (K2).
    fn begin_over(&self, page: &Arc<Page>, inner: &mut Inner, run: Range<u32>) -> Writing {
        let begin = page.stripe * u64::from(self.layout.stripe_sectors);
        let sectors = begin + u64::from(run.start)..begin + u64::from(run.end);
        self.copies.note_over(sectors, self.layout.sector_shift());
        page.begin(inner, run, None)
    }

    /// Whether some of a run must not be written yet (V2).
    pub(crate) fn is_sealed(&self, inner: &Inner, run: &Range<u32>) -> bool {
        let verified = inner.verified.as_ref();
        verified.is_some_and(|verified| verified.is_sealed(run.clone()))
            && !planted::is_active(Bug::OverwriteBeforeMark)
    }

    /// What is to be written by work. Where checksums are made of it, it is copied first: it may change (C3).
    fn data_of(&self, memory: &RequestBuffers<'_>) -> Result<Data, DiskError> {
        match self.layout.is_verified() {
            true => Data::copy_of(memory),
            false => Data::of(memory),
        }
    }

    /// What is to be written for the first time: a copy, if one is to be kept (K1).
    fn first_data_of(&self, memory: &RequestBuffers<'_>) -> Result<Data, DiskError> {
        match self.copies.copy_of(memory) {
            Some(copy) => Ok(Data::Kept(copy)),
            None => self.data_of(memory),
        }
    }

    /// As much of a run as work has memory for.
    fn short(&self, run: Range<u32>) -> Range<u32> {
        let sectors_max = (WORK_BYTES_MAX >> self.layout.sector_shift()) as u32;
        run.start..run.end.min(run.start + sectors_max)
    }

    /// Writes at once what is on record, and what the store takes at once.
    pub(crate) fn try_write(&self, buffers: &RequestBuffers<'_>, sector: u64, fua: bool) -> bool {
        // V5: only work writes there.
        if self.layout.is_verified() {
            return false;
        }
        let _change = self.journal.begin_change();
        if !self.journal.is_in_use() {
            return false;
        }
        let shift = self.layout.sector_shift();
        let count = (buffers.len() >> shift) as u64;
        let mut parts = self.layout.parts(sector..sector.saturating_add(count));
        let (Some(part), None) = (parts.next(), parts.next()) else {
            return false;
        };
        let Some(page) = self.page_in_memory(part.stripe) else {
            return false;
        };
        let begin = part.stripe * u64::from(self.layout.stripe_sectors);
        let writing = {
            let mut inner = page.lock();
            let is_inside = self.check_end(begin + u64::from(part.sectors.end)).is_ok();
            let is_on_record = self.is_on_record(&inner);
            let is_data = inner.states.is_all(part.sectors.clone(), State::Data);
            let is_alone = inner.work_on(&part.sectors).is_none();
            if !is_inside || !is_data || !is_alone || fua && !is_on_record {
                return false;
            }
            self.begin_over(&page, &mut inner, part.sectors.clone())
        };
        let at = self.data_sector(part.stripe, part.sectors.start);
        let is_done = self.store.try_write(buffers, at, fua);
        if is_done {
            // All was there; what has been cleared meanwhile was cleared afterwards (P2).
            writing.complete(&mut page.lock(), 0, false, &[]);
        }
        is_done
    }

    /// Clears sectors, a stripe at a time.
    pub(crate) async fn clear(
        self: &Arc<Self>,
        range: Range<u64>,
        clear: Clear,
        gives_back: bool,
    ) -> Result<(), DiskError> {
        let _change = self.journal.begin_change();
        let mut yielded_at = range.start;
        for part in self.layout.parts(range) {
            if part.first - yielded_at > SECTORS_BETWEEN_YIELDS {
                yielded_at = part.first;
                futures_lite::future::yield_now().await;
            }
            self.prepare().await?;
            let page = self.page(part.stripe).await?;
            // What is absent and stays so needs no room.
            if clear
                == (Clear::Zero {
                    next_is_zero: false,
                })
            {
                self.reserve(&page).await?;
            }
            let to_zero = loop {
                match self.clear_part(&page, part.sectors.clone(), clear, gives_back)? {
                    Clearing::Done(to_zero) => break to_zero,
                    Clearing::After(work) => work.finish().await,
                }
            };
            for writing in to_zero {
                // P3. It stays under way while zeros are written, and changes no state.
                let at = self.data_sector(part.stripe, writing.sectors.start);
                let count = u64::from(writing.sectors.end - writing.sectors.start);
                self.store
                    .write_zeroes(at, count, false, false, false)
                    .await?;
            }
        }
        Ok(())
    }

    /// Clears a part at one instant; returns what is to be zeroed in the store, or what must be waited for (V5).
    fn clear_part(
        &self,
        page: &Arc<Page>,
        sectors: Range<u32>,
        clear: Clear,
        gives_back: bool,
    ) -> Result<Clearing, DiskError> {
        let mut inner = page.lock();
        if clear != Clear::Evict
            && let Some(work) = inner.work_on_data(&sectors)
        {
            return Ok(Clearing::After(work));
        }
        if clear != Clear::Cut {
            let begin = page.stripe * u64::from(self.layout.stripe_sectors);
            self.check_end(begin + u64::from(sectors.end))?;
        }
        let cleared = inner.clear(sectors, clear, gives_back);
        if cleared.is_changed {
            self.note_dirty(&mut inner, page.stripe);
        }
        let to_zero = cleared.to_zero.into_iter();
        let to_zero = to_zero.map(|run| self.begin_over(page, &mut inner, run));
        Ok(Clearing::Done(to_zero.collect()))
    }

    /// Makes what is only a copy absent. What a resize added is none, and stays.
    ///
    /// It must not fail if that can be helped: what is evicted has been written through by halves, and may have been seen if it stays. So
    /// whatever comes of what it writes to make room, it goes on, and a page that cannot be read is read again.
    pub(crate) async fn evict(self: &Arc<Self>, range: Range<u64>) -> Result<(), DiskError> {
        let _change = self.journal.begin_change();
        let end = range.end.min(self.shown_below());
        for part in self.layout.parts(range.start..end.max(range.start)) {
            if self.journal.dirty_count() > self.cache.pages_max() {
                let _ = self.flush().await;
            }
            let mut tries = 0;
            let page = loop {
                tries += 1;
                match self.page(part.stripe).await {
                    Err(_) if tries < EVICTION_TRIES => {}
                    page => break page?,
                }
            };
            // Nothing is to be zeroed for an eviction (P3).
            self.clear_part(&page, part.sectors, Clear::Evict, true)?;
        }
        match end < range.end {
            true => Err(DiskError::Unsupported),
            false => Ok(()),
        }
    }

    /// Writes those sectors that are absent.
    pub(crate) async fn fill(
        self: &Arc<Self>,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        let _change = self.journal.begin_change();
        let shift = self.layout.sector_shift();
        let count = (buffers.len() >> shift) as u64;
        for part in self.layout.parts(sector..sector + count) {
            self.prepare().await?;
            let page = self.page(part.stripe).await?;
            self.reserve(&page).await?;
            let offset = ((part.first - sector) as usize) << shift;
            let memory = buffers.subrange(offset, part.sectors.len() << shift);
            let mut at = part.sectors.start;
            while let Some(filling) = self.begin_fill(&page, &memory, &part.sectors, &mut at)? {
                match filling {
                    Filling::Mine(begun) => run(&begun.work).await?,
                    Filling::Other(work) => work.finish().await,
                    // V2
                    Filling::Sealed => flush(self).await?,
                }
            }
        }
        Ok(())
    }

    /// Begins to fill the next run of absent sectors from `at` on that nothing is under way in, or says what to wait for.
    fn begin_fill(
        &self,
        page: &Arc<Page>,
        memory: &RequestBuffers<'_>,
        sectors: &Range<u32>,
        at: &mut u32,
    ) -> Result<Option<Filling>, DiskError> {
        let shift = self.layout.sector_shift();
        let begin = page.stripe * u64::from(self.layout.stripe_sectors);
        let mut inner = page.lock();
        self.check_end(begin + u64::from(sectors.end))?;
        while *at < sectors.end {
            let (state, end) = self.run(&inner, page.stripe, *at, sectors.end);
            if state != State::Absent {
                *at = end;
                continue;
            }
            if let Some(work) = inner.work_on(&(*at..end)) {
                return Ok(Some(Filling::Other(work)));
            }
            // Where a write is under way, that is what will be there.
            let Some(run) = inner.idle_run(*at, end) else {
                *at = end;
                continue;
            };
            let run = self.short(run);
            if self.is_sealed(&inner, &run) {
                return Ok(Some(Filling::Sealed));
            }
            *at = run.end;
            let offset = ((run.start - sectors.start) as usize) << shift;
            let data = self.data_of(&memory.subrange(offset, run.len() << shift))?;
            let begun = self.begin_data(page, &mut inner, run, data, Kind::Fill);
            return Ok(Some(Filling::Mine(begun)));
        }
        Ok(None)
    }

    /// Begins to write sectors, and to make those of them present that are not.
    fn begin_data(
        &self,
        page: &Arc<Page>,
        inner: &mut Inner,
        run: Range<u32>,
        data: Data,
        kind: Kind,
    ) -> Begun {
        let at = self.data_sector(page.stripe, run.start);
        let this = self.this.clone();
        let first = page.stripe * u64::from(self.layout.stripe_sectors) + u64::from(run.start);
        let (is_verified, sector_size) = (self.layout.is_verified(), self.layout.sector_size);
        if let Some(verified) = &mut inner.verified {
            let flushes = self.journal.flushes.load(Ordering::Relaxed);
            verified.begin(run.clone(), flushes);
        }
        self.begin_work(page, inner, run, async move |store, writing: Writing| {
            let sums = match is_verified {
                true => sums_of(&data.buffers(), first, sector_size as usize)?,
                false => Vec::new(),
            };
            let fua = kind == Kind::Write(true);
            store.write_vectored(&data.buffers(), at, fua).await?;
            let Some(core) = this.upgrade() else {
                return Ok(());
            };
            let page = Arc::clone(writing.page());
            let mut inner = page.lock();
            let end = core.within(page.stripe, core.sector_count());
            if writing.complete(&mut inner, end, kind == Kind::Fill, &sums) {
                core.note_dirty(&mut inner, page.stripe);
                core.copies.note_data(first, data.into_kept());
            }
            Ok(())
        })
    }

    /// Registers work that writes of `run` wait for, and finish (P2).
    pub(crate) fn begin_work<F>(
        &self,
        page: &Arc<Page>,
        inner: &mut Inner,
        run: Range<u32>,
        body: impl FnOnce(disk_backend::Disk, Writing) -> F + Send + 'static,
    ) -> Begun
    where
        F: Future<Output = Result<(), DiskError>> + Send + 'static,
    {
        let place: Arc<Mutex<Option<Writing>>> = Arc::default();
        let (store, taken) = (self.store.clone(), Arc::clone(&place));
        let work = Operation::new(
            Vec::new(),
            Box::pin(async move {
                let writing = taken.lock().take();
                match writing {
                    Some(writing) => body(store, writing).await,
                    None => Ok(()),
                }
            }),
        );
        let writing = page.begin(inner, run, Some(Arc::clone(&work)));
        let begun = writing.begun(work);
        *place.lock() = Some(writing);
        begun
    }
}

/// What a fill goes on with.
enum Filling {
    /// A part of its own.
    Mine(Begun),
    /// What somebody else has under way.
    Other(Arc<Work>),
    /// A flush, before which it must not be written (V2).
    Sealed,
}

/// Why data is written, and whether it is to be durable then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Write(bool),
    Fill,
}

/// How a clear goes on.
enum Clearing {
    /// It has happened; these are to be zeroed.
    Done(Vec<Writing>),
    /// When this has ended.
    After(Arc<Work>),
}

/// How a write goes on.
enum Begin {
    /// Over data, whose presence is on record or not.
    Over(Writing, bool),
    /// As work, up to this sector, whose presence is on record or not.
    Work(Begun, u32, bool),
}

/// Finishes work, for the one who began it.
pub(crate) async fn run(work: &Arc<Work>) -> Result<(), DiskError> {
    let result = work.run().await;
    result.unwrap_or_else(|| Err(other("a write panicked in another request")))
}
