//! What is known of a range without reading it.

use super::{Done, StepError};
use crate::export::Export;
use crate::protocol::contexts::{Context, ContextSet};
use crate::span::Span;
use nbd_protocol::Extent;
use smallvec::SmallVec;

/// The most extents in the answer for one context; a client asks again from where it ends.
const EXTENTS_MAX: usize = 512;

/// What a client wants to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) contexts: ContextSet,
    /// One extent is enough.
    pub(crate) only_one: bool,
    /// Values may have 64 bits.
    pub(crate) is_wide: bool,
}

/// The extents of each context, which all cover the same range.
pub(crate) type Found = SmallVec<[(Context, Vec<Extent>); Context::ALL.len()]>;

pub(super) async fn status(export: &Export, span: Span, how: Asked) -> Result<Done, StepError> {
    let extents_max = if how.only_one { 1 } else { EXTENTS_MAX };
    let contexts = how.contexts.iter();
    let mut found: Found = contexts.map(|context| (context, Vec::new())).collect();
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
            let value = |context: Context| context.value(extent, how.is_wide);
            let has_room = |(context, extents): &(Context, Vec<Extent>)| {
                extents.len() < extents_max
                    || extents
                        .last()
                        .is_some_and(|last| last.value == value(*context))
            };
            if !found.iter().all(has_room) {
                return Ok(Done::Extents(found));
            }
            let len = span.len_within(sector, extent.sector_count);
            sector += extent.sector_count;
            for (context, extents) in &mut found {
                push(extents, len, value(*context));
            }
        }
    }
    Ok(Done::Extents(found))
}

/// Adds a run, joined to the last one if the same is said of both.
fn push(extents: &mut Vec<Extent>, len: u64, value: u64) {
    match extents.last_mut() {
        Some(last) if last.value == value => last.len += len,
        _ => extents.push(Extent { len, value }),
    }
}
