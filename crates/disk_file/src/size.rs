//! The size of the image, as it was last seen: others may change it.
//!
//! Invariants: I1, only a look at the file changes what is known, and looks come one after the other, so that an older one never
//! replaces a newer; I2, whoever waits hears of each change: it listens before it compares; I3, nobody is woken under a lock, for
//! a waker is code of others.

use crate::image::Image;
use crate::properties::{ImageKind, device_size};
use event_listener::{Event, EventListener};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) struct Size {
    image: Arc<Image>,
    bytes: AtomicU64,
    looking: Mutex<()>,
    /// What it is being given by this disk, in bytes: on the way, and at last.
    giving: Mutex<Option<[u64; 2]>>,
    changed: Arc<Event>,
}

impl Size {
    pub(crate) fn new(image: Arc<Image>) -> Self {
        Self {
            bytes: AtomicU64::new(image.properties.size_bytes),
            image,
            looking: Mutex::new(()),
            giving: Mutex::new(None),
            changed: Arc::default(),
        }
    }

    pub(crate) fn image(&self) -> &Image {
        &self.image
    }

    /// The whole of it, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// What lies behind the last whole sector, in bytes: no part of the disk.
    pub(crate) fn tail_bytes(&self) -> u64 {
        self.bytes() & self.within_sector()
    }

    pub(crate) fn sector_count(&self) -> u64 {
        self.bytes() >> self.image.sector_size.trailing_zeros()
    }

    /// Where the last whole sector ends, in bytes.
    pub(crate) fn end_of_sectors(&self) -> u64 {
        self.bytes() & !self.within_sector()
    }

    /// Asks the file, tells whoever waits if the answer is new, and returns the size in bytes.
    pub(crate) fn look(&self) -> io::Result<u64> {
        let (now, news) = self.look_and_tell_nobody()?;
        if let Some(news) = news {
            news.notify(usize::MAX);
        }
        Ok(now)
    }

    /// As [`look`](Self::look), but leaves it to the caller to notify those who wait, if there are news for them.
    pub(crate) fn look_and_tell_nobody(&self) -> io::Result<(u64, Option<Arc<Event>>)> {
        let _looking = self.looking.lock(); // I1
        let file = self.image.file();
        let now = match self.image.properties.kind {
            ImageKind::BlockDevice => device_size(file)?,
            ImageKind::File | ImageKind::MemoryFile => file.metadata()?.len(),
        };
        let before = self.bytes.swap(now, Ordering::AcqRel);
        if before != now {
            let path = self.image.path.display();
            match *self.giving.lock() {
                Some(given) if given.contains(&now) => {
                    tracing::debug!(%path, before, now, "the image was given another size");
                }
                _ => tracing::info!(%path, before, now, "the image has another size"),
            }
        }
        let news = (before != now).then(|| Arc::clone(&self.changed)); // I3
        Ok((now, news))
    }

    /// Until the guard is dropped, another size that is one of these is no news from outside. One at a time.
    pub(crate) fn giving(&self, sizes: [u64; 2]) -> impl Drop + '_ {
        *self.giving.lock() = Some(sizes);
        Given(self)
    }

    /// Hears of the next change.
    pub(crate) fn listen(&self) -> EventListener {
        self.changed.listen()
    }

    /// The bits of an offset that say where it is in its sector, whose size is a power of two.
    fn within_sector(&self) -> u64 {
        u64::from(self.image.sector_size) - 1
    }
}

struct Given<'a>(&'a Size);

impl Drop for Given<'_> {
    fn drop(&mut self) {
        *self.0.giving.lock() = None;
    }
}
