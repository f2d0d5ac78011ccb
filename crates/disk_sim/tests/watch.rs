//! A stack that remembers what a layer does not have is told when that changes.

use disk_backend::Disk;
use disk_layered::{DiskLayer, LayerConfiguration, LayerIo, LayeredDisk};
use disk_sim::{Fate, Fated, Sim, SimLayer, SimOptions};
use scsi_buffers::HostBuffers;
use std::time::Duration;

const SECTORS: u64 = 4;

fn layer(seed: u64, sim: &Sim<'_>) -> SimLayer {
    let options = SimOptions {
        latency_max: Duration::ZERO,
        ..SimOptions::new(SECTORS, 512, seed)
    };
    SimLayer::new(options, sim.clock())
}

async fn first_byte(disk: &Disk) -> u8 {
    let mut data = [0xee; 512];
    let host = HostBuffers::from_mut(&mut data);
    let read = disk.read_vectored(&host.buffers(), 0).await;
    read.expect("it never fails");
    drop(host);
    data[0]
}

#[test]
fn what_happens_of_a_dropped_write_by_somebody_else_shows_in_a_stack_that_had_looked() {
    let mut happened = 0;
    for seed in 0..100 {
        // Declared first: the graveyard may borrow them.
        let (middle, ones);
        let mut sim = Sim::new(seed);
        middle = layer(seed, &sim);
        let list = vec![layer(seed + 1, &sim), middle.clone(), layer(seed + 2, &sim)];
        ones = [1; 512];
        let graveyard = sim.graveyard();
        let checked = sim.block_on(async {
            let layers = list.into_iter().map(DiskLayer::new);
            let layers = layers.map(LayerConfiguration::new).collect();
            let stack = LayeredDisk::new(false, layers).await;
            let disk = Disk::new(stack.expect("a legal stack")).expect("a legal disk");
            assert_eq!(first_byte(&disk).await, 0, "seed {seed}");
            let write = async {
                let host = HostBuffers::from_ref(&ones);
                middle.write(&host.buffers(), 0, false).await
            };
            Fated::new(write, Fate::DroppedAfter(1), &graveyard).await;
            middle.drain().await;
            let alone = vec![LayerConfiguration::new(DiskLayer::new(middle.clone()))];
            let alone = LayeredDisk::new(true, alone).await.expect("a legal stack");
            let alone = first_byte(&Disk::new(alone).expect("a legal disk")).await;
            assert_eq!(first_byte(&disk).await, alone, "seed {seed}");
            happened += u32::from(alone == 1);
        });
        checked.expect("nothing waits here");
    }
    assert!(happened > 10, "{happened} of 100 happened");
}
