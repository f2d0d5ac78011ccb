//! Bits that rot in the log: what was made durable is there, or its loss is an error.

mod common;

use common::{
    bytes_at, content, few_pages, flip, layer_on, open, put, report, store, tight, try_open,
    try_read, watched, write,
};
use disk_backend::{Disk, DiskError};
use disk_layered::LayerIo;
use disklayer_durable::{Condition, check, info, map};
use futures_lite::future::block_on;
use std::ops::ControlFlow;

const SECTORS: u64 = 24;

/// Where each entry of a log of several begins, in blocks; where the last ends; and the content, with and without the last.
struct Log {
    store: Disk,
    begins: Vec<u32>,
    used: u32,
    content: Vec<Option<u8>>,
    without_last: Vec<Option<u8>>,
}

async fn log() -> Log {
    let store = store(1, 512).await;
    let mut options = tight(SECTORS, 512);
    options.log_blocks = Some(32);
    // The log is as the tests know it.
    options.logs_data = false;
    let layer = layer_on(&store, &options, &few_pages()).await;
    let (mut begins, mut without_last) = (Vec::new(), Vec::new());
    for (round, sectors) in [vec![1, 9], vec![2], vec![10, 17], vec![3, 11, 18]]
        .iter()
        .enumerate()
    {
        begins.push(info(&store).await.unwrap().log_blocks_used);
        without_last = content(&layer).await;
        for sector in sectors {
            write(&layer, *sector, round as u8 + 1).await;
        }
        layer.sync_cache().await.unwrap();
    }
    Log {
        used: info(&store).await.unwrap().log_blocks_used,
        content: content(&layer).await,
        without_last,
        begins,
        store,
    }
}

#[test]
fn a_bit_that_rots_in_the_log_is_an_error_unless_it_is_in_the_last_entry() {
    block_on(async {
        let log = log().await;
        assert_eq!((log.begins.as_slice(), log.used), (&[0, 3, 5, 8][..], 12));
        for block in 0..log.used {
            for at in [0, 20, 53, 2000, 4095] {
                let offset = 8192 + u64::from(block) * 4096 + at;
                flip(&log.store, offset).await;
                let opened = try_open(&log.store).await;
                let begin = log.begins.iter().rev().find(|begin| **begin <= block);
                match opened {
                    // That cannot be told from an entry that a crash has torn.
                    Ok(layer) if block >= log.begins[3] => {
                        assert_eq!(content(&layer).await, log.without_last, "{block} {at}");
                    }
                    Ok(_) => panic!("block {block}, byte {at}: it was opened"),
                    Err(error) => {
                        let begin = 8192 + u64::from(*begin.unwrap()) * 4096;
                        let place = format!("at byte {begin} ");
                        assert!(error.to_string().contains(&place), "{block} {at}: {error}");
                    }
                }
                flip(&log.store, offset).await;
            }
        }
        let layer = open(&log.store).await;
        assert_eq!(content(&layer).await, log.content);
    });
}

/// Changes a block of the log, and makes its checksum right again.
async fn forge(store: &Disk, block: u32, change: impl FnOnce(&mut [u8])) -> u32 {
    let offset = 8192 + u64::from(block) * 4096;
    let mut data = bytes_at(store, offset, 4096).await;
    change(&mut data);
    let checksum = crc32c::crc32c(&data[..4092]);
    data[4092..].copy_from_slice(&checksum.to_le_bytes());
    put(store, offset, &data).await;
    checksum
}

#[test]
fn an_entry_that_says_what_no_layer_can_have_is_damage_for_all_who_look() {
    block_on(async {
        // The sequence number, the size, and the mark.
        for (at, value) in [(16, u64::MAX), (32, 0), (32, u64::MAX), (40, SECTORS + 1)] {
            let log = log().await;
            let last = log.begins[3];
            let write = |data: &mut [u8]| data[at..at + 8].copy_from_slice(&value.to_le_bytes());
            forge(&log.store, last, write).await;
            let place = format!("at byte {} ", 8192 + u64::from(last) * 4096);
            let opened = try_open(&log.store).await;
            let seen = check(&log.store, watched).await.map(|_| ());
            let mapped = map(&log.store, |_| ControlFlow::Continue(())).await;
            for error in [opened.map(|_| ()), seen, mapped] {
                let error = error.expect_err("it is no layer").to_string();
                assert!(error.contains(&place), "{at}: {error}");
            }
        }
    });
}

#[test]
fn an_image_of_another_epoch_in_a_whole_entry_is_damage_and_not_absence() {
    block_on(async {
        let log = log().await;
        let last = log.begins[3];
        let image = forge(&log.store, last + 1, |data| data[8] ^= 1).await;
        let name = |data: &mut [u8]| data[2744..2748].copy_from_slice(&image.to_le_bytes());
        forge(&log.store, last, name).await;
        assert_eq!(report(&log.store).await.condition, Condition::Damaged);
        let layer = open(&log.store).await;
        let read = try_read(&layer, 1).await;
        assert!(matches!(read, Err(DiskError::MediumError(..))), "{read:?}");
    });
}
