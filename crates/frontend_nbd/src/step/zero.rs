//! Writing zeros.

use super::long::PIECE_BYTES_MAX;
use super::{Done, StepError, Tools, lock_exclusive, lock_shared};
use crate::export::Export;
use crate::span::Span;
use disk_backend::DiskError;
use scsi_buffers::RequestBuffers;

/// How zeros are written.
#[derive(Clone, Copy)]
pub(super) struct Zeroing {
    pub(super) may_unmap: bool,
    pub(super) no_fallback: bool,
}

impl Zeroing {
    /// Where zeros must be fast and are not, nothing has changed: unless the disk takes a first piece and not a later one.
    pub(super) async fn zero(
        self,
        tools: Tools<'_>,
        span: Span,
        is_fua: bool,
    ) -> Result<Done, StepError> {
        let export = tools.export;
        let is_short = span.len() <= PIECE_BYTES_MAX;
        if is_short && span.is_aligned() {
            let _shared = lock_shared(export, &span).await;
            self.whole_sectors(export, &span, is_fua).await?;
            return Ok(Done::Nothing);
        }
        for (index, piece) in span.pieces(PIECE_BYTES_MAX).enumerate() {
            if index > 0 {
                tools.pause().await?;
            }
            if piece.is_aligned() {
                let _shared = lock_shared(export, &piece).await;
                self.whole_sectors(export, &piece, false).await?;
            } else {
                self.with_edges(tools, &piece).await?;
            }
        }
        if is_fua {
            export.disk().sync_cache().await?;
        }
        Ok(Done::Nothing)
    }

    async fn whole_sectors(
        self,
        export: &Export,
        span: &Span,
        is_fua: bool,
    ) -> Result<(), DiskError> {
        let (sector, count) = (span.first_sector(), span.covering_sectors());
        let disk = export.disk();
        disk.write_zeroes(sector, count, is_fua, self.may_unmap, self.no_fallback)
            .await
    }

    /// Zeros that do not begin and end between sectors. The whole sectors go first: where they cannot be done quickly, and
    /// must, nothing has changed.
    async fn with_edges(self, tools: Tools<'_>, span: &Span) -> Result<(), StepError> {
        let export = tools.export;
        let buffer = tools.pool.allocate(span.sector_size()).await?;
        let _exclusive = lock_exclusive(export, span).await;
        if let Some(inside) = span.inside() {
            self.whole_sectors(export, &inside, false).await?;
        }
        let disk = export.disk();
        for edge in span.edges().into_iter().flatten() {
            let sector = buffer.buffers(true);
            disk.read_vectored(&sector, edge.first_sector()).await?;
            let part = sector.subrange(edge.head_len(), edge.len() as usize);
            let zeros = RequestBuffers::zeros(part.len()).ok_or(DiskError::Unsupported)?;
            part.copy_from(&zeros).map_err(DiskError::from)?;
            disk.write_vectored(&sector, edge.first_sector(), false)
                .await?;
        }
        Ok(())
    }
}
