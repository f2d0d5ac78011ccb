//! Work that several wait for, each of whom is told what came of it.

use crate::page::Work;
use disk_backend::DiskError;
use parking_lot::Mutex;
use std::sync::Arc;

/// What came of it, if it is over.
pub(crate) type Outcome = Arc<Mutex<Option<Result<(), DiskError>>>>;

/// See the head of this module.
#[derive(Debug)]
pub(crate) struct Joint {
    pub(crate) work: Arc<Work>,
    outcome: Outcome,
}

impl Joint {
    /// Around the work that `begin` makes, which leaves its outcome where it is told to.
    pub(crate) fn new(begin: impl FnOnce(Outcome) -> Arc<Work>) -> Arc<Self> {
        let outcome = Outcome::default();
        Arc::new(Self {
            work: begin(Arc::clone(&outcome)),
            outcome,
        })
    }

    /// Finishes it; none if it panicked.
    pub(crate) async fn finish(&self) -> Option<Result<(), DiskError>> {
        self.work.finish().await;
        let outcome = self.outcome.lock();
        outcome.as_ref().map(|result| match result {
            Ok(()) => Ok(()),
            Err(error) => Err(again(error)),
        })
    }
}

/// An error for one more of those who waited.
fn again(error: &DiskError) -> DiskError {
    let same = |error: &std::io::Error| std::io::Error::new(error.kind(), error.to_string());
    match error {
        DiskError::NoSpace => DiskError::NoSpace,
        DiskError::ReadOnly => DiskError::ReadOnly,
        DiskError::IllegalBlock => DiskError::IllegalBlock,
        DiskError::Unsupported => DiskError::Unsupported,
        DiskError::MediumError(error, details) => DiskError::MediumError(same(error), *details),
        DiskError::Io(error) => DiskError::Io(same(error)),
        error => DiskError::Io(std::io::Error::other(error.to_string())),
    }
}
