//! What may go on for long, and is done piece by piece (S3).

use super::{Done, StepError, Tools, lock_shared};
use crate::span::Span;

/// The longest range that is zeroed or trimmed at once, in bytes: as much as a compact header can ask for.
pub(super) const PIECE_BYTES_MAX: u64 = 4 << 30;
/// How much is read for a cache at once, in bytes: a small part of a connection's memory, so that many such requests and whatever
/// else the client wants take turns.
const CACHE_PIECE_BYTES: u64 = 128 * 1024;

/// A hint, so parts of sectors are left alone.
pub(super) async fn trim(tools: Tools<'_>, span: Span, is_fua: bool) -> Result<Done, StepError> {
    let Some(inside) = span.inside() else {
        return Ok(Done::Nothing);
    };
    let disk = tools.export.disk();
    for (index, piece) in inside.pieces(PIECE_BYTES_MAX).enumerate() {
        if index > 0 {
            tools.pause().await?;
        }
        let _shared = lock_shared(tools.export, &piece).await;
        let (sector, count) = (piece.first_sector(), piece.covering_sectors());
        disk.unmap(sector, count, false).await?;
    }
    if is_fua {
        disk.sync_cache().await?;
    }
    Ok(Done::Nothing)
}

/// Reads the range and throws away what comes: the disk's own caches are filled, if it has any.
pub(super) async fn cache(tools: Tools<'_>, span: Span) -> Result<Done, StepError> {
    let piece_len = CACHE_PIECE_BYTES.max(span.sector_size() as u64);
    for (index, piece) in span.pieces(piece_len).enumerate() {
        if index > 0 {
            tools.pause().await?;
        }
        let buffer = tools.pool.allocate(piece.covering_len()).await?;
        let memory = buffer.buffers(true);
        let disk = tools.export.disk();
        disk.read_vectored(&memory, piece.first_sector()).await?;
    }
    Ok(Done::Nothing)
}
