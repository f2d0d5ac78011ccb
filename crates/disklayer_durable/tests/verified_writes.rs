//! Writes to layers that verify their data: whatever becomes of them, no checksum is demanded that is not true.

mod common;

use common::verified::{SECTORS, counts, place, rot, verified};
use common::{few_pages, flip, layer_on, memory, open, read, report, store, write};
use disk_backend::Disk;
use disk_contract::{Operation, Script, ScriptedDisk, When};
use disk_layered::{LayerIo, WriteNoOverwrite};
use disklayer_durable::{Condition, DurableLayer, DurableOptions, info};
use futures_lite::future::{block_on, poll_once};
use guestmem::GuestMemory;
use scsi_buffers::{HostBuffers, OwnedRequestBuffers};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn a_stripe_is_marked_once_and_then_written_over_without_a_flush() {
    block_on(async {
        let store = store(1, 512).await;
        let layer = layer_on(&store, &verified(), &DurableOptions::default()).await;
        for sector in 0..8 {
            write(&layer, sector, 1).await;
        }
        layer.sync_cache().await.unwrap();
        let used = async || info(&store).await.unwrap().log_blocks_used;
        assert_eq!(used().await, 2);
        write(&layer, 0, 2).await;
        // The mark is there before the data.
        assert_eq!(used().await, 4);
        for round in 3..10 {
            for sector in 0..8 {
                write(&layer, sector, round).await;
            }
            layer.sync_cache().await.unwrap();
        }
        assert_eq!(used().await, 4);
        assert_eq!(counts(&report(&store).await), (0, 8, 0));
        // All of that is verified as long as the layer is open, and after it was closed.
        flip(&store, place(5)).await;
        rot(&layer, 5).await;
        layer.close().await.unwrap();
        let report = report(&store).await;
        assert_eq!(
            (counts(&report), report.condition),
            ((7, 0, 1), Condition::Damaged)
        );
    });
}

#[test]
fn what_is_not_written_any_more_is_put_on_record_while_the_layer_is_open() {
    block_on(async {
        let store = store(1, 512).await;
        let mut options = DurableOptions::default();
        options.close_after_flushes = 4;
        let layer = layer_on(&store, &verified(), &options).await;
        write(&layer, 0, 1).await;
        write(&layer, 8, 1).await;
        layer.sync_cache().await.unwrap();
        assert_eq!(counts(&report(&store).await), (2, 0, 0));
        write(&layer, 0, 2).await;
        for _ in 0..8 {
            // One of the two stripes goes on being written.
            write(&layer, 8, 2).await;
            layer.sync_cache().await.unwrap();
        }
        assert_eq!(counts(&report(&store).await), (1, 1, 0));
        flip(&store, place(0)).await;
        // What a crash leaves now is known to be wrong.
        drop(layer);
        let layer = open(&store).await;
        rot(&layer, 0).await;
        assert_eq!(read(&layer, 8).await, Some(2));
    });
}

#[test]
fn what_a_crash_leaves_of_an_open_stripe_is_read_unverified_until_it_is_written() {
    block_on(async {
        let store = store(1, 512).await;
        let layer = layer_on(&store, &verified(), &few_pages()).await;
        write(&layer, 0, 1).await;
        write(&layer, 1, 1).await;
        layer.sync_cache().await.unwrap();
        write(&layer, 0, 2).await;
        drop(layer);
        assert_eq!(counts(&report(&store).await), (0, 2, 0));
        let layer = open(&store).await;
        assert_eq!(
            (read(&layer, 0).await, read(&layer, 1).await),
            (Some(2), Some(1))
        );
        // It is not known to be wrong.
        flip(&store, place(1) + 5).await;
        assert_eq!(read(&layer, 1).await, Some(1));
        // A write takes no mark, because nothing is vouched for, and then it is known.
        write(&layer, 0, 3).await;
        flip(&store, place(0)).await;
        rot(&layer, 0).await;
        flip(&store, place(0)).await;
        layer.close().await.unwrap();
        assert_eq!(counts(&report(&store).await), (1, 1, 0));
    });
}

#[test]
fn sectors_that_a_layer_loses_and_gains_again_are_verified_by_what_they_hold_then() {
    block_on(async {
        let store = store(1, 512).await;
        let layer = layer_on(&store, &verified(), &few_pages()).await;
        for sector in 0..SECTORS {
            write(&layer, sector, 1).await;
        }
        layer.sync_cache().await.unwrap();
        layer.resize(4).await.unwrap();
        layer.resize(SECTORS).await.unwrap();
        for sector in 10..12 {
            write(&layer, sector, 2).await;
        }
        drop(layer);
        let layer = open(&store).await;
        for sector in 0..SECTORS {
            let now = read(&layer, sector).await;
            let expected: &[Option<u8>] = match sector {
                0..4 => &[Some(1)],
                // Not flushed.
                10..12 => &[Some(0), Some(2)],
                _ => &[Some(0)],
            };
            assert!(expected.contains(&now), "{sector}: {now:?}");
        }
    });
}

/// A store under a script, and a layer on it whose sectors 0 and 1 hold 1, as is not on record yet.
async fn scripted() -> (Disk, Script, DurableLayer) {
    let store = ScriptedDisk::new(memory(1, 512).await);
    let script = store.script().clone();
    let store = Disk::new(store).unwrap();
    let layer = layer_on(&store, &verified(), &few_pages()).await;
    write(&layer, 0, 1).await;
    write(&layer, 1, 1).await;
    (store, script, layer)
}

/// C3: a checksum of what the memory held a moment before would call the data wrong for ever.
#[test]
fn memory_that_changes_under_a_write_changes_data_and_checksum_alike() {
    block_on(async {
        for (sector, is_fill) in [(0, false), (2, false), (2, true)] {
            let (store, script, layer) = scripted().await;
            let memory = GuestMemory::allocate(512);
            memory.fill_at(0, 7, 512).unwrap();
            let owned = OwnedRequestBuffers::linear(0, 512, false);
            let buffers = owned.buffer(&memory);
            let gate = script.hold(Operation::Write, When::Before);
            let fill = layer.write_no_overwrite().unwrap();
            let mut writing = pin!(async {
                match is_fill {
                    true => fill.write_no_overwrite(&buffers, sector).await,
                    false => layer.write(&buffers, sector, false).await,
                }
            });
            assert!(poll_once(writing.as_mut()).await.is_none());
            memory.fill_at(0, 8, 512).unwrap();
            gate.open();
            writing.await.unwrap();
            assert_eq!(read(&layer, sector).await, Some(7));
            layer.close().await.unwrap();
            let count = if sector == 0 { 2 } else { 3 };
            assert_eq!(counts(&report(&store).await), (count, 0, 0));
        }
    });
}

#[test]
fn what_is_read_beside_a_write_is_old_or_new_and_no_rot() {
    block_on(async {
        for when in [When::Before, When::After] {
            let (_, script, layer) = scripted().await;
            let gate = script.hold(Operation::Read, when);
            let mut reading = pin!(read(&layer, 0));
            assert!(poll_once(reading.as_mut()).await.is_none());
            write(&layer, 0, 2).await;
            gate.open();
            let expected = if when == When::Before { 2 } else { 1 };
            assert_eq!(reading.await, Some(expected));
        }
    });
}

#[test]
fn of_a_write_that_failed_or_was_dropped_no_checksum_is_kept() {
    block_on(async {
        for is_done in [true, false] {
            let (store, script, layer) = scripted().await;
            let data = [2; 512];
            let host = HostBuffers::from_ref(&data);
            let when = if is_done { When::After } else { When::Before };
            script.fail_nth(0, Operation::Write, when);
            let written = layer.write(&host.buffers(), 0, false).await;
            written.unwrap_err();
            let now = if is_done { 2 } else { 1 };
            assert_eq!(read(&layer, 0).await, Some(now));
            let gate = script.hold(Operation::Write, when);
            {
                let buffers = host.buffers();
                let mut writing = pin!(layer.write(&buffers, 1, false));
                assert!(poll_once(writing.as_mut()).await.is_none());
            }
            gate.open();
            assert_eq!(read(&layer, 1).await, Some(now));
            layer.close().await.unwrap();
            assert_eq!(counts(&report(&store).await), (0, 2, 0));
            // The next one that succeeds is known.
            write(&layer, 0, 3).await;
            layer.close().await.unwrap();
            assert_eq!(counts(&report(&store).await), (1, 1, 0));
        }
    });
}

/// How many flushes of the store `work` takes.
async fn flushes_of(script: &Script, work: impl Future<Output = ()>) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    script.run(Operation::Flush, When::Before, move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    work.await;
    script.clear();
    count.load(Ordering::Relaxed)
}

#[test]
fn a_long_write_takes_one_mark_and_writes_in_order_few() {
    block_on(async {
        const STRIPES: u64 = 256;
        let store = ScriptedDisk::new(memory(1, 512).await);
        let script = store.script().clone();
        let store = Disk::new(store).unwrap();
        let mut options = verified();
        options.sector_count = 8 * STRIPES;
        options.log_blocks = Some(1000);
        let layer = layer_on(&store, &options, &DurableOptions::default()).await;
        let data = vec![1; STRIPES as usize * 4096];
        let host = HostBuffers::from_ref(&data);
        layer.write(&host.buffers(), 0, false).await.unwrap();
        layer.sync_cache().await.unwrap();
        // A mark is two flushes of the store: for the first 64 stripes; for 64 more and the 64 that lie ahead of them; and for the rest.
        let all = flushes_of(&script, async {
            layer.write(&host.buffers(), 0, false).await.unwrap();
        });
        assert_eq!(all.await, 2 * 3);
        layer.close().await.unwrap();
        write(&layer, 0, 1).await;
        let in_order = flushes_of(&script, async {
            for sector in 1..8 * STRIPES {
                write(&layer, sector, 2).await;
            }
        });
        // 1, 1, 2, 4, 8, 16, 32, and then 64 each.
        assert!(in_order.await <= 2 * 10);
        let at_random = flushes_of(&script, async {
            for stripe in 0..STRIPES {
                write(&layer, 8 * (stripe * 77 % STRIPES), 3).await;
                layer.sync_cache().await.unwrap();
            }
        });
        // All of them stay open, so that each flush is one of the store.
        assert_eq!(at_random.await, STRIPES as usize);
    });
}

/// V2: what a flush that failed may have left counts.
#[test]
fn nothing_is_written_over_what_a_failed_flush_may_have_put_on_record() {
    block_on(async {
        // The flush before the entry, the entry, and the flush behind it.
        for (nth, operation) in [
            (0, Operation::Flush),
            (0, Operation::Write),
            (1, Operation::Flush),
        ] {
            let (store, script, layer) = scripted().await;
            script.fail_nth(nth, operation, When::After);
            layer.sync_cache().await.unwrap_err();
            // While the mark cannot be made, the data is not written.
            script.fail_nth(0, Operation::Flush, When::Before);
            let data = [2; 512];
            let host = HostBuffers::from_ref(&data);
            let written = layer.write(&host.buffers(), 0, false).await;
            written.unwrap_err();
            assert_eq!(read(&layer, 0).await, Some(1));
            write(&layer, 0, 2).await;
            drop(layer);
            // Killed here: what was written is there, and is not called wrong.
            let layer = open(&store).await;
            let found = (read(&layer, 0).await, read(&layer, 1).await);
            assert_eq!(found, (Some(2), Some(1)));
        }
    });
}
