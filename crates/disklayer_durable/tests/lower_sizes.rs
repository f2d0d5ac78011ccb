//! A disk below that shrinks, and grows again while nobody looks (L5).

mod common;

use common::{read_disk, tight, write_disk};
use disk_backend::Disk;
use disk_contract::{DiskSpec, ProbeDisk, ProbeLog, ReferenceDisk};
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disklayer_durable::{LazyDurableLayer, Role, info};
use disklayer_ram::LazyRamDiskLayer;
use futures_lite::future::block_on;

/// A disk of ones.
fn ones(sector_count: u64) -> Disk {
    let mut spec = DiskSpec::new(sector_count, 512);
    spec.content.fill(1);
    Disk::new(ReferenceDisk::new(spec)).unwrap()
}

/// A store that is persistent, so that it is flushed.
fn store() -> Disk {
    let probe = ProbeDisk::new(DiskSpec::new(1, 512), &ProbeLog::default());
    Disk::new(probe).unwrap()
}

fn durable(store: &Disk, role: Role) -> LayerConfiguration {
    let mut options = tight(0, 512);
    options.role = role;
    let lazy = LazyDurableLayer::new(store.clone()).with_role(role);
    LayerConfiguration {
        layer: DiskLayer::new(lazy.created(options)),
        read_cache: role == Role::ReadCache,
        write_through: role == Role::WriteThrough,
    }
}

async fn stack(mut layers: Vec<LayerConfiguration>, lower: &Disk) -> Disk {
    let lower = DiskLayer::from_disk(lower.clone());
    layers.push(LayerConfiguration::new(lower));
    Disk::new(LayeredDisk::new(false, layers).await.unwrap()).unwrap()
}

/// The caches between an overlay and its base.
async fn between(number: usize, cache: &Disk) -> Vec<LayerConfiguration> {
    let mut ram = LayerConfiguration::new(DiskLayer::new(LazyRamDiskLayer::new()));
    ram.read_cache = true;
    match number {
        0 => vec![],
        1 => vec![ram],
        2 => vec![durable(cache, Role::ReadCache)],
        _ => vec![ram, durable(cache, Role::ReadCache)],
    }
}

#[test]
fn what_a_base_has_lost_reads_zero_also_after_a_restart_when_it_is_back() {
    block_on(async {
        for number in 0..4 {
            for is_closed in [false, true] {
                let (overlay, cache) = (store(), store());
                let open = async |lower: &Disk| {
                    let mut layers = vec![durable(&overlay, Role::Overlay)];
                    layers.extend(between(number, &cache).await);
                    stack(layers, lower).await
                };
                let lower = ones(100);
                let disk = open(&lower).await;
                assert_eq!(read_disk(&disk, 60).await, 1);
                lower.resize(50).await.unwrap();
                assert_eq!(read_disk(&disk, 70).await, 0);
                write_disk(&disk, 80, 5).await;
                // With nothing written since, there is still something to be flushed.
                disk.sync_cache().await.unwrap();
                lower.resize(40).await.unwrap();
                assert_eq!(read_disk(&disk, 45).await, 0);
                match is_closed {
                    true => disk.close().await.unwrap(),
                    false => disk.sync_cache().await.unwrap(),
                }
                drop(disk);
                assert_eq!(
                    info(&overlay).await.unwrap().shown_below,
                    40,
                    "{number} {is_closed}"
                );
                let disk = open(&ones(100)).await;
                let found = [39, 45, 60, 70, 80].map(|sector| block_on(read_disk(&disk, sector)));
                assert_eq!(found, [1, 0, 0, 0, 5], "{number}");
            }
        }
    });
}

/// What it does not have is the truth's.
#[test]
fn a_copy_keeps_no_mark() {
    block_on(async {
        let cache = store();
        let lower = ones(100);
        let disk = stack(vec![durable(&cache, Role::WriteThrough)], &lower).await;
        lower.resize(50).await.unwrap();
        assert_eq!(read_disk(&disk, 70).await, 0);
        disk.close().await.unwrap();
        drop(disk);
        assert_eq!(info(&cache).await.unwrap().shown_below, 100);
        let disk = stack(vec![durable(&cache, Role::WriteThrough)], &ones(100)).await;
        assert_eq!(read_disk(&disk, 70).await, 1);
    });
}

/// A layer between that may have more than what lay below shows it.
#[test]
fn what_a_layer_between_holds_beyond_the_end_of_the_base_stays() {
    block_on(async {
        let (overlay, middle) = (store(), store());
        let disk = stack(vec![durable(&middle, Role::Overlay)], &ones(100)).await;
        write_disk(&disk, 60, 7).await;
        disk.close().await.unwrap();
        drop(disk);
        let lower = ones(100);
        let layers = || {
            vec![
                durable(&overlay, Role::Overlay),
                durable(&middle, Role::Overlay),
            ]
        };
        let disk = stack(layers(), &lower).await;
        lower.resize(50).await.unwrap();
        let found = [read_disk(&disk, 60).await, read_disk(&disk, 70).await];
        assert_eq!(found, [7, 0]);
        disk.close().await.unwrap();
        drop(disk);
        assert_eq!(info(&overlay).await.unwrap().shown_below, 100);
        let disk = stack(layers(), &ones(100)).await;
        let found = [40, 60, 70].map(|sector| block_on(read_disk(&disk, sector)));
        assert_eq!(found, [1, 7, 0]);
    });
}
