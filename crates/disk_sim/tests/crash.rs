//! What a crash leaves of simulated storage.

use disk_backend::{Disk, DiskError, DiskIo};
use disk_sim::{Ending, Fate, Fated, Graveyard, Image, Sim, SimDisk, SimOptions, images_of};
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;
use std::collections::BTreeSet;

fn quiet(sector_count: u64, seed: u64) -> SimOptions {
    SimOptions {
        latency_max: std::time::Duration::ZERO,
        ..SimOptions::new(sector_count, 512, seed)
    }
}

/// The first bytes of the sectors of an image.
fn bytes_of(image: &Image) -> Vec<u8> {
    let (clock, _time) = clock::Clock::simulated();
    let disk = SimDisk::from_image(image.clone(), quiet(0, 1), clock);
    let mut data = vec![0; image.sector_count() as usize * 512];
    let host = HostBuffers::from_mut(&mut data);
    block_on(disk.read_vectored(&host.buffers(), 0)).expect("it never fails");
    drop(host);
    data.chunks(512).map(|sector| sector[0]).collect()
}

async fn write(disk: &Disk, sector: u64, bytes: &[u8], fua: bool) {
    let data: Vec<u8> = bytes.iter().flat_map(|byte| [*byte; 512]).collect();
    let host = HostBuffers::from_ref(&data);
    disk.write_vectored(&host.buffers(), sector, fua)
        .await
        .expect("it never fails");
}

fn outcomes(store: &SimDisk) -> BTreeSet<Vec<u8>> {
    store.crash().images(256, 1).iter().map(bytes_of).collect()
}

#[test]
fn unflushed_sectors_survive_or_not_each_by_itself() {
    let mut sim = Sim::new(1);
    let store = SimDisk::new(quiet(3, 2), sim.clock());
    let disk = Disk::new(store.clone()).expect("a disk");
    sim.block_on(async {
        write(&disk, 0, &[1, 1, 1], false).await;
        disk.sync_cache().await.expect("it never fails");
        write(&disk, 0, &[2], false).await;
        write(&disk, 0, &[3, 3], false).await;
    })
    .expect("it goes on");
    let expected: BTreeSet<_> = [1, 2, 3]
        .iter()
        .flat_map(|first| [1, 3].map(|second| vec![*first, second, 1]))
        .collect();
    assert_eq!(outcomes(&store), expected);
}

#[test]
fn what_several_stores_lose_is_drawn_in_every_combination() {
    let mut sim = Sim::new(1);
    let stores = [1, 2].map(|seed| SimDisk::new(quiet(2, seed), sim.clock()));
    for store in &stores {
        let disk = Disk::new(store.clone()).expect("a disk");
        let written = sim.block_on(async { write(&disk, 0, &[1, 1], false).await });
        written.expect("it goes on");
    }
    let crashes = stores.map(|store| store.crash());
    let of_both = |limit| -> BTreeSet<Vec<u8>> {
        let images = images_of(&crashes, limit, 1);
        let bytes = images.iter().map(|both| both.iter().flat_map(bytes_of));
        bytes.map(Iterator::collect).collect()
    };
    assert_eq!(of_both(16).len(), 16, "each sector by itself");
    let whole = [[0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]];
    let drawn = of_both(15);
    assert!(
        whole.iter().all(|image| drawn.contains(&image[..])),
        "{drawn:?}"
    );
}

#[test]
fn nothing_is_torn_within_the_atomic_write_unit() {
    let mut sim = Sim::new(1);
    let options = SimOptions {
        atomic_write_sectors: 2,
        ..quiet(4, 2)
    };
    let store = SimDisk::new(options, sim.clock());
    let disk = Disk::new(store.clone()).expect("a disk");
    sim.block_on(async { write(&disk, 0, &[5, 5, 5], false).await })
        .expect("it goes on");
    let expected = [[0, 0, 0, 0], [5, 5, 0, 0], [0, 0, 5, 0], [5, 5, 5, 0]];
    assert_eq!(outcomes(&store), expected.map(Vec::from).into());
}

#[test]
fn a_fua_write_survives_by_itself_and_what_came_before_in_other_sectors_need_not() {
    let mut sim = Sim::new(1);
    let store = SimDisk::new(quiet(2, 2), sim.clock());
    let disk = Disk::new(store.clone()).expect("a disk");
    sim.block_on(async {
        write(&disk, 0, &[1, 1], false).await;
        write(&disk, 1, &[2], true).await;
    })
    .expect("it goes on");
    let expected = [[0, 2], [1, 2]];
    assert_eq!(outcomes(&store), expected.map(Vec::from).into());
}

#[test]
fn a_fua_write_survives_where_a_growth_that_was_not_flushed_made_room() {
    let mut sim = Sim::new(1);
    let store = SimDisk::new(quiet(1, 2), sim.clock());
    let disk = Disk::new(store.clone()).expect("a disk");
    sim.block_on(async {
        disk.resize(2).await.expect("it never fails");
        write(&disk, 1, &[2], true).await;
    })
    .expect("it goes on");
    assert_eq!(outcomes(&store), [vec![0, 2]].into());
}

#[test]
fn a_write_under_way_may_reach_the_medium_and_one_that_comes_after_a_flush_is_not_flushed() {
    // Whatever the dice say, the write is dropped when it has not ended.
    for seed in 0..100 {
        let mut sim = Sim::new(seed);
        let store = SimDisk::new(quiet(2, seed), sim.clock());
        let disk = Disk::new(store.clone()).expect("a disk");
        let graveyard = Graveyard::default();
        let ending = sim
            .block_on(async {
                let writing = write(&disk, 0, &[1, 1], false);
                Fated::new(writing, Fate::DroppedAfter(1), &graveyard).await
            })
            .expect("it goes on");
        let seen = outcomes(&store);
        let (none, all) = (vec![0, 0], vec![1, 1]);
        match ending {
            Ending::Completed(()) => assert_eq!(seen.len(), 4, "seed {seed}"),
            Ending::Dropped => assert!(seen.contains(&none), "seed {seed}: {seen:?}"),
            Ending::Forgotten => unreachable!("it was to be dropped"),
        }
        // Now it is settled, for good.
        sim.block_on(async { disk.sync_cache().await })
            .expect("it goes on")
            .expect("it never fails");
        let after = outcomes(&store);
        assert_eq!(after.len(), 1, "seed {seed}");
        assert!(after.is_subset(&seen), "seed {seed}: {after:?}");
        if ending == Ending::Completed(()) {
            assert_eq!(after, [all].into(), "seed {seed}");
        }
    }
}

#[test]
fn many_unflushed_writes_are_sampled_within_the_limit() {
    let mut sim = Sim::new(1);
    let store = SimDisk::new(quiet(16, 2), sim.clock());
    let disk = Disk::new(store.clone()).expect("a disk");
    sim.block_on(async {
        for sector in 0..16 {
            write(&disk, sector, &[1], false).await;
        }
    })
    .expect("it goes on");
    let crash = store.crash();
    assert_eq!(crash.request_count(), 16);
    let images = crash.images(40, 9);
    assert_eq!(images.len(), 40);
    let different: BTreeSet<_> = images.iter().map(bytes_of).collect();
    assert!(different.len() > 20, "{} are different", different.len());
    assert_eq!(images, crash.images(40, 9), "the seed decides");
}

#[test]
fn once_a_flush_failed_a_store_that_refuses_takes_no_change_until_it_is_made_anew() {
    let options = SimOptions {
        refuses_after_failed_flush: true,
        ..quiet(2, 1)
    };
    let mut sim = Sim::new(1);
    let store = SimDisk::new(options, sim.clock());
    let disk = Disk::new(store.clone()).expect("a disk");
    sim.block_on(async {
        write(&disk, 0, &[1, 1], false).await;
        store.set_failure_percent(100);
        disk.sync_cache().await.expect_err("all fails");
        store.set_failure_percent(0);
        for refused in [
            disk.sync_cache().await,
            disk.write_zeroes(0, 1, false, true, false).await,
            disk.unmap(0, 1, false).await,
            disk.resize(1).await,
        ] {
            assert!(matches!(refused, Err(DiskError::Io(_))), "{refused:?}");
        }
        let mut data = [0; 1024];
        let host = HostBuffers::from_mut(&mut data);
        let read = disk.read_vectored(&host.buffers(), 0).await;
        read.expect("reads go on");
        drop(host);
        assert_eq!(data, [1; 1024]);
    })
    .expect("it goes on");
    assert_eq!(outcomes(&store).len(), 4, "nothing has become durable");
}

#[test]
fn a_resize_whose_future_was_dropped_wakes_whoever_waits_if_it_happens() {
    let mut happened = 0;
    for seed in 0..100 {
        // Declared first: the graveyard may borrow it.
        let disk;
        let mut sim = Sim::new(seed);
        disk = SimDisk::new(quiet(8, seed), sim.clock());
        let waiting = disk.clone();
        sim.spawn("who waits", async move {
            waiting.wait_resize(8).await;
        });
        let graveyard = sim.graveyard();
        let resize = async {
            // Once, so that the other one waits.
            futures_lite::future::yield_now().await;
            Fated::new(disk.resize(4), Fate::DroppedAfter(1), &graveyard).await;
            disk.drain().await;
        };
        sim.block_on(resize).expect("nothing waits here");
        if disk.sector_count() == 4 {
            happened += 1;
            sim.run()
                .unwrap_or_else(|stuck| panic!("seed {seed}: {stuck}"));
        }
    }
    assert!(happened > 10, "{happened} of 100 happened");
}
