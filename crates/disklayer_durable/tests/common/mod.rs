//! Layers on stores in memory: how they are made, written, read and spoilt.
//!
//! A sector that is written holds one byte all over, by which it is known again.
#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod logged;
pub(crate) mod verified;

use clock::Clock;
use disk_backend::{Disk, DiskError};
use disk_fault::{Action, FaultDisk, FaultOptions, InjectedError, Operation, Rule};
use disk_layered::{
    DiskLayer, LayerConfiguration, LayerIo, LayeredDisk, SectorBitmap, SectorMarker,
};
use disklayer_durable::{
    CheckReport, DurableLayer, DurableOptions, FormatOptions, OpenError, check, format,
};
use disklayer_ram::RamDiskLayer;
use scsi_buffers::HostBuffers;
use std::ops::{ControlFlow, Range};

/// A stack of nothing but memory, of so many sectors, that can grow.
pub(crate) async fn memory(sector_count: u64, sector_size: u32) -> LayeredDisk {
    let size = sector_count * u64::from(sector_size);
    let ram = RamDiskLayer::new_with_sector_size(size, sector_size).unwrap();
    let layers = vec![LayerConfiguration::new(DiskLayer::new(ram))];
    LayeredDisk::new(false, layers).await.unwrap()
}

/// A store of so many sectors, in memory, that can grow.
pub(crate) async fn store(sector_count: u64, sector_size: u32) -> Disk {
    Disk::new(memory(sector_count, sector_size).await).unwrap()
}

/// A store that cannot read some of its sectors, whatever is written there; the store itself can.
pub(crate) async fn with_unreadable(store: &Disk, sectors: Range<u64>) -> Disk {
    let (faulty, control) =
        FaultDisk::new(store.clone(), FaultOptions::new(7, Clock::real())).unwrap();
    let rule = Rule::new(Action::Error(InjectedError::UnrecoveredReadError));
    let rule = rule.on([Operation::Read]);
    let rule = rule.sectors(sectors.start, sectors.end - sectors.start);
    control.add(rule).unwrap();
    Disk::new(faulty).unwrap()
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

pub(crate) async fn try_open(store: &Disk) -> Result<DurableLayer, OpenError> {
    DurableLayer::open(store.clone(), &few_pages()).await
}

pub(crate) async fn open(store: &Disk) -> DurableLayer {
    try_open(store).await.unwrap()
}

/// For what asks between two stripes whether to go on.
pub(crate) fn watched(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

pub(crate) async fn report(store: &Disk) -> CheckReport {
    check(store, watched).await.unwrap()
}

pub(crate) async fn try_write(
    layer: &impl LayerIo,
    sector: u64,
    byte: u8,
) -> Result<(), DiskError> {
    let data = vec![byte; layer.sector_size() as usize];
    let host = HostBuffers::from_ref(&data);
    layer.write(&host.buffers(), sector, false).await
}

pub(crate) async fn write(layer: &impl LayerIo, sector: u64, byte: u8) {
    try_write(layer, sector, byte).await.unwrap();
}

/// All that a sector holds; nothing if it is absent.
pub(crate) async fn try_read_all(
    layer: &impl LayerIo,
    sector: u64,
) -> Result<Option<Vec<u8>>, DiskError> {
    let mut data = vec![0xee; layer.sector_size() as usize];
    let mut present = SectorBitmap::new(1);
    let host = HostBuffers::from_mut(&mut data);
    let marker = SectorMarker::new(&mut present, sector, sector..sector + 1);
    layer.read(&host.buffers(), sector, marker).await?;
    drop(host);
    Ok(present.is_full().then_some(data))
}

/// The first byte of a sector.
pub(crate) async fn try_read(layer: &impl LayerIo, sector: u64) -> Result<Option<u8>, DiskError> {
    let data = try_read_all(layer, sector).await?;
    Ok(data.map(|data| data[0]))
}

pub(crate) async fn read(layer: &impl LayerIo, sector: u64) -> Option<u8> {
    try_read(layer, sector).await.unwrap()
}

pub(crate) async fn content(layer: &impl LayerIo) -> Vec<Option<u8>> {
    let mut all = Vec::new();
    for sector in 0..layer.sector_count() {
        all.push(read(layer, sector).await);
    }
    all
}

pub(crate) async fn try_write_disk(disk: &Disk, sector: u64, byte: u8) -> Result<(), DiskError> {
    let data = vec![byte; disk.sector_size() as usize];
    let host = HostBuffers::from_ref(&data);
    disk.write_vectored(&host.buffers(), sector, false).await
}

pub(crate) async fn write_disk(disk: &Disk, sector: u64, byte: u8) {
    try_write_disk(disk, sector, byte).await.unwrap();
}

pub(crate) async fn try_read_disk(disk: &Disk, sector: u64) -> Result<u8, DiskError> {
    let mut data = vec![0xee; disk.sector_size() as usize];
    let host = HostBuffers::from_mut(&mut data);
    disk.read_vectored(&host.buffers(), sector).await?;
    drop(host);
    Ok(data[0])
}

pub(crate) async fn read_disk(disk: &Disk, sector: u64) -> u8 {
    try_read_disk(disk, sector).await.unwrap()
}

/// What a store has from this byte on, which begins a sector.
pub(crate) async fn bytes_at(store: &Disk, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let host = HostBuffers::from_mut(&mut bytes);
    let sector = offset >> store.sector_shift();
    store.read_vectored(&host.buffers(), sector).await.unwrap();
    drop(host);
    bytes
}

pub(crate) async fn bytes_of(store: &Disk) -> Vec<u8> {
    bytes_at(
        store,
        0,
        (store.sector_count() << store.sector_shift()) as usize,
    )
    .await
}

/// Writes to a store from this byte on, which begins a sector.
pub(crate) async fn put(store: &Disk, offset: u64, bytes: &[u8]) {
    let host = HostBuffers::from_ref(bytes);
    let sector = offset >> store.sector_shift();
    let written = store.write_vectored(&host.buffers(), sector, false).await;
    written.unwrap();
}

/// Changes one bit of this byte of a store.
pub(crate) async fn flip(store: &Disk, offset: u64) {
    let begin = offset >> store.sector_shift() << store.sector_shift();
    let mut data = bytes_at(store, begin, store.sector_size() as usize).await;
    data[(offset - begin) as usize] ^= 1;
    put(store, begin, &data).await;
}
