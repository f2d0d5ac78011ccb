//! What a salvaged layer grows over.

mod common;

use common::{
    bytes_at, bytes_of, few_pages, flip, layer_on, open, put, read, report, store, tight, try_open,
    watched, write,
};
use disk_backend::Disk;
use disk_layered::LayerIo;
use disklayer_durable::{Condition, DurableLayer, Verify, info, salvage};
use futures_lite::future::block_on;
use std::ops::Range;

const SECTORS: u64 = 40;
const LOG_BLOCKS: u32 = 32;

fn one(range: Range<u64>) -> Vec<Range<u64>> {
    vec![range]
}

/// Flushes; returns where the entry begins that this adds to the log.
async fn logged(store: &Disk, layer: &DurableLayer) -> u64 {
    let begin = info(store).await.unwrap().log_blocks_used;
    layer.sync_cache().await.unwrap();
    8192 + u64::from(begin) * 4096
}

/// Lets entries of the log rot.
async fn spoil(store: &Disk, entries: &[u64]) {
    for entry in entries {
        flip(store, entry + 20).await;
    }
}

async fn reads_zero(layer: &DurableLayer, sectors: impl Iterator<Item = u64>) {
    for sector in sectors {
        assert_eq!(read(layer, sector).await, Some(0), "{sector}");
    }
}

/// A layer that shrank to eight sectors, grew again, and was written: all of that is lost of its log but that it shrank, and is in its place,
/// because the log was being emptied when the power was cut.
async fn shrunk_and_lost(verify: Verify) -> Disk {
    let store = store(1, 512).await;
    let mut options = tight(SECTORS, 512);
    options.log_blocks = Some(LOG_BLOCKS);
    // The log is as the tests know it.
    options.logs_data = false;
    options.verify = verify;
    let layer = layer_on(&store, &options, &few_pages()).await;
    write(&layer, 0, 1).await;
    let mut lost = vec![logged(&store, &layer).await];
    layer.resize(8).await.unwrap();
    write(&layer, 1, 2).await;
    layer.sync_cache().await.unwrap();
    layer.resize(SECTORS).await.unwrap();
    for (sector, byte) in [(33, 3), (34, 4), (35, 5)] {
        write(&layer, sector, byte).await;
        lost.push(logged(&store, &layer).await);
    }
    drop(layer);
    let mut log = bytes_of(&store).await;
    log.truncate(8192 + LOG_BLOCKS as usize * 4096);
    let layer = open(&store).await;
    write(&layer, 0, 1).await;
    drop(layer);
    put(&store, 0, &log).await;
    spoil(&store, &lost).await;
    try_open(&store).await.unwrap_err();
    store
}

/// The last entry has rotted, which cannot be told from none, and its page is in its place, because the log was being emptied.
#[test]
fn what_is_written_after_a_crash_is_later_than_what_the_log_has_forgotten() {
    block_on(async {
        let store = store(1, 512).await;
        let mut options = tight(SECTORS, 512);
        options.log_blocks = Some(LOG_BLOCKS);
        options.logs_data = false;
        let layer = layer_on(&store, &options, &few_pages()).await;
        let mut entry = 0;
        for count in 1..4 {
            layer.unmap(0, count, false, false).await.unwrap();
            entry = logged(&store, &layer).await;
        }
        drop(layer);
        let forgotten = bytes_at(&store, entry + 4096, 4096).await;
        spoil(&store, &[entry]).await;
        let layer = open(&store).await;
        write(&layer, 20, 1).await;
        let entry = logged(&store, &layer).await;
        let sequence = |block: &[u8]| u64::from_le_bytes(block[24..32].try_into().unwrap());
        let now = bytes_at(&store, entry + 4096, 4096).await;
        assert_eq!((&forgotten[..4], &now[..4]), (&b"page"[..], &b"page"[..]));
        assert!(sequence(&now) > sequence(&forgotten));
    });
}

/// A page beyond the end has a higher number than any entry that is left; what is written there after the layer has grown is later all the same.
#[test]
fn a_page_that_a_salvaged_layer_grows_over_is_never_taken_for_a_later_one() {
    for verify in [Verify::Metadata, Verify::Data] {
        block_on(async {
            let store = shrunk_and_lost(verify).await;
            salvage(&store, watched).await.unwrap();
            let layer = open(&store).await;
            assert_eq!(layer.sector_count(), 8);
            layer.resize(SECTORS).await.unwrap();
            reads_zero(&layer, 8..SECTORS).await;
            write(&layer, 39, 9).await;
            write(&layer, 3, 7).await;
            layer.sync_cache().await.unwrap();
            write(&layer, 4, 7).await;
            let lost = logged(&store, &layer).await;
            write(&layer, 5, 7).await;
            layer.sync_cache().await.unwrap();
            drop(layer);
            let layer = open(&store).await;
            reads_zero(&layer, 8..39).await;
            assert_eq!(read(&layer, 39).await, Some(9));
            drop(layer);
            // And once more: now it is asked which of the page and its image is the later one.
            spoil(&store, &[lost]).await;
            let lost = salvage(&store, watched).await.unwrap();
            // Whose images the lost entry had is not known: of the first stripe there is a later one.
            assert_eq!((lost.old, lost.guessed), (one(8..SECTORS), vec![]));
            let layer = open(&store).await;
            reads_zero(&layer, 8..39).await;
            assert_eq!(read(&layer, 39).await, Some(9));
            layer.close().await.unwrap();
            assert_eq!(report(&store).await.condition, Condition::Clean);
        });
    }
}
