//! A few threads on a few sectors of a disk, and what each of them saw.

use disk_backend::check::Intent;
use disk_backend::{Disk, DiskError, UnmapBehavior};
use disk_layered::{DiskLayer, LayerConfiguration, LayerIo, LayeredDisk};
use exploration::history::{self, Event};
use scsi_buffers::HostBuffers;
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) const SECTOR_BYTES: usize = 512;

/// The sectors of a chunk of the RAM store: a request across such a border touches two locks.
pub(crate) const CHUNK_SECTORS: u64 = (2 << 20) / SECTOR_BYTES as u64;

/// The longest request, in sectors.
const REQUEST_SECTORS_MAX: u64 = 3;

/// Whether a request that reads, or one that changes something, may fail this way. Where nothing can, an error is a finding.
pub(crate) type Allowed = fn(Intent, &DiskError) -> bool;

/// What all threads of a scenario share. Its own counters are not steered, so they make no schedule different.
pub(crate) struct Arena {
    pub(crate) disk: Disk,
    hot: Range<u64>,
    allowed: Allowed,
    now: AtomicU64,
    last_value: AtomicU64,
    log: Mutex<Vec<(u64, Event)>>,
}

/// What a sector of the layer at the bottom holds at first.
pub(crate) fn initial(sector: u64) -> u64 {
    0x1000 + sector
}

/// A plain layer.
pub(crate) fn plain(layer: impl LayerIo) -> LayerConfiguration {
    LayerConfiguration::new(DiskLayer::new(layer))
}

/// Stores [`initial`] in a range of a layer.
pub(crate) fn fill_with_initial(layer: &impl LayerIo, range: Range<u64>) {
    let bytes = stamped(range.clone().map(initial));
    let host = HostBuffers::from_ref(&bytes);
    block_on(layer.write(&host.buffers(), range.start, false)).expect("there is memory");
}

impl Arena {
    /// Works on the sectors `hot` of the disk that these layers make, where no request fails.
    pub(crate) fn new(layers: Vec<LayerConfiguration>, hot: Range<u64>) -> Arc<Self> {
        Self::allowing(|_, _| false, layers, hot)
    }

    /// The same where requests of the threads may fail in some ways.
    pub(crate) fn allowing(
        allowed: Allowed,
        layers: Vec<LayerConfiguration>,
        hot: Range<u64>,
    ) -> Arc<Self> {
        let stack = block_on(LayeredDisk::new(false, layers)).expect("a legal stack");
        let disk = Disk::new(stack).expect("sector sizes are valid");
        assert_eq!(disk.unmap_behavior(), UnmapBehavior::Zeroes);
        Arc::new(Self {
            disk,
            hot,
            allowed,
            now: AtomicU64::new(0),
            last_value: AtomicU64::new(0),
            log: Mutex::default(),
        })
    }

    /// Begins a thread that makes some random requests.
    pub(crate) fn spawn(self: &Arc<Self>, requests: usize) -> shuttle::thread::JoinHandle<()> {
        let arena = Arc::clone(self);
        shuttle::thread::spawn(move || (0..requests).for_each(|_| arena.request()))
    }

    fn request(&self) {
        let start = thread_rng().gen_range(self.hot.clone());
        let end = self.hot.end.min(start + REQUEST_SECTORS_MAX);
        let range = start..thread_rng().gen_range(start + 1..=end);
        match thread_rng().gen_range(0..8) {
            0..3 => self.read(range),
            3..6 => self.write(range),
            6 => self.zero(range, |disk, range| {
                let count = range.end - range.start;
                block_on(disk.write_zeroes(range.start, count, false, true, false))
            }),
            _ => self.zero(range, |disk, range| {
                block_on(disk.unmap(range.start, range.end - range.start, false))
            }),
        }
    }

    pub(crate) fn read(&self, range: Range<u64>) {
        if let Err(error) = self.try_read(range) {
            self.check_allowed(Intent::Read, &error);
        }
    }

    /// Reads, and notes what was seen.
    fn try_read(&self, range: Range<u64>) -> Result<(), DiskError> {
        let mut bytes = vec![0xee; (range.end - range.start) as usize * SECTOR_BYTES];
        let called = self.tick();
        let host = HostBuffers::from_mut(&mut bytes);
        block_on(self.disk.read_vectored(&host.buffers(), range.start))?;
        let returned = self.tick();
        drop(host);
        let events = values(&bytes).map(|value| Event::read(value, called, returned));
        self.note(range.zip(events));
        Ok(())
    }

    fn write(&self, range: Range<u64>) {
        let value = 1 + self.last_value.fetch_add(1, Ordering::Relaxed);
        let bytes = stamped(range.clone().map(|_| value));
        let host = HostBuffers::from_ref(&bytes);
        let called = self.tick();
        let result = block_on(
            self.disk
                .write_vectored(&host.buffers(), range.start, false),
        );
        self.note_change(range, value, called, result);
    }

    /// Makes a request that leaves zeros.
    pub(crate) fn zero(
        &self,
        range: Range<u64>,
        request: impl FnOnce(&Disk, &Range<u64>) -> Result<(), DiskError>,
    ) {
        let called = self.tick();
        let result = request(&self.disk, &range);
        self.note_change(range, 0, called, result);
    }

    fn note_change(
        &self,
        range: Range<u64>,
        value: u64,
        called: u64,
        result: Result<(), DiskError>,
    ) {
        let returned = self.tick();
        let event = match result {
            Ok(()) => Event::write(value, called, returned),
            Err(error) => {
                self.check_allowed(Intent::Write, &error);
                Event::failed_write(value, called, returned)
            }
        };
        self.note(range.map(|sector| (sector, event)));
    }

    pub(crate) fn note(&self, events: impl IntoIterator<Item = (u64, Event)>) {
        self.log.lock().expect("no panic").extend(events);
    }

    fn check_allowed(&self, intent: Intent, error: &DiskError) {
        let is_allowed = (self.allowed)(intent, error);
        assert!(is_allowed, "a request failed ({intent:?}): {error}");
    }

    /// Reads every sector once more, and looks for an order that explains all that was seen (C2, L2). This read may not fail,
    /// whatever the threads were allowed: without it a value that was lost at the end would not be missed.
    pub(crate) fn check(&self) {
        let last = self.try_read(self.hot.clone());
        last.unwrap_or_else(|error| panic!("the last read failed: {error}"));
        let log = self.log.lock().expect("no panic");
        for sector in self.hot.clone() {
            let here = log.iter().filter(|(at, _)| *at == sector);
            let events: Vec<_> = here.map(|(_, event)| *event).collect();
            if let Err(message) = history::check(initial(sector), &events) {
                panic!("sector {sector}: {message}");
            }
        }
    }

    pub(crate) fn tick(&self) -> u64 {
        self.now.fetch_add(1, Ordering::Relaxed)
    }
}

/// Sectors that are full of their value.
fn stamped(values: impl Iterator<Item = u64>) -> Vec<u8> {
    let sector = |value: u64| value.to_le_bytes().repeat(SECTOR_BYTES / 8);
    values.flat_map(sector).collect()
}

/// The value that each sector is full of.
pub(crate) fn values(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks(SECTOR_BYTES).map(|sector| {
        let (words, _) = sector.as_chunks();
        assert!(words.iter().all(|word| *word == words[0]), "a torn sector");
        u64::from_le_bytes(words[0])
    })
}
