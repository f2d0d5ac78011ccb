//! Opening: from a path and a few wishes to an open, locked file whose properties are known.

use crate::block_device::mount_point_of;
use crate::created_file::{NotKeptYet, create_if_missing, make_durable};
use crate::direct::Alignment;
use crate::image_lock::{Access, LockedFile};
use crate::properties::{Properties, SECTOR_SIZE_MAX, device_size};
use crate::{FileDiskOptions, OpenError};
use disk_backend::ContentStamp;
use nix::libc;
use rustix::fs::OFlags;
use std::fs::{File, FileType, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long to wait for a device that is claimed: the kernel lets go of what was asked of a ring, and so of its file, a little after it
/// has answered, or after the process was killed.
const CLAIM_LEFT_BEHIND_MAX: Duration = Duration::from_millis(200);
/// How long to wait before looking again.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// An open image, and what was found out about it. None of it changes while the disk exists.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) locked: LockedFile,
    pub(crate) path: PathBuf,
    pub(crate) is_read_only: bool,
    pub(crate) sector_size: u32,
    pub(crate) may_use_ring: bool,
    /// Whether whoever asks makes writes that hardly ever wait.
    pub(crate) may_write_here: bool,
    /// Whether nothing goes through the page cache, so that nothing is ever there already.
    pub(crate) is_direct: bool,
    pub(crate) alignment: Alignment,
    pub(crate) properties: Properties,
    /// None of one that may be written, and of a device.
    pub(crate) content_stamp: Option<ContentStamp>,
}

impl AsFd for Image {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file().as_fd()
    }
}

impl Image {
    /// Opens, or creates, checks and locks. Blocks.
    pub(crate) fn open(path: &Path, options: &FileDiskOptions) -> Result<Self, OpenError> {
        check_options(path, options)?;
        let created = create_if_missing(path, options)?;
        let is_new = created.is_some();
        let file = match created {
            Some(file) => file,
            None => open_existing(path, options.read_only)?,
        };
        let access = if options.read_only {
            Access::ReadOnly
        } else {
            Access::ReadWrite
        };
        let locked = LockedFile::lock(file, path, access)?;
        // Declared after the lock, so that a failure removes the file before it is unlocked.
        let not_kept_yet = is_new.then(|| NotKeptYet::new(path));
        if !locked.is_locked() {
            tracing::warn!(path = %path.display(), "this file system has no locks: nothing keeps others from using the image too");
        }
        if give_size(locked.file(), path, options)? {
            make_durable(locked.file(), path)?;
        }
        let properties =
            Properties::find_out(locked.file(), path, options.sector_size, options.read_only)?;
        check_size(path, properties.size_bytes, options.sector_size)?;
        let alignment = if options.direct {
            Alignment::turn_on(locked.file(), path, options, &properties)?
        } else {
            Alignment::NONE
        };
        if let Some(not_kept_yet) = not_kept_yet {
            not_kept_yet.keep();
        }
        Ok(Self {
            path: path.to_owned(),
            is_read_only: options.read_only,
            sector_size: options.sector_size,
            may_use_ring: options.io_uring,
            may_write_here: !options.hand_over_writes && !options.direct && properties.is_local,
            is_direct: options.direct,
            alignment,
            content_stamp: stamp_of(&locked, path, options)?,
            properties,
            locked,
        })
    }

    /// The open file, as ours to read, write and change.
    pub(crate) fn file(&self) -> &File {
        self.locked.file()
    }
}

/// What stands for the content of a file that is only read: when it was changed last, while the lock kept writers out. Its size is known
/// besides. What holds for a file, and nothing that belongs to one host or one copy alone: copies that keep their times are the same.
///
/// A device's node has times of its own, which are not its content's.
fn stamp_of(
    locked: &LockedFile,
    path: &Path,
    options: &FileDiskOptions,
) -> Result<Option<ContentStamp>, OpenError> {
    let metadata = locked.file().metadata();
    let metadata = metadata.map_err(OpenError::io(path, "look at it"))?;
    if !options.read_only || !metadata.is_file() {
        return Ok(None);
    }
    let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
    let stamp = format!("modified {seconds}.{nanoseconds:09}");
    // None if some file system makes a longer number of it: there is no such time.
    Ok(ContentStamp::from_text(&stamp))
}

fn check_size(path: &Path, size_bytes: u64, sector_size: u32) -> Result<(), OpenError> {
    if size_bytes == 0 {
        return Err(OpenError::Empty(path.to_owned()));
    }
    if !size_bytes.is_multiple_of(u64::from(sector_size)) {
        return Err(OpenError::SizeNotSectorMultiple {
            path: path.to_owned(),
            size_bytes,
            sector_size,
        });
    }
    Ok(())
}

fn check_options(path: &Path, options: &FileDiskOptions) -> Result<(), OpenError> {
    let sector_size = options.sector_size;
    if !sector_size.is_power_of_two() || !(512..=SECTOR_SIZE_MAX).contains(&sector_size) {
        return Err(OpenError::InvalidSectorSize(sector_size));
    }
    match (options.create, options.size_bytes) {
        (true, None) => Err(OpenError::CreateNeedsSize(path.to_owned())),
        (false, Some(_)) => Err(OpenError::SizeNeedsCreate(path.to_owned())),
        (true, Some(size_bytes))
            if size_bytes == 0
                || !size_bytes.is_multiple_of(u64::from(sector_size))
                || i64::try_from(size_bytes).is_err() =>
        {
            Err(OpenError::InvalidCreateSize {
                path: path.to_owned(),
                size_bytes,
                sector_size,
            })
        }
        _ => Ok(()),
    }
}

fn open_existing(path: &Path, read_only: bool) -> Result<File, OpenError> {
    let expected = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::NotFound(path.to_owned()));
        }
        found => found.map_err(OpenError::io(path, "look at it"))?,
    };
    check_kind(path, expected.file_type())?;
    let is_device = expected.file_type().is_block_device();
    // A writer claims the device, which fails if it is mounted. Readers do not exclude each other, so they ask.
    let claim = if is_device && !read_only {
        libc::O_EXCL
    } else {
        0
    };
    if is_device
        && read_only
        && let Some(mount_point) = mount_point_of(expected.rdev())
    {
        return Err(OpenError::Mounted {
            path: path.to_owned(),
            mount_point,
        });
    }
    // Should it be swapped for a FIFO just now, opening does not wait for the other end.
    let until = Instant::now() + CLAIM_LEFT_BEHIND_MAX;
    let opened = loop {
        let opened = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .custom_flags(claim | libc::O_NONBLOCK)
            .open(path);
        match opened {
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy
                    && is_device
                    && mount_point_of(expected.rdev()).is_none()
                    && Instant::now() < until =>
            {
                std::thread::sleep(LOOK_INTERVAL);
            }
            opened => break opened,
        }
    };
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy && is_device => {
            return Err(match mount_point_of(expected.rdev()) {
                Some(mount_point) => OpenError::Mounted {
                    path: path.to_owned(),
                    mount_point,
                },
                None => OpenError::Claimed(path.to_owned()),
            });
        }
        opened => opened.map_err(OpenError::io(
            path,
            if read_only {
                "open it"
            } else {
                "open it for writing"
            },
        ))?,
    };
    let found = file.metadata().map_err(OpenError::io(path, "look at it"))?;
    check_kind(path, found.file_type())?;
    rustix::fs::fcntl_setfl(&file, OFlags::empty())
        .map_err(|error| OpenError::io(path, "open it")(error.into()))?;
    Ok(file)
}

fn check_kind(path: &Path, file_type: FileType) -> Result<(), OpenError> {
    let kind = match file_type {
        kind if kind.is_file() || kind.is_block_device() => return Ok(()),
        kind if kind.is_dir() => "directory",
        kind if kind.is_fifo() => "pipe",
        kind if kind.is_char_device() => "character device",
        kind if kind.is_socket() => "socket",
        _ => "special file",
    };
    Err(OpenError::WrongKind {
        path: path.to_owned(),
        kind,
    })
}

/// Gives an empty file the size asked for, and returns whether it did. What a crash between creating and sizing leaves is such
/// a file too.
fn give_size(file: &File, path: &Path, options: &FileDiskOptions) -> Result<bool, OpenError> {
    let Some(asked_bytes) = options.size_bytes else {
        return Ok(false);
    };
    let metadata = file.metadata().map_err(OpenError::io(path, "look at it"))?;
    let actual_bytes = if metadata.is_file() {
        metadata.len()
    } else {
        device_size(file).map_err(OpenError::io(path, "find its size"))?
    };
    if metadata.is_file() && actual_bytes == 0 && !options.read_only {
        file.set_len(asked_bytes)
            .map_err(OpenError::io(path, "give it its size"))?;
        return Ok(true);
    }
    if actual_bytes == asked_bytes {
        return Ok(false);
    }
    Err(OpenError::ExistsWithOtherSize {
        path: path.to_owned(),
        actual_bytes,
        asked_bytes,
    })
}
