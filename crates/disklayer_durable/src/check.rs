//! Data that is read, held against its checksum.
//!
//! Who reads does not lock a sector, so what fails may be what a write has put there meanwhile. That is found out by a second look, which
//! writes wait for, into memory that nobody else has: what fails then has rotted.

use crate::change::run;
use crate::core::{Core, other};
use crate::format::{Role, State, sums_of};
use crate::page::{Begun, Clear, Inner, Page, Work, Writing};
use crate::read::Runs;
use disk_backend::{Disk, DiskError, MediumErrorDetails};
use parking_lot::Mutex;
use scsi_buffers::{BounceBuffer, RequestBuffers};
use smallvec::SmallVec;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The checksums of some sectors, where they are known; empty in a layer that has none.
pub(crate) type Known = SmallVec<[Option<u32>; 8]>;

/// What a second look has found.
enum Look {
    /// The sector, as it is.
    Right(BounceBuffer),
    /// It is not what was stored, of which this is the checksum.
    Wrong(u32),
    /// There is nothing to hold it against any more.
    Changed,
}

/// How a second look begins.
enum Begin {
    Look(Begun, Arc<Mutex<Option<BounceBuffer>>>, u32),
    After(Arc<Work>),
    Changed,
}

impl Inner {
    /// The checksums that are known of these sectors (V1).
    pub(crate) fn known(&self, sectors: &Range<u32>) -> Known {
        let Some(verified) = &self.verified else {
            return Known::new();
        };
        sectors
            .clone()
            .map(|sector| verified.sums.get(sector))
            .collect()
    }
}

impl Core {
    /// Whether what was read at once is what was stored, as far as that is known.
    pub(crate) fn all_pass(&self, memory: &RequestBuffers<'_>, first: u64, known: &Known) -> bool {
        known.is_empty()
            || self
                .failing(memory, first, known)
                .is_ok_and(|all| all.is_empty())
    }

    /// Which of the sectors in memory are not what their checksums say, counted from the first.
    fn failing(
        &self,
        memory: &RequestBuffers<'_>,
        first: u64,
        known: &[Option<u32>],
    ) -> Result<Vec<u32>, DiskError> {
        if known.iter().all(Option::is_none) {
            return Ok(Vec::new());
        }
        let sums = sums_of(memory, first, self.layout.sector_size as usize)?;
        let wrong = (0..).zip(sums.iter().zip(known));
        Ok(wrong
            .filter(|(_, (sum, known))| known.is_some_and(|known| known != **sum))
            .map(|(at, _)| at)
            .collect())
    }

    /// Which sectors of a stripe are not what their checksums say, of those that were read while nobody wrote there.
    pub(crate) async fn wrong(
        &self,
        stripe: u64,
        sectors: &Range<u32>,
        memory: &RequestBuffers<'_>,
    ) -> Result<Vec<u32>, DiskError> {
        let page = self.page(stripe).await?;
        let known = page.lock().known(sectors);
        let first = stripe * u64::from(self.layout.stripe_sectors) + u64::from(sectors.start);
        let wrong = self.failing(memory, first, &known)?;
        Ok(wrong.into_iter().map(|at| sectors.start + at).collect())
    }

    /// Makes the checksums of a stripe's data that has none: of what is there, while nobody writes it. A page that is damaged, and what
    /// the store cannot read, stay as they are.
    pub(crate) async fn learn(self: &Arc<Self>, stripe: u64) -> Result<(), DiskError> {
        let _change = self.journal.begin_change();
        self.prepare().await?;
        let page = match self.page(stripe).await {
            Err(DiskError::MediumError(..)) => return Ok(()),
            page => page?,
        };
        for sector in 0..self.within(stripe, self.sector_count()) {
            if let Some(begun) = self.begin_learning(&page, sector)? {
                match run(&begun.work).await {
                    Ok(()) | Err(DiskError::MediumError(..)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Begins with one sector, if there is something to learn of it.
    fn begin_learning(&self, page: &Arc<Page>, sector: u32) -> Result<Option<Begun>, DiskError> {
        let sectors = sector..sector + 1;
        let mut inner = page.lock();
        let is_data = inner.states.get(sector) == State::Data;
        let is_known = inner.known(&sectors).iter().all(Option::is_some);
        if !is_data || is_known || inner.work_on(&sectors).is_some() {
            return Ok(None);
        }
        let copy = BounceBuffer::unpooled(self.layout.sector_size as usize);
        let copy = copy.map_err(|_| DiskError::NoSpace)?;
        let at = self.data_sector(page.stripe, sector);
        let first = page.stripe * u64::from(self.layout.stripe_sectors) + u64::from(sector);
        let (this, size) = (self.this.clone(), self.layout.sector_size as usize);
        let body = async move |store: Disk, writing: Writing| {
            store.read_vectored(&copy.buffers(true), at).await?;
            let sums = sums_of(&copy.buffers(false), first, size)?;
            let Some(core) = this.upgrade() else {
                return Ok(());
            };
            let page = Arc::clone(writing.page());
            let mut inner = page.lock();
            if writing.complete(&mut inner, sector + 1, true, &sums) {
                core.note_dirty(&mut inner, page.stripe);
            }
            Ok(())
        };
        Ok(Some(self.begin_work(page, &mut inner, sectors, body)))
    }

    /// Holds what was read of a stripe, from sector `from` on, against what was known of it before. False if it must be read again.
    pub(crate) async fn verify(
        &self,
        page: &Arc<Page>,
        memory: &RequestBuffers<'_>,
        from: u32,
        runs: &Runs,
        known: &Known,
    ) -> Result<bool, DiskError> {
        if known.is_empty() {
            return Ok(true);
        }
        let shift = self.layout.sector_shift();
        let begin = page.stripe * u64::from(self.layout.stripe_sectors);
        for (_, data) in runs.iter().filter(|(state, _)| *state == State::Data) {
            let at = (data.start - from) as usize;
            let place = memory.subrange(at << shift, data.len() << shift);
            let known = &known[at..at + data.len()];
            for index in self.failing(&place, begin + u64::from(data.start), known)? {
                let sector = data.start + index;
                let look = match self.look_again(page, sector).await {
                    Err(error) => {
                        let sectors = sector..sector + 1;
                        match self.drop_unreadable(page, sectors, &error).await? {
                            true => return Ok(false),
                            false => return Err(error),
                        }
                    }
                    Ok(look) => look,
                };
                match look {
                    Look::Right(copy) => {
                        let sector = place.subrange((index as usize) << shift, 1 << shift);
                        sector.copy_from(&copy.buffers(false))?;
                    }
                    Look::Wrong(expected) => {
                        self.mismatch(page, sector, expected)?;
                        return Ok(false);
                    }
                    Look::Changed => return Ok(false),
                }
            }
        }
        Ok(true)
    }

    /// Reads a sector while nobody writes it.
    async fn look_again(&self, page: &Arc<Page>, sector: u32) -> Result<Look, DiskError> {
        let (begun, place, expected) = loop {
            match self.begin_look(page, sector)? {
                Begin::Look(begun, place, expected) => break (begun, place, expected),
                Begin::After(work) => work.finish().await,
                Begin::Changed => return Ok(Look::Changed),
            }
        };
        run(&begun.work).await?;
        let copy = place.lock().take();
        let copy = copy.ok_or_else(|| other("a sector was not read"))?;
        let first = page.stripe * u64::from(self.layout.stripe_sectors) + u64::from(sector);
        let is_right = self.all_pass(
            &copy.buffers(false),
            first,
            &Known::from_elem(Some(expected), 1),
        );
        Ok(match is_right {
            true => Look::Right(copy),
            false => Look::Wrong(expected),
        })
    }

    fn begin_look(&self, page: &Arc<Page>, sector: u32) -> Result<Begin, DiskError> {
        let copy = BounceBuffer::unpooled(self.layout.sector_size as usize);
        let copy = copy.map_err(|_| DiskError::NoSpace)?;
        let at = self.data_sector(page.stripe, sector);
        let mut inner = page.lock();
        let sectors = sector..sector + 1;
        if let Some(work) = inner.work_on(&sectors) {
            return Ok(Begin::After(work));
        }
        let Some(Some(expected)) = inner.known(&sectors).first().copied() else {
            return Ok(Begin::Changed);
        };
        let place: Arc<Mutex<Option<BounceBuffer>>> = Arc::default();
        let to = Arc::clone(&place);
        let begun = self.begin_work(
            page,
            &mut inner,
            sectors,
            async move |store, writing: Writing| {
                let result = store.read_vectored(&copy.buffers(true), at).await;
                *to.lock() = Some(copy);
                drop(writing);
                result
            },
        );
        Ok(Begin::Look(begun, place, expected))
    }

    /// A sector is not what was stored. What is only a copy becomes absent, and is had from below again; anything else is lost.
    fn mismatch(&self, page: &Arc<Page>, sector: u32, expected: u32) -> Result<(), DiskError> {
        self.mismatches.fetch_add(1, Ordering::Relaxed);
        let number = page.stripe * u64::from(self.layout.stripe_sectors) + u64::from(sector);
        let offset = self.layout.data_offset(page.stripe, sector);
        let layer = u128::from_be_bytes(self.layer_id);
        if self.role() == Role::Overlay || number >= self.shown_below() {
            let message = format!(
                "sector {number} of the durable layer {layer:032x}, at byte {offset} of its store, is not what was written there: its \
                 checksum is wrong; check the layer, and restore the sector from a copy"
            );
            let error = io::Error::new(io::ErrorKind::InvalidData, message);
            return Err(DiskError::MediumError(
                error,
                MediumErrorDetails::UnrecoveredReadError,
            ));
        }
        tracing::warn!(
            sector = number,
            offset,
            layer = format!("{layer:032x}"),
            "a sector of a cache fails its check: it is filled again"
        );
        let _change = self.journal.begin_change();
        let sectors = sector..sector + 1;
        let mut inner = page.lock();
        // It may have been written since. A write that is under way has forgotten the checksum when it began (V1): so what is at work there
        // besides only looks, like this one did.
        let is_same = inner.known(&sectors).first() == Some(&Some(expected));
        if is_same {
            inner.clear(sectors, Clear::Evict, true);
            if !self.store.is_read_only() {
                self.note_dirty(&mut inner, page.stripe);
            }
        }
        Ok(())
    }
}
