//! Memory shared with a guest, a kernel or other threads.
//!
//! Row 1, a foundation: it knows nothing of requests or disks. [`GuestMemory`] resolves guest addresses to
//! host memory; a [`Segment`] is one stretch of that memory in the shape the kernel takes (`struct iovec`); [`copy`]
//! moves bytes in and out of it; [`Pages`] is where such memory comes from; [`MemoryRead`] and [`MemoryWrite`] are
//! how anything streams through it.
//!
//! ```
//! use guestmem::GuestMemory;
//! let memory = GuestMemory::allocate(8192);
//! memory.write_at(4094, b"data")?;
//! let mut bytes = [0; 4];
//! memory.read_at(4094, &mut bytes)?;
//! assert_eq!(&bytes, b"data");
//! # Ok::<(), guestmem::AccessError>(())
//! ```
//!
//! **Guarantees.** Shared memory may change at any moment, so it is never shown as `&[u8]` or `&mut [u8]`; every
//! access goes through the one copy module, whose accesses are no data race whatever others do to the same bytes. An
//! access is checked as a whole before its first byte moves: one that fails has changed nothing. Safe code cannot
//! write through a [`Segment`]. A clone of [`GuestMemory`] keeps all of it alive.
//!
//! **Deliberately absent.** The scatter list of one request, its direction, pinning and bounce buffers
//! (`scsi_buffers`). Atomic access wider than a byte: two copies that meet may mix byte by byte. Mapping files,
//! dirty tracking, and changing the layout of a live memory: build a new [`GuestMemory`] and swap it.
//!
//! **Failure.** An address that nothing backs, or a write to memory that may only be read, is an [`AccessError`] naming
//! the range. Memory that the system refuses is an `io::Error` from [`Pages::new`] and, like any failed allocation,
//! a panic from [`GuestMemory::allocate`].
//!
//! # Why unsafe
//!
//! References cannot describe memory that changes under them, so this crate works with raw pointers: `copy` moves bytes,
//! `segment` gives a pointer the lifetime of what it points into, `pages` makes slices over a private mapping, `backing`
//! and `region` hold the promise a foreign mapping makes, `memory` writes where that promise allows it, and `plain` fills a
//! value byte by byte.
#![allow(unsafe_code)]

mod access;
mod backing;
pub mod copy;
mod memory;
mod pages;
mod plain;
mod region;
mod segment;

pub use access::AccessError;
pub use access::MemoryRead;
pub use access::MemoryWrite;
pub use backing::BackingMemory;
pub use memory::GuestMemory;
pub use memory::Segments;
pub use pages::PAGE_SIZE_BYTES;
pub use pages::Pages;
pub use region::GuestRegion;
pub use region::InvalidGuestMemory;
pub use region::RegionInfo;
pub use segment::Segment;
