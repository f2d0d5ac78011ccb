//! Stacks in worlds, and what worlds have found in them.

use disk_backend::Disk;
use disk_contract::{Stores, Suite, Violation};
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disk_sim::{Fate, Fated, Graveyard, Image, Sim, SimDisk, SimLayer, SimOptions, Step};

fn configured(layer: DiskLayer, write_through: bool, read_cache: bool) -> LayerConfiguration {
    let mut configuration = LayerConfiguration::new(layer);
    configuration.write_through = write_through;
    configuration.read_cache = read_cache;
    configuration
}

/// A persistent copy, and a cache, above a disk.
async fn stack(stores: &mut Stores, write_through: bool) -> Disk {
    let copy = DiskLayer::new(stores.layer(24, |_| ()));
    let cache = DiskLayer::new(stores.layer(24, |_| ()));
    let truth = Disk::new(stores.disk(24, |_| ())).expect("a legal disk");
    let layers = vec![
        configured(copy, write_through, false),
        configured(cache, write_through, true),
        configured(DiskLayer::from_disk(truth), false, false),
    ];
    let disk = LayeredDisk::new(false, layers).await;
    Disk::new(disk.expect("a legal stack, also after a crash")).expect("a legal disk")
}

#[test]
fn stacks_keep_the_contract_in_worlds() -> Result<(), Violation> {
    for write_through in [false, true] {
        Suite::new().check_worlds(async |stores| stack(stores, write_through).await)?;
    }
    Ok(())
}

/// What a change does in one disk may begin after the drain of the disk above it, and be left by whoever began it.
#[test]
fn a_drain_gets_on_what_is_left_while_it_lasts() {
    for seed in 0..300 {
        let mut sim = Sim::new(seed);
        let below = |seed| {
            let disk = SimDisk::new(SimOptions::new(8, 512, seed), sim.clock());
            DiskLayer::from_disk(Disk::new(disk).expect("a legal disk"))
        };
        let layers = vec![
            configured(below(seed), true, false),
            configured(below(seed + 1000), true, false),
            configured(below(seed + 2000), false, false),
        ];
        let disk = sim.block_on(LayeredDisk::new(false, layers));
        let disk = disk.expect("it goes on").expect("a legal stack");
        let disk = Disk::new(disk).expect("a legal disk");
        let drained = disk.clone();
        sim.spawn("a drain", async move {
            for _ in 0..8 {
                drained.drain().await;
            }
        });
        sim.spawn("writes that are dropped", async move {
            let graveyard = Graveyard::default();
            for polls in 0..16 {
                let write = disk.write_zeroes(polls % 8, 1, false, false, false);
                let fate = Fate::DroppedAfter(polls as u32);
                Fated::new(write, fate, &graveyard).await;
            }
        });
        sim.run()
            .unwrap_or_else(|stuck| panic!("seed {seed}: {stuck}"));
    }
}

/// A copy above the disk that it is a copy of.
async fn pair(copy: SimLayer, truth: SimDisk) -> Result<LayeredDisk, String> {
    let truth = DiskLayer::from_disk(Disk::new(truth).expect("a legal disk"));
    let layers = vec![
        configured(DiskLayer::new(copy), true, false),
        configured(truth, false, false),
    ];
    let disk = LayeredDisk::new(false, layers).await;
    disk.map_err(|error| error.to_string())
}

/// What is written through to must never be shorter than its copies, or the stack cannot be opened again.
#[test]
fn a_crash_during_a_resize_leaves_a_legal_stack() {
    for (seed, new) in (0..20).flat_map(|seed| [(seed, 12), (seed, 4)]) {
        let options = SimOptions::new(8, 512, seed);
        let mut sim = Sim::new(seed);
        let copy = SimLayer::new(options.clone(), sim.clock());
        let truth = SimDisk::new(options.clone(), sim.clock());
        let disk = sim.block_on(pair(copy.clone(), truth.clone()));
        let disk = disk.expect("it goes on").expect("a legal stack");
        let disk = Disk::new(disk).expect("a legal disk");
        sim.spawn("a resize", async move {
            disk.resize(new).await.expect("nothing fails");
        });
        while sim.step().expect("it goes on") != Step::Done {
            for (copy, truth) in both(
                &copy.crash().images(8, seed),
                &truth.crash().images(8, seed),
            ) {
                let mut sim = Sim::new(seed);
                let copy = SimLayer::from_image(copy, options.clone(), sim.clock());
                let truth = SimDisk::from_image(truth, options.clone(), sim.clock());
                let opened = sim.block_on(pair(copy, truth)).expect("it goes on");
                assert_eq!(opened.err(), None, "seed {seed}, to {new} sectors");
            }
        }
    }
}

fn both(copies: &[Image], truths: &[Image]) -> Vec<(Image, Image)> {
    let pairs = copies
        .iter()
        .flat_map(|copy| truths.iter().map(|truth| (copy.clone(), truth.clone())));
    pairs.collect()
}
