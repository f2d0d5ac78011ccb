//! The errors of a disk: few, and named by what the caller can do about them.

use guestmem::AccessError;

/// Why a request failed.
///
/// After an error each sector of the request holds its old or its new content (C8). For the first four that a request can
/// run into ([`InvalidInput`](Self::InvalidInput), [`ReadOnly`](Self::ReadOnly), [`IllegalBlock`](Self::IllegalBlock),
/// [`MemoryAccess`](Self::MemoryAccess), checked in this order by [`Disk`](crate::Disk)) nothing was transferred at all (C1).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// Another initiator aborted the request by a reservation's preempt-and-abort.
    #[error("the request was aborted by another initiator's reservation")]
    AbortDueToPreemptAndAbort,
    /// The request reaches beyond the end of the disk.
    #[error("the request reaches beyond the end of the disk")]
    IllegalBlock,
    /// The request is not a whole number of sectors, or a reservation command contradicts itself.
    #[error(
        "the request is malformed: its data is not a whole number of sectors, or its parameters contradict each other"
    )]
    InvalidInput,
    /// The store below failed; what the operating system said is the source.
    #[error("I/O error")]
    Io(#[source] std::io::Error),
    /// The medium could not read or write the data.
    #[error("medium error: {1}")]
    MediumError(#[source] std::io::Error, MediumErrorDetails),
    /// The request's memory may not be used as the request needs.
    #[error("the memory of the request cannot be used")]
    MemoryAccess(#[from] AccessError),
    /// The disk takes no writes.
    #[error("the disk is read-only")]
    ReadOnly,
    /// Another initiator's reservation forbids the request.
    #[error("another initiator holds a reservation that forbids the request")]
    ReservationConflict,
    /// The disk cannot be ejected.
    #[error("the disk cannot be ejected")]
    UnsupportedEject,
    /// The store below has no room; the request may be sent again when there is.
    #[error("no space left to store the data")]
    NoSpace,
    /// The disk cannot do this at all, or not without the fallback that the caller ruled out.
    #[error("the disk does not support this operation")]
    Unsupported,
}

/// What the medium reported with a [`DiskError::MediumError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MediumErrorDetails {
    /// The protection information's application tag did not match.
    #[error("application tag check failed")]
    ApplicationTagCheckFailed,
    /// The protection information's guard (checksum) did not match.
    #[error("guard check failed")]
    GuardCheckFailed,
    /// The protection information's reference tag did not match.
    #[error("reference tag check failed")]
    ReferenceTagCheckFailed,
    /// The data could not be read back.
    #[error("unrecovered read error")]
    UnrecoveredReadError,
    /// The data could not be written.
    #[error("write fault")]
    WriteFault,
}

impl From<std::io::Error> for DiskError {
    /// `StorageFull`, `QuotaExceeded` and `FileTooLarge` become [`DiskError::NoSpace`], `ReadOnlyFilesystem` becomes
    /// [`DiskError::ReadOnly`], all else [`DiskError::Io`].
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Self::NoSpace
            }
            ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            _ => Self::Io(error),
        }
    }
}

impl From<DiskError> for std::io::Error {
    /// For code that blocks on files: the kind that a file would give, with the disk's error as the source where it says
    /// more than the kind.
    fn from(error: DiskError) -> Self {
        use std::io::ErrorKind;
        let kind = match &error {
            DiskError::Io(source) | DiskError::MediumError(source, _) => source.kind(),
            DiskError::IllegalBlock | DiskError::InvalidInput | DiskError::MemoryAccess(_) => {
                ErrorKind::InvalidInput
            }
            DiskError::ReadOnly => ErrorKind::ReadOnlyFilesystem,
            DiskError::NoSpace => ErrorKind::StorageFull,
            DiskError::Unsupported | DiskError::UnsupportedEject => ErrorKind::Unsupported,
            DiskError::ReservationConflict => ErrorKind::ResourceBusy,
            DiskError::AbortDueToPreemptAndAbort => ErrorKind::ConnectionAborted,
        };
        Self::new(kind, error)
    }
}

/// Why a backend cannot be made into a [`Disk`](crate::Disk).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidDisk {
    /// The sector size is not a power of two of at least 512 bytes.
    #[error("sector size {0} is invalid: it must be a power of two, at least 512 bytes")]
    InvalidSectorSize(u32),
    /// The physical sector size is not a power of two, or is smaller than the sector size.
    #[error(
        "physical sector size {physical} is invalid: it must be a power of two, at least the sector size of {logical} bytes"
    )]
    InvalidPhysicalSectorSize {
        /// The physical sector size, in bytes.
        physical: u32,
        /// The sector size, in bytes.
        logical: u32,
    },
}
