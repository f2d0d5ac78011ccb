//! A durable layer whose power is cut at each step.

use disk_backend::Disk;
use disk_layered::{LayerIo, SectorBitmap, SectorMarker};
use disk_sim::{Image, Sim, SimDisk, SimOptions};
use disklayer_durable::{DurableLayer, DurableOptions, FormatOptions, Verify, format};
use scsi_buffers::HostBuffers;
use std::cell::{Cell, OnceCell};

const SECTOR_BYTES: usize = 512;

/// What no sector holds.
const WRONG: u8 = 0xff;

/// The sectors that are written, each in a stripe of its own.
const WRITTEN: [u64; 2] = [0, 8];

/// How many images of each step are looked at.
const IMAGES: usize = 32;

fn options() -> SimOptions {
    SimOptions::new(1, SECTOR_BYTES as u32, 7)
}

async fn write(layer: &DurableLayer, sector: u64) {
    write_byte(layer, sector, sector as u8 + 1).await;
}

async fn write_byte(layer: &DurableLayer, sector: u64, byte: u8) {
    let data = [byte; SECTOR_BYTES];
    let host = HostBuffers::from_ref(&data);
    layer.write(&host.buffers(), sector, false).await.unwrap();
}

/// What a sector holds, if it is there; something else if it cannot be read, or is torn.
async fn read(layer: &DurableLayer, sector: u64) -> Option<u8> {
    let mut data = [0xee; SECTOR_BYTES];
    let mut present = SectorBitmap::new(1);
    let host = HostBuffers::from_mut(&mut data);
    let marker = SectorMarker::new(&mut present, sector, sector..sector + 1);
    let result = layer.read(&host.buffers(), sector, marker).await;
    drop(host);
    if result.is_err() {
        return Some(WRONG);
    }
    let is_one = data.iter().all(|byte| *byte == data[0]);
    present
        .is_full()
        .then_some(if is_one { data[0] } else { WRONG })
}

/// Whether a layer is left in which so many of the sectors are for certain, and the others there or absent.
fn is_right(image: Image, flushed: u64) -> bool {
    let sector_is_right = |index: u64, sector: u64, found: Option<u8>| {
        let is_there = found == Some(sector as u8 + 1);
        is_there || found.is_none() && index >= flushed
    };
    holds(image, sector_is_right)
}

/// Whether a layer is left whose sectors, each with its index, are right.
fn holds(image: Image, is_right: impl Fn(u64, u64, Option<u8>) -> bool) -> bool {
    let mut sim = Sim::new(7);
    let store = SimDisk::from_image(image, options(), sim.clock());
    let looked = sim.block_on(async {
        let store = Disk::new(store).unwrap();
        let Ok(layer) = DurableLayer::open(store, &DurableOptions::default()).await else {
            return false;
        };
        for (index, sector) in (0..).zip(WRITTEN) {
            if !is_right(index, sector, read(&layer, sector).await) {
                return false;
            }
        }
        true
    });
    looked.unwrap()
}

/// Whether everything that a power cut can leave is right, while two sectors are written and flushed, one after the other.
pub(crate) fn survives_power_cuts() -> bool {
    // Declared first: a task borrows it.
    let (flushed, layer) = (Cell::new(0), OnceCell::new());
    let mut sim = Sim::new(7);
    let sim_disk = SimDisk::new(options(), sim.clock());
    let layer = layer.get_or_init(|| made(&mut sim, &sim_disk, Verify::Metadata));
    sim.spawn("writes", async {
        for (index, sector) in (1..).zip(WRITTEN) {
            write(layer, sector).await;
            layer.sync_cache().await.unwrap();
            flushed.set(index);
        }
    });
    all_images(&mut sim, &sim_disk, |image| is_right(image, flushed.get()))
}

/// Whether everything that a power cut can leave is right, while data is written over in a layer that verifies it.
pub(crate) fn survives_power_cuts_of_overwrites() -> bool {
    let layer = OnceCell::new();
    let mut sim = Sim::new(7);
    let sim_disk = SimDisk::new(options(), sim.clock());
    let layer = layer.get_or_init(|| made(&mut sim, &sim_disk, Verify::Data));
    sim.block_on(async {
        for sector in WRITTEN {
            write(layer, sector).await;
        }
        layer.sync_cache().await.unwrap();
    })
    .unwrap();
    sim.spawn("writes", async {
        for sector in WRITTEN {
            write_byte(layer, sector, sector as u8 + 0x41).await;
        }
        layer.sync_cache().await.unwrap();
    });
    let old_or_new = |_, sector: u64, found: Option<u8>| {
        [sector as u8 + 1, sector as u8 + 0x41]
            .map(Some)
            .contains(&found)
    };
    all_images(&mut sim, &sim_disk, |image| holds(image, old_or_new))
}

/// Whether what was flushed is there after a power cut, of sectors that were written over after a flush that left copies of them in the log.
pub(crate) fn survives_power_cuts_after_first_writes() -> bool {
    let (flushed, layer) = (Cell::new(0), OnceCell::new());
    let mut sim = Sim::new(7);
    let sim_disk = SimDisk::new(options(), sim.clock());
    let layer = layer.get_or_init(|| made(&mut sim, &sim_disk, Verify::Metadata));
    sim.spawn("writes", async {
        for (index, sector) in (1..).zip(WRITTEN) {
            write_byte(layer, sector, sector as u8 + 0x41).await;
            layer.sync_cache().await.unwrap();
            write(layer, sector).await;
            layer.sync_cache().await.unwrap();
            flushed.set(index);
        }
    });
    let newest_if_flushed = |index, sector: u64, found: Option<u8>| {
        let is_newest = found == Some(sector as u8 + 1);
        let is_older = [None, Some(sector as u8 + 0x41)].contains(&found);
        is_newest || is_older && index >= flushed.get()
    };
    all_images(&mut sim, &sim_disk, |image| holds(image, newest_if_flushed))
}

fn made(sim: &mut Sim, store: &SimDisk, verify: Verify) -> DurableLayer {
    let store = Disk::new(store.clone()).unwrap();
    let opened = sim.block_on(async {
        let mut options = FormatOptions::new(16);
        options.stripe_sectors = Some(8);
        options.log_blocks = Some(3);
        options.verify = verify;
        format(&store, &options).await.unwrap();
        DurableLayer::open(store.clone(), &DurableOptions::default()).await
    });
    opened.unwrap().unwrap()
}

/// Whether all images of all steps are right, until everything is done.
fn all_images(sim: &mut Sim<'_>, sim_disk: &SimDisk, is_right: impl Fn(Image) -> bool) -> bool {
    let mut seed = 0;
    loop {
        let is_over = matches!(sim.step().unwrap(), disk_sim::Step::Done);
        seed += 1;
        let images = sim_disk.crash().images(IMAGES, seed);
        if !images.into_iter().all(&is_right) {
            return false;
        }
        if is_over {
            return true;
        }
    }
}
