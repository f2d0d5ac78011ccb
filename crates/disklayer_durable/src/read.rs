//! Reading, and what is known without reading.

use crate::core::Core;
use crate::format::{Part, Role, State};
use crate::layer::SECTORS_BETWEEN_YIELDS;
use crate::page::{Inner, Page};
use crate::patches::Patches;
use disk_backend::{BlockExtent, BlockState, BlockStatus, DiskError};
use disk_layered::{LayerStatus, SectorMarker, TryRead};
use guestmem::MemoryWrite;
use scsi_buffers::RequestBuffers;
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::Arc;

/// So many sectors between two runs of data are read with them, rather than making two requests of it.
const BRIDGED_SECTORS_MAX: u32 = 16;

/// The runs of a part of a request.
pub(crate) type Runs = SmallVec<[(State, Range<u32>); 4]>;

impl Core {
    pub(crate) async fn read(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        mut marker: SectorMarker<'_>,
    ) -> Result<(), DiskError> {
        let shift = self.layout.sector_shift();
        let count = (buffers.len() >> shift) as u64;
        let patches = self.journal.patches();
        for part in self.layout.parts(sector..sector + count) {
            let offset = ((part.first - sector) as usize) << shift;
            let len = part.sectors.len() << shift;
            let memory = buffers.subrange(offset, len);
            let read = self
                .read_part(&memory, part.stripe, part.sectors.clone())
                .await;
            let runs = match (read, &patches) {
                // A cut may have made unreadable what was being written.
                (Err(DiskError::MediumError(..)), Some(patches)) => {
                    self.read_around(&memory, &part, patches).await?
                }
                (read, _) => read?,
            };
            let begin = part.first - u64::from(part.sectors.start);
            for (state, run) in runs {
                if let (State::Data, Some(patches)) = (state, &patches) {
                    let sectors = begin + u64::from(run.start)..begin + u64::from(run.end);
                    for (at, bytes) in patches.within(sectors) {
                        let offset = ((at - part.first) as usize) << shift;
                        let place = memory.subrange(offset, bytes.len());
                        place.writer().write(bytes)?;
                    }
                }
                if state != State::Absent {
                    marker.set_range(begin + u64::from(run.start)..begin + u64::from(run.end));
                }
            }
        }
        Ok(())
    }

    /// Reads what there is of a part sector by sector, but for those that patches have, which are data.
    async fn read_around(
        &self,
        memory: &RequestBuffers<'_>,
        part: &Part,
        patches: &Patches,
    ) -> Result<Runs, DiskError> {
        let shift = self.layout.sector_shift();
        let mut runs = Runs::new();
        for (index, sector) in (0..).zip(part.sectors.clone()) {
            let at = part.first + index;
            if patches.within(at..at + 1).next().is_some() {
                runs.push((State::Data, sector..sector + 1));
                continue;
            }
            let place = memory.subrange((index as usize) << shift, 1 << shift);
            let run = self.read_part(&place, part.stripe, sector..sector + 1);
            runs.extend(run.await?);
        }
        Ok(runs)
    }

    /// Reads what there is of a part, and says what that is.
    async fn read_part(
        &self,
        memory: &RequestBuffers<'_>,
        stripe: u64,
        sectors: Range<u32>,
    ) -> Result<Runs, DiskError> {
        let shift = self.layout.sector_shift();
        let place = |run: &Range<u32>| {
            let offset = ((run.start - sectors.start) as usize) << shift;
            memory.subrange(offset, run.len() << shift)
        };
        // Of a copy the error counts that is met twice: others may have filled again what they found unreadable as well.
        let mut is_last = self.role() == Role::Overlay;
        'again: loop {
            let page = self.page(stripe).await?;
            let (runs, clears, known) = {
                let inner = page.lock();
                let runs = self.runs(&inner, stripe, &sectors)?;
                (runs, inner.clears, inner.known(&sectors))
            };
            for run in data_to_read(&runs) {
                let at = self.data_sector(stripe, run.start);
                let Err(error) = self.store.read_vectored(&place(&run), at).await else {
                    continue;
                };
                let is_data = |(state, data): &&(State, Range<u32>)| {
                    *state == State::Data && run.start <= data.start && data.end <= run.end
                };
                let data: SmallVec<[Range<u32>; 4]> = runs
                    .iter()
                    .filter(is_data)
                    .map(|(_, data)| data.clone())
                    .collect();
                match self.read_apart(&page, &data, error, place).await {
                    Ok(true) => {}
                    Ok(false) => continue 'again,
                    Err(error) if is_last => return Err(error),
                    Err(_) => {
                        is_last = page.lock().clears == clears;
                        continue 'again;
                    }
                }
            }
            // P5: what was read may have been taken away, and the place used for something else.
            if page.lock().clears != clears {
                continue;
            }
            if !self
                .verify(&page, memory, sectors.start, &runs, &known)
                .await?
            {
                continue;
            }
            // Once more: what failed its check may have been read anew.
            if !known.is_empty() && page.lock().clears != clears {
                continue;
            }
            for (_, run) in runs.iter().filter(|(state, _)| *state == State::Zero) {
                place(run).writer().zero(run.len() << shift)?;
            }
            return Ok(runs);
        }
    }

    /// Reads runs of data one by one that the store could not read at once. False if some of it was only a copy, and is none any more: then
    /// it must be looked at again.
    async fn read_apart<'a>(
        &self,
        page: &Arc<Page>,
        data: &[Range<u32>],
        error: DiskError,
        place: impl Fn(&Range<u32>) -> RequestBuffers<'a>,
    ) -> Result<bool, DiskError> {
        let mut failed = SmallVec::<[_; 1]>::new();
        match data {
            [data] => failed.push((data, error)),
            // What lies between may never have been written, and is nobody's loss.
            _ => {
                for data in data {
                    let at = self.data_sector(page.stripe, data.start);
                    let result = self.store.read_vectored(&place(data), at).await;
                    failed.extend(result.err().map(|error| (data, error)));
                }
            }
        }
        let mut is_dropped = false;
        for (data, error) in &failed {
            is_dropped |= self
                .drop_unreadable(page, Range::clone(data), error)
                .await?;
        }
        match failed.into_iter().next() {
            Some((_, error)) if !is_dropped => Err(error),
            first => Ok(first.is_none()),
        }
    }

    fn runs(&self, inner: &Inner, stripe: u64, sectors: &Range<u32>) -> Result<Runs, DiskError> {
        let begin = stripe * u64::from(self.layout.stripe_sectors);
        self.check_end(begin + u64::from(sectors.end))?;
        let mut runs = Runs::new();
        let mut at = sectors.start;
        while at < sectors.end {
            let (state, end) = self.run(inner, stripe, at, sectors.end);
            runs.push((state, at..end));
            at = end;
        }
        Ok(runs)
    }

    pub(crate) fn try_read(&self, buffers: &RequestBuffers<'_>, sector: u64) -> TryRead {
        if self.journal.is_patched() {
            return TryRead::WouldBlock;
        }
        let shift = self.layout.sector_shift();
        let count = (buffers.len() >> shift) as u64;
        let mut parts = self.layout.parts(sector..sector.saturating_add(count));
        let (Some(part), None) = (parts.next(), parts.next()) else {
            return TryRead::WouldBlock;
        };
        let Some(page) = self.page_in_memory(part.stripe) else {
            return TryRead::WouldBlock;
        };
        let (state, clears, known) = {
            let inner = page.lock();
            let begin = part.stripe * u64::from(self.layout.stripe_sectors);
            if self.check_end(begin + u64::from(part.sectors.end)).is_err() {
                return TryRead::WouldBlock;
            }
            let Range { start, end } = part.sectors;
            match self.run(&inner, part.stripe, start, end) {
                (state, run_end) if run_end == end => {
                    (state, inner.clears, inner.known(&part.sectors))
                }
                _ => return TryRead::WouldBlock,
            }
        };
        let is_done = match state {
            State::Absent => return TryRead::Absent,
            State::Zero => buffers.writer().zero(buffers.len()).is_ok(),
            State::Data => {
                let at = self.data_sector(part.stripe, part.sectors.start);
                self.store.try_read(buffers, at)
                    && self.all_pass(buffers, sector, &known)
                    && page.lock().clears == clears
            }
        };
        match is_done {
            true => TryRead::Done,
            false => TryRead::WouldBlock,
        }
    }

    pub(crate) async fn status(&self, range: Range<u64>) -> Result<LayerStatus, DiskError> {
        let first = self.layout.parts(range.clone()).next();
        let first = first.ok_or(DiskError::InvalidInput)?;
        let mut status = BlockStatus::default();
        let mut absent = 0;
        for part in self.layout.parts(range.start..range.end) {
            if part.first - first.first > SECTORS_BETWEEN_YIELDS {
                break;
            }
            let page = self.page(part.stripe).await?;
            let inner = page.lock();
            for (state, run) in self.runs(&inner, part.stripe, &part.sectors)? {
                let sector_count = u64::from(run.end - run.start);
                let state = match state {
                    State::Absent if status.sector_count() == 0 => {
                        absent += sector_count;
                        continue;
                    }
                    State::Absent => return Ok(LayerStatus::Present(status)),
                    State::Zero => BlockState::Hole,
                    State::Data => BlockState::Data,
                };
                let extent = BlockExtent {
                    sector_count,
                    state,
                    layer: None,
                };
                if absent > 0 {
                    return Ok(LayerStatus::Absent {
                        sector_count: absent,
                    });
                }
                if !status.push(extent) {
                    return Ok(LayerStatus::Present(status));
                }
            }
        }
        Ok(match absent {
            0 => LayerStatus::Present(status),
            sector_count => LayerStatus::Absent { sector_count },
        })
    }
}

/// What to ask the store for: the runs of data, with what lies between those that are close to each other.
fn data_to_read(runs: &Runs) -> SmallVec<[Range<u32>; 4]> {
    let mut data: SmallVec<[Range<u32>; 4]> = SmallVec::new();
    for (_, run) in runs.iter().filter(|(state, _)| *state == State::Data) {
        match data.last_mut() {
            Some(last) if run.start - last.end <= BRIDGED_SECTORS_MAX => last.end = run.end,
            _ => data.push(run.clone()),
        }
    }
    data
}
