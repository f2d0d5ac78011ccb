//! Whether making a layer of a store would lose something.

use crate::format::{
    BLOCK_BYTES, CHECKSUM_AT, ENTRY_MAGIC, LOG_OFFSET, Layout, MAGIC, PAGE_MAGIC, is_sealed,
};
use disk_backend::{Disk, DiskError};
use scsi_buffers::HostBuffers;

/// How much of a store must be zero, in bytes: a file system, a partition table or an image begins before that.
const ZERO_BYTES: u64 = 1 << 20;

/// How far a layer's own structures are looked for, in bytes: as far as the longest log, and the first page.
const SEARCHED_BYTES: u64 = LOG_OFFSET + (Layout::LOG_BLOCKS_MAX as u64 + 1) * BLOCK_BYTES as u64;

const READ_BYTES: u64 = 1 << 20;

/// Where a store holds something, in bytes, if it does: anything in its first MiB, or a part of a layer's log, or a page.
///
/// What formatting leaves if it is cut while it writes the first superblock is nothing.
pub(crate) async fn occupied(store: &Disk) -> Result<Option<u64>, DiskError> {
    find(store, |offset, block| match offset {
        0 => !is_zero(block) && !is_torn_superblock(block),
        1..ZERO_BYTES => !is_zero(block),
        _ => block.starts_with(&ENTRY_MAGIC) || block.starts_with(&PAGE_MAGIC),
    })
    .await
}

/// Whether a store that has lost its superblocks has a whole entry of a log, or a whole page.
pub(crate) async fn was_layer(store: &Disk) -> Result<bool, DiskError> {
    let found = find(store, |_, block| {
        let has_magic = block.starts_with(&ENTRY_MAGIC) || block.starts_with(&PAGE_MAGIC);
        has_magic && block.as_array().is_some_and(is_sealed)
    });
    Ok(found.await?.is_some())
}

/// The first block that `is_it`, in bytes.
async fn find(store: &Disk, is_it: impl Fn(u64, &[u8]) -> bool) -> Result<Option<u64>, DiskError> {
    let shift = store.sector_shift();
    if store.sector_size() as usize > BLOCK_BYTES {
        return Ok(None);
    }
    let end = (store.sector_count() << shift).min(SEARCHED_BYTES);
    let mut memory = vec![0; end.min(READ_BYTES) as usize];
    let mut at = 0;
    while at < end {
        let bytes = &mut memory[..(end - at).min(READ_BYTES) as usize];
        let host = HostBuffers::from_mut(bytes);
        store.read_vectored(&host.buffers(), at >> shift).await?;
        drop(host);
        for (offset, block) in (at..).step_by(BLOCK_BYTES).zip(bytes.chunks(BLOCK_BYTES)) {
            if is_it(offset, block) {
                return Ok(Some(offset));
            }
        }
        at += READ_BYTES;
    }
    Ok(None)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Whether sectors of a superblock are there, and others are not: its checksum, or what begins it.
fn is_torn_superblock(block: &[u8]) -> bool {
    let (content, checksum) = block.split_at(CHECKSUM_AT.min(block.len()));
    is_zero(content) || content.starts_with(&MAGIC) && is_zero(checksum)
}
