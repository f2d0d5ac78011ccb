//! Why a file cannot be a disk.

use crate::lock_holder::Holder;
use std::io;
use std::path::PathBuf;

/// Why a file or block device was not opened as a disk. Each message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The sector size is none that a disk can have.
    #[error("sector size {0} is invalid: it must be a power of two from 512 to 65536 bytes")]
    InvalidSectorSize(u32),
    /// The sector size is smaller than what the device can write.
    #[error("{}: the device has sectors of {device} bytes, so sectors of {asked} bytes would tear: use sector_size={device}", path.display())]
    SectorSmallerThanDevice {
        /// The device.
        path: PathBuf,
        /// The device's logical sector size, in bytes.
        device: u32,
        /// The sector size asked for, in bytes.
        asked: u32,
    },
    /// The file system, or the device, has no direct I/O for this file.
    #[error("{}: there is no direct I/O on this file: leave out direct", .0.display())]
    DirectUnsupported(PathBuf),
    /// Direct I/O goes by blocks that are larger than the sectors asked for.
    #[error("{}: direct I/O on this file goes by blocks of {block} bytes, so it cannot have sectors of {asked} bytes: use sector_size={block}, or leave out direct", path.display())]
    SectorSmallerThanDirect {
        /// The file.
        path: PathBuf,
        /// What the file's direct I/O goes by, in bytes.
        block: usize,
        /// The sector size asked for, in bytes.
        asked: u32,
    },
    /// Nothing is there.
    #[error("{}: no such file: check the path, or make an empty image with create=true,size=SIZE", .0.display())]
    NotFound(PathBuf),
    /// Something is there that is neither a regular file nor a block device.
    #[error("{}: this is a {kind}: a disk needs a regular file or a block device", path.display())]
    WrongKind {
        /// What was named.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The file does not end at the end of a sector.
    #[error(
        "{}: its {size_bytes} bytes are no multiple of the sector size of {sector_size} bytes: pad it with `truncate -s %{sector_size} FILE`, or choose a sector_size that divides it",
        path.display()
    )]
    SizeNotSectorMultiple {
        /// The file.
        path: PathBuf,
        /// Its size.
        size_bytes: u64,
        /// The sector size, in bytes.
        sector_size: u32,
    },
    /// The file has no content, so there is no disk.
    #[error("{}: it is empty: give it a size with create=true,size=SIZE, or with `truncate -s SIZE FILE`", .0.display())]
    Empty(PathBuf),
    /// `create` without `size`.
    #[error("{}: create=true needs size=SIZE, the size of the image to make", .0.display())]
    CreateNeedsSize(PathBuf),
    /// `size` without `create`.
    #[error("{}: size=SIZE is only for making an image: add create=true, or leave it out", .0.display())]
    SizeNeedsCreate(PathBuf),
    /// `create` for a disk that takes no writes.
    #[error("{}: there is no such file, and a read-only disk is not created: open it writable once, or check the path", .0.display())]
    CreateReadOnly(PathBuf),
    /// The size to create is none that a disk can have.
    #[error("{}: size {size_bytes} is invalid: it must be a multiple of the sector size of {sector_size} bytes, and neither zero nor above 2^63 - 1", path.display())]
    InvalidCreateSize {
        /// The file.
        path: PathBuf,
        /// The size asked for.
        size_bytes: u64,
        /// The sector size, in bytes.
        sector_size: u32,
    },
    /// The file to create exists, with another size.
    #[error("{}: it exists with {actual_bytes} bytes, and is not made anew with {asked_bytes}: leave out create and size to use it as it is, or choose another path", path.display())]
    ExistsWithOtherSize {
        /// The file.
        path: PathBuf,
        /// The size it has.
        actual_bytes: u64,
        /// The size asked for.
        asked_bytes: u64,
    },
    /// Somebody uses the file in a way that does not go together with this use.
    #[error("{}: in use by {holder}, which {conflict}: stop it there, {advice}", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
        /// Who it is, where that can be found out.
        holder: Holder,
        /// What stands in the way.
        conflict: &'static str,
        /// What else could be done.
        advice: &'static str,
    },
    /// The device is mounted.
    #[error("{}: it is mounted at {mount_point}: unmount it first, or the file system and the disk's user destroy each other's data", path.display())]
    Mounted {
        /// The device.
        path: PathBuf,
        /// Where.
        mount_point: String,
    },
    /// The kernel, or another program, has claimed the device for itself.
    #[error("{}: the device is claimed by the kernel or by another program (swap, RAID, LVM, or an exclusive open): release it there first", .0.display())]
    Claimed(PathBuf),
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}{}", path.display(), hint(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl OpenError {
    /// For `map_err`: a failed attempt to do `action` to the file at `path`.
    pub(crate) fn io(
        path: &std::path::Path,
        action: &'static str,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            path,
            action,
            source,
        }
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            " (check the permissions; reading alone may be allowed: read_only=true)"
        }
        io::ErrorKind::ReadOnlyFilesystem => " (open it with read_only=true)",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            " (free some space, or choose a smaller size)"
        }
        io::ErrorKind::FileTooLarge => {
            " (the file system has no files of this size: choose a smaller one)"
        }
        _ => "",
    }
}
