//! RAM in worlds: alone, as a cache that is filled, and as one that is written through.

use disk_backend::Disk;
use disk_contract::{Stores, Suite, Violation};
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disklayer_ram::{LazyRamDiskLayer, ram_disk};

async fn cached(stores: &mut Stores, write_through: bool) -> Disk {
    let lower = Disk::new(stores.disk(24, |_| ())).expect("a legal disk");
    let mut cache = LayerConfiguration::new(DiskLayer::new(LazyRamDiskLayer::new()));
    cache.read_cache = true;
    cache.write_through = write_through;
    let layers = vec![cache, LayerConfiguration::new(DiskLayer::from_disk(lower))];
    let disk = LayeredDisk::new(false, layers).await;
    Disk::new(disk.expect("a legal stack")).expect("a legal disk")
}

#[test]
fn ram_keeps_the_contract_in_worlds() -> Result<(), Violation> {
    let suite = Suite::new();
    suite.check_worlds(async |_| ram_disk(24 * 512, false).expect("a legal size"))?;
    suite.check_worlds(async |stores| cached(stores, false).await)?;
    let report = suite.check_worlds(async |stores| cached(stores, true).await)?;
    assert!(report.operation_count > 0);
    Ok(())
}
