//! How a disk's errors are told to a client: the one place that decides.

use disk_backend::DiskError;
use nbd_protocol::command_flag::FAST_ZERO;
use nbd_protocol::{Command, Errno, Request};

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

impl Purpose {
    pub(crate) fn of(request: &Request) -> Self {
        match request.command {
            Command::WriteZeroes if request.has(FAST_ZERO) => Self::StoreFast,
            Command::Write | Command::WriteZeroes => Self::Store,
            _ => Self::Other,
        }
    }

    /// The error for a request that reaches beyond the end.
    pub(crate) fn beyond_end(self) -> Errno {
        match self {
            Self::Other => Errno::Invalid,
            Self::Store | Self::StoreFast => Errno::NoSpace,
        }
    }

    /// The error for what a disk said.
    pub(crate) fn errno(self, error: &DiskError) -> Errno {
        match error {
            // The disk shrank between our check and its own.
            DiskError::IllegalBlock => self.beyond_end(),
            DiskError::InvalidInput => Errno::Invalid,
            DiskError::ReadOnly | DiskError::ReservationConflict => Errno::Perm,
            DiskError::NoSpace => Errno::NoSpace,
            DiskError::Unsupported | DiskError::UnsupportedEject => match self {
                Self::StoreFast => Errno::NotSupported,
                Self::Other | Self::Store => Errno::Invalid,
            },
            DiskError::AbortDueToPreemptAndAbort
            | DiskError::Io(_)
            | DiskError::MediumError(..)
            | DiskError::MemoryAccess(_) => Errno::Io,
            // `DiskError` may grow; to a client, what we do not know is a failure of the store.
            _ => Errno::Io,
        }
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
                assert_eq!(purpose.errno(&error).code(), code, "{error:?}");
            }
        }
    }

    #[test]
    fn only_fast_zeros_are_not_supported() {
        let error = DiskError::Unsupported;
        assert_eq!(Purpose::StoreFast.errno(&error), Errno::NotSupported);
    }

    #[test]
    fn beyond_the_end_is_no_space_to_a_write_and_nonsense_to_a_read() {
        let beyond = DiskError::IllegalBlock;
        assert_eq!(Purpose::Other.errno(&beyond), Errno::Invalid);
        for purpose in [Purpose::Store, Purpose::StoreFast] {
            assert_eq!(purpose.errno(&beyond), Errno::NoSpace);
        }
    }
}
