//! One bounce buffer, and who keeps it.

use super::BounceError;
use super::pool::Lease;
use crate::RequestBuffers;
use crate::source::Direction;
use crate::source::Source;
use guestmem::Pages;
use guestmem::Segment;
use std::fmt;
use std::sync::Arc;

/// Page-aligned memory for the time of a request.
///
/// What it holds at first is unspecified: zeros, or what an earlier request left there. Whoever takes bytes out has put
/// them in before.
pub struct BounceBuffer {
    memory: Arc<BounceMemory>,
}

/// The memory, shared by the buffer and all pins of it.
pub(crate) struct BounceMemory {
    /// At most the length of the memory.
    len: usize,
    memory: Memory,
}

/// Whose memory it is.
enum Memory {
    Own(Pages),
    Leased(Lease),
}

impl BounceBuffer {
    /// A buffer of `len` bytes that belongs to no pool, bounded by nothing.
    ///
    /// # Errors
    /// [`BounceError::OutOfMemory`].
    pub fn unpooled(len: usize) -> Result<Self, BounceError> {
        let pages = Pages::new(len).map_err(|_| BounceError::OutOfMemory { len })?;
        Ok(Self::new(len, Memory::Own(pages)))
    }

    /// A buffer of `len` bytes in memory of a pool.
    pub(super) fn leased(len: usize, mut lease: Lease) -> Result<Self, BounceError> {
        lease.map().map_err(|_| BounceError::OutOfMemory { len })?;
        Ok(Self::new(len, Memory::Leased(lease)))
    }

    fn new(len: usize, memory: Memory) -> Self {
        BounceBuffer {
            memory: Arc::new(BounceMemory { len, memory }),
        }
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.memory.len
    }

    /// Whether there is not a single byte.
    pub fn is_empty(&self) -> bool {
        self.memory.len == 0
    }

    /// All of it as the memory of a request; with `is_writable` the request may write it (a disk read). It can be pinned.
    pub fn buffers(&self, is_writable: bool) -> RequestBuffers<'_> {
        let direction = if is_writable {
            Direction::ReadWrite
        } else {
            Direction::ReadOnly
        };
        RequestBuffers::new(Source::Bounce(&self.memory), 0, self.memory.len, direction)
    }

    /// The bytes, while nobody else holds a pin on them: `None` after a pin that was taken and not yet dropped.
    ///
    /// It takes `&mut self` because buffers lent by [`buffers`](Self::buffers) may write at any moment.
    pub fn as_slice(&mut self) -> Option<&[u8]> {
        self.as_mut_slice().map(|bytes| &*bytes)
    }

    /// The bytes, to change; `None` as for [`as_slice`](Self::as_slice).
    pub fn as_mut_slice(&mut self) -> Option<&mut [u8]> {
        let memory = Arc::get_mut(&mut self.memory)?;
        let pages = match &mut memory.memory {
            Memory::Own(pages) => pages,
            Memory::Leased(lease) => lease.pages_mut(),
        };
        Some(&mut pages[..memory.len])
    }
}

impl BounceMemory {
    /// All bytes, which may be read and written while `self` is borrowed.
    pub(crate) fn segment(&self) -> Segment<'_> {
        let pages = match &self.memory {
            Memory::Own(pages) => pages,
            Memory::Leased(lease) => lease.pages(),
        };
        assert!(
            self.len <= pages.len(),
            "a buffer is not longer than its memory"
        );
        // SAFETY: `pages` maps at least `len` bytes at its base for as long as `self` is borrowed. The only slices of them are made by
        // `as_mut_slice` through `Arc::get_mut`, which proves that no such borrow and no pin exists.
        unsafe { Segment::from_raw_parts(pages.base().as_ptr(), self.len) }
    }
}

impl fmt::Debug for BounceBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BounceBuffer({} bytes)", self.len())
    }
}
