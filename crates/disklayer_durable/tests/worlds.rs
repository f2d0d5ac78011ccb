//! Durable layers in worlds: under faults and crashes, alone, over others, as caches, and as copies.

use disk_backend::Disk;
use disk_contract::{Stores, Suite, Violation, World, seeds};
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disk_sim::SimOptions;
use disklayer_durable::{DurableLayer, DurableOptions, FormatOptions, Verify, format};

const SECTORS: u64 = 24;

/// So many worlds for each: they are long, and `cargo xtask worlds` tries as many as there is time for.
const WORLDS: u64 = 20;

fn check(build: impl AsyncFn(&mut Stores) -> Disk) -> Result<(), Violation> {
    check_each(|world| world, build)
}

fn check_each(
    change: impl Fn(World) -> World,
    build: impl AsyncFn(&mut Stores) -> Disk,
) -> Result<(), Violation> {
    for seed in seeds(WORLDS, 1) {
        let suite = Suite::new().only_seed(seed.value());
        suite.check_each_world(&change, &build)?;
    }
    Ok(())
}

async fn durable(stores: &mut Stores, change: impl FnOnce(&mut SimOptions)) -> DurableLayer {
    durable_that(stores, Verify::Metadata, 64, change).await
}

/// A layer with tiny stripes, on a store that is formatted once.
async fn durable_that(
    stores: &mut Stores,
    verify: Verify,
    close_after_flushes: u64,
    change: impl FnOnce(&mut SimOptions),
) -> DurableLayer {
    let sector_size = stores.sector_size();
    let mut options = FormatOptions::new(SECTORS);
    options.verify = verify;
    options.stripe_sectors = Some(4096 / sector_size);
    options.log_blocks = Some(3);
    options.layer_id = Some([7; 16]);
    let store = Disk::new(stores.disk(1, change)).unwrap();
    if !stores.is_after_crash() {
        format(&store, &options).await.unwrap();
    }
    let mut open = DurableOptions::default();
    open.cache_bytes = 0;
    open.close_after_flushes = close_after_flushes;
    let layer = DurableLayer::open(store, &open).await;
    layer.unwrap_or_else(|error| panic!("cannot be opened: {error}"))
}

async fn stack(layers: Vec<LayerConfiguration>) -> Disk {
    let disk = LayeredDisk::new(false, layers).await;
    Disk::new(disk.expect("a legal stack")).expect("a legal disk")
}

fn lower(stores: &mut Stores) -> LayerConfiguration {
    let disk = Disk::new(stores.disk(SECTORS, |_| ())).unwrap();
    LayerConfiguration::new(DiskLayer::from_disk(disk))
}

async fn over_lower(stores: &mut Stores, read_cache: bool, write_through: bool) -> Disk {
    let layer = durable(stores, |_| ()).await;
    over_lower_with(stores, layer, read_cache, write_through).await
}

async fn over_lower_with(
    stores: &mut Stores,
    layer: DurableLayer,
    read_cache: bool,
    write_through: bool,
) -> Disk {
    let mut top = LayerConfiguration::new(DiskLayer::new(layer));
    (top.read_cache, top.write_through) = (read_cache, write_through);
    let lower = lower(stores);
    stack(vec![top, lower]).await
}

#[test]
fn a_durable_layer_alone_keeps_the_contract_in_worlds() -> Result<(), Violation> {
    check(async |stores| {
        let layer = durable(stores, |_| ()).await;
        stack(vec![LayerConfiguration::new(DiskLayer::new(layer))]).await
    })
}

#[test]
fn a_durable_layer_on_a_store_without_fua_whose_unmap_does_nothing_keeps_it()
-> Result<(), Violation> {
    check(async |stores| {
        let layer = durable(stores, |options| {
            options.is_fua_respected = false;
            options.unmap_behavior = disk_backend::UnmapBehavior::Ignored;
            options.atomic_write_sectors = 4;
        });
        let layer = layer.await;
        stack(vec![LayerConfiguration::new(DiskLayer::new(layer))]).await
    })
}

#[test]
fn a_durable_layer_on_a_store_that_refuses_after_a_failed_flush_keeps_it() -> Result<(), Violation>
{
    check_each(World::that_may_refuse_changes, async |stores| {
        let layer = durable(stores, |options| options.refuses_after_failed_flush = true).await;
        stack(vec![LayerConfiguration::new(DiskLayer::new(layer))]).await
    })
}

#[test]
fn an_overlay_keeps_the_contract_in_worlds() -> Result<(), Violation> {
    check(async |stores| over_lower(stores, false, false).await)
}

#[test]
fn a_cache_that_is_written_keeps_the_contract_in_worlds() -> Result<(), Violation> {
    check(async |stores| over_lower(stores, true, false).await)
}

#[test]
fn a_write_through_cache_keeps_the_contract_in_worlds() -> Result<(), Violation> {
    check_each(World::with_copies_that_stay, async |stores| {
        over_lower(stores, true, true).await
    })
}

/// Closed at each flush, now and then, or only when there is no more room.
const CLOSED_AFTER: [u64; 3] = [1, 3, 64];

#[test]
fn a_layer_that_verifies_its_data_keeps_the_contract_in_worlds() -> Result<(), Violation> {
    for after in CLOSED_AFTER {
        check(async |stores| {
            let layer = durable_that(stores, Verify::Data, after, |_| ()).await;
            stack(vec![LayerConfiguration::new(DiskLayer::new(layer))]).await
        })?;
    }
    Ok(())
}

#[test]
fn one_that_verifies_on_a_store_without_fua_whose_unmap_does_nothing_keeps_it()
-> Result<(), Violation> {
    check(async |stores| {
        let layer = durable_that(stores, Verify::Data, 2, |options| {
            options.is_fua_respected = false;
            options.unmap_behavior = disk_backend::UnmapBehavior::Ignored;
            options.atomic_write_sectors = 4;
        });
        let layer = layer.await;
        stack(vec![LayerConfiguration::new(DiskLayer::new(layer))]).await
    })
}

#[test]
fn an_overlay_that_verifies_its_data_keeps_the_contract_in_worlds() -> Result<(), Violation> {
    check(async |stores| {
        let layer = durable_that(stores, Verify::Data, 2, |_| ()).await;
        over_lower_with(stores, layer, false, false).await
    })
}

#[test]
fn caches_that_verify_their_data_keep_the_contract_in_worlds() -> Result<(), Violation> {
    check(async |stores| {
        let layer = durable_that(stores, Verify::Data, 2, |_| ()).await;
        over_lower_with(stores, layer, true, false).await
    })?;
    check_each(World::with_copies_that_stay, async |stores| {
        let layer = durable_that(stores, Verify::Data, 2, |_| ()).await;
        over_lower_with(stores, layer, true, true).await
    })
}
