//! Writing, clearing and filling.

use crate::core::Core;
use crate::format::State;
use crate::journal::{begin_use, flush};
use crate::layer::SECTORS_BETWEEN_YIELDS;
use crate::page::{Clear, Page, Work, Writing};
use disk_backend::{DiskError, UnmapBehavior};
use operation::Operation;
use parking_lot::Mutex;
use scsi_buffers::{BounceBuffer, RequestBuffers};
use std::ops::Range;
use std::sync::Arc;

/// How much is filled in one operation, in bytes.
const FILL_BYTES_MAX: usize = 1 << 20;

/// How many ranges are given back to the store after a flush.
const PUNCHES_MAX: usize = 32;

impl Core {
    /// Whether there is something to be done before the next change: the store shall say that the layer is in use, and the pages in
    /// memory shall not all be dirty.
    async fn prepare(self: &Arc<Self>) -> Result<(), DiskError> {
        if self.store.is_read_only() {
            return Err(DiskError::ReadOnly);
        }
        begin_use(self).await?;
        if self.journal.dirty_count() > self.cache.pages_max() / 2 {
            // Whatever comes of it: it is no flush that anybody asked for.
            let _ = flush(self).await;
        }
        Ok(())
    }

    pub(crate) async fn write(
        self: &Arc<Self>,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        self.prepare().await?;
        let shift = self.layout.sector_shift();
        let count = (buffers.len() >> shift) as u64;
        let mut is_durable = true;
        for part in self.layout.parts(sector..sector + count) {
            let offset = ((part.first - sector) as usize) << shift;
            let memory = buffers.subrange(offset, part.sectors.len() << shift);
            let page = self.page(part.stripe).await?;
            is_durable &= self.write_part(&page, &memory, part.sectors, fua).await?;
        }
        match fua && !is_durable {
            true => flush(self).await,
            false => Ok(()),
        }
    }

    /// Writes a part; returns whether that is durable, if `fua`.
    async fn write_part(
        &self,
        page: &Arc<Page>,
        memory: &RequestBuffers<'_>,
        sectors: Range<u32>,
        fua: bool,
    ) -> Result<bool, DiskError> {
        let (writing, in_place) = self.begin_write(page, &sectors).await?;
        let at = self.data_sector(page.stripe, sectors.start);
        self.store
            .write_vectored(memory, at, fua && in_place)
            .await?;
        let begin = page.stripe * u64::from(self.layout.stripe_sectors);
        let mut inner = page.lock();
        let end = self.within(page.stripe, self.sector_count());
        let is_changed = writing.complete(&mut inner, end, false);
        if is_changed {
            self.note_dirty(&mut inner, page.stripe);
        }
        // What was cut off meanwhile is nowhere.
        self.check_end(begin + u64::from(sectors.end))?;
        Ok(in_place)
    }

    /// Begins a write, after the operations that it must wait for; says whether the sectors' presence is on record already.
    async fn begin_write(
        &self,
        page: &Arc<Page>,
        sectors: &Range<u32>,
    ) -> Result<(Writing, bool), DiskError> {
        let begin = page.stripe * u64::from(self.layout.stripe_sectors);
        loop {
            self.reserve(page).await?;
            let work = {
                let mut inner = page.lock();
                self.check_end(begin + u64::from(sectors.end))?;
                match inner.work_on(sectors) {
                    Some(work) => work,
                    None => {
                        let in_place = inner.states.is_all(sectors.clone(), State::Data)
                            && !inner.is_dirty
                            && !inner.is_logging;
                        return Ok((page.begin(&mut inner, sectors.clone(), None), in_place));
                    }
                }
            };
            work.finish().await;
        }
    }

    /// Writes at once what is on record, and what the store takes at once.
    pub(crate) fn try_write(&self, buffers: &RequestBuffers<'_>, sector: u64, fua: bool) -> bool {
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
            let is_clean = !inner.is_dirty && !inner.is_logging;
            let is_data = inner.states.is_all(part.sectors.clone(), State::Data);
            if !is_inside || !is_data || fua && !is_clean || inner.work_on(&part.sectors).is_some()
            {
                return false;
            }
            page.begin(&mut inner, part.sectors.clone(), None)
        };
        let at = self.data_sector(part.stripe, part.sectors.start);
        let is_done = self.store.try_write(buffers, at, fua);
        if is_done {
            // All was there; what has been cleared meanwhile was cleared afterwards (P2).
            writing.complete(&mut page.lock(), 0, false);
        }
        is_done
    }

    /// Clears sectors, a stripe at a time. Beyond the end only for a resize, which says so by `is_cut`.
    pub(crate) async fn clear(
        self: &Arc<Self>,
        range: Range<u64>,
        clear: Clear,
        gives_back: bool,
        is_cut: bool,
    ) -> Result<(), DiskError> {
        self.prepare().await?;
        let mut yielded_at = range.start;
        for part in self.layout.parts(range) {
            if part.first - yielded_at > SECTORS_BETWEEN_YIELDS {
                yielded_at = part.first;
                futures_lite::future::yield_now().await;
                self.prepare().await?;
            }
            let page = self.page(part.stripe).await?;
            // What is absent and stays so needs no room.
            if clear
                == (Clear::Zero {
                    next_is_zero: false,
                })
            {
                self.reserve(&page).await?;
            }
            let mut inner = page.lock();
            let begin = part.stripe * u64::from(self.layout.stripe_sectors);
            if !is_cut {
                self.check_end(begin + u64::from(part.sectors.end))?;
            }
            if inner.clear(part.sectors, clear, gives_back) {
                self.note_dirty(&mut inner, part.stripe);
            }
        }
        Ok(())
    }

    /// Writes those sectors that are absent.
    pub(crate) async fn fill(
        self: &Arc<Self>,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        self.prepare().await?;
        let shift = self.layout.sector_shift();
        let count = (buffers.len() >> shift) as u64;
        for part in self.layout.parts(sector..sector + count) {
            let page = self.page(part.stripe).await?;
            self.reserve(&page).await?;
            let offset = ((part.first - sector) as usize) << shift;
            let memory = buffers.subrange(offset, part.sectors.len() << shift);
            let mut at = part.sectors.start;
            while let Some(filling) = self.begin_fill(&page, &memory, &part.sectors, &mut at)? {
                match filling {
                    Filling::Mine(work) => {
                        let result = work.run().await;
                        result.unwrap_or_else(|| Err(crate::core::other("a fill panicked")))?;
                    }
                    Filling::Other(work) => work.finish().await,
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
            let run = run.start..run.end.min(run.start + (FILL_BYTES_MAX >> shift) as u32);
            *at = run.end;
            let len = run.len() << shift;
            let from = memory.subrange(((run.start - sectors.start) as usize) << shift, len);
            let copy = BounceBuffer::unpooled(len).map_err(|_| DiskError::NoSpace)?;
            copy.buffers(true).copy_from(&from)?;
            return Ok(Some(Filling::Mine(
                self.filling(page, &mut inner, run, copy),
            )));
        }
        Ok(None)
    }

    fn filling(
        &self,
        page: &Arc<Page>,
        inner: &mut parking_lot::MutexGuard<'_, crate::page::Inner>,
        run: Range<u32>,
        copy: BounceBuffer,
    ) -> Arc<Work> {
        let at = self.data_sector(page.stripe, run.start);
        let begin_to_end = self.this.clone();
        self.begin_work(page, inner, run, async move |store, writing: Writing| {
            store
                .write_vectored(&copy.buffers(false), at, false)
                .await?;
            let Some(core) = begin_to_end.upgrade() else {
                return Ok(());
            };
            let page = Arc::clone(writing.page());
            let mut inner = page.lock();
            let end = core.within(page.stripe, core.sector_count());
            if writing.complete(&mut inner, end, true) {
                core.note_dirty(&mut inner, page.stripe);
            }
            Ok(())
        })
    }

    /// Registers work that writes of `run` wait for, and finish (P3).
    fn begin_work<F>(
        &self,
        page: &Arc<Page>,
        inner: &mut parking_lot::MutexGuard<'_, crate::page::Inner>,
        run: Range<u32>,
        body: impl FnOnce(disk_backend::Disk, Writing) -> F + Send + 'static,
    ) -> Arc<Work>
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
        *place.lock() = Some(writing);
        work
    }

    /// Gives space back to the store whose clearing is on record.
    pub(crate) async fn punch_some(self: &Arc<Self>) {
        if self.store.unmap_behavior() == UnmapBehavior::Ignored {
            while self.journal.take_emptied().is_some() {}
            return;
        }
        for _ in 0..PUNCHES_MAX {
            let Some((stripe, range)) = self.journal.take_emptied() else {
                return;
            };
            // What cannot be given back now stays: only space is lost.
            let Ok(page) = self.page(stripe).await else {
                return;
            };
            let mut at = range.start;
            while let Some(work) = self.begin_punch(&page, &range, &mut at) {
                work.finish().await;
            }
        }
    }

    /// Begins to punch the next run of a range that holds no data, as is on record, and that nothing is under way in.
    fn begin_punch(&self, page: &Arc<Page>, range: &Range<u32>, at: &mut u32) -> Option<Arc<Work>> {
        let mut inner = page.lock();
        if inner.is_dirty || inner.is_logging {
            inner.note_emptied(*at..range.end);
            return None;
        }
        while let Some(idle) = inner.idle_run(*at, range.end) {
            let (state, end) = inner.states.run(idle.start, idle.end);
            *at = end;
            if state == State::Data {
                continue;
            }
            let first = self.data_sector(page.stripe, idle.start);
            let count = u64::from(end - idle.start);
            let run = idle.start..end;
            return Some(
                self.begin_work(page, &mut inner, run, async move |store, writing| {
                    let result = store.unmap(first, count, false).await;
                    drop(writing);
                    result
                }),
            );
        }
        None
    }
}

/// What a fill goes on with.
enum Filling {
    /// A part of its own.
    Mine(Arc<Work>),
    /// What somebody else has under way.
    Other(Arc<Work>),
}
