//! Stacks whose layers are under a script, in sectors that hold one byte each.

#![allow(dead_code, reason = "each test program uses its part")]

use disk_backend::{Disk, DiskError};
use disk_contract::{LayerSpec, ReferenceLayer, ScriptedLayer};
use disk_layered::{
    DiskLayer, LayerConfiguration, LayerIo, LayeredDisk, SectorBitmap, SectorMarker,
};
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;

pub(crate) const SECTORS: u64 = 16;
pub(crate) const SECTOR_BYTES: usize = 512;

pub(crate) fn layer() -> ScriptedLayer {
    ScriptedLayer::new(ReferenceLayer::new(LayerSpec::new(
        SECTORS,
        SECTOR_BYTES as u32,
    )))
}

/// A layer whose sector `n` holds the byte `n + 1`.
pub(crate) fn base() -> ScriptedLayer {
    let base = layer();
    for sector in 0..SECTORS {
        let bytes = [sector as u8 + 1; SECTOR_BYTES];
        let host = HostBuffers::from_ref(&bytes);
        block_on(base.inner().write(&host.buffers(), sector, false)).unwrap();
    }
    base
}

pub(crate) fn cache(layer: impl LayerIo) -> LayerConfiguration {
    LayerConfiguration {
        read_cache: true,
        ..LayerConfiguration::new(DiskLayer::new(layer))
    }
}

pub(crate) fn plain(layer: impl LayerIo) -> LayerConfiguration {
    LayerConfiguration::new(DiskLayer::new(layer))
}

pub(crate) fn disk(layers: Vec<LayerConfiguration>) -> Disk {
    Disk::new(block_on(LayeredDisk::new(false, layers)).unwrap()).unwrap()
}

pub(crate) async fn read(disk: &Disk, sector: u64, count: usize) -> Result<Vec<u8>, DiskError> {
    let mut bytes = vec![0xee; count * SECTOR_BYTES];
    let host = HostBuffers::from_mut(&mut bytes);
    disk.read_vectored(&host.buffers(), sector).await?;
    drop(host);
    // One byte stands for its sector, whose bytes are all the same.
    let sectors = bytes.chunks(SECTOR_BYTES);
    Ok(sectors
        .map(|sector| {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "torn");
            sector[0]
        })
        .collect())
}

pub(crate) async fn write(disk: &Disk, sector: u64, bytes: &[u8]) -> Result<(), DiskError> {
    let bytes: Vec<u8> = bytes
        .iter()
        .flat_map(|byte| [*byte; SECTOR_BYTES])
        .collect();
    let host = HostBuffers::from_ref(&bytes);
    disk.write_vectored(&host.buffers(), sector, false).await
}

/// A copy of what lies below.
pub(crate) fn through(layer: impl LayerIo) -> LayerConfiguration {
    LayerConfiguration {
        write_through: true,
        ..LayerConfiguration::new(DiskLayer::new(layer))
    }
}

/// A copy of what lies below that is also filled by reads.
pub(crate) fn through_cache(layer: impl LayerIo) -> LayerConfiguration {
    LayerConfiguration {
        read_cache: true,
        ..through(layer)
    }
}

/// What a layer holds by itself; none for absent sectors.
pub(crate) fn holds(layer: &impl LayerIo, sector: u64, count: usize) -> Vec<Option<u8>> {
    (sector..sector + count as u64)
        .map(|sector| {
            let mut bytes = [0; SECTOR_BYTES];
            let host = HostBuffers::from_mut(&mut bytes);
            let mut found = SectorBitmap::new(1);
            let marker = SectorMarker::new(&mut found, sector, sector..sector + 1);
            block_on(layer.read(&host.buffers(), sector, marker)).unwrap();
            drop(host);
            found.is_full().then_some(bytes[0])
        })
        .collect()
}

pub(crate) fn counter(disk: &Disk, layer: usize, name: &str) -> u64 {
    let path = format!("layers/{layer}/counters/{name}");
    let value = block_on(inspect::inspect(&path, None, disk)).unwrap();
    value.as_u64().unwrap()
}
