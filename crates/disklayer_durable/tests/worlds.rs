//! Durable layers in worlds: under faults and crashes, alone, over others, as caches, and as copies.

use disk_backend::Disk;
use disk_contract::{Stores, Suite, Violation, World};
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disk_sim::SimOptions;
use disklayer_durable::{DurableLayer, DurableOptions, FormatOptions, format};

const SECTORS: u64 = 24;

/// A layer with tiny stripes, on a store that is formatted once.
async fn durable(stores: &mut Stores, change: impl FnOnce(&mut SimOptions)) -> DurableLayer {
    let sector_size = stores.sector_size();
    let mut options = FormatOptions::new(SECTORS);
    options.stripe_sectors = Some(4096 / sector_size);
    options.log_blocks = Some(3);
    options.layer_id = Some([7; 16]);
    let store = Disk::new(stores.disk(1, change)).unwrap();
    if !stores.is_after_crash() {
        format(&store, &options).await.unwrap();
    }
    let mut open = DurableOptions::default();
    open.cache_bytes = 0;
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
    let mut top = LayerConfiguration::new(DiskLayer::new(layer));
    (top.read_cache, top.write_through) = (read_cache, write_through);
    let lower = lower(stores);
    stack(vec![top, lower]).await
}

#[test]
fn a_durable_layer_alone_keeps_the_contract_in_worlds() -> Result<(), Violation> {
    Suite::new().check_worlds(async |stores| {
        let layer = durable(stores, |_| ()).await;
        stack(vec![LayerConfiguration::new(DiskLayer::new(layer))]).await
    })?;
    Ok(())
}

#[test]
fn a_durable_layer_on_a_store_without_fua_whose_unmap_does_nothing_keeps_it()
-> Result<(), Violation> {
    Suite::new().check_worlds(async |stores| {
        let layer = durable(stores, |options| {
            options.is_fua_respected = false;
            options.unmap_behavior = disk_backend::UnmapBehavior::Ignored;
            options.atomic_write_sectors = 4;
        });
        let layer = layer.await;
        stack(vec![LayerConfiguration::new(DiskLayer::new(layer))]).await
    })?;
    Ok(())
}

#[test]
fn a_durable_layer_on_a_store_that_refuses_after_a_failed_flush_keeps_it() -> Result<(), Violation>
{
    Suite::new().check_each_world(World::that_may_refuse_changes, async |stores| {
        let layer = durable(stores, |options| options.refuses_after_failed_flush = true).await;
        stack(vec![LayerConfiguration::new(DiskLayer::new(layer))]).await
    })?;
    Ok(())
}

#[test]
fn an_overlay_keeps_the_contract_in_worlds() -> Result<(), Violation> {
    Suite::new().check_worlds(async |stores| over_lower(stores, false, false).await)?;
    Ok(())
}

#[test]
fn a_cache_that_is_written_keeps_the_contract_in_worlds() -> Result<(), Violation> {
    Suite::new().check_worlds(async |stores| over_lower(stores, true, false).await)?;
    Ok(())
}

#[test]
fn a_write_through_cache_keeps_the_contract_in_worlds() -> Result<(), Violation> {
    Suite::new().check_each_world(World::with_copies_that_stay, async |stores| {
        over_lower(stores, true, true).await
    })?;
    Ok(())
}
