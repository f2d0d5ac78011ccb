//! Several chunks at once.

use super::chunks::{Chunk, Chunks};
use super::fault::Fault;
use super::{Effort, Watch};
use futures_util::stream::{self, StreamExt};
use std::cell::Cell;
use std::ops::ControlFlow;
use std::pin::pin;

/// Runs `work` on every chunk, `depth` of them at once (P2), and hands each result to `take`, in no particular order.
///
/// Returns whether the whole run was covered: `watch` and `take` can end it early. All chunks before one that was worked on
/// were begun too.
///
/// # Errors
/// The fault with the lowest offset, once all that was begun has ended (P4).
pub(crate) async fn drive<T>(
    chunks: Chunks<'_>,
    effort: Effort,
    watch: &dyn Watch,
    work: impl AsyncFn(&Chunk) -> Result<T, Fault>,
    mut take: impl FnMut(T) -> ControlFlow<()>,
) -> Result<bool, Fault> {
    let is_halted = Cell::new(false);
    let is_covered = Cell::new(false);
    let planned = stream::unfold(Some(chunks), async |chunks| {
        let mut chunks = chunks?;
        if is_halted.get() || watch.is_stopped() {
            return None;
        }
        match chunks.next().await {
            Ok(Some(chunk)) => Some((Ok(chunk), Some(chunks))),
            Ok(None) => {
                is_covered.set(true);
                None
            }
            Err(fault) => Some((Err(fault), None)),
        }
    });
    let results = planned.map(async |chunk| {
        let chunk = chunk?;
        let result = work(&chunk).await?;
        watch.advance(chunk.len());
        Ok::<T, Fault>(result)
    });
    let mut results = pin!(results.buffer_unordered(effort.depth));
    let mut lowest: Option<Fault> = None;
    while let Some(result) = results.next().await {
        match result {
            Ok(result) => {
                if take(result).is_break() {
                    is_halted.set(true);
                }
            }
            Err(fault) => {
                is_halted.set(true);
                if lowest
                    .as_ref()
                    .is_none_or(|known| fault.offset() < known.offset())
                {
                    lowest = Some(fault);
                }
            }
        }
    }
    match lowest {
        None => Ok(is_covered.get()),
        Some(fault) => Err(fault),
    }
}
