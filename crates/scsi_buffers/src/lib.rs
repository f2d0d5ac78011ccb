//! The memory of one request.
//!
//! Row 2, above `guestmem`. A frontend describes where a request's bytes are - in guest memory ([`OwnedRequestBuffers`]),
//! in its own memory ([`HostBuffers`]) or in a temporary page-aligned buffer ([`BounceBuffer`]) - and every disk sees the
//! same thing: [`RequestBuffers`], an ordered list of segments with a total length and an allowed direction.
//!
//! ```
//! use guestmem::{GuestMemory, MemoryWrite};
//! use scsi_buffers::OwnedRequestBuffers;
//! let memory = GuestMemory::allocate(65536);
//! let request = OwnedRequestBuffers::linear(100, 4096, true);
//! request.buffer(&memory).subrange(512, 4).writer().write(b"data")?;
//! assert_eq!(memory.read_plain::<[u8; 4]>(612)?, *b"data");
//! # Ok::<(), guestmem::AccessError>(())
//! ```
//!
//! **Guarantees.** Any addresses and lengths, empty segments included. `subrange` and `clone` allocate nothing. A range
//! that is no memory, or the wrong direction, is an `AccessError` when it is used, before any byte of that call
//! moves; after `check_readable` or `check_writable` said `Ok`, no copy fails. [`RequestBuffers::pin`] gives an owner of the memory that may
//! outlive the request, or nothing where the memory is borrowed. A [`BouncePool`] never exceeds its bound, serves in the
//! order of asking, and refuses at once what it could never give.
//!
//! **Deliberately absent.** Moving bytes (`guestmem::copy`), sectors and alignment rules (`disk_backend`), system calls (`posio`).
//!
//! **Failure.** `guestmem::AccessError` for memory, [`BounceError`] for the pool. A subrange outside its buffers is the
//! caller's mistake, and panics.
//!
//! # Why unsafe
//!
//! Writing through a `guestmem::Segment` is unsafe, because a segment does not know whether its memory may be written.
//! [`RequestBuffers`] does: all calls that write are in `stream` and `request`, behind that check. `bounce::buffer` lends the
//! pages it owns as segments.
#![allow(unsafe_code)]

mod bounce;
mod cursor;
mod guest;
mod host;
mod iovecs;
mod pin;
mod request;
mod source;
mod stream;
mod zeros;

pub use bounce::BounceBuffer;
pub use bounce::BounceError;
pub use bounce::BouncePool;
pub use cursor::RequestSegments;
pub use guest::GuestRange;
pub use guest::OwnedRequestBuffers;
pub use host::HostBuffers;
pub use iovecs::IOVEC_BYTES_MAX;
pub use iovecs::IOVEC_COUNT_MAX;
pub use iovecs::Iovecs;
pub use pin::PinnedBuffers;
pub use request::RequestBuffers;
pub use stream::BufferReader;
pub use stream::BufferWriter;
