//! A program that is killed, started again, and loses its power: what it found when it opened the layer was never flushed.

mod common;

use common::{open, try_read_all, write};
use disk_backend::Disk;
use disk_contract::seeds;
use disk_layered::LayerIo;
use disk_sim::{Ending, Fate, Fated, Graveyard, Image, Sim, SimDisk, SimOptions};
use disklayer_durable::{DurableLayer, FormatOptions, format};
use fastrand::Rng;
use std::cell::RefCell;

const SECTORS: u64 = 24;

/// By sector: what may be there. The first of them is promised, and the others came later.
type Model = RefCell<Vec<Vec<Option<u8>>>>;

/// What a sector holds, which nothing has torn.
async fn read(layer: &DurableLayer, sector: u64) -> Option<u8> {
    let data = try_read_all(layer, sector).await.unwrap()?;
    assert!(data.iter().all(|byte| *byte == data[0]));
    Some(data[0])
}

/// Writes and flushes; what is flushed is promised.
async fn session(store: Disk, model: &Model, rng: &mut Rng) {
    let layer = open(&store).await;
    // What the killed program did not finish has happened by now, or never will.
    for sector in 0..SECTORS {
        let found = read(&layer, sector).await;
        let mut model = model.borrow_mut();
        let allowed = &mut model[sector as usize];
        assert!(
            allowed.contains(&found),
            "{sector}: {found:?}, not {allowed:?}"
        );
        allowed.push(found);
    }
    for _ in 0..rng.u32(1..30) {
        if rng.u8(0..4) == 0 {
            let before = model.borrow().clone();
            layer.sync_cache().await.unwrap();
            for (now, before) in model.borrow_mut().iter_mut().zip(before) {
                now.drain(..before.len() - 1);
            }
        } else {
            let (sector, value) = (rng.u64(0..SECTORS), rng.u8(1..));
            model.borrow_mut()[sector as usize].push(Some(value));
            write(&layer, sector, value).await;
        }
    }
}

fn check(image: Image, model: &Model) {
    let mut sim = Sim::new(7);
    let store = SimDisk::from_image(image, SimOptions::new(1, 512, 7), sim.clock());
    sim.block_on(async {
        let layer = open(&Disk::new(store).unwrap()).await;
        for sector in 0..SECTORS {
            let found = read(&layer, sector).await;
            let allowed = &model.borrow()[sector as usize];
            assert!(
                allowed.contains(&found),
                "{sector}: {found:?}, not {allowed:?}"
            );
        }
    })
    .unwrap();
}

#[test]
fn a_program_that_is_killed_and_started_again_rests_on_nothing_that_a_power_cut_takes() {
    for seed in seeds(150, 20) {
        let mut rng = Rng::with_seed(seed.value());
        let model = Model::new(vec![vec![None]; SECTORS as usize]);
        let mut sim = Sim::new(rng.u64(..));
        let sim_disk = SimDisk::new(SimOptions::new(1, 512, rng.u64(..)), sim.clock());
        let store = Disk::new(sim_disk.clone()).unwrap();
        let mut options = FormatOptions::new(SECTORS);
        options.stripe_sectors = Some(8);
        options.log_blocks = Some(rng.u32(2..6));
        let made = sim.block_on(format(&store, &options));
        made.unwrap().unwrap();
        for _ in 0..3 {
            let fate = Fate::DroppedAfter(rng.u32(0..150));
            let mut rng = Rng::with_seed(rng.u64(..));
            let graveyard = Graveyard::default();
            let lived = Fated::new(session(store.clone(), &model, &mut rng), fate, &graveyard);
            let ending = sim.block_on(lived).unwrap();
            assert!(!matches!(ending, Ending::Forgotten));
            for image in sim_disk.crash().images(16, 7) {
                check(image, &model);
            }
        }
    }
}
