//! Copies of data in a log that has rotted, that the store cannot read, that is salvaged, or that nobody can have written.

mod common;

use common::logged::{log_place, one, options, place, without_its_data, write_bytes, written_over};
use common::{
    bytes_at, content, few_pages, flip, layer_on, open, put, read, report, store, try_open,
    watched, write,
};
use disk_backend::Disk;
use disk_layered::{LayerIo, SectorBitmap, SectorMarker};
use disklayer_durable::{Condition, FormatOptions, OpenError, info, loss, salvage};
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;

#[test]
fn a_copy_that_rots_is_an_error_unless_it_is_in_the_last_entry() {
    block_on(async {
        let store = store(1, 512).await;
        let layer = layer_on(&store, &options(), &few_pages()).await;
        write(&layer, 0, 1).await;
        layer.sync_cache().await.unwrap();
        let first = content(&layer).await;
        write(&layer, 8, 2).await;
        layer.sync_cache().await.unwrap();
        drop(layer);
        let both = content(&open(&store).await).await;
        // Each is a header, an image, and a copy. That of the first nobody needs.
        flip(&store, log_place(5) + 511).await;
        assert_eq!(content(&open(&store).await).await, first);
        flip(&store, log_place(5) + 511).await;
        flip(&store, log_place(2)).await;
        assert_eq!(content(&open(&store).await).await, both);
        assert!(loss(&store, watched).await.unwrap().is_none());
        flip(&store, log_place(1)).await;
        let error = try_open(&store).await.unwrap_err();
        assert!(matches!(error, OpenError::LogRot(8192)), "{error}");
    });
}

/// Of the last entry the header is whole, and that knows that the one before was durable: its copies are older than what was flushed.
#[test]
fn a_copy_counts_no_more_if_a_torn_entry_knows_better() {
    block_on(async {
        let store = store(1, 512).await;
        written_over(&store).await;
        flip(&store, log_place(5)).await;
        let layer = open(&store).await;
        assert_eq!(
            (read(&layer, 0).await, read(&layer, 8).await),
            (Some(2), None)
        );
    });
}

/// The log goes round: where the copy comes there is an image of before, and both end with their own crc.
#[test]
fn what_an_older_entry_left_is_never_taken_for_a_copy() {
    block_on(async {
        let store = store(1, 512).await;
        let mut options = options();
        options.log_blocks = Some(4);
        let layer = layer_on(&store, &options, &few_pages()).await;
        for sector in [0, 8] {
            write_bytes(&layer, sector, &[1; 8 * 512], false).await;
        }
        layer.sync_cache().await.unwrap();
        let place = 8192 + 4 * 4096 + 2 * (4096 + 8 * 512) + 4096;
        let left = bytes_at(&store, log_place(2), 4096).await;
        assert_eq!(&left[..4], b"page");
        // The log is full, and begins anew.
        layer.close().await.unwrap();
        let mut sealed = [7; 8 * 512];
        let checksum = crc32c::crc32c(&sealed[..4092]);
        sealed[4092..].copy_from_slice(&checksum.to_le_bytes());
        write_bytes(&layer, 16, &sealed, false).await;
        layer.sync_cache().await.unwrap();
        drop(layer);
        assert_ne!(bytes_at(&store, log_place(2), 4096).await, left);
        // A power cut in this flush: neither the copy nor the data is there.
        put(&store, log_place(2), &left).await;
        put(&store, place, &[0xdd; 8 * 512]).await;
        assert_eq!(read(&open(&store).await, 16).await, None);
    });
}

/// A power cut makes unreadable what was being written; the log has it.
#[test]
fn what_the_store_cannot_read_in_its_place_is_read_from_the_log_and_healed() {
    block_on(async {
        let store = store(1, 512).await;
        let held = without_its_data(&store).await;
        let faulty = common::with_unreadable(&store, place(9) / 512..place(12) / 512).await;
        let layer = open(&faulty).await;
        let mut data = [0xee; 4 * 512];
        let mut present = SectorBitmap::new(4);
        let host = HostBuffers::from_mut(&mut data);
        let marker = SectorMarker::new(&mut present, 8, 8..12);
        layer.read(&host.buffers(), 8, marker).await.unwrap();
        drop(host);
        assert_eq!((data[512], data[1024], data[1536]), (9, 0, 9));
        assert_eq!(content(&layer).await, held);
        write(&layer, 0, 1).await;
        drop(layer);
        assert_eq!(bytes_at(&store, place(11), 512).await, [9; 512]);
    });
}

#[test]
fn a_salvage_puts_copies_in_their_places_and_says_where_that_may_be_old() {
    block_on(async {
        // A page is damaged, and all of the log is there.
        let store = store(1, 512).await;
        let held = without_its_data(&store).await;
        put(&store, place(16) - 4096, &[1; 512]).await;
        let lost = salvage(&store, watched).await.unwrap();
        assert_eq!((lost.log_offset, lost.old.as_slice()), (None, &[][..]));
        assert_eq!(content(&open(&store).await).await[..16], held[..16]);
        // An entry before the last is lost.
        let layer = layer_on(&store, &options(), &few_pages()).await;
        for sector in [0, 8, 16] {
            write(&layer, sector, 1).await;
            layer.sync_cache().await.unwrap();
        }
        write(&layer, 16, 2).await;
        drop(layer);
        flip(&store, log_place(4)).await;
        let lost = loss(&store, watched).await.unwrap();
        assert_eq!(lost.log_offset, Some(log_place(3)));
        assert_eq!(lost.old, one(8..24));
        salvage(&store, watched).await.unwrap();
        let layer = open(&store).await;
        assert_eq!(read(&layer, 8).await, None);
        assert_eq!(read(&layer, 16).await, Some(1));
        assert_eq!(report(&store).await.condition, Condition::Clean);
    });
}

#[test]
fn a_salvage_believes_no_image_whose_copies_are_lost_and_writes_none_over_what_is_later() {
    block_on(async {
        // A copy of the last entry cannot be read: its flush may never have ended.
        let store = store(1, 512).await;
        let layer = layer_on(&store, &options(), &few_pages()).await;
        write(&layer, 0, 1).await;
        layer.unmap(0, 1, false, false).await.unwrap();
        layer.sync_cache().await.unwrap();
        let position = info(&store).await.unwrap().log_blocks_used;
        write(&layer, 0, 2).await;
        layer.sync_cache().await.unwrap();
        drop(layer);
        put(&store, place(0), &[1; 512]).await;
        let copy = log_place(u64::from(position) + 2) / 512;
        let faulty = common::with_unreadable(&store, copy..copy + 1).await;
        try_open(&faulty).await.unwrap_err();
        let lost = salvage(&faulty, watched).await.unwrap();
        assert_eq!(lost.old, one(0..8));
        assert_eq!(read(&open(&store).await, 0).await, Some(0));

        // The last entry is torn, and knows that one was durable which has rotted; so the copy before that is old.
        let layer = layer_on(&store, &options(), &few_pages()).await;
        write(&layer, 0, 1).await;
        layer.sync_cache().await.unwrap();
        write(&layer, 0, 2).await;
        layer.sync_cache().await.unwrap();
        write(&layer, 8, 1).await;
        layer.sync_cache().await.unwrap();
        drop(layer);
        // A header, an image and a copy; a header; and three again.
        flip(&store, log_place(3)).await;
        flip(&store, log_place(5)).await;
        salvage(&store, watched).await.unwrap();
        assert_eq!(read(&open(&store).await, 0).await, Some(2));
    });
}

#[test]
fn a_salvage_writes_no_copy_where_a_later_page_has_come_to_its_place() {
    block_on(async {
        let store = store(1, 512).await;
        written_over(&store).await;
        // The log was being emptied, of the second entry the page is in its place, and its header rots.
        let page = bytes_at(&store, log_place(4), 4096).await;
        assert_eq!(&page[..4], b"page");
        put(&store, place(8) - 4096, &page).await;
        flip(&store, log_place(3)).await;
        let damaged = place(16) - 4096;
        put(&store, damaged, &[1; 512]).await;
        salvage(&store, watched).await.unwrap();
        assert_eq!(read(&open(&store).await, 0).await, Some(2));
    });
}

/// A block of the log with its checksum made right again.
async fn forge(store: &Disk, block: u64, change: impl FnOnce(&mut [u8])) {
    let mut data = bytes_at(store, log_place(block), 4096).await;
    change(&mut data);
    let checksum = crc32c::crc32c(&data[..4092]);
    data[4092..].copy_from_slice(&checksum.to_le_bytes());
    put(store, log_place(block), &data).await;
}

#[test]
fn copies_that_no_layer_can_have_are_damage() {
    block_on(async {
        let with_copy = async |options: &FormatOptions| {
            let store = store(1, 512).await;
            let layer = layer_on(&store, options, &few_pages()).await;
            write(&layer, 0, 1).await;
            layer.sync_cache().await.unwrap();
            store
        };
        let refused = async |store: &Disk| {
            let error = try_open(store).await.unwrap_err();
            assert!(matches!(error, OpenError::LogEntry(8192)), "{error}");
        };
        // A length that is no sectors, and none at all.
        for length in [500, 0] {
            let store = with_copy(&options()).await;
            let copy = bytes_at(&store, log_place(2), 512).await;
            let checksum = crc32c::crc32c(&copy[..length as usize]);
            forge(&store, 0, |data| {
                data[2112..2116].copy_from_slice(&u32::to_le_bytes(length));
                data[2116..2120].copy_from_slice(&checksum.to_le_bytes());
            })
            .await;
            refused(&store).await;
        }
        // A layer whose superblock says nothing of them.
        let mut plain = options();
        plain.logs_data = false;
        let store = with_copy(&plain).await;
        let sum = crc32c::crc32c(&[0; 512]);
        forge(&store, 0, |data| {
            data[2112..2116].copy_from_slice(&u32::to_le_bytes(512));
            data[2116..2120].copy_from_slice(&sum.to_le_bytes());
            data[4088] = 1;
        })
        .await;
        refused(&store).await;
        // One that is beyond the end, or of no data, is nobody's.
        let store = with_copy(&options()).await;
        forge(&store, 0, |data| {
            data[2104..2112].copy_from_slice(&u64::MAX.to_le_bytes())
        })
        .await;
        assert_eq!(read(&open(&store).await, 0).await, Some(1));
    });
}
