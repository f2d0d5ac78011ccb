//! Layers on stores in memory.
#![allow(dead_code, reason = "each test uses a part of it")]

use disk_backend::Disk;
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disklayer_durable::{DurableLayer, DurableOptions, FormatOptions, format};
use disklayer_ram::RamDiskLayer;

/// A store of so many sectors, in memory, that can grow.
pub(crate) async fn store(sector_count: u64, sector_size: u32) -> Disk {
    let size = sector_count * u64::from(sector_size);
    let ram = RamDiskLayer::new_with_sector_size(size, sector_size).unwrap();
    let layers = vec![LayerConfiguration::new(DiskLayer::new(ram))];
    Disk::new(LayeredDisk::new(false, layers).await.unwrap()).unwrap()
}

/// A layer with stripes as short as they can be, a short log, and few pages in memory.
pub(crate) fn tight(sector_count: u64, sector_size: u32) -> FormatOptions {
    let mut options = FormatOptions::new(sector_count);
    options.stripe_sectors = Some(4096 / sector_size);
    options.log_blocks = Some(3);
    options
}

pub(crate) fn few_pages() -> DurableOptions {
    let mut options = DurableOptions::default();
    options.cache_bytes = 0;
    options
}

pub(crate) async fn layer_on(
    store: &Disk,
    options: &FormatOptions,
    open: &DurableOptions,
) -> DurableLayer {
    format(store, options).await.unwrap();
    DurableLayer::open(store.clone(), open).await.unwrap()
}
