//! What an operation ends with where the system comes to refuse io_uring while rings are in use.

use scsi_buffers::PinnedBuffers;
use std::fmt;
use std::io;

/// The system allows no io_uring any more: the operation, of which any part may be done, is to be done another way.
pub struct Refused {
    /// The memory of the operation.
    pub memory: PinnedBuffers,
}

impl Refused {
    /// Takes it out of the outcome of an operation, if that is what it is.
    ///
    /// # Errors
    /// It is something else.
    pub fn of(error: io::Error) -> Result<Self, io::Error> {
        error.downcast()
    }
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").finish_non_exhaustive()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system refuses io_uring, which it allowed before: use threads")
    }
}

impl std::error::Error for Refused {}
