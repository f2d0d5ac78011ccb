//! Operations on a stack: what a change, a fill or a turn is done by, whoever polls.

use disk_backend::DiskError;
use std::sync::Arc;

/// What an operation of a stack does.
pub(crate) type Body = operation::Body<Result<(), DiskError>>;

/// An operation of a stack.
pub(crate) type Operation = operation::Operation<Result<(), DiskError>>;

/// Finishes an operation, for the one who began it.
pub(crate) async fn run(operation: &Arc<Operation>) -> Result<(), DiskError> {
    operation.run().await.unwrap_or_else(|| {
        let message = "the operation of this request panicked in another one";
        Err(DiskError::Io(std::io::Error::other(message)))
    })
}
