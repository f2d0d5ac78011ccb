//! Memory on its way back to the system.

use crate::chunk::{CHUNK_BYTES, Chunk, Cleared, PAGE_BYTES};
use smallvec::SmallVec;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How many pages go back while somebody waits: those of one chunk, which the system takes some 50 to 100 us to take.
const WAITED_FOR_PAGES_MAX: usize = CHUNK_BYTES / PAGE_BYTES;

/// How many chunks do, full or not.
const WAITED_FOR_CHUNKS_MAX: usize = 8;

/// How many threads of the process give memory back at once. Whoever comes then does it himself: so memory is not taken for
/// long faster than it is given back.
const THREADS_MAX: usize = 2;

static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Chunks that hold nothing any more, and are counted no more as memory that holds data. Their memory goes back when this is
/// dropped: on a thread that ends with that if it is much, and if there can be a thread.
#[derive(Default)]
pub(crate) struct Emptied {
    chunks: SmallVec<[Box<Chunk>; 2]>,
    /// How much memory they have.
    pages: usize,
}

impl Emptied {
    /// Takes the chunk, if there is one; returns whether clearing cost next to nothing.
    pub(crate) fn push(&mut self, cleared: Cleared) -> bool {
        let Cleared { pages, chunk } = cleared;
        let is_cheap = pages == 0 || chunk.is_some();
        if let Some(chunk) = chunk {
            self.chunks.push(chunk);
            self.pages += pages;
        }
        is_cheap
    }
}

impl Drop for Emptied {
    fn drop(&mut self) {
        let is_much =
            self.pages > WAITED_FOR_PAGES_MAX || self.chunks.len() > WAITED_FOR_CHUNKS_MAX;
        if let Some(turn) = is_much.then(Turn::take).flatten() {
            let chunks = std::mem::take(&mut self.chunks);
            let thread = thread::Builder::new().name("ram-give-back".to_owned());
            // Without a thread the work is dropped here, and with it the memory.
            let _ = thread.spawn(move || {
                let _turn = turn;
                for chunk in chunks {
                    drop(chunk);
                    // Whoever serves requests goes first, where there are fewer processors than threads.
                    thread::yield_now();
                }
            });
        }
    }
}

/// One of the threads that there may be.
struct Turn;

impl Turn {
    fn take() -> Option<Self> {
        let taken = THREADS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |threads| {
            (threads < THREADS_MAX).then_some(threads + 1)
        });
        taken.ok().map(|_| Self)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        THREADS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Emptied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emptied")
            .field("chunks", &self.chunks.len())
            .field("pages", &self.pages)
            .finish()
    }
}
