//! A layer whose log has copies of data.

use super::{content, few_pages, layer_on, put, tight, write};
use disk_backend::Disk;
use disk_layered::LayerIo;
use disklayer_durable::{DurableLayer, FormatOptions};
use scsi_buffers::HostBuffers;
use std::ops::Range;

pub(crate) const SECTORS: u64 = 24;
pub(crate) const LOG_BLOCKS: u32 = 32;

/// Stripes of eight sectors, and a log that all of a test has room in.
pub(crate) fn options() -> FormatOptions {
    let mut options = tight(SECTORS, 512);
    options.log_blocks = Some(LOG_BLOCKS);
    options
}

/// Where the data of a sector lies.
pub(crate) fn place(sector: u64) -> u64 {
    let stripe = 8192 + u64::from(LOG_BLOCKS) * 4096 + sector / 8 * (4096 + 8 * 512);
    stripe + 4096 + sector % 8 * 512
}

pub(crate) fn one(range: Range<u64>) -> Vec<Range<u64>> {
    vec![range]
}

/// Where a block of the log lies.
pub(crate) fn log_place(block: u64) -> u64 {
    8192 + block * 4096
}

pub(crate) async fn write_bytes(layer: &DurableLayer, sector: u64, bytes: &[u8], fua: bool) {
    let host = HostBuffers::from_ref(bytes);
    let written = layer.write(&host.buffers(), sector, fua).await;
    written.unwrap();
}

/// A layer that was killed while the flush of its last entry was under way: the entry is there, the data is not. Returns what it held.
pub(crate) async fn without_its_data(store: &Disk) -> Vec<Option<u8>> {
    let layer = layer_on(store, &options(), &few_pages()).await;
    write(&layer, 3, 3).await;
    layer.sync_cache().await.unwrap();
    write(&layer, 3, 4).await;
    write_bytes(&layer, 9, &[9; 3 * 512], false).await;
    layer.unmap(10, 1, false, false).await.unwrap();
    layer.sync_cache().await.unwrap();
    let held = content(&layer).await;
    drop(layer);
    put(store, place(9), &[0xdd; 3 * 512]).await;
    held
}
/// A layer that was killed after a flush: the first sector was written, with a copy, and then written over and flushed with another entry, which
/// begins at block 3 and has an image and a copy of sector 8.
pub(crate) async fn written_over(store: &Disk) {
    let layer = layer_on(store, &options(), &few_pages()).await;
    write(&layer, 0, 1).await;
    layer.sync_cache().await.unwrap();
    write(&layer, 0, 2).await;
    write(&layer, 8, 1).await;
    layer.sync_cache().await.unwrap();
}
