//! Layers of each released version of the format can be read for ever.
//!
//! `golden/version-1.plt` was made by the first version, and is not made anew: a program that no longer reads it reads no layer of
//! that time. It is what a crash left: one page is in its place, and the log has a newer image of it, and one of another.
//!
//! `golden/version-1-logged.plt` is the same of a layer whose log has copies of data, by the first version that did. The data of the last of them is
//! not in its place.
//!
//! `golden/version-1-verified.plt` is the same of a layer that verifies its data, by the first version that did: one of its stripes is open.

mod common;

use common::{bytes_of, few_pages, layer_on, open, put, read, report, store, write};
use disk_backend::Disk;
use disk_layered::LayerIo;
use disklayer_durable::{Condition, FormatOptions, Verify, info};
use futures_lite::future::block_on;

const VERSION_1: &[u8] = include_bytes!("golden/version-1.plt");
const LOGGED: &[u8] = include_bytes!("golden/version-1-logged.plt");
const VERIFIED: &[u8] = include_bytes!("golden/version-1-verified.plt");

async fn store_of(bytes: &[u8]) -> Disk {
    let store = store(bytes.len() as u64 / 512, 512).await;
    put(&store, 0, bytes).await;
    store
}

/// What made the golden file.
async fn make() -> Vec<u8> {
    let store = store(1, 512).await;
    let mut options = FormatOptions::new(20);
    options.stripe_sectors = Some(8);
    options.log_blocks = Some(8);
    options.layer_id = Some(*b"a golden layer 1");
    options.logs_data = false;
    let layer = layer_on(&store, &options, &few_pages()).await;
    write(&layer, 1, 0x11).await;
    write(&layer, 2, 0x22).await;
    layer.close().await.unwrap();
    layer.unmap(2, 1, false, false).await.unwrap();
    write(&layer, 9, 0x99).await;
    layer.resize(18).await.unwrap();
    layer.resize(24).await.unwrap();
    layer.sync_cache().await.unwrap();
    write(&layer, 3, 0x33).await;
    layer.sync_cache().await.unwrap();
    bytes_of(&store).await
}

#[test]
fn a_layer_of_version_1_is_read() {
    block_on(async {
        let store = store_of(VERSION_1).await;
        let info = info(&store).await.unwrap();
        assert_eq!(info.layer_id, *b"a golden layer 1");
        assert_eq!((info.sector_count, info.shown_below), (24, 18));
        let report = report(&store).await;
        assert_eq!(report.condition, Condition::Crashed);
        assert_eq!((report.data_sectors, report.zero_sectors), (3, 1 + 6));
        let layer = open(&store).await;
        for sector in 0..24 {
            let expected = match sector {
                1 => Some(0x11),
                2 => Some(0),
                3 => Some(0x33),
                9 => Some(0x99),
                18.. => Some(0),
                _ => None,
            };
            assert_eq!(read(&layer, sector).await, expected, "{sector}");
        }
        write(&layer, 0, 1).await;
        layer.close().await.unwrap();
    });
}

/// Today's program writes what the first one wrote. If this changes, ask whether the older one reads that.
#[test]
fn the_same_requests_leave_the_same_bytes() {
    let made = block_on(make());
    if let Some(path) = std::env::var_os("GOLDEN_OUT") {
        std::fs::write(path, &made).unwrap();
    }
    let differs = made.iter().zip(VERSION_1).position(|(a, b)| a != b);
    assert_eq!((made.len(), differs), (VERSION_1.len(), None));
}

/// What made the golden file of a layer whose log has data.
async fn make_logged() -> Vec<u8> {
    let store = common::store(1, 512).await;
    let mut options = FormatOptions::new(20);
    options.stripe_sectors = Some(8);
    options.log_blocks = Some(8);
    options.layer_id = Some(*b"a golden layer 3");
    let layer = layer_on(&store, &options, &few_pages()).await;
    write(&layer, 1, 0x11).await;
    layer.sync_cache().await.unwrap();
    write(&layer, 1, 0x12).await;
    write(&layer, 3, 0x33).await;
    write(&layer, 9, 0x99).await;
    layer.sync_cache().await.unwrap();
    let place = 8192 + 8 * 4096 + 4096 + 3 * 512;
    put(&store, place, &[0; 512]).await;
    bytes_of(&store).await
}

#[test]
fn a_layer_of_version_1_whose_log_has_data_is_read() {
    block_on(async {
        let store = store_of(LOGGED).await;
        assert_eq!(info(&store).await.unwrap().layer_id, *b"a golden layer 3");
        let report = report(&store).await;
        assert_eq!(report.condition, Condition::Crashed);
        assert_eq!(report.data_sectors, 3);
        let layer = open(&store).await;
        for round in 0..2 {
            for sector in 0..20 {
                let expected = match sector {
                    1 => Some(0x12),
                    3 => Some(0x33),
                    9 => Some(0x99),
                    _ => None,
                };
                assert_eq!(read(&layer, sector).await, expected, "{round} {sector}");
            }
            layer.resize(20).await.unwrap();
        }
        layer.close().await.unwrap();
    });
}

#[test]
fn the_same_requests_leave_the_same_logged_bytes() {
    let made = block_on(make_logged());
    if let Some(path) = std::env::var_os("GOLDEN_LOGGED_OUT") {
        std::fs::write(path, &made).unwrap();
    }
    let differs = made.iter().zip(LOGGED).position(|(a, b)| a != b);
    assert_eq!((made.len(), differs), (LOGGED.len(), None));
}

/// What made the golden file of a layer that verifies its data.
async fn make_verified() -> Vec<u8> {
    let store = store(1, 512).await;
    let mut options = FormatOptions::new(20);
    options.stripe_sectors = Some(8);
    options.log_blocks = Some(8);
    options.layer_id = Some(*b"a golden layer 2");
    options.verify = Verify::Data;
    let layer = layer_on(&store, &options, &few_pages()).await;
    write(&layer, 1, 0x11).await;
    write(&layer, 9, 0x99).await;
    layer.close().await.unwrap();
    layer.unmap(2, 1, false, false).await.unwrap();
    write(&layer, 17, 0x17).await;
    layer.sync_cache().await.unwrap();
    // The mark of this one is flushed.
    write(&layer, 9, 0x9a).await;
    bytes_of(&store).await
}

#[test]
fn a_layer_of_version_1_that_verifies_its_data_is_read() {
    block_on(async {
        let store = store_of(VERIFIED).await;
        let info = info(&store).await.unwrap();
        assert_eq!(info.layer_id, *b"a golden layer 2");
        assert_eq!((info.verify, info.sector_count), (Verify::Data, 20));
        let report = report(&store).await;
        assert_eq!(report.condition, Condition::Crashed);
        assert_eq!((report.data_sectors, report.zero_sectors), (3, 1));
        let counts = (report.verified_sectors, report.unverified_sectors);
        assert_eq!(counts, (2, 1));
        let layer = open(&store).await;
        for sector in 0..20 {
            let expected = match sector {
                1 => Some(0x11),
                2 => Some(0),
                9 => Some(0x9a),
                17 => Some(0x17),
                _ => None,
            };
            assert_eq!(read(&layer, sector).await, expected, "{sector}");
        }
        write(&layer, 1, 1).await;
        layer.close().await.unwrap();
    });
}

#[test]
fn the_same_requests_leave_the_same_verified_bytes() {
    let made = block_on(make_verified());
    if let Some(path) = std::env::var_os("GOLDEN_VERIFIED_OUT") {
        std::fs::write(path, &made).unwrap();
    }
    let differs = made.iter().zip(VERIFIED).position(|(a, b)| a != b);
    assert_eq!((made.len(), differs), (VERIFIED.len(), None));
}
