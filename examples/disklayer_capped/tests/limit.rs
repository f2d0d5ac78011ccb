//! What the limit means, to a guest and to a cache.

use disk_backend::{Disk, DiskError};
use disk_layered::{DiskLayer, LayerConfiguration, LayerIo, LayeredDisk};
use disklayer_capped::{CappedLayer, LazyCappedLayer};
use disklayer_ram::ram_disk;
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;

/// Room for eight sectors, each with its entry in a map, and for the runs that they are in.
const LIMIT: u64 = 8 * (512 + 64) + 2 * 64;

async fn write(disk: &Disk, sector: u64, count: usize) -> Result<(), DiskError> {
    let bytes = vec![0x77; count * 512];
    disk.write_vectored(&HostBuffers::from_ref(&bytes).buffers(), sector, false)
        .await
}

async fn read(disk: &Disk, sector: u64) -> u8 {
    let mut bytes = [0xee; 512];
    disk.read_vectored(&HostBuffers::from_mut(&mut bytes).buffers(), sector)
        .await
        .unwrap();
    bytes[0]
}

/// A stack of a capped layer over an image whose every sector reads 0x33.
async fn over_an_image(read_cache: bool, layer: LazyCappedLayer) -> Disk {
    let image = ram_disk(64 * 512, false).unwrap();
    let bytes = [0x33; 64 * 512];
    image
        .write_vectored(&HostBuffers::from_ref(&bytes).buffers(), 0, false)
        .await
        .unwrap();
    let mut top = LayerConfiguration::new(DiskLayer::new(layer));
    top.read_cache = read_cache;
    let base = LayerConfiguration::new(DiskLayer::from_disk(image));
    Disk::new(LayeredDisk::new(false, vec![top, base]).await.unwrap()).unwrap()
}

fn held(disk: &Disk) -> u64 {
    let held = inspect::inspect("layers/0/backing/held_bytes", None, disk);
    block_on(held).unwrap().as_u64().unwrap()
}

#[test]
fn writes_beyond_the_limit_have_no_space_until_something_is_discarded() {
    block_on(async {
        let disk = over_an_image(false, LazyCappedLayer { limit: LIMIT }).await;
        write(&disk, 0, 8).await.unwrap();
        assert!(matches!(write(&disk, 20, 1).await, Err(DiskError::NoSpace)));
        assert_eq!(read(&disk, 20).await, 0x33);
        write(&disk, 0, 8)
            .await
            .expect("writing over what is held takes nothing");
        disk.unmap(3, 1, false).await.unwrap();
        assert_eq!(read(&disk, 3).await, 0);
        write(&disk, 20, 1).await.unwrap();
        assert_eq!(read(&disk, 20).await, 0x77);
        assert!(held(&disk) <= LIMIT);
    });
}

#[test]
fn a_request_that_does_not_fit_changes_nothing() {
    block_on(async {
        let disk = over_an_image(false, LazyCappedLayer { limit: LIMIT }).await;
        assert!(matches!(write(&disk, 0, 9).await, Err(DiskError::NoSpace)));
        assert_eq!((read(&disk, 0).await, held(&disk)), (0x33, 0));
    });
}

#[test]
fn explicit_zeros_count() {
    block_on(async {
        let disk = over_an_image(false, LazyCappedLayer { limit: 3 * 64 }).await;
        for sector in [0, 10, 20] {
            disk.unmap(sector, 5, false).await.unwrap();
        }
        assert!(matches!(
            disk.unmap(30, 1, false).await,
            Err(DiskError::NoSpace)
        ));
        disk.unmap(0, 64, false)
            .await
            .expect("one run takes less than three");
        assert_eq!(held(&disk), 64);
    });
}

#[test]
fn a_full_cache_keeps_what_it_has_and_fails_nobody() {
    block_on(async {
        let disk = over_an_image(true, LazyCappedLayer { limit: LIMIT }).await;
        for sector in 0..64 {
            assert_eq!(read(&disk, sector).await, 0x33);
        }
        assert_eq!(held(&disk), 8 * (512 + 64) + 64);
    });
}

#[test]
fn a_lower_limit_stops_writes_and_not_discards() {
    block_on(async {
        let disk = over_an_image(false, LazyCappedLayer { limit: LIMIT }).await;
        write(&disk, 0, 8).await.unwrap();
        inspect::update("layers/0/backing/limit_bytes", "1000", &disk)
            .await
            .unwrap();
        assert!(matches!(write(&disk, 20, 1).await, Err(DiskError::NoSpace)));
        disk.unmap(0, 8, false).await.unwrap();
        write(&disk, 20, 1).await.unwrap();
    });
}

#[test]
fn it_takes_the_size_of_what_lies_below_and_says_so_if_there_is_nothing() {
    let disk = block_on(over_an_image(false, LazyCappedLayer { limit: LIMIT }));
    assert_eq!((disk.sector_count(), disk.sector_size()), (64, 512));
    let layers = vec![LayerConfiguration::new(DiskLayer::new(LazyCappedLayer {
        limit: LIMIT,
    }))];
    let error = block_on(LayeredDisk::new(false, layers)).unwrap_err();
    let mut whole = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        whole += &format!(": {error}");
        cause = error.source();
    }
    assert!(whole.contains("there is nothing: add a layer"), "{whole}");
}

#[test]
fn a_status_names_what_is_held_and_what_is_not() {
    block_on(async {
        let layer = CappedLayer::new(64, 512, 1 << 20);
        let bytes = [1; 1024];
        let buffers = HostBuffers::from_ref(&bytes);
        layer.write(&buffers.buffers(), 10, false).await.unwrap();
        layer.unmap(12, 4, false, false).await.unwrap();
        let absent = |sector_count| disk_layered::LayerStatus::Absent { sector_count };
        assert_eq!(layer.layer_status(0, 64).await.unwrap(), absent(10));
        assert_eq!(layer.layer_status(16, 48).await.unwrap(), absent(48));
        let disk_layered::LayerStatus::Present(status) = layer.layer_status(10, 54).await.unwrap()
        else {
            panic!("sector 10 is present");
        };
        let runs: Vec<_> = status
            .extents()
            .iter()
            .map(|run| (run.sector_count, run.state))
            .collect();
        use disk_backend::BlockState::{Data, Hole};
        assert_eq!(runs, [(2, Data), (4, Hole)]);
    });
}
