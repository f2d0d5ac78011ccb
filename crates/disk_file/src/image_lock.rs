//! Locks that keep an image from two users who would spoil it for each other, ours or QEMU's.
//!
//! The protocol is QEMU's, so that both understand each other. Each kind of use has a bit. Whoever does something to an
//! image holds a shared lock on byte `100 + bit`; whoever does not put up with others doing it holds one on byte `200 + bit`.
//! After taking its own locks, everybody looks whether a counterpart is locked by someone else, and backs out if so: of two who
//! come at once at least one sees the other. The locks belong to the open file, not to the process, and are only ever
//! shared locks, so that reading permission is enough.

use crate::OpenError;
use crate::lock_holder::{Holder, Sought, find_holder};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long to wait for a lock that no process can be seen to hold. What a process had in a ring when it was killed goes on in the kernel
/// for some milliseconds, with the file, and so with its locks: as it should, because until then it may still be written.
const UNSEEN_HOLDER_MAX: Duration = Duration::from_secs(2);
/// How long to wait before looking again.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Where the locks of what the holder does begin.
const DOES_BASE: u8 = 100;
/// Where the locks of what the holder does not put up with begin.
const FORBIDS_BASE: u8 = 200;

/// The kinds of use that matter here, as QEMU numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Use {
    /// Reads, and expects what it wrote or nobody wrote.
    ConsistentRead = 0,
    Write = 1,
    Resize = 3,
}

/// How a disk uses its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    ReadOnly,
    ReadWrite,
}

/// Nobody else may write to or resize an image while a disk uses it, whichever way.
const FORBIDDEN: [Use; 2] = [Use::Write, Use::Resize];

impl Access {
    fn uses(self) -> &'static [Use] {
        match self {
            Self::ReadOnly => &[Use::ConsistentRead],
            Self::ReadWrite => &[Use::ConsistentRead, Use::Write],
        }
    }
}

/// An open image, locked as long as this exists.
#[derive(Debug)]
pub(crate) struct LockedFile {
    file: File,
    is_locked: bool,
}

impl LockedFile {
    /// Locks the image, or finds out who is in the way.
    pub(crate) fn lock(file: File, path: &Path, access: Access) -> Result<Self, OpenError> {
        // From here on, whatever was locked is unlocked again should this fail.
        let mut locked = Self {
            file,
            is_locked: true,
        };
        let until = Instant::now() + UNSEEN_HOLDER_MAX;
        loop {
            match take_locks(&locked.file, path, access) {
                Err(OpenError::InUse {
                    holder: Holder::Unknown,
                    ..
                }) if Instant::now() < until => {
                    locked.unlock();
                    std::thread::sleep(LOOK_INTERVAL);
                }
                taken => {
                    locked.is_locked = taken?;
                    return Ok(locked);
                }
            }
        }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Whether others are kept out; false where the file system has no such locks.
    pub(crate) fn is_locked(&self) -> bool {
        self.is_locked
    }
}

impl Drop for LockedFile {
    /// Closing would do, were it not for processes that are being started in this instant: until they execute their program
    /// they have the same open file, and with it the locks.
    fn drop(&mut self) {
        if self.is_locked {
            self.unlock();
        }
    }
}

impl LockedFile {
    fn unlock(&self) {
        let all = libc::flock {
            l_len: libc::off_t::from(u8::MAX),
            ..one_byte(libc::F_UNLCK, 0)
        };
        if let Err(error) = fcntl(self.file.as_fd(), FcntlArg::F_OFD_SETLK(&all)) {
            tracing::warn!(%error, "an image could not be unlocked before it was closed");
        }
    }
}

/// Takes the locks and looks for others'. `Ok(false)`: this file system has no such locks.
fn take_locks(file: &File, path: &Path, access: Access) -> Result<bool, OpenError> {
    let does = access.uses().iter().map(|&kind| DOES_BASE + kind as u8);
    let forbids = FORBIDDEN.iter().map(|&kind| FORBIDS_BASE + kind as u8);
    for byte in does.chain(forbids) {
        match set_shared_lock(file, byte) {
            Ok(()) => {}
            Err(error) if is_unsupported(&error) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(in_use(
                    file,
                    path,
                    byte,
                    "has locked the file for itself alone",
                    access,
                ));
            }
            Err(error) => return Err(OpenError::io(path, "lock it")(error)),
        }
    }
    for &kind in access.uses() {
        check(
            file,
            path,
            FORBIDS_BASE + kind as u8,
            "does not share it",
            access,
        )?;
    }
    for kind in FORBIDDEN {
        check(file, path, DOES_BASE + kind as u8, "writes to it", access)?;
    }
    Ok(true)
}

/// Fails if somebody else holds a lock on `byte`.
fn check(
    file: &File,
    path: &Path,
    byte: u8,
    conflict: &'static str,
    access: Access,
) -> Result<(), OpenError> {
    match is_locked_by_others(file, byte) {
        Ok(false) => Ok(()),
        Ok(true) => Err(in_use(file, path, byte, conflict, access)),
        Err(error) => Err(OpenError::io(path, "look for locks on it")(error)),
    }
}

fn in_use(file: &File, path: &Path, byte: u8, conflict: &'static str, access: Access) -> OpenError {
    let holder = file.metadata().map_or(Holder::Unknown, |metadata| {
        find_holder(Sought {
            inode: metadata.ino(),
            byte: byte.into(),
            except_fd: file.as_raw_fd(),
        })
    });
    let advice = match access {
        Access::ReadOnly => "or read a copy",
        Access::ReadWrite => "or use a copy; if both only read, open both read-only",
    };
    OpenError::InUse {
        path: path.to_owned(),
        holder,
        conflict,
        advice,
    }
}

fn one_byte(lock_type: libc::c_int, byte: u8) -> libc::flock {
    libc::flock {
        l_type: lock_type as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte.into(),
        l_len: 1,
        l_pid: 0,
    }
}

fn set_shared_lock(file: &File, byte: u8) -> io::Result<()> {
    fcntl(
        file.as_fd(),
        FcntlArg::F_OFD_SETLK(&one_byte(libc::F_RDLCK, byte)),
    )?;
    Ok(())
}

/// Asks as a writer would, because a shared lock does not see other shared ones.
fn is_locked_by_others(file: &File, byte: u8) -> io::Result<bool> {
    let mut lock = one_byte(libc::F_WRLCK, byte);
    fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(libc::c_int::from(lock.l_type) != libc::F_UNLCK)
}

/// What file systems without locks answer, and kernels without locks of open files.
fn is_unsupported(error: &io::Error) -> bool {
    let unsupported = [libc::EINVAL, libc::ENOLCK, libc::ENOSYS, libc::EOPNOTSUPP];
    error
        .raw_os_error()
        .is_some_and(|errno| unsupported.contains(&errno))
}
