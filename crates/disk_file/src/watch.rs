//! Learning from the kernel that somebody has changed a file: one inotify instance and one thread for all disks of the process,
//! because instances are few. The thread sleeps until the kernel has something to say.
//!
//! The kernel tells of any change of a file, so of each of our own writes too, and does not tell which was one of the size.
//! After the first one it is asked for [`QUIET`] to tell only of files that a writer has closed, which none of our own writes
//! do. So writing costs a look each second, idling costs nothing, and no change goes unseen for longer.
//!
//! Invariants: I1, a file that is watched is asked for all changes, or will be at `all_from`; I2, after it is asked for more, the
//! file is looked at, since nobody told what happened before; I3, the thread uses a disk's file only while it has `files`
//! locked, so that a [`Watch`] that was dropped keeps no file open; I4, it wakes nobody meanwhile.

use crate::size::Size;
use event_listener::Event;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

/// For how long a file that was changed is not asked for changes again.
const QUIET: Duration = Duration::from_secs(1);

/// A file that is watched until this is dropped.
pub(crate) struct Watch {
    watcher: &'static Watcher,
    number: i32,
    size: Arc<Size>,
}

struct Watcher {
    inotify: OwnedFd,
    /// By the kernel's number for the file, which all disks on it share.
    files: Mutex<BTreeMap<i32, Watched>>,
}

/// What those wait for that are to be woken.
type News = Vec<Arc<Event>>;

struct Watched {
    /// Of each disk on this file; never empty.
    sizes: Vec<Arc<Size>>,
    /// When to ask for all changes again; none if that is so.
    all_from: Option<Instant>,
}

impl Watch {
    /// Watches the file of `size`, which from now on follows it.
    ///
    /// # Errors
    /// The kernel has no inotify for this file, or no more of it.
    pub(crate) fn new(size: &Arc<Size>) -> io::Result<Self> {
        let watcher = Watcher::of_this_process()?;
        let mut files = watcher.files.lock();
        let number = watcher.ask(size, WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE)?;
        let watched = files.entry(number).or_insert_with(|| Watched {
            sizes: Vec::new(),
            all_from: None,
        });
        watched.sizes.push(Arc::clone(size));
        watched.all_from = None; // I1
        drop(files);
        let watch = Self {
            watcher,
            number,
            size: Arc::clone(size),
        };
        size.look()?; // I2
        Ok(watch)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut files = self.watcher.files.lock();
        if let Some(watched) = files.get_mut(&self.number) {
            watched.sizes.retain(|size| !Arc::ptr_eq(size, &self.size));
            if watched.sizes.is_empty() {
                files.remove(&self.number);
                // It fails if the file is gone, and the watch with it.
                let _ = inotify::remove_watch(&self.watcher.inotify, self.number);
            }
        }
    }
}

impl Watcher {
    fn of_this_process() -> io::Result<&'static Self> {
        static WATCHER: LazyLock<Result<&'static Watcher, io::ErrorKind>> =
            LazyLock::new(|| Watcher::start().map_err(|error| error.kind()));
        Ok((*WATCHER)?)
    }

    fn start() -> io::Result<&'static Self> {
        let watcher: &'static Self = Box::leak(Box::new(Self {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            files: Mutex::default(),
        }));
        thread::Builder::new()
            .name("file-watch".into())
            .spawn(|| watcher.run())?;
        Ok(watcher)
    }

    /// Asks the kernel for `changes` of the file, instead of what it was asked for before, and returns its number.
    fn ask(&self, size: &Size, changes: WatchFlags) -> io::Result<i32> {
        // Its name may be another file's by now, or nobody's.
        let path = format!("/proc/self/fd/{}", size.image().file().as_raw_fd());
        Ok(inotify::add_watch(&self.inotify, path, changes)?)
    }

    fn run(&self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut news = News::new();
        loop {
            let next = self.ask_again(&mut news);
            news.drain(..)
                .for_each(|event| _ = event.notify(usize::MAX)); // I4
            let timeout = next.and_then(|next| Timespec::try_from(next).ok());
            let mut wanted = [PollFd::new(&self.inotify, PollFlags::IN)];
            // An error is an interruption, or a lack of memory that will pass: looking at what there is does no harm.
            let _ = poll(&mut wanted, timeout.as_ref());
            let mut reader = Reader::new(&self.inotify, &mut buffer);
            while let Ok(event) = reader.next() {
                self.hear(event.wd(), event.events(), &mut news);
            }
        }
    }

    fn hear(&self, number: i32, changes: ReadFlags, news: &mut News) {
        let mut files = self.files.lock();
        if changes.contains(ReadFlags::QUEUE_OVERFLOW) {
            files.values().for_each(|watched| watched.look(news));
            return;
        }
        // If there is none, its disk has just gone.
        let Some(watched) = files.get_mut(&number) else {
            return;
        };
        if changes.contains(ReadFlags::MODIFY) && watched.all_from.is_none() {
            // If that fails it goes on telling all, which only costs time.
            if self.ask(&watched.sizes[0], WatchFlags::CLOSE_WRITE).is_ok() {
                watched.all_from = Some(Instant::now() + QUIET); // I1
            }
        }
        watched.look(news);
    }

    /// Asks again for all changes of those files that had their quiet, and returns how long the next one still has.
    fn ask_again(&self, news: &mut News) -> Option<Duration> {
        let now = Instant::now();
        let mut next: Option<Duration> = None;
        for watched in self.files.lock().values_mut() {
            let Some(all_from) = watched.all_from else {
                continue;
            };
            let mut left = all_from.saturating_duration_since(now);
            if left.is_zero() {
                let all = WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE;
                let is_asked = self.ask(&watched.sizes[0], all).is_ok();
                watched.look(news); // I2
                if is_asked {
                    watched.all_from = None;
                    continue;
                }
                left = QUIET;
                watched.all_from = Some(now + QUIET);
            }
            next = Some(next.map_or(left, |next| next.min(left)));
        }
        next
    }
}

impl Watched {
    fn look(&self, news: &mut News) {
        for size in &self.sizes {
            match size.look_and_tell_nobody() {
                Ok((_, event)) => news.extend(event),
                Err(error) => {
                    let path = size.image().path.display();
                    tracing::warn!(%path, %error, "cannot look at the size of the image");
                }
            }
        }
    }
}
