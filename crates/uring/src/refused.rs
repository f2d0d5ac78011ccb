//! What an operation ends with where the system comes to refuse io_uring while rings are in use.

use parking_lot::Mutex;
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

/// Which errors somebody was told of: each kind once, however many rings meet it.
#[derive(Debug)]
pub(crate) struct Said(Mutex<Vec<Option<i32>>>);

impl Said {
    pub(crate) const fn nothing() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Whether there was none of its kind; from now on there was.
    pub(crate) fn is_new(&self, error: &io::Error) -> bool {
        let mut said = self.0.lock();
        let number = error.raw_os_error();
        let is_new = !said.contains(&number);
        if is_new {
            said.push(number);
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_error_is_said_once() {
        let said = Said::nothing();
        let is_new = |number| said.is_new(&io::Error::from_raw_os_error(number));
        let answers = [libc::EPERM, libc::EPERM, libc::EACCES, libc::EPERM].map(is_new);
        assert_eq!(answers, [true, false, true, false]);
    }
}
