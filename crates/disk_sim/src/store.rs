//! The state of simulated storage: what is visible, what of it is durable, and what is on its way.
//!
//! Invariants:
//! - S1: `current` is `durable` with all of `log` applied in order. Debug builds check it where a change ends, and where something
//!   becomes durable, in stores that are as small as those of worlds.
//! - S2: what is in `log` completed, or is a step of a request that is under way; a good flush leaves nothing there that was there
//!   when it was called.
//! - S3: a change under way has its remaining steps in `moving`, which nobody sees yet. Once its future is gone, they happen or are
//!   given up before a later request that has to do with their sectors begins (C9).
//! - S4: whoever waits for another size, and the stack that watches a layer, are told where a step is taken, whoever takes it.

use crate::crash::Crash;
use crate::image::{Cell, Image, Piece};
use crate::options::{SimOptions, assert_percent};
use clock::Clock;
use disk_backend::check::Limits;
use disk_backend::{DiskError, MediumErrorDetails};
use disk_layered::LayerWatch;
use event_listener::Event;
use fastrand::Rng;
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// What is checked in a debug build has at most so many sectors and steps: it is done for every request.
const CHECKED_MAX: usize = 1024;

/// A store, which its handles share.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) options: SimOptions,
    clock: Clock,
    state: Mutex<State>,
    resized: Arc<Event>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) rng: Rng,
    failure_percent: u8,
    pub(crate) current: Image,
    durable: Image,
    log: Vec<Logged>,
    moving: BTreeMap<u64, Moving>,
    /// Notified of each change of the size (S4).
    resized: Arc<Event>,
    /// Told of changes of a layer by other handles than the one that it is watched by, and of each change of the size (S4).
    watch: Option<LayerWatch>,
    /// Whether a flush has failed, after which the store takes no changes (C8).
    is_refusing: bool,
    /// Changes begun so far.
    request_count: u64,
    /// Steps taken so far.
    step_count: u64,
}

/// A step that was taken, and is not durable yet.
#[derive(Debug, Clone)]
struct Logged {
    step: u64,
    request: u64,
    piece: Piece,
}

/// A change that is under way.
#[derive(Debug)]
struct Moving {
    rest: VecDeque<Piece>,
    /// Whether it was made by the handle that a stack watches the layer by, which then knows of it.
    is_known: bool,
    /// Whether nobody waits for it any more.
    is_detached: bool,
}

/// What a request does, for the dice that let it fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Read,
    Change,
    Flush,
}

impl Store {
    pub(crate) fn new(options: SimOptions, clock: Clock, image: Image) -> Self {
        options.assert_legal();
        let resized = Arc::new(Event::new());
        let state = State {
            rng: Rng::with_seed(options.seed),
            failure_percent: options.failure_percent,
            current: image.clone(),
            durable: image,
            log: Vec::new(),
            moving: BTreeMap::new(),
            resized: Arc::clone(&resized),
            watch: None,
            is_refusing: false,
            request_count: 0,
            step_count: 0,
        };
        Self {
            options,
            clock,
            state: Mutex::new(state),
            resized,
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(crate) fn limits(&self, state: &State) -> Limits {
        Limits {
            sector_shift: self.options.sector_size.trailing_zeros(),
            sector_count: state.current.sector_count(),
            is_read_only: self.options.is_read_only,
        }
    }

    pub(crate) fn sector_count(&self) -> u64 {
        self.state().current.sector_count()
    }

    pub(crate) fn set_failure_percent(&self, percent: u8) {
        assert_percent(percent);
        self.state().failure_percent = percent;
    }

    /// Lets others run for a while, or not.
    pub(crate) async fn pause(&self) {
        let (kind, nanos) = {
            let rng = &mut self.state().rng;
            let latency_max_ns = u64::try_from(self.options.latency_max.as_nanos());
            let nanos = rng.u64(0..=latency_max_ns.unwrap_or(u64::MAX));
            (rng.u8(0..8), nanos)
        };
        match kind {
            0..4 => {}
            4..7 => futures_lite::future::yield_now().await,
            _ => self.clock.sleep(Duration::from_nanos(nanos)).await,
        }
    }

    /// An error, if the dice want one.
    pub(crate) fn fail(&self, purpose: Purpose) -> Result<(), DiskError> {
        let mut state = self.state();
        if state.is_refusing && !matches!(purpose, Purpose::Read) {
            let refused = "takes no changes after a failed flush";
            return Err(DiskError::Io(io::Error::other(refused)));
        }
        if state.rng.u8(0..100) >= state.failure_percent {
            return Ok(());
        }
        state.is_refusing |=
            matches!(purpose, Purpose::Flush) && self.options.refuses_after_failed_flush;
        let simulated = || io::Error::other("simulated failure");
        Err(match (purpose, state.rng.bool()) {
            (Purpose::Read, true) => {
                DiskError::MediumError(simulated(), MediumErrorDetails::UnrecoveredReadError)
            }
            (Purpose::Change, true) => {
                DiskError::MediumError(simulated(), MediumErrorDetails::WriteFault)
            }
            _ => DiskError::Io(simulated()),
        })
    }

    /// Completes once the size is not `sector_count`.
    pub(crate) async fn wait_resize(&self, sector_count: u64) -> u64 {
        loop {
            // Listens first: a change after the look is not missed.
            let listener = self.resized.listen();
            let now = self.sector_count();
            if now != sector_count {
                return now;
            }
            listener.await;
        }
    }

    /// Whether `watch` will be told: it is, if it is the first.
    pub(crate) fn watch(&self, watch: &LayerWatch) -> bool {
        let mut state = self.state();
        let is_first = state.watch.is_none();
        state.watch.get_or_insert_with(|| watch.clone());
        is_first
    }

    /// What a crash now would find.
    pub(crate) fn crash(&self) -> Crash {
        let state = self.state();
        let done = state.log.iter();
        let done = done.map(|logged| (logged.request, logged.piece.clone()));
        let moving = state.moving.iter().flat_map(|(request, moving)| {
            let rest = moving.rest.iter();
            rest.map(|piece| (*request, piece.clone()))
        });
        Crash::new(state.durable.clone(), done.chain(moving).collect())
    }
}

impl State {
    /// Begins a change of these pieces, and returns its number.
    pub(crate) fn begin(&mut self, pieces: VecDeque<Piece>, is_known: bool) -> u64 {
        self.request_count += 1;
        let moving = Moving {
            rest: pieces,
            is_known,
            is_detached: false,
        };
        self.moving.insert(self.request_count, moving);
        self.request_count
    }

    /// Takes the next step of a change; false if there is none left.
    pub(crate) fn step(&mut self, request: u64) -> Result<bool, DiskError> {
        let moving = self.moving.get_mut(&request).expect("under way");
        let is_known = moving.is_known;
        let Some(mut piece) = moving.rest.pop_front() else {
            return Ok(false);
        };
        if piece.sectors().any(|at| at >= self.current.sector_count()) {
            return Err(DiskError::IllegalBlock);
        }
        if let Piece::Fill(cells) = &piece {
            piece = Piece::Put(self.current.absent_of(cells));
        }
        // S4
        let is_resize = matches!(piece, Piece::Size(_));
        let watch = self.watch.as_ref().filter(|_| is_resize || !is_known);
        let changing = watch.map(LayerWatch::begin_change);
        self.current.apply(&piece);
        drop(changing);
        if is_resize {
            self.resized.notify(usize::MAX);
        }
        self.log.push(Logged {
            step: self.step_count,
            request,
            piece,
        });
        self.step_count += 1;
        Ok(true)
    }

    /// The change is over.
    pub(crate) fn end(&mut self, request: u64) {
        self.moving.remove(&request);
        self.check_invariants();
    }

    /// The future of a change was dropped: what is left of it is given up, happens now, or happens later (S3).
    pub(crate) fn abandon(&mut self, request: u64) {
        match self.rng.u8(0..3) {
            0 => self.end(request),
            1 => self.happen(request),
            _ => {
                let moving = self.moving.get_mut(&request).expect("under way");
                moving.is_detached = true;
            }
        }
    }

    fn happen(&mut self, request: u64) {
        // What has come to lie beyond the end is lost with its sector.
        while matches!(self.step(request), Ok(true)) {}
        self.end(request);
    }

    /// Lets what nobody waits for any more happen, or gives it up, where it has to do with sectors of the range (S3).
    pub(crate) fn settle(&mut self, range: Range<u64>) {
        let concerned = |moving: &&Moving| {
            let mut pieces = moving.rest.iter();
            moving.is_detached
                && pieces.any(|piece| match piece {
                    Piece::Size(_) => true,
                    _ => piece.sectors().any(|sector| range.contains(&sector)),
                })
        };
        let moving = self.moving.iter().filter(|(_, moving)| concerned(moving));
        let requests: Vec<u64> = moving.map(|(request, _)| *request).collect();
        for request in requests {
            match self.rng.bool() {
                true => self.happen(request),
                false => self.end(request),
            }
        }
    }

    /// How many steps have been taken: what a flush that is called now makes durable.
    pub(crate) fn step_count(&self) -> u64 {
        self.step_count
    }

    /// Makes durable what was done before there were so many steps.
    pub(crate) fn make_durable(&mut self, step_count: u64) {
        let count = self.log.partition_point(|logged| logged.step < step_count);
        self.fold(count);
    }

    /// Makes durable what a request did, and nothing else unless it rests on it (C6).
    pub(crate) fn make_request_durable(&mut self, request: u64) {
        // A sector may lie where only a growth that is not durable has made room.
        let is_of_request = |logged: &Logged| logged.request == request;
        let last = self.log.iter().rposition(is_of_request);
        let sizes = |logged: &Logged| matches!(logged.piece, Piece::Size(_));
        if let Some(size) = last.and_then(|last| self.log[..last].iter().rposition(sizes)) {
            self.fold(size + 1);
        }
        let mut older = Vec::new();
        for logged in std::mem::take(&mut self.log) {
            if is_of_request(&logged) {
                let sectors: BTreeSet<u64> = logged.piece.sectors().collect();
                older.retain_mut(|earlier: &mut Logged| forget(&mut earlier.piece, &sectors));
                self.durable.apply(&logged.piece);
            } else {
                older.push(logged);
            }
        }
        self.log = older;
        self.check_invariants();
    }

    /// Makes the first `count` steps durable.
    fn fold(&mut self, count: usize) {
        for logged in self.log.drain(..count) {
            self.durable.apply(&logged.piece);
        }
        self.check_invariants();
    }

    fn check_invariants(&self) {
        // A second panic, where a change is dropped, would abort, and hide which test it was.
        debug_assert!(std::thread::panicking() || self.is_explained(), "S1");
    }

    /// Whether what is visible is what is durable and the log, or there is too much of it to look (S1).
    fn is_explained(&self) -> bool {
        let images = [&self.current, &self.durable];
        let written: usize = images.map(Image::written_count).iter().sum();
        if written + self.log.len() > CHECKED_MAX {
            return true;
        }
        let mut explained = self.durable.clone();
        for logged in &self.log {
            explained.apply(&logged.piece);
        }
        explained == self.current
    }
}

/// Takes sectors out of a piece; whether anything is left.
fn forget(piece: &mut Piece, sectors: &BTreeSet<u64>) -> bool {
    match piece {
        Piece::Put(cells) | Piece::Fill(cells) => {
            cells.retain(|(sector, _)| !sectors.contains(sector));
            !cells.is_empty()
        }
        Piece::Size(_) => true,
    }
}

/// The pieces of a change of these sectors, of which none is larger than what is never torn.
pub(crate) fn pieces(
    cells: impl IntoIterator<Item = (u64, Cell)>,
    atomic_write_sectors: u32,
    make: fn(Vec<(u64, Cell)>) -> Piece,
) -> VecDeque<Piece> {
    let unit_of = |sector: u64| sector / u64::from(atomic_write_sectors);
    let mut units: BTreeMap<u64, Vec<(u64, Cell)>> = BTreeMap::new();
    for (sector, cell) in cells {
        units
            .entry(unit_of(sector))
            .or_default()
            .push((sector, cell));
    }
    units.into_values().map(make).collect()
}
