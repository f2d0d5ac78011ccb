//! The RAM store: requests and resizes on neighbouring sectors, at the border of two chunks.

mod common;

use common::{Arena, CHUNK_SECTORS, SECTOR_BYTES, fill_with_initial, plain};
use disk_backend::DiskError;
use disk_layered::LayerConfiguration;
use disklayer_ram::RamDiskLayer;
use exploration::{expect_found, explore};
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use std::ops::Range;
use std::sync::Arc;
use sync::Race;

/// Two sectors at the end of the first chunk, and two at the beginning of the second.
const HOT: Range<u64> = CHUNK_SECTORS - 2..CHUNK_SECTORS + 2;

/// A store above another one whose sectors all hold something: a sector that becomes absent for an instant shows it.
fn arena() -> Arc<Arena> {
    Arena::new(stores(2), HOT)
}

/// So many stores, of which the lowest alone holds something.
fn stores(depth: usize) -> Vec<LayerConfiguration> {
    let layer =
        || RamDiskLayer::new(HOT.end * SECTOR_BYTES as u64).expect("a size of whole sectors");
    let lower = layer();
    fill_with_initial(&lower, HOT);
    let uppers = (1..depth).map(|_| layer());
    uppers.chain([lower]).map(plain).collect()
}

/// Of nine layers the seventh has the first sector, and the last the others. The rest have something of the same
/// region: more of them than the index names.
fn crowded_stores() -> Vec<LayerConfiguration> {
    const ELSEWHERE: u64 = HOT.start - 64;
    let layer = |index: usize| {
        let size_bytes = HOT.end * SECTOR_BYTES as u64;
        let layer = RamDiskLayer::new(size_bytes).expect("a size of whole sectors");
        match index {
            0..3 => {}
            6 => fill_with_initial(&layer, HOT.start..HOT.start + 1),
            3..8 => fill_with_initial(&layer, ELSEWHERE..ELSEWHERE + 1),
            _ => fill_with_initial(&layer, HOT.start + 1..HOT.end),
        }
        layer
    };
    (0..9).map(layer).map(plain).collect()
}

/// Cuts sectors off, which zeroes them, and adds them again, which does so once more.
fn resize(arena: &Arena) {
    let cut_off = thread_rng().gen_range(HOT.start..HOT.end)..HOT.end;
    for sector_count in [cut_off.start, HOT.end] {
        arena.zero(cut_off.clone(), |disk, _| {
            block_on(disk.resize(sector_count))
        });
    }
}

fn requests() {
    let arena = arena();
    let workers: Vec<_> = (0..3).map(|_| arena.spawn(4)).collect();
    workers
        .into_iter()
        .for_each(|worker| worker.join().unwrap());
    arena.check();
}

fn requests_and_resizes() {
    // What was cut off for an instant is beyond the end.
    let allowed = |_, error: &DiskError| matches!(error, DiskError::IllegalBlock);
    let arena = Arena::allowing(allowed, stores(2), HOT);
    let mut threads: Vec<_> = (0..2).map(|_| arena.spawn(4)).collect();
    let resized = Arc::clone(&arena);
    threads.push(shuttle::thread::spawn(move || resize(&resized)));
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    arena.check();
}

/// A wake-up that is lost leaves everybody waiting, which ends the exploration.
fn waiting_for_another_size() {
    let arena = arena();
    let (waiting, resized) = (Arc::clone(&arena), Arc::clone(&arena));
    let waiter = shuttle::thread::spawn(move || block_on(waiting.disk.wait_resize(HOT.end)));
    let resizer = shuttle::thread::spawn(move || block_on(resized.disk.resize(HOT.start)));
    assert_eq!(waiter.join().unwrap(), HOT.start);
    resizer.join().unwrap().unwrap();
}

/// One thread reads, and learns which layers have something, which is more of them than an entry of the index names; another reads at any
/// time meanwhile.
fn reads_of_a_crowded_region() {
    const IN_ONE_REGION: Range<u64> = HOT.start..CHUNK_SECTORS;
    let arena = Arena::new(crowded_stores(), HOT);
    let (first, later) = (Arc::clone(&arena), Arc::clone(&arena));
    let first = shuttle::thread::spawn(move || first.read(IN_ONE_REGION));
    let later = shuttle::thread::spawn(move || {
        (0..thread_rng().gen_range(0..100)).for_each(|_| shuttle::thread::yield_now());
        later.read(IN_ONE_REGION);
    });
    for reader in [first, later] {
        reader.join().unwrap();
    }
    arena.check();
}

/// Two threads read, and learn which layers have something, while a third one cuts off what they read.
fn reads_above_a_layer_that_is_cut_off() {
    let arena = Arena::new(stores(4), HOT);
    let mut workers: Vec<_> = (0..2)
        .map(|_| {
            let arena = Arc::clone(&arena);
            shuttle::thread::spawn(move || (0..3).for_each(|_| arena.read(HOT)))
        })
        .collect();
    let cutter = Arc::clone(&arena);
    workers.push(shuttle::thread::spawn(move || {
        cutter.zero(HOT, |disk, hot| {
            let size = hot.start.to_string();
            let cut = inspect::update("layers/2/backing/sector_count", &size, disk);
            block_on(cut).expect("the size can be changed");
            Ok(())
        });
    }));
    workers
        .into_iter()
        .for_each(|worker| worker.join().unwrap());
    arena.check();
}

#[test]
fn requests_that_meet_can_have_come_one_after_another() {
    explore("ram_store", 2000, requests);
}

#[test]
fn so_can_requests_that_meet_a_resize() {
    explore("ram_store", 2000, requests_and_resizes);
}

#[test]
fn whoever_waits_for_another_size_is_woken() {
    explore("ram_store", 500, waiting_for_another_size);
}

#[test]
fn a_size_that_is_checked_before_the_lock_is_taken_is_found() {
    expect_found(Race::SizeCheckedBeforeLock, 2000, requests_and_resizes);
}

#[test]
fn whoever_finds_a_region_known_finds_all_that_is_known_of_it() {
    explore("ram_store", 2000, reads_of_a_crowded_region);
}

#[test]
fn no_read_relies_on_what_a_layer_had_before_it_changed() {
    explore("ram_store", 2000, reads_above_a_layer_that_is_cut_off);
}

#[test]
fn an_index_that_outlives_a_change_is_found() {
    let race = Race::IndexOutlivesChange;
    expect_found(race, 2000, reads_above_a_layer_that_is_cut_off);
}
