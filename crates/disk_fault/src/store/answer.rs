//! What users are told, where what is below is not all that they have to know.

use disk_backend::{BlockExtent, BlockState, BlockStatus, DiskError};
use rangemap::RangeSet;
use std::io;
use std::sync::Arc;

/// What is known of the sectors below, with data where something is kept (C12).
pub(super) fn with_data(status: &BlockStatus, sector: u64, kept: &RangeSet<u64>) -> BlockStatus {
    let mut answer = BlockStatus::default();
    let mut at = sector;
    for extent in status.extents() {
        let end = at + extent.sector_count;
        while at < end {
            let (until, state) = match kept.overlapping(&(at..end)).next() {
                Some(range) if range.start <= at => (range.end.min(end), BlockState::Data),
                Some(range) => (range.start, extent.state),
                None => (end, extent.state),
            };
            let part = BlockExtent {
                sector_count: until - at,
                state,
                layer: extent.layer,
            };
            if !answer.push(part) {
                return answer;
            }
            at = until;
        }
    }
    answer
}

/// An error for one more who waited for what failed.
pub(super) fn same_error(error: &Arc<DiskError>) -> DiskError {
    let source = |kind| io::Error::new(kind, Arc::clone(error));
    match &**error {
        DiskError::NoSpace => DiskError::NoSpace,
        DiskError::ReadOnly => DiskError::ReadOnly,
        DiskError::IllegalBlock => DiskError::IllegalBlock,
        DiskError::ReservationConflict => DiskError::ReservationConflict,
        DiskError::Io(cause) => DiskError::Io(source(cause.kind())),
        DiskError::MediumError(cause, details) => {
            DiskError::MediumError(source(cause.kind()), *details)
        }
        _ => DiskError::Io(source(io::ErrorKind::Other)),
    }
}
