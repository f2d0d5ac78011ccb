//! Layers of each released version of the format can be read for ever.
//!
//! `golden/version-1.plt` was made by the first version, and is not made anew: a program that no longer reads it reads no layer of
//! that time. It is what a crash left: one page is in its place, and the log has a newer image of it, and one of another.
//!
//! `golden/version-1-verified.plt` is the same of a layer that verifies its data, by the first version that did: one of its stripes is open.

mod common;

use common::few_pages;
use disk_backend::Disk;
use disk_layered::{LayerIo, SectorBitmap, SectorMarker};
use disklayer_durable::{Condition, DurableLayer, FormatOptions, Verify, check, format, info};
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;
use std::ops::ControlFlow;

const VERSION_1: &[u8] = include_bytes!("golden/version-1.plt");
const VERIFIED: &[u8] = include_bytes!("golden/version-1-verified.plt");

async fn store_of(bytes: &[u8]) -> Disk {
    let store = common::store(bytes.len() as u64 / 512, 512).await;
    let host = HostBuffers::from_ref(bytes);
    store
        .write_vectored(&host.buffers(), 0, false)
        .await
        .unwrap();
    store
}

async fn bytes_of(store: &Disk) -> Vec<u8> {
    let mut bytes = vec![0; store.sector_count() as usize * 512];
    let host = HostBuffers::from_mut(&mut bytes);
    store.read_vectored(&host.buffers(), 0).await.unwrap();
    drop(host);
    bytes
}

async fn write(layer: &DurableLayer, sector: u64, byte: u8) {
    let data = [byte; 512];
    let host = HostBuffers::from_ref(&data);
    layer.write(&host.buffers(), sector, false).await.unwrap();
}

async fn read(layer: &DurableLayer, sector: u64) -> Option<u8> {
    let mut data = [0xee; 512];
    let mut present = SectorBitmap::new(1);
    let host = HostBuffers::from_mut(&mut data);
    let marker = SectorMarker::new(&mut present, sector, sector..sector + 1);
    layer.read(&host.buffers(), sector, marker).await.unwrap();
    drop(host);
    present.is_full().then_some(data[0])
}

/// What made the golden file.
async fn make() -> Vec<u8> {
    let store = common::store(1, 512).await;
    let mut options = FormatOptions::new(20);
    options.stripe_sectors = Some(8);
    options.log_blocks = Some(8);
    options.layer_id = Some(*b"a golden layer 1");
    options.logs_data = false;
    format(&store, &options).await.unwrap();
    let layer = DurableLayer::open(store.clone(), &few_pages())
        .await
        .unwrap();
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
        let report = check(&store, |_, _| ControlFlow::Continue(()))
            .await
            .unwrap();
        assert_eq!(report.condition, Condition::Crashed);
        assert_eq!((report.data_sectors, report.zero_sectors), (3, 1 + 6));
        let layer = DurableLayer::open(store, &few_pages()).await.unwrap();
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

/// What made the golden file of a layer that verifies its data.
async fn make_verified() -> Vec<u8> {
    let store = common::store(1, 512).await;
    let mut options = FormatOptions::new(20);
    options.stripe_sectors = Some(8);
    options.log_blocks = Some(8);
    options.layer_id = Some(*b"a golden layer 2");
    options.verify = Verify::Data;
    format(&store, &options).await.unwrap();
    let layer = DurableLayer::open(store.clone(), &few_pages())
        .await
        .unwrap();
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
        let report = check(&store, |_, _| ControlFlow::Continue(()))
            .await
            .unwrap();
        assert_eq!(report.condition, Condition::Crashed);
        assert_eq!((report.data_sectors, report.zero_sectors), (3, 1));
        let counts = (report.verified_sectors, report.unverified_sectors);
        assert_eq!(counts, (2, 1));
        let layer = DurableLayer::open(store, &few_pages()).await.unwrap();
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
