//! Stacks whose layers are under a script, in sectors that hold one byte each.

use disk_backend::{Disk, DiskError};
use disk_contract::{LayerSpec, ReferenceLayer, ScriptedLayer};
use disk_layered::{
    DiskLayer, LayerConfiguration, LayerIo, LayeredDisk, SectorBitmap, SectorMarker,
};
use disklayer_ram::RamDiskLayer;
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;

pub(crate) const SECTORS: u64 = 16;
pub(crate) const SECTOR_BYTES: usize = 512;

pub(crate) fn layer() -> ScriptedLayer {
    let spec = LayerSpec::new(SECTORS, SECTOR_BYTES as u32);
    ScriptedLayer::new(ReferenceLayer::new(spec))
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

pub(crate) fn ram() -> RamDiskLayer {
    RamDiskLayer::new(SECTORS * SECTOR_BYTES as u64).unwrap()
}

pub(crate) fn plain(layer: impl LayerIo) -> LayerConfiguration {
    LayerConfiguration::new(DiskLayer::new(layer))
}

/// A layer that keeps what is read from below.
pub(crate) fn cache(layer: impl LayerIo) -> LayerConfiguration {
    LayerConfiguration {
        read_cache: true,
        ..plain(layer)
    }
}

/// A copy of what is written below.
pub(crate) fn through(layer: impl LayerIo) -> LayerConfiguration {
    LayerConfiguration {
        write_through: true,
        ..plain(layer)
    }
}

pub(crate) fn disk(layers: impl Into<Vec<LayerConfiguration>>) -> Disk {
    let stack = block_on(LayeredDisk::new(false, layers.into()));
    Disk::new(stack.unwrap()).unwrap()
}

/// A RAM layer over the base.
pub(crate) fn ram_over_base() -> Disk {
    disk([plain(ram()), plain(base())])
}

pub(crate) async fn read_bytes(
    disk: &Disk,
    sector: u64,
    bytes: &mut [u8; SECTOR_BYTES],
) -> Result<(), DiskError> {
    let host = HostBuffers::from_mut(bytes);
    disk.read_vectored(&host.buffers(), sector).await
}

/// What a sector reads, by its first byte.
pub(crate) async fn read(disk: &Disk, sector: u64) -> Result<u8, DiskError> {
    let mut bytes = [0xee; SECTOR_BYTES];
    read_bytes(disk, sector, &mut bytes).await?;
    Ok(bytes[0])
}

pub(crate) async fn write(disk: &Disk, sector: u64, byte: u8) -> Result<(), DiskError> {
    write_with(disk, sector, byte, false).await
}

pub(crate) async fn write_with(
    disk: &Disk,
    sector: u64,
    byte: u8,
    fua: bool,
) -> Result<(), DiskError> {
    let bytes = [byte; SECTOR_BYTES];
    let host = HostBuffers::from_ref(&bytes);
    disk.write_vectored(&host.buffers(), sector, fua).await
}

/// What a layer holds by itself in a sector; none if that is absent.
pub(crate) fn holds(layer: &ScriptedLayer, sector: u64) -> Option<u8> {
    let mut bytes = [0; SECTOR_BYTES];
    let host = HostBuffers::from_mut(&mut bytes);
    let mut found = SectorBitmap::new(1);
    let marker = SectorMarker::new(&mut found, sector, sector..sector + 1);
    block_on(layer.inner().read(&host.buffers(), sector, marker)).unwrap();
    drop(host);
    found.is_full().then_some(bytes[0])
}
