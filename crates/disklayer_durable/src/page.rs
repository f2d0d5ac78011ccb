//! A page in memory: what is known of a stripe, and who is at work on it.
//!
//! Invariants:
//! - P1: a sector is `Data` only after a write of its data has completed, and only by that write or fill. So what `Data` says is
//!   true of the store, and a record made of it needs no more than a flush that begins later, or a copy of the data beside it (K1).
//! - P2: a write of sectors that are not `Data`, a fill and a punch are *work*, and touch no `Data`: they own their memory, and writes that come later finish
//!   them first (C4). So of two writes that made the same sector present, the later one is what it holds; only of writes over `Data` does
//!   the store know the order, and it alone. What a clear (an unmap, a zeroing, an eviction) touches of work, and all of it if nobody
//!   waits for it any more, that is left alone when it ends: nobody has seen it (C9).
//!   In a layer that verifies its data writes over `Data` are work as well (V5).
//! - P3: a sector that is `Data` stays so while anything is under way there: zeros are then written over the data. So a write that was seen,
//!   and zeroed, cannot come back after a later one. Only an eviction is not held up by this: what it throws away is a copy.
//! - P4: a page is dirty only if there is room for it in its place on the store.
//! - P5: each clear that takes data away is counted: who read the data in the store meanwhile looks again.

use crate::emptied::Ranges;
use crate::format::{PageImage, State, States};
use crate::joint::Joint;
use crate::verified::Verified;
use disk_backend::DiskError;
use operation::Operation;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Work on a page that others can finish.
pub(crate) type Work = Operation<Result<(), DiskError>>;

/// See the head of this module.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) stripe: u64,
    inner: Mutex<Inner>,
    /// Whether it was used since the cache last looked for room.
    is_used: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) states: States,
    /// Of a layer that verifies its data.
    pub(crate) verified: Option<Box<Verified>>,
    /// Whether it differs from its last image in the log.
    pub(crate) is_dirty: bool,
    /// Whether an image of it is on its way into the log.
    pub(crate) is_logging: bool,
    /// Whether there is room for it in its place (P4).
    pub(crate) has_place: bool,
    /// What makes that room.
    pub(crate) placing: Option<Arc<Joint>>,
    /// How many clears took data away (P5).
    pub(crate) clears: u64,
    busy: SmallVec<[Busy; 2]>,
    next_id: u64,
    /// What was cleared, and is to be punched when that is durable.
    pub(crate) emptied: Ranges,
}

/// Something under way.
#[derive(Debug)]
struct Busy {
    id: u64,
    sectors: Range<u32>,
    /// What clears have touched since (P2).
    cleared: SmallVec<[Range<u32>; 1]>,
    /// If writes must wait for it (P2).
    work: Option<Arc<Work>>,
}

/// What a clear makes of sectors, but for those that keep their state (P3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clear {
    /// Zeros that hide what lies below; absent ones stay so where `next_is_zero`.
    Zero { next_is_zero: bool },
    /// Absent: they are beyond the end.
    Cut,
    /// Absent, also where writes are under way: only a copy is lost.
    Evict,
}

/// What a clear did.
#[derive(Debug, Default)]
pub(crate) struct Cleared {
    /// Whether a state changed.
    pub(crate) is_changed: bool,
    /// Where zeros are to be written over data (P3).
    pub(crate) to_zero: Vec<Range<u32>>,
}

/// Something under way, for the one who does it. Dropped before its end, it has changed nothing.
#[derive(Debug)]
pub(crate) struct Writing {
    page: Arc<Page>,
    pub(crate) sectors: Range<u32>,
    id: u64,
    is_over: bool,
}

impl Page {
    /// With what was found of it on the store.
    pub(crate) fn new(stripe: u64, image: PageImage, has_place: bool) -> Self {
        let inner = Inner {
            states: image.states,
            verified: image.sums.map(|sums| Box::new(Verified::found(sums))),
            is_dirty: false,
            is_logging: false,
            has_place,
            placing: None,
            clears: 0,
            busy: SmallVec::new(),
            next_id: 0,
            emptied: Ranges::default(),
        };
        Self {
            stripe,
            inner: Mutex::new(inner),
            is_used: AtomicBool::new(true),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    pub(crate) fn note_use(&self) {
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it was used since this was last asked.
    pub(crate) fn take_use(&self) -> bool {
        self.is_used.swap(false, Ordering::Relaxed)
    }

    /// Registers work on some sectors, with `inner` locked.
    pub(crate) fn begin(
        self: &Arc<Self>,
        inner: &mut Inner,
        sectors: Range<u32>,
        work: Option<Arc<Work>>,
    ) -> Writing {
        let id = inner.next_id;
        inner.next_id += 1;
        inner.busy.push(Busy {
            id,
            sectors: sectors.clone(),
            cleared: SmallVec::new(),
            work,
        });
        Writing {
            page: Arc::clone(self),
            sectors,
            id,
            is_over: false,
        }
    }
}

impl Inner {
    /// Work that a write of these sectors must wait for (P2).
    pub(crate) fn work_on(&self, sectors: &Range<u32>) -> Option<Arc<Work>> {
        let busy = self
            .busy
            .iter()
            .filter(|busy| overlap(&busy.sectors, sectors));
        busy.filter_map(|busy| busy.work.clone()).next()
    }

    /// Work on what is data of these sectors, which a clear waits for in a layer that verifies its data (V5).
    pub(crate) fn work_on_data(&self, sectors: &Range<u32>) -> Option<Arc<Work>> {
        self.verified.as_ref()?;
        let is_on_data = |busy: &&Busy| {
            let begin = busy.sectors.start.max(sectors.start);
            let end = busy.sectors.end.min(sectors.end);
            (begin..end).any(|sector| self.states.get(sector) == State::Data)
        };
        let busy = self.busy.iter().filter(is_on_data);
        busy.filter_map(|busy| busy.work.clone()).next()
    }

    /// Whether no clear has touched the sectors of this work since it began.
    pub(crate) fn is_untouched(&self, writing: &Writing) -> bool {
        let mut busy = self.busy.iter();
        busy.any(|busy| busy.id == writing.id && busy.cleared.is_empty())
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.busy.is_empty()
    }

    /// Whether it must stay in memory (H1).
    pub(crate) fn must_stay(&self) -> bool {
        let is_open = self.verified.as_ref().is_some_and(|it| it.is_open());
        self.is_dirty || self.is_logging || is_open
    }

    /// Adds all work there is.
    pub(crate) fn add_work(&self, to: &mut Vec<Arc<Work>>) {
        to.extend(self.busy.iter().filter_map(|busy| busy.work.clone()));
        to.extend(self.placing.iter().map(|placing| Arc::clone(&placing.work)));
    }

    /// Whether there is room for it, when what made the room is over.
    pub(crate) fn has_place_now(&mut self) -> bool {
        self.placing.take_if(|placing| placing.work.is_done());
        self.has_place
    }

    /// Lets go of all work, which then is not finished.
    pub(crate) fn abandon(&mut self) -> Vec<Arc<Work>> {
        let work = self.busy.iter_mut().filter_map(|busy| busy.work.take());
        let placing = self.placing.take();
        work.chain(placing.map(|placing| Arc::clone(&placing.work)))
            .collect()
    }

    /// Where the part of `sectors` begins and ends, from `from` on, that nothing is under way in.
    pub(crate) fn idle_run(&self, from: u32, end: u32) -> Option<Range<u32>> {
        let mut start = from;
        while start < end {
            let rest = start..end;
            let at = |sector: &u32| {
                let sector = *sector;
                self.busy.iter().find(|busy| busy.sectors.contains(&sector))
            };
            match at(&start) {
                Some(busy) => start = busy.sectors.end,
                None => {
                    let overlapping = self
                        .busy
                        .iter()
                        .filter(|busy| overlap(&busy.sectors, &rest));
                    let next = overlapping.map(|busy| busy.sectors.start).min();
                    return Some(start..next.unwrap_or(end));
                }
            }
        }
        None
    }

    /// Clears sectors at this instant (P2, P3).
    pub(crate) fn clear(&mut self, sectors: Range<u32>, clear: Clear, gives_back: bool) -> Cleared {
        for busy in &mut self.busy {
            let is_left_alone = clear == Clear::Evict || busy.work.is_some();
            if is_left_alone && overlap(&busy.sectors, &sectors) {
                busy.cleared.push(sectors.clone());
            }
        }
        let (mut cleared, mut at) = (Cleared::default(), sectors.start);
        while at < sectors.end {
            let (state, mut end) = self.states.run(at, sectors.end);
            if state == State::Data && clear != Clear::Evict {
                match self.idle_run(at, end) {
                    Some(idle) if idle.start == at => end = idle.end,
                    idle => {
                        end = idle.map_or(end, |idle| idle.start);
                        cleared.to_zero.push(at..end);
                        at = end;
                        continue;
                    }
                }
            }
            let new = match (clear, state) {
                (Clear::Cut | Clear::Evict, _) => State::Absent,
                (Clear::Zero { next_is_zero: true }, State::Absent) => State::Absent,
                (Clear::Zero { .. }, _) => State::Zero,
            };
            if new != state {
                cleared.is_changed = true;
                self.states.fill(at..end, new);
            }
            if state == State::Data {
                self.clears += 1;
                if let Some(verified) = &mut self.verified {
                    verified.sums.forget(at..end);
                }
                if gives_back {
                    self.emptied.add(at..end);
                }
            }
            at = end;
        }
        cleared
    }

    fn remove(&mut self, id: u64) -> Option<Busy> {
        let index = self.busy.iter().position(|busy| busy.id == id)?;
        Some(self.busy.swap_remove(index))
    }
}

impl Writing {
    /// The same, as work that has been registered for others to find.
    pub(crate) fn begun(&self, work: Arc<Work>) -> Begun {
        Begun {
            page: Arc::clone(&self.page),
            id: self.id,
            work,
        }
    }

    pub(crate) fn page(&self) -> &Arc<Page> {
        &self.page
    }

    /// The data of the sectors before `end` is stored: they become present, but for those that are left alone (P2), and, of a fill,
    /// those that are present already. Returns whether the page's next image differs. With `inner` locked.
    ///
    /// `sums` are the checksums of what was stored, in a layer that verifies its data (V1).
    pub(crate) fn complete(
        mut self,
        inner: &mut Inner,
        end: u32,
        is_fill: bool,
        sums: &[u32],
    ) -> bool {
        self.is_over = true;
        let Some(busy) = inner.remove(self.id) else {
            return false;
        };
        let mut is_changed = false;
        let mut at = busy.sectors.start;
        let stop = busy.sectors.end.min(end);
        while at < stop {
            let (state, end) = inner.states.run(at, stop);
            if state != State::Data && !(is_fill && state != State::Absent) {
                for sector in at..end {
                    if !busy.cleared.iter().any(|range| range.contains(&sector)) {
                        inner.states.set(sector, State::Data);
                        is_changed = true;
                    }
                }
            }
            at = end;
        }
        let Some(verified) = &mut inner.verified else {
            return is_changed;
        };
        for (sector, sum) in (busy.sectors.start..stop).zip(sums) {
            if inner.states.get(sector) == State::Data {
                verified.sums.set(sector, *sum);
                is_changed |= !verified.is_open();
            }
        }
        is_changed
    }
}

/// Work, for the one who began it. If that one goes away before its end, it changes no state (P2).
#[derive(Debug)]
pub(crate) struct Begun {
    page: Arc<Page>,
    id: u64,
    pub(crate) work: Arc<Work>,
}

impl Drop for Begun {
    fn drop(&mut self) {
        if self.work.is_done() {
            return;
        }
        let mut inner = self.page.lock();
        let Some(index) = inner.busy.iter().position(|busy| busy.id == self.id) else {
            return;
        };
        let sectors = inner.busy[index].sectors.clone();
        inner.busy[index].cleared.push(sectors);
        // Whoever else is at it finishes it. With the page locked nobody can come to it.
        let is_mine_alone = Arc::strong_count(&self.work) == 2;
        let busy = is_mine_alone.then(|| inner.busy.swap_remove(index));
        drop(inner);
        drop(busy);
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // Outside of the lock: the work owns what may want the lock when it is dropped.
        let busy = self.page.lock().remove(self.id);
        drop(busy);
    }
}

fn overlap(a: &Range<u32>, b: &Range<u32>) -> bool {
    a.start < b.end && b.start < a.end
}
