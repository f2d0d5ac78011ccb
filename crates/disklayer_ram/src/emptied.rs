//! Memory on its way back to the system.

use crate::chunk::{CHUNK_BYTES, Chunk, Cleared, PAGE_BYTES};
use smallvec::SmallVec;
use std::fmt;

/// How many pages go back while somebody waits: those of one chunk, which the system takes some 50 to 100 us to take.
const WAITED_FOR_PAGES_MAX: usize = CHUNK_BYTES / PAGE_BYTES;

/// Chunks that hold nothing any more. Their memory goes back when this is dropped: on a thread of its own if it is much, which ends
/// when it has nothing to do.
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
        if self.pages > WAITED_FOR_PAGES_MAX {
            let chunks = std::mem::take(&mut self.chunks);
            blocking::unblock(|| {
                for chunk in chunks {
                    drop(chunk);
                    // Whoever serves requests goes first, where there are fewer processors than threads.
                    std::thread::yield_now();
                }
            })
            .detach();
        }
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
