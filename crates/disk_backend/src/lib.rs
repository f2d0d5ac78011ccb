//! The disk: a trait to implement, a handle to hold.
//!
//! A backend implements [`DiskIo`]; whoever wants sectors holds a [`Disk`]. Between the two every request is checked once, FUA
//! is emulated where the backend has none, and the backend's type is erased without a heap allocation per request.
//!
//! This crate knows no protocol, no executor and no file path. Disks live in the `disk_*` crates, layered disks in
//! `disk_layered`, protocols in the `frontend_*` crates.
//!
//! ```
//! use disk_backend::{Disk, DiskError};
//! use scsi_buffers::OwnedRequestBuffers;
//!
//! async fn boot_sector(disk: &Disk, guest: &guestmem::GuestMemory) -> Result<(), DiskError> {
//!     let buffers = OwnedRequestBuffers::linear(0x7c00, disk.sector_size() as usize, true);
//!     disk.read_vectored(&buffers.buffer(guest), 0).await
//! }
//! ```
//!
//! **Guarantees.** A backend sees only well-formed requests (C1, in [`check`]); metadata is valid and never changes behind a
//! user's back; every method of [`DiskIo`] reaches the backend. [`Disk::drain`] tells when nothing is in flight.
//!
//! **Failure.** [`DiskError`] is protocol-neutral; each frontend turns it into its protocol's status in one exhaustive match.

pub mod check;
mod disk;
mod erased;
mod error;
pub mod in_flight;
mod io;
pub mod pr;
pub mod resolve;
mod stamp;
mod status;
pub mod sync_wrapper;
mod types;
pub mod zeroes;

pub use disk::Disk;
pub use error::{DiskError, InvalidDisk, MediumErrorDetails};
pub use io::DiskIo;
pub use stamp::ContentStamp;
pub use status::{BlockExtent, BlockState, BlockStatus, LayerId};
pub use types::{Persistence, UnmapBehavior};
