//! The simulated storage that a world stands on.

use clock::Clock;
use disk_sim::{Crash, Image, SimDisk, SimLayer, SimOptions};
use fastrand::Rng;
use std::fmt;

/// Makes the stores on which a disk under test stands, first as they are in the beginning, then as each crash left them.
///
/// Whoever builds the disk asks for the same stores in the same order each time.
pub struct Stores {
    clock: Clock,
    rng: Rng,
    sector_size: u32,
    failure_percent: u8,
    may_fail: bool,
    /// What crashed stores left behind, in the order in which they were asked for.
    left: Option<std::vec::IntoIter<Image>>,
    made: Vec<Store>,
    when_it_begins: Vec<Box<dyn FnOnce()>>,
    when_it_ends: Vec<Box<dyn FnOnce()>>,
}

/// What stands below the disk of a world, and beside it.
pub(super) struct Ground {
    pub(super) stores: Vec<Store>,
    /// How many of a hundred requests fail, once requests begin.
    pub(super) failure_percent: u8,
    pub(super) when_it_begins: Vec<Box<dyn FnOnce()>>,
    pub(super) when_it_ends: Vec<Box<dyn FnOnce()>>,
}

/// A store that was asked for.
#[derive(Debug)]
pub(super) enum Store {
    Disk(SimDisk),
    Layer(SimLayer),
}

impl Store {
    pub(super) fn crash(&self) -> Crash {
        match self {
            Self::Disk(disk) => disk.crash(),
            Self::Layer(layer) => layer.crash(),
        }
    }

    pub(super) fn set_failure_percent(&self, percent: u8) {
        match self {
            Self::Disk(disk) => disk.set_failure_percent(percent),
            Self::Layer(layer) => layer.set_failure_percent(percent),
        }
    }
}

impl Stores {
    pub(super) fn new(clock: Clock, seed: u64, sector_size: u32, failure_percent: u8) -> Self {
        Self {
            clock,
            rng: Rng::with_seed(seed),
            sector_size,
            failure_percent,
            may_fail: failure_percent > 0,
            left: None,
            made: Vec::new(),
            when_it_begins: Vec::new(),
            when_it_ends: Vec::new(),
        }
    }

    /// What is built again after a crash that left this. Nothing fails any more.
    pub(super) fn after_crash(self, left: Vec<Image>) -> Self {
        Self {
            left: Some(left.into_iter()),
            failure_percent: 0,
            may_fail: false,
            ..self
        }
    }

    /// The time of the world.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// The size of a sector in bytes.
    pub fn sector_size(&self) -> u32 {
        self.sector_size
    }

    /// Whether requests may fail in this world, once they have begun: otherwise an error is a violation, so nobody may cause one.
    pub fn may_fail(&self) -> bool {
        self.may_fail
    }

    /// Whether the disk is built again after a crash.
    pub fn is_after_crash(&self) -> bool {
        self.left.is_some()
    }

    /// A persistent disk of at first so many sectors, each with content of its own or zero; `change` may want other options.
    ///
    /// # Panics
    /// After a crash, if others are asked for than before.
    pub fn disk(&mut self, sector_count: u64, change: impl FnOnce(&mut SimOptions)) -> SimDisk {
        let options = self.options(sector_count, change);
        let image = self.next_left();
        let image = image.unwrap_or_else(|| self.content(&options));
        let disk = SimDisk::from_image(image, options, self.clock.clone());
        self.made.push(Store::Disk(disk.clone()));
        disk
    }

    /// A persistent layer of at first so many sectors, all absent, as a copy of what lies below begins; `change` may want other
    /// options.
    ///
    /// # Panics
    /// After a crash, if others are asked for than before.
    pub fn layer(&mut self, sector_count: u64, change: impl FnOnce(&mut SimOptions)) -> SimLayer {
        self.layer_holding(sector_count, change, |_, _| None)
    }

    /// The same, with content of its own in some sectors, which hides what lies below.
    ///
    /// # Panics
    /// As [`layer`](Self::layer).
    pub fn filled_layer(
        &mut self,
        sector_count: u64,
        change: impl FnOnce(&mut SimOptions),
    ) -> SimLayer {
        self.layer_holding(sector_count, change, Self::some_content)
    }

    fn layer_holding(
        &mut self,
        sector_count: u64,
        change: impl FnOnce(&mut SimOptions),
        content: impl Fn(&mut Self, u64) -> Option<Vec<u8>>,
    ) -> SimLayer {
        let options = self.options(sector_count, change);
        let image = self.next_left();
        let image = image.unwrap_or_else(|| {
            Image::of_layer((0..sector_count).map(|sector| content(self, sector)))
        });
        let layer = SimLayer::from_image(image, options, self.clock.clone());
        self.made.push(Store::Layer(layer.clone()));
        layer
    }

    /// Does this when the first content has been read, and requests begin: from then on requests may be delayed, or fail.
    pub fn when_it_begins(&mut self, begin: impl FnOnce() + 'static) {
        self.when_it_begins.push(Box::new(begin));
    }

    /// Does this when all requests are over: from then on nothing may fail.
    pub fn when_it_ends(&mut self, end: impl FnOnce() + 'static) {
        self.when_it_ends.push(Box::new(end));
    }

    pub(super) fn into_ground(self) -> Ground {
        Ground {
            stores: self.made,
            failure_percent: self.failure_percent,
            when_it_begins: self.when_it_begins,
            when_it_ends: self.when_it_ends,
        }
    }

    fn next_left(&mut self) -> Option<Image> {
        let left = self.left.as_mut()?;
        Some(left.next().expect("the same stores as before the crash"))
    }

    fn options(&mut self, sector_count: u64, change: impl FnOnce(&mut SimOptions)) -> SimOptions {
        let mut options = SimOptions::new(sector_count, self.sector_size, self.rng.u64(..));
        change(&mut options);
        // Until requests begin: whoever builds on a store must succeed.
        options.failure_percent = 0;
        options
    }

    /// Content by which everybody sees which store, and which sector of it, it is of.
    fn content(&mut self, options: &SimOptions) -> Image {
        let zeros = vec![0; self.sector_size as usize];
        let content: Vec<u8> = (0..options.sector_count)
            .flat_map(|sector| self.some_content(sector).unwrap_or_else(|| zeros.clone()))
            .collect();
        Image::of_disk(&content, self.sector_size)
    }

    /// What the store that was made last may hold in a sector of a disk on it: zeros, bytes of its own, or nothing. For a layer that is
    /// to begin with content that everybody knows whose it is.
    pub fn some_content(&mut self, sector: u64) -> Option<Vec<u8>> {
        let stamp = 1 + self.made.len() as u64;
        let mut bytes = vec![0; self.sector_size as usize];
        match self.rng.u8(0..6) {
            0 => return None,
            1 => {}
            _ => crate::ledger::fill(&mut bytes, crate::ledger::value(stamp, sector)),
        }
        Some(bytes)
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores")
            .field("made", &self.made)
            .finish_non_exhaustive()
    }
}
