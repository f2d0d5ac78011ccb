//! Fills of a cache against writes, zeroes, unmaps and evictions (L2).

mod common;

use common::{Arena, CHUNK_SECTORS, SECTOR_BYTES, fill_with_initial, plain, values};
use disk_backend::DiskError;
use disk_backend::check::Intent;
use disk_contract::{Operation, ScriptedLayer, When};
use disk_layered::{LayerConfiguration, LayerIo, SectorBitmap, SectorMarker};
use disklayer_ram::RamDiskLayer;
use exploration::history::Event;
use exploration::{expect_found, explore};
use scsi_buffers::HostBuffers;
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use std::ops::Range;
use sync::Race;

/// Two sectors at the end of the first chunk, and one at the beginning of the second.
const HOT: Range<u64> = CHUNK_SECTORS - 2..CHUNK_SECTORS + 1;

/// How many of the requests that change the layer below the copy may come before one that fails.
const CHANGES_BEFORE_FAILURE: u32 = 3;

fn store() -> RamDiskLayer {
    RamDiskLayer::new(HOT.end * SECTOR_BYTES as u64).expect("a size of whole sectors")
}

fn base() -> RamDiskLayer {
    let base = store();
    fill_with_initial(&base, HOT);
    base
}

/// What users write stays in the cache, and what they read is put beside it.
fn a_cache_that_takes_the_writes() {
    let cache = LayerConfiguration {
        read_cache: true,
        ..plain(store())
    };
    let arena = Arena::new(vec![cache, plain(base())], HOT);
    let workers: Vec<_> = (0..3).map(|_| arena.spawn(3)).collect();
    workers
        .into_iter()
        .for_each(|worker| worker.join().unwrap());
    arena.check();
}

/// What users write goes to both; where that fails, the copy is thrown away, and the next read fills it again.
fn a_copy_above_a_layer_that_fails() {
    let (copy, truth) = (ScriptedLayer::new(store()), ScriptedLayer::new(base()));
    let through = LayerConfiguration {
        read_cache: true,
        write_through: true,
        ..plain(copy.clone())
    };
    let allowed =
        |intent, error: &DiskError| intent == Intent::Write && matches!(error, DiskError::Io(_));
    let layers = vec![through, plain(truth.clone())];
    let arena = Arena::allowing(allowed, layers, HOT);
    let nth = thread_rng().gen_range(0..CHANGES_BEFORE_FAILURE);
    let when = [When::Before, When::After][thread_rng().gen_range(0..2)];
    truth.script().fail_nth(nth, Operation::Write, when);
    let workers: Vec<_> = (0..3).map(|_| arena.spawn(3)).collect();
    workers
        .into_iter()
        .for_each(|worker| worker.join().unwrap());
    arena.check();
    // What the copy holds by now, and what it is a copy of.
    for layer in [copy, truth] {
        for (sector, value) in held(layer.inner()) {
            let found = Event::read(value, arena.tick(), arena.tick());
            arena.note([(sector, found)]);
        }
    }
    arena.check();
}

/// What a layer holds by itself.
fn held(layer: &impl LayerIo) -> Vec<(u64, u64)> {
    let mut bytes = vec![0; (HOT.end - HOT.start) as usize * SECTOR_BYTES];
    let mut found = SectorBitmap::new((HOT.end - HOT.start) as usize);
    let host = HostBuffers::from_mut(&mut bytes);
    let marker = SectorMarker::new(&mut found, HOT.start, HOT);
    block_on(layer.read(&host.buffers(), HOT.start, marker)).expect("inside of the layer");
    drop(host);
    let is_held = |(index, _): &(usize, _)| {
        let absent = found.next_clear_run(*index);
        absent.is_none_or(|run| run.start != *index)
    };
    let held = values(&bytes).enumerate().filter(is_held);
    held.map(|(index, value)| (HOT.start + index as u64, value))
        .collect()
}

#[test]
fn no_fill_hides_what_was_written_to_the_cache() {
    explore("cache_fill", 2000, a_cache_that_takes_the_writes);
}

#[test]
fn no_fill_revives_what_a_change_of_both_layers_replaced() {
    explore("cache_fill", 2000, a_copy_above_a_layer_that_fails);
}

#[test]
fn a_fill_that_looks_before_it_locks_is_found() {
    let race = Race::FillLooksBeforeLock;
    expect_found(race, 2000, a_cache_that_takes_the_writes);
}

#[test]
fn a_fill_of_a_read_that_a_change_disturbed_is_found() {
    let race = Race::FillOfDisturbedRead;
    expect_found(race, 2000, a_copy_above_a_layer_that_fails);
}
