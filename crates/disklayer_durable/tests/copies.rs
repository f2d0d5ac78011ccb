//! A flush after few first writes is one flush of the store, and no crash can tell.

mod common;

use common::logged::{SECTORS, options, place, without_its_data, write_bytes};
use common::{
    bytes_at, bytes_of, content, few_pages, layer_on, memory, open, read, report, store, write,
};
use disk_backend::Disk;
use disk_contract::{Operation, Script, ScriptedDisk, When};
use disk_layered::{
    DiskLayer, LayerConfiguration, LayerIo, LayeredDisk, SectorBitmap, SectorMarker, TryRead,
};
use disk_sim::{Sim, SimDisk, SimOptions, Step};
use disklayer_durable::{Condition, DurableLayer, FormatOptions, Verify, format};
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;
use std::cell::{Cell, OnceCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A layer that was written once, so that its store says that it is in use; and what counts its flushes.
async fn counted(options: &FormatOptions) -> (DurableLayer, Script) {
    let scripted = ScriptedDisk::new(memory(1, 512).await);
    let script = scripted.script().clone();
    let store = Disk::new(scripted).unwrap();
    let layer = layer_on(&store, options, &few_pages()).await;
    write(&layer, options.sector_count - 1, 1).await;
    layer.sync_cache().await.unwrap();
    layer.sync_cache().await.unwrap();
    (layer, script)
}

/// How many flushes and writes of the store `work` takes, with a flush behind it.
async fn cost(
    layer: &DurableLayer,
    script: &Script,
    work: impl Future<Output = ()>,
) -> (usize, usize) {
    let counts: [Arc<AtomicUsize>; 2] = Default::default();
    for (operation, count) in [Operation::Flush, Operation::Write]
        .into_iter()
        .zip(&counts)
    {
        let count = Arc::clone(count);
        script.run(operation, When::Before, move || {
            _ = count.fetch_add(1, Ordering::Relaxed)
        });
    }
    work.await;
    layer.sync_cache().await.unwrap();
    script.clear();
    let [flushes, writes] = counts.map(|count| count.load(Ordering::Relaxed));
    (flushes, writes)
}

#[test]
fn few_first_writes_and_their_record_take_one_flush_of_the_store() {
    block_on(async {
        let (layer, script) = counted(&options()).await;
        // The place of a page, the data, and the entry.
        assert_eq!(cost(&layer, &script, write(&layer, 0, 1)).await, (1, 3));
        let three = async {
            for sector in [1, 2, 8] {
                write(&layer, sector, 2).await;
            }
        };
        assert_eq!(cost(&layer, &script, three).await, (1, 5));
        // The next flush ends the copies, whatever it is for; then it is the store's.
        assert_eq!(cost(&layer, &script, write(&layer, 0, 3)).await, (1, 2));
        assert_eq!(cost(&layer, &script, write(&layer, 0, 4)).await, (1, 1));
        assert_eq!(cost(&layer, &script, async {}).await, (1, 0));
    });
}

#[test]
fn what_has_no_copy_takes_two() {
    block_on(async {
        let mut long = options();
        (long.sector_count, long.stripe_sectors) = (4096, Some(1024));
        long.log_blocks = Some(200);
        let (layer, script) = counted(&long).await;
        let bytes = vec![1; (128 << 10) + 512];
        let (whole, small) = bytes.split_at(128 << 10);
        let fits = write_bytes(&layer, 0, whole, false);
        assert_eq!(cost(&layer, &script, fits).await.0, 1);
        let too_long = write_bytes(&layer, 512, &bytes, false);
        assert_eq!(cost(&layer, &script, too_long).await.0, 2);
        let too_long = async {
            write_bytes(&layer, 1024, small, false).await;
            write_bytes(&layer, 1025, whole, false).await;
        };
        assert_eq!(cost(&layer, &script, too_long).await.0, 2);
        let many = |count: u64, from: u64| {
            let layer = &layer;
            async move {
                for at in 0..count {
                    write(layer, from + 2 * at, 1).await;
                }
            }
        };
        // Each takes a block: more than 32 are more than 128 KiB.
        assert_eq!(cost(&layer, &script, many(32, 2048)).await.0, 1);
        assert_eq!(cost(&layer, &script, many(33, 2049)).await.0, 2);
        // It would be taken for an entry where these are looked for.
        let mut entry = [7; 512];
        entry[..8].copy_from_slice(b"plt.log\n");
        let looks_like_one = write_bytes(&layer, 3000, &entry, false);
        assert_eq!(cost(&layer, &script, looks_like_one).await.0, 2);
    });
}

#[test]
fn what_was_written_twice_before_a_flush_takes_two_and_is_what_was_written_last() {
    block_on(async {
        let (layer, script) = counted(&options()).await;
        let twice = async {
            write(&layer, 0, 1).await;
            write(&layer, 0, 2).await;
        };
        assert_eq!(cost(&layer, &script, twice).await.0, 2);
        assert_eq!(read(&layer, 0).await, Some(2));
        // Cleared and written again: the later copy counts.
        let again = async {
            write(&layer, 1, 1).await;
            layer.unmap(1, 1, false, false).await.unwrap();
            write(&layer, 1, 2).await;
        };
        assert_eq!(cost(&layer, &script, again).await.0, 1);
        assert_eq!(read(&layer, 1).await, Some(2));
    });
}

#[test]
fn a_log_without_room_for_copies_a_larger_size_and_other_layers_take_two() {
    block_on(async {
        let mut short = options();
        short.log_blocks = Some(3);
        let (layer, script) = counted(&short).await;
        let two_blocks = write_bytes(&layer, 0, &[1; 8 * 512], false);
        assert_eq!(cost(&layer, &script, two_blocks).await.0, 2);
        let (layer, script) = counted(&options()).await;
        let grown = async {
            layer.resize(SECTORS + 8).await.unwrap();
            write(&layer, SECTORS, 1).await;
        };
        assert_eq!(cost(&layer, &script, grown).await.0, 2);
        let mut plain = options();
        plain.logs_data = false;
        let mut verified = options();
        verified.verify = Verify::Data;
        for options in [plain, verified] {
            let (layer, script) = counted(&options).await;
            assert_eq!(cost(&layer, &script, write(&layer, 0, 1)).await.0, 2);
        }
    });
}

#[test]
fn data_that_only_the_log_has_is_read_from_there_and_comes_to_its_place_with_the_first_change() {
    block_on(async {
        let store = store(1, 512).await;
        let held = without_its_data(&store).await;
        assert_eq!(held[9..12], [Some(9), Some(0), Some(9)]);
        let before = bytes_of(&store).await;
        assert_eq!(report(&store).await.condition, Condition::Crashed);
        let layer = open(&store).await;
        assert_eq!(content(&layer).await, held);
        // Nor does a flush of nothing write.
        layer.sync_cache().await.unwrap();
        assert_eq!(content(&layer).await, held);
        assert_eq!(bytes_of(&store).await, before);
        // More than one sector at a time, and less than there is.
        let mut data = [0; 2 * 512];
        let host = HostBuffers::from_mut(&mut data);
        let mut present = SectorBitmap::new(2);
        let marker = SectorMarker::new(&mut present, 11, 11..13);
        layer.read(&host.buffers(), 11, marker).await.unwrap();
        drop(host);
        assert_eq!((data[0], data[511]), (9, 9));
        assert!(matches!(
            layer.try_read(&HostBuffers::from_mut(&mut data[..512]).buffers(), 9),
            TryRead::WouldBlock
        ));
        write(&layer, 0, 1).await;
        assert_eq!(bytes_at(&store, place(9), 512).await, [9; 512]);
        // What is no data any more is left as it is.
        assert_eq!(bytes_at(&store, place(10), 512).await, [0xdd; 512]);
        write(&layer, 9, 10).await;
        assert_eq!(read(&layer, 9).await, Some(10));
        assert_eq!(read(&layer, 11).await, Some(9));
        layer.close().await.unwrap();
        assert_eq!(report(&store).await.condition, Condition::Clean);
        assert_eq!(read(&open(&store).await, 9).await, Some(10));
    });
}

#[test]
fn who_may_not_write_reads_it_from_the_log_for_ever() {
    block_on(async {
        let store = store(1, 512).await;
        let held = without_its_data(&store).await;
        let below = vec![LayerConfiguration::new(DiskLayer::from_disk(store))];
        let read_only = Disk::new(LayeredDisk::new(true, below).await.unwrap()).unwrap();
        let layer = open(&read_only).await;
        for _ in 0..2 {
            assert_eq!(content(&layer).await, held);
            layer.sync_cache().await.unwrap();
        }
    });
}

#[test]
fn a_copy_counts_no_more_when_another_entry_is_there() {
    block_on(async {
        let store = store(1, 512).await;
        let layer = layer_on(&store, &options(), &few_pages()).await;
        write(&layer, 0, 1).await;
        layer.sync_cache().await.unwrap();
        write(&layer, 0, 2).await;
        // Killed before a flush, it may be one or the other, and here it is the copy.
        assert_eq!(read(&open(&store).await, 0).await, Some(1));
        layer.sync_cache().await.unwrap();
        assert_eq!(read(&open(&store).await, 0).await, Some(2));
        write(&layer, 1, 1).await;
        layer.sync_cache().await.unwrap();
        write_bytes(&layer, 1, &[2; 512], true).await;
        assert_eq!(read(&open(&store).await, 1).await, Some(2));
    });
}

/// Whether all that a power cut can leave of a sector, at each step of `work`, is what was promised last or came after it: a sector is written with
/// numbers that rise, and the last promised one is what `work` is told to set.
fn survives(work: impl AsyncFn(&DurableLayer, &Cell<u8>)) -> bool {
    let (promised, layer) = (Cell::new(0), OnceCell::new());
    let mut sim = Sim::new(7);
    let options = || SimOptions::new(1, 512, 7);
    let sim_disk = SimDisk::new(options(), sim.clock());
    let store = Disk::new(sim_disk.clone()).unwrap();
    let opened = sim.block_on(layer_on(&store, &self::options(), &few_pages()));
    let layer = layer.get_or_init(|| opened.unwrap());
    sim.spawn("work", work(layer, &promised));
    for seed in 0.. {
        let is_over = matches!(sim.step().unwrap(), Step::Done);
        for image in sim_disk.crash().images(64, seed) {
            let mut sim = Sim::new(7);
            let store = SimDisk::from_image(image, options(), sim.clock());
            let looked = sim.block_on(async {
                let layer = open(&Disk::new(store).unwrap()).await;
                let found = read(&layer, 0).await.unwrap_or(0);
                // The first change keeps what was picked.
                write(&layer, 5, 1).await;
                (found, read(&layer, 0).await.unwrap_or(0))
            });
            let (found, kept) = looked.unwrap();
            if found < promised.get() || found != kept {
                return false;
            }
        }
        if is_over {
            break;
        }
    }
    true
}

#[test]
fn no_power_cut_brings_back_what_is_older_than_a_flush_or_a_durable_write() {
    let is_right = survives(async |layer, promised| {
        for round in 0..3 {
            let at = |step: u8| round * 10 + step;
            write(layer, 0, at(1)).await;
            layer.sync_cache().await.unwrap();
            promised.set(at(1));
            write_bytes(layer, 0, &[at(2); 512], true).await;
            promised.set(at(2));
            write_bytes(layer, 0, &[at(3); 512], true).await;
            promised.set(at(3));
            write(layer, 0, at(4)).await;
            layer.sync_cache().await.unwrap();
            promised.set(at(4));
            // Another first write, whose copy says nothing of this sector.
            write(layer, 8 + u64::from(round), 1).await;
            write(layer, 0, at(5)).await;
            layer.sync_cache().await.unwrap();
            promised.set(at(5));
        }
    });
    assert!(is_right);
}

#[test]
fn after_a_failed_flush_the_next_one_takes_two_and_nothing_is_lost() {
    block_on(async {
        for (nth, operation) in [(0, Operation::Flush), (2, Operation::Write)] {
            for when in [When::Before, When::After] {
                let scripted = ScriptedDisk::new(memory(1, 512).await);
                let script = scripted.script().clone();
                let store = Disk::new(scripted).unwrap();
                let layer = layer_on(&store, &options(), &few_pages()).await;
                write(&layer, 20, 1).await;
                layer.sync_cache().await.unwrap();
                script.fail_nth(nth, operation, when);
                write(&layer, 0, 1).await;
                layer.sync_cache().await.unwrap_err();
                write(&layer, 0, 2).await;
                assert_eq!(cost(&layer, &script, async {}).await.0, 2);
                assert_eq!(read(&open(&store).await, 0).await, Some(2));
                // And then it is as before.
                assert_eq!(cost(&layer, &script, write(&layer, 1, 1)).await.0, 1);
            }
        }
    });
}

/// A program that knows nothing of this feature finds its bit, and refuses it.
#[test]
fn the_feature_has_a_bit_that_an_older_program_refuses() {
    block_on(async {
        let store = store(1, 512).await;
        for (logs_data, bits) in [(true, 2_u64), (false, 0)] {
            let mut options = options();
            options.logs_data = logs_data;
            format(&store, &options).await.unwrap();
            assert_eq!(bytes_at(&store, 0, 512).await[24..32], bits.to_le_bytes());
        }
    });
}
