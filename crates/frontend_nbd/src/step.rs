//! What a request wants, done to the disk: one step is one future, and needs nothing but the disk to go on.
//!
//! - S1: a step never waits for its client. What it locks, and the memory it waits for, depend on disks, and on the replies of
//!   its own connection being taken; a step waits for memory before it locks anything. So a client that stops reading holds
//!   up only itself (C4).
//! - S2: one lock per step, over all that it changes.

use crate::export::Export;
use crate::protocol::extent_flag;
use crate::protocol::replies::Descriptor;
use crate::span::Span;
use disk_backend::{BlockState, DiskError};
use range_lock::RangeGuard;
use scsi_buffers::{BounceBuffer, BounceError, BouncePool, RequestBuffers};

/// The most extents in the answer to one block status; a client asks again from where it ends.
const EXTENTS_MAX: usize = 512;

/// One step. Offsets and lengths are in bytes, lie inside the export, and are not empty.
#[derive(Debug)]
pub(crate) enum Step {
    Read {
        offset: u64,
        len: u32,
    },
    Write(Payload, WriteAs),
    Zero {
        offset: u64,
        len: u32,
        is_fua: bool,
        may_unmap: bool,
        no_fallback: bool,
    },
    Trim {
        offset: u64,
        len: u32,
        is_fua: bool,
    },
    Status {
        offset: u64,
        len: u32,
        only_one: bool,
    },
    Flush,
}

/// What goes with the bytes of a write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteAs {
    pub(crate) offset: u64,
    pub(crate) is_fua: bool,
}

/// What a step brings back.
#[derive(Debug)]
pub(crate) enum Done {
    Nothing,
    Data(Payload),
    Extents(Vec<Descriptor>),
}

/// A step that failed: by the disk, or for want of memory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Memory(#[from] BounceError),
}

/// The bytes of a read or a write, in memory that has room for the whole sectors they lie in.
#[derive(Debug)]
pub(crate) struct Payload {
    buffer: BounceBuffer,
    /// Where the bytes begin in the buffer.
    start: usize,
    len: usize,
}

impl Payload {
    /// Memory for a write of `len` bytes at `offset`: room for the sectors around it, and for two sectors behind those where
    /// it is not whole sectors, which must be read first.
    pub(crate) fn len_for_write(span: &Span) -> usize {
        match span.is_aligned() {
            true => span.covering_len(),
            false => span.covering_len() + 2 * span.sector_size(),
        }
    }

    pub(crate) fn new(buffer: BounceBuffer, span: &Span) -> Self {
        Self {
            buffer,
            start: span.head_len(),
            len: span.len() as usize,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The bytes from `from` on, to be filled. `None` only if something still holds a pin on memory that was never lent.
    pub(crate) fn room(&mut self, from: usize) -> Option<&mut [u8]> {
        let range = self.start + from..self.start + self.len;
        self.buffer.as_mut_slice().map(|all| &mut all[range])
    }

    /// Makes sure that [`bytes`](Self::bytes) can lend them: a disk may keep its pin a little longer than its request.
    pub(crate) fn settle(&mut self) -> Result<(), BounceError> {
        if self.buffer.as_slice().is_none() {
            let copy = BounceBuffer::unpooled(self.len)?;
            let from = self.buffer.buffers(false).subrange(self.start, self.len);
            copy.buffers(true)
                .copy_from(&from)
                .expect("both buffers are ours, and equally long");
            self.start = 0;
            self.buffer = copy;
        }
        Ok(())
    }

    /// The bytes, once settled.
    pub(crate) fn bytes(&mut self) -> &[u8] {
        let range = self.start..self.start + self.len;
        let all = self.buffer.as_slice();
        &all.expect("nobody pins a payload that has been settled")[range]
    }
}

/// Does one step.
pub(crate) async fn perform<'a>(
    export: &'a Export,
    pool: &'a BouncePool,
    step: Step,
) -> Result<Done, StepError> {
    match step {
        Step::Read { offset, len } => read(export, pool, export.span(offset, len)).await,
        Step::Write(payload, to) => {
            let span = export.span(to.offset, payload.len as u32);
            write(export, span, payload, to.is_fua).await
        }
        Step::Zero {
            offset,
            len,
            is_fua,
            may_unmap,
            no_fallback,
        } => {
            let span = export.span(offset, len);
            let zeroing = Zeroing {
                may_unmap,
                no_fallback,
            };
            if span.is_aligned() {
                let _shared = lock_shared(export, &span).await;
                return zeroing.whole_sectors(export, &span, is_fua).await;
            }
            zeroing.with_edges(export, pool, &span, is_fua).await
        }
        Step::Trim {
            offset,
            len,
            is_fua,
        } => trim(export, export.span(offset, len), is_fua).await,
        Step::Status {
            offset,
            len,
            only_one,
        } => status(export, export.span(offset, len), only_one).await,
        Step::Flush => {
            export.disk().sync_cache().await?;
            Ok(Done::Nothing)
        }
    }
}

async fn read(export: &Export, pool: &BouncePool, span: Span) -> Result<Done, StepError> {
    let buffer = pool.allocate(span.covering_len()).await?;
    let memory = buffer.buffers(true);
    export
        .disk()
        .read_vectored(&memory, span.first_sector())
        .await?;
    Ok(Done::Data(Payload::new(buffer, &span)))
}

async fn write(
    export: &Export,
    span: Span,
    payload: Payload,
    is_fua: bool,
) -> Result<Done, StepError> {
    let memory = payload.buffer.buffers(true);
    let sectors = memory.subrange(0, span.covering_len());
    let _guard = if span.is_aligned() {
        lock_shared(export, &span).await
    } else {
        let guard = lock_exclusive(export, &span).await;
        let spare = memory.subrange(span.covering_len(), 2 * span.sector_size());
        fill_edges(export, &span, &sectors, &spare).await?;
        guard
    };
    export
        .disk()
        .write_vectored(&sectors, span.first_sector(), is_fua)
        .await?;
    Ok(Done::Nothing)
}

/// Completes the first and the last sector of `sectors` around a write with what the disk holds there; `spare` has room for
/// two sectors.
async fn fill_edges(
    export: &Export,
    span: &Span,
    sectors: &RequestBuffers<'_>,
    spare: &RequestBuffers<'_>,
) -> Result<(), StepError> {
    let size = span.sector_size();
    let (head, tail) = (span.head_len(), span.tail_len());
    let mut is_read = None;
    if head > 0 {
        let old = spare.subrange(0, size);
        export
            .disk()
            .read_vectored(&old, span.first_sector())
            .await?;
        copy(sectors, 0, &old, 0, head)?;
        is_read = Some(span.first_sector());
    }
    if tail > 0 {
        // A write within one sector needs that sector once.
        let old = match is_read == Some(span.last_sector()) {
            true => spare.subrange(0, size),
            false => {
                let old = spare.subrange(size, size);
                export
                    .disk()
                    .read_vectored(&old, span.last_sector())
                    .await?;
                old
            }
        };
        copy(sectors, span.covering_len() - tail, &old, size - tail, tail)?;
    }
    Ok(())
}

fn copy(
    to: &RequestBuffers<'_>,
    to_offset: usize,
    from: &RequestBuffers<'_>,
    from_offset: usize,
    len: usize,
) -> Result<(), DiskError> {
    let from = from.subrange(from_offset, len);
    Ok(to.subrange(to_offset, len).copy_from(&from)?)
}

/// How zeros are written.
#[derive(Clone, Copy)]
struct Zeroing {
    may_unmap: bool,
    no_fallback: bool,
}

impl Zeroing {
    async fn whole_sectors(
        self,
        export: &Export,
        span: &Span,
        is_fua: bool,
    ) -> Result<Done, StepError> {
        let (sector, count) = (span.first_sector(), span.covering_sectors());
        export
            .disk()
            .write_zeroes(sector, count, is_fua, self.may_unmap, self.no_fallback)
            .await?;
        Ok(Done::Nothing)
    }

    /// Zeros that do not begin and end between sectors. The whole sectors go first: where they cannot be done quickly, and
    /// must, nothing has changed.
    async fn with_edges(
        self,
        export: &Export,
        pool: &BouncePool,
        span: &Span,
        is_fua: bool,
    ) -> Result<Done, StepError> {
        let buffer = pool.allocate(span.sector_size()).await?;
        let _exclusive = lock_exclusive(export, span).await;
        if let Some(inside) = span.inside() {
            self.whole_sectors(export, &inside, false).await?;
        }
        for edge in span.edges().into_iter().flatten() {
            let sector = buffer.buffers(true);
            export
                .disk()
                .read_vectored(&sector, edge.first_sector())
                .await?;
            let part = sector.subrange(edge.head_len(), edge.len() as usize);
            let zeros = RequestBuffers::zeros(part.len()).ok_or(DiskError::Unsupported)?;
            part.copy_from(&zeros).map_err(DiskError::from)?;
            export
                .disk()
                .write_vectored(&sector, edge.first_sector(), false)
                .await?;
        }
        if is_fua {
            export.disk().sync_cache().await?;
        }
        Ok(Done::Nothing)
    }
}

/// A hint, so parts of sectors are left alone.
async fn trim(export: &Export, span: Span, is_fua: bool) -> Result<Done, StepError> {
    if let Some(inside) = span.inside() {
        let _shared = lock_shared(export, &inside).await;
        let (sector, count) = (inside.first_sector(), inside.covering_sectors());
        export.disk().unmap(sector, count, false).await?;
        if is_fua {
            export.disk().sync_cache().await?;
        }
    }
    Ok(Done::Nothing)
}

async fn status(export: &Export, span: Span, only_one: bool) -> Result<Done, StepError> {
    let extents_max = if only_one { 1 } else { EXTENTS_MAX };
    let mut extents: Vec<Descriptor> = Vec::new();
    let mut sector = span.first_sector();
    let end_sector = sector + span.covering_sectors();
    while sector < end_sector {
        let answer = export
            .disk()
            .block_status(sector, end_sector - sector)
            .await?;
        if answer.sector_count() == 0 {
            break;
        }
        for extent in answer.extents() {
            let flags = match extent.state {
                BlockState::Data => 0,
                BlockState::Zero => extent_flag::ZERO,
                BlockState::Hole => extent_flag::HOLE | extent_flag::ZERO,
            };
            let len = span.len_within(sector, extent.sector_count);
            sector += extent.sector_count;
            let count = extents.len();
            match extents.last_mut() {
                Some(last) if last.flags == flags => last.len += len,
                _ if count == extents_max => return Ok(Done::Extents(extents)),
                _ => extents.push(Descriptor { len, flags }),
            }
        }
    }
    Ok(Done::Extents(extents))
}

async fn lock_shared(export: &Export, span: &Span) -> RangeGuard {
    export.changes().read(span.covering_bytes()).await
}

async fn lock_exclusive(export: &Export, span: &Span) -> RangeGuard {
    export.changes().write(span.covering_bytes()).await
}

impl Export {
    fn span(&self, offset: u64, len: u32) -> Span {
        Span::new(offset, len, self.disk().sector_shift())
    }
}
