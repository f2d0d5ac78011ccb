//! How a disk's errors are told to a client: the one place that decides.

use disk_backend::DiskError;

/// The errors that the protocol knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Errno {
    /// The export, or a reservation, forbids it.
    Perm = 1,
    /// The store failed.
    Io = 5,
    /// The request makes no sense, or reads beyond the end.
    Invalid = 22,
    /// There is no room, which includes all that lies beyond the end.
    NoSpace = 28,
    /// Too large to be sent in one piece.
    Overflow = 75,
    /// Zeros cannot be written faster than data.
    NotSupported = 95,
}

/// Whether a request wants to put data somewhere: what lies beyond the end is no space to those, and nonsense to the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A read, a status, a trim, a flush.
    Other,
    /// A write, or a write of zeros.
    Store,
    /// A write of zeros that must be fast, and is the only request that may be told that it is not supported.
    StoreFast,
}

impl Errno {
    /// The error for a request that reaches beyond the end.
    pub(crate) fn beyond_end(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Other => Self::Invalid,
            Purpose::Store | Purpose::StoreFast => Self::NoSpace,
        }
    }

    /// The error for what a disk said.
    pub(crate) fn of_disk(error: &DiskError, purpose: Purpose) -> Self {
        match error {
            // The disk shrank between our check and its own.
            DiskError::IllegalBlock => Self::beyond_end(purpose),
            DiskError::InvalidInput => Self::Invalid,
            DiskError::ReadOnly | DiskError::ReservationConflict => Self::Perm,
            DiskError::NoSpace => Self::NoSpace,
            DiskError::Unsupported | DiskError::UnsupportedEject => match purpose {
                Purpose::StoreFast => Self::NotSupported,
                Purpose::Other | Purpose::Store => Self::Invalid,
            },
            DiskError::AbortDueToPreemptAndAbort
            | DiskError::Io(_)
            | DiskError::MediumError(..)
            | DiskError::MemoryAccess(_) => Self::Io,
            // `DiskError` may grow; to a client, what we do not know is a failure of the store.
            _ => Self::Io,
        }
    }

    /// The number on the wire.
    pub(crate) fn code(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk_backend::MediumErrorDetails;
    use std::io;

    #[test]
    fn every_error_of_a_disk_has_its_errno() {
        let io_error = || io::Error::other("gone");
        for (error, code) in [
            (DiskError::AbortDueToPreemptAndAbort, 5),
            (DiskError::InvalidInput, 22),
            (DiskError::Io(io_error()), 5),
            (
                DiskError::MediumError(io_error(), MediumErrorDetails::WriteFault),
                5,
            ),
            (DiskError::ReadOnly, 1),
            (DiskError::ReservationConflict, 1),
            (DiskError::UnsupportedEject, 22),
            (DiskError::NoSpace, 28),
            (DiskError::Unsupported, 22),
        ] {
            for purpose in [Purpose::Other, Purpose::Store] {
                assert_eq!(Errno::of_disk(&error, purpose).code(), code, "{error:?}");
            }
        }
    }

    #[test]
    fn only_fast_zeros_are_not_supported() {
        let error = DiskError::Unsupported;
        assert_eq!(
            Errno::of_disk(&error, Purpose::StoreFast),
            Errno::NotSupported
        );
    }

    #[test]
    fn beyond_the_end_is_no_space_to_a_write_and_nonsense_to_a_read() {
        let beyond = DiskError::IllegalBlock;
        assert_eq!(Errno::of_disk(&beyond, Purpose::Other), Errno::Invalid);
        for purpose in [Purpose::Store, Purpose::StoreFast] {
            assert_eq!(Errno::of_disk(&beyond, purpose), Errno::NoSpace);
        }
    }
}
