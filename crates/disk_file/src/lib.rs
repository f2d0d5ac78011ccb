//! A disk in a file or on a block device: a raw image, sector by sector.
//!
//! Row 7: one [`DiskIo`](disk_backend::DiskIo), and [`FileDiskHandle`], the configuration `{"type": "file", "path": ...}` that
//! registers itself wherever this crate is linked.
//!
//! ```
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("disk.raw");
//! use disk_file::{FileDisk, FileDiskOptions};
//! let options = FileDiskOptions { create: true, size_bytes: Some(1 << 20), ..Default::default() };
//! let disk = disk_backend::Disk::new(FileDisk::open(&path, &options)?)?;
//! assert_eq!(disk.sector_count(), 2048);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Guarantees.** Requests are sector-atomic among each other (C2): range locks of our own, because the kernel lets a read beside
//! a write of a cached file see both. Reads and writes complete whatever the kernel returns short. A flush and a FUA write are an
//! `fdatasync` that began after they came; the first after a change, and the one that closes, an `fsync`. What is in the page cache, or on tmpfs, is served at once, and so are short writes to there, as
//! long as they hardly ever wait ([`FileDiskOptions::hand_over_writes`]); reads and writes that wait go by io_uring, and where there is
//! none on a pool of threads, as all else does. They hold their range and own their memory to the end, also if their future is
//! dropped (C9); `drain` waits for them. Unmapped ranges read zero, and holes give their space back.
//!
//! With `direct` nothing goes through the page cache. Memory that lies as the kernel will not have it is copied, sector by
//! sector, from a bounded pool; a sector smaller than the blocks of the file's direct I/O is refused.
//!
//! A file's size is followed: one thread for all disks sleeps until the kernel tells of a change. What the kernel does not tell of
//! (devices, network file systems) is looked at each second while somebody waits in `wait_resize`, and when a read meets the
//! end. What was cut off is `IllegalBlock`, never zeros. A file's `resize` adds a hole, and is durable after the next flush.
//!
//! The image is locked against other disks of ours and against QEMU, by QEMU's own protocol of open-file-description locks; two
//! readers go together, a writer is alone. What a killed process left in the kernel is waited for, 2 s at most. A mounted device is refused.
//!
//! **What it does not do.** Formats: every file is raw, and nothing is probed. Content changed behind its back by programs
//! that take no locks (`dd`, `cp`) is not noticed, and a write may make a file long again that was cut just before.
//!
//! **Failure.** [`OpenError`] says what to do. After a failed flush all writes and flushes are refused until the disk is opened
//! anew (C8), since the kernel has forgotten what it could not write; reads go on. A full file system is `NoSpace`, and heals.

mod block_device;
mod bounced;
mod counters;
mod created_file;
mod direct;
mod disk;
mod error;
mod flush;
mod handle;
mod here;
mod image;
mod image_lock;
mod lock_holder;
mod pool;
mod properties;
mod resize;
mod shared;
mod size;
mod status;
mod transfer;
mod tried;
mod watch;
mod work;
mod zeroing;

#[cfg(test)]
mod tests;

pub use disk::{FileDisk, FileDiskOptions};
pub use error::OpenError;
pub use handle::FileDiskHandle;
pub use lock_holder::Holder;
