//! What a request wants, done to the disk: one step is one future, and needs nothing but the disk to go on.
//!
//! - S1: a step never waits for its client. What it locks, and the memory it waits for, depend on disks, and on the replies of
//!   its own connection being taken; a step waits for memory before it locks anything. So a client that stops reading holds
//!   up only itself (C4).
//! - S2: one lock at a time, over all that a step changes at once.
//! - S3: a step that does more than 4 GiB, or reads for a cache, does it in pieces. Between two pieces it lets others go first,
//!   holds neither a lock nor memory, and gives up if the server stops.

mod long;
mod status;
mod zero;

pub(crate) use status::{Asked, Found};

use crate::export::Export;
use crate::span::Span;
use crate::wakeup::Wakeup;
use disk_backend::DiskError;
use futures_lite::future::yield_now;
use range_lock::RangeGuard;
use scsi_buffers::{BounceBuffer, BounceError, BouncePool, RequestBuffers};
use zero::Zeroing;

/// One step. Offsets and lengths are in bytes, lie inside the export, and are not empty.
#[derive(Debug)]
pub(crate) enum Step {
    Read {
        offset: u64,
        len: u64,
    },
    Write(Payload, WriteAs),
    Zero {
        offset: u64,
        len: u64,
        is_fua: bool,
        may_unmap: bool,
        no_fallback: bool,
    },
    Trim {
        offset: u64,
        len: u64,
        is_fua: bool,
    },
    Cache {
        offset: u64,
        len: u64,
    },
    Status {
        offset: u64,
        len: u64,
        how: Asked,
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
    Extents(Found),
}

/// A step that failed: by the disk, for want of memory, or because the server stops before it was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Memory(#[from] BounceError),
    #[error("the server stops")]
    Stopped,
}

/// What a step works with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tools<'a> {
    pub(crate) export: &'a Export,
    pub(crate) pool: &'a BouncePool,
    pub(crate) wakeup: &'a Wakeup,
}

impl Tools<'_> {
    /// Between two pieces of something long (S3).
    async fn pause(self) -> Result<(), StepError> {
        yield_now().await;
        match self.wakeup.is_stopping() {
            true => Err(StepError::Stopped),
            false => Ok(()),
        }
    }
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
pub(crate) async fn perform(tools: Tools<'_>, step: Step) -> Result<Done, StepError> {
    let Tools { export, pool, .. } = tools;
    match step {
        Step::Read { offset, len } => read(export, pool, export.span(offset, len)).await,
        Step::Write(payload, to) => {
            let span = export.span(to.offset, payload.len as u64);
            write(export, span, payload, to.is_fua).await
        }
        Step::Zero {
            offset,
            len,
            is_fua,
            may_unmap,
            no_fallback,
        } => {
            let zeroing = Zeroing {
                may_unmap,
                no_fallback,
            };
            zeroing.zero(tools, export.span(offset, len), is_fua).await
        }
        Step::Trim {
            offset,
            len,
            is_fua,
        } => long::trim(tools, export.span(offset, len), is_fua).await,
        Step::Cache { offset, len } => long::cache(tools, export.span(offset, len)).await,
        Step::Status { offset, len, how } => {
            status::status(export, export.span(offset, len), how).await
        }
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

async fn lock_shared(export: &Export, span: &Span) -> RangeGuard {
    export.changes().read(span.covering_bytes()).await
}

async fn lock_exclusive(export: &Export, span: &Span) -> RangeGuard {
    export.changes().write(span.covering_bytes()).await
}

impl Export {
    fn span(&self, offset: u64, len: u64) -> Span {
        Span::new(offset, len, self.disk().sector_shift())
    }
}
