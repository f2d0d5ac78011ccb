//! What is a legal stack, what is not, and what a legal one says of itself.

use disk_backend::{Disk, DiskError, DiskIo, Persistence, UnmapBehavior};
use disk_contract::{Operation, ScriptedDisk, When};
use disk_layered::{
    DiskLayer, DiskLayerMetadata, InvalidLayer, InvalidLayeredDisk, LayerAttach,
    LayerConfiguration, LayeredDisk,
};
use disklayer_ram::{LazyRamDiskLayer, RamDiskLayer};
use futures_lite::future::{block_on, poll_once};
use inspect::Inspect;
use scsi_buffers::{HostBuffers, RequestBuffers};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const MIB: u64 = 1 << 20;

fn plain(layer: DiskLayer) -> LayerConfiguration {
    LayerConfiguration::new(layer)
}

fn ram(size: u64, sector_size: u32) -> LayerConfiguration {
    plain(DiskLayer::new(
        RamDiskLayer::new_with_sector_size(size, sector_size).unwrap(),
    ))
}

fn build(
    read_only: bool,
    layers: Vec<LayerConfiguration>,
) -> Result<LayeredDisk, InvalidLayeredDisk> {
    block_on(LayeredDisk::new(read_only, layers))
}

/// A disk whose metadata is chosen, whose data is one byte, and that counts its flushes.
#[derive(Debug, Clone, Inspect)]
struct TestDisk {
    sector_size: u32,
    physical_sector_size: u32,
    read_only: bool,
    persistence: Persistence,
    #[inspect(skip)]
    disk_id: Option<[u8; 16]>,
    sector_count: Arc<AtomicU64>,
    #[inspect(skip)]
    flushes: Arc<AtomicUsize>,
    #[inspect(skip)]
    flush_fails: Arc<AtomicUsize>,
}

impl Default for TestDisk {
    fn default() -> Self {
        Self {
            sector_size: 512,
            physical_sector_size: 512,
            read_only: false,
            persistence: Persistence::Persistent,
            disk_id: None,
            sector_count: Arc::new(AtomicU64::new(MIB / 512)),
            flushes: Arc::default(),
            flush_fails: Arc::default(),
        }
    }
}

const FILLING: u8 = 0x5a;

impl DiskIo for TestDisk {
    fn disk_type(&self) -> &str {
        "test"
    }
    fn sector_count(&self) -> u64 {
        self.sector_count.load(Ordering::Relaxed)
    }
    fn sector_size(&self) -> u32 {
        self.sector_size
    }
    fn disk_id(&self) -> Option<[u8; 16]> {
        self.disk_id
    }
    fn physical_sector_size(&self) -> u32 {
        self.physical_sector_size
    }
    fn is_fua_respected(&self) -> bool {
        false
    }
    fn is_read_only(&self) -> bool {
        self.read_only
    }
    fn persistence(&self) -> Persistence {
        self.persistence
    }
    async fn unmap(&self, _: u64, _: u64, _: bool) -> Result<(), DiskError> {
        Ok(())
    }
    fn unmap_behavior(&self) -> UnmapBehavior {
        UnmapBehavior::Ignored
    }
    async fn read_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        let end = sector + buffers.len() as u64 / u64::from(self.sector_size);
        if end > self.sector_count() {
            return Err(DiskError::IllegalBlock);
        }
        guestmem::MemoryWrite::fill(&mut buffers.writer(), FILLING, buffers.len())?;
        Ok(())
    }
    async fn write_vectored(
        &self,
        _: &RequestBuffers<'_>,
        _: u64,
        _: bool,
    ) -> Result<(), DiskError> {
        Ok(())
    }
    async fn sync_cache(&self) -> Result<(), DiskError> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        match self.flush_fails.load(Ordering::Relaxed) {
            0 => Ok(()),
            _ => Err(DiskError::Io(std::io::Error::other("planned"))),
        }
    }
    async fn wait_resize(&self, _: u64) -> u64 {
        std::future::pending().await
    }
}

fn disk_layer(disk: TestDisk) -> LayerConfiguration {
    plain(DiskLayer::from_disk(Disk::new(disk).unwrap()))
}

fn read(disk: &LayeredDisk, sector: u64, sectors: usize) -> Result<Vec<u8>, DiskError> {
    let mut data = vec![0xee; sectors * 512];
    let host = HostBuffers::from_mut(&mut data);
    block_on(disk.read_vectored(&host.buffers(), sector))?;
    drop(host);
    Ok(data)
}

fn write(disk: &LayeredDisk, sector: u64) {
    let data = [1; 512];
    let host = HostBuffers::from_ref(&data);
    block_on(disk.write_vectored(&host.buffers(), sector, false)).unwrap();
}

#[test]
fn a_disk_needs_a_layer() {
    assert!(matches!(
        build(false, vec![]),
        Err(InvalidLayeredDisk::NoLayers)
    ));
}

#[test]
fn sector_sizes_must_agree() {
    let error = build(false, vec![ram(MIB, 512), ram(MIB, 512), ram(MIB, 4096)]).unwrap_err();
    assert!(matches!(
        error,
        InvalidLayeredDisk::Layer {
            index: 1,
            error: InvalidLayer::SectorSizeMismatch {
                found: 512,
                lower: 4096
            }
        }
    ));
}

/// Attaches as a disk whose sector sizes are junk, or not at all.
struct Junk {
    sector_size: u32,
    physical_sector_size: u32,
}

impl LayerAttach for Junk {
    type Error = String;
    type Layer = RamDiskLayer;

    async fn attach(self, lower: Option<DiskLayerMetadata>) -> Result<RamDiskLayer, String> {
        Err(format!(
            "{} {} over {:?}",
            self.sector_size,
            self.physical_sector_size,
            lower.map(|lower| lower.sector_count)
        ))
    }
}

#[test]
fn the_layer_that_does_not_attach_is_named_and_says_why() {
    let junk = Junk {
        sector_size: 1,
        physical_sector_size: 2,
    };
    let layers = vec![
        ram(MIB, 512),
        plain(DiskLayer::new(junk)),
        ram(2 * MIB, 512),
    ];
    let error = build(false, layers).unwrap_err();
    let InvalidLayeredDisk::Layer {
        index: 1,
        error: InvalidLayer::AttachFailed(source),
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(source.to_string(), "1 2 over Some(4096)");
}

#[test]
fn write_through_must_be_contiguous_from_the_top_and_end_above_something() {
    let through = |layer: LayerConfiguration| LayerConfiguration {
        write_through: true,
        ..layer
    };
    let index_and_error = |layers| match build(false, layers).unwrap_err() {
        InvalidLayeredDisk::Layer { index, error } => (index, error.to_string()),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        index_and_error(vec![ram(MIB, 512), through(ram(MIB, 512)), ram(MIB, 512)]),
        (1, InvalidLayer::WriteThroughNotContiguous.to_string())
    );
    assert_eq!(
        index_and_error(vec![through(ram(MIB, 512))]),
        (0, InvalidLayer::NothingToWriteThrough.to_string())
    );
}

#[test]
fn what_is_written_through_to_is_as_long_as_the_disk() {
    let layers = |lower| {
        let through = LayerConfiguration {
            write_through: true,
            ..ram(MIB, 512)
        };
        vec![through, ram(lower, 512)]
    };
    assert!(matches!(
        build(false, layers(MIB - 512)),
        Err(InvalidLayeredDisk::Layer {
            index: 1,
            error: InvalidLayer::TooShortToWriteThrough {
                found: 2047,
                needed: 2048
            }
        })
    ));
    build(false, layers(MIB)).unwrap();
    build(false, layers(2 * MIB)).unwrap();
}

#[test]
fn a_layer_that_cannot_be_filled_is_no_read_cache() {
    let cache = LayerConfiguration {
        read_cache: true,
        ..disk_layer(TestDisk::default())
    };
    assert!(matches!(
        build(false, vec![cache, ram(MIB, 512)]),
        Err(InvalidLayeredDisk::Layer {
            index: 0,
            error: InvalidLayer::ReadCacheUnsupported
        })
    ));
}

#[test]
fn a_read_only_layer_may_not_be_on_top_of_a_writable_disk() {
    let read_only = || {
        disk_layer(TestDisk {
            read_only: true,
            ..TestDisk::default()
        })
    };
    assert!(matches!(
        build(false, vec![read_only(), ram(MIB, 512)]),
        Err(InvalidLayeredDisk::Layer {
            index: 0,
            error: InvalidLayer::ReadOnly
        })
    ));
    build(true, vec![read_only(), ram(MIB, 512)]).unwrap();
    build(false, vec![ram(MIB, 512), read_only()]).unwrap();
}

#[test]
fn a_stack_takes_its_metadata_from_where_the_documents_say() {
    let top_id = [1; 16];
    let base = TestDisk {
        physical_sector_size: 16384,
        disk_id: Some([2; 16]),
        ..TestDisk::default()
    };
    let middle = TestDisk {
        disk_id: Some(top_id),
        ..TestDisk::default()
    };
    let top = plain(DiskLayer::new(LazyRamDiskLayer::new().with_len(4 * MIB)));
    let disk = build(false, vec![top, disk_layer(middle), disk_layer(base)]).unwrap();
    assert_eq!(disk.sector_count(), 4 * MIB / 512);
    assert_eq!(disk.disk_id(), Some(top_id));
    assert_eq!(disk.physical_sector_size(), 16384);
    assert_eq!(disk.persistence(), Persistence::Volatile);
    assert_eq!(disk.unmap_behavior(), UnmapBehavior::Zeroes);
    assert!(disk.is_fua_respected());
}

#[test]
fn a_lower_layer_that_shrinks_reads_zero_and_stays_so_when_it_grows_again() {
    let base = TestDisk::default();
    let size = Arc::clone(&base.sector_count);
    let disk = build(false, vec![ram(MIB, 512), disk_layer(base)]).unwrap();
    assert_eq!(read(&disk, 0, 8).unwrap(), [FILLING; 4096]);
    size.store(4, Ordering::Relaxed);
    let shrunk = [vec![FILLING; 2048], vec![0; 2048]].concat();
    assert_eq!(read(&disk, 0, 8).unwrap(), shrunk);
    size.store(MIB / 512, Ordering::Relaxed);
    assert_eq!(read(&disk, 0, 8).unwrap(), shrunk);
    let status = block_on(disk.block_status(0, 8)).unwrap();
    let counts: Vec<_> = status
        .extents()
        .iter()
        .map(|extent| extent.sector_count)
        .collect();
    assert_eq!(counts, [4, 4]);
}

#[test]
fn a_flush_reaches_the_top_once_for_what_it_took() {
    let top = TestDisk::default();
    let flushes = Arc::clone(&top.flushes);
    let fails = Arc::clone(&top.flush_fails);
    let disk = build(false, vec![disk_layer(top), ram(MIB, 512)]).unwrap();
    // Who had the disk before us may have left it the flush of what it wrote.
    block_on(disk.sync_cache()).unwrap();
    assert_eq!(flushes.load(Ordering::Relaxed), 1);
    block_on(disk.sync_cache()).unwrap();
    assert_eq!(flushes.load(Ordering::Relaxed), 1);
    write(&disk, 0);
    fails.store(1, Ordering::Relaxed);
    assert!(matches!(block_on(disk.sync_cache()), Err(DiskError::Io(_))));
    fails.store(0, Ordering::Relaxed);
    block_on(disk.sync_cache()).unwrap();
    assert_eq!(flushes.load(Ordering::Relaxed), 3);
    block_on(disk.sync_cache()).unwrap();
    assert_eq!(flushes.load(Ordering::Relaxed), 3);
}

#[test]
fn fua_reaches_a_disk_that_does_not_respect_it_as_a_flush() {
    let top = TestDisk::default();
    let flushes = Arc::clone(&top.flushes);
    let disk = Disk::new(build(false, vec![disk_layer(top)]).unwrap()).unwrap();
    let data = [1; 512];
    let host = HostBuffers::from_ref(&data);
    let buffers = host.buffers();
    block_on(disk.write_vectored(&buffers, 0, true)).unwrap();
    assert_eq!(flushes.load(Ordering::Relaxed), 1);
    block_on(disk.write_zeroes(0, 1, true, false, false)).unwrap();
    assert_eq!(flushes.load(Ordering::Relaxed), 2);
}

#[test]
fn an_unmap_that_the_top_ignores_changes_nothing() {
    let disk = build(false, vec![disk_layer(TestDisk::default()), ram(MIB, 512)]).unwrap();
    assert_eq!(disk.unmap_behavior(), UnmapBehavior::Ignored);
    block_on(disk.unmap(0, 8, false)).unwrap();
    assert_eq!(read(&disk, 0, 8).unwrap(), [FILLING; 4096]);
}

#[test]
fn the_tree_shows_each_layer_by_its_index() {
    let disk =
        Disk::new(build(false, vec![ram(MIB, 512), disk_layer(TestDisk::default())]).unwrap());
    let tree = block_on(inspect::inspect("", None, &disk.unwrap())).unwrap();
    assert_eq!(tree["disk_type"], "layered");
    assert_eq!(tree["layers"]["0"]["layer_type"], "ram");
    assert_eq!(tree["layers"]["0"]["backing"]["sector_count"], 2048);
    assert_eq!(tree["layers"]["1"]["backing"]["disk_type"], "test");
}

/// A dropped write may happen at any time until the layer is drained (C9); so whoever drains and then flushes has it durable.
#[test]
fn a_flush_after_a_dropped_write_is_not_left_out() {
    let top = TestDisk::default();
    let flushes = Arc::clone(&top.flushes);
    let top = ScriptedDisk::new(top);
    let script = top.script().clone();
    let layer = plain(DiskLayer::from_disk(Disk::new(top).unwrap()));
    let disk = Disk::new(build(false, vec![layer]).unwrap()).unwrap();
    block_on(disk.sync_cache()).unwrap();
    script.hold(Operation::Write, When::After);
    {
        let host = HostBuffers::from_ref(&[1; 512]);
        let buffers = host.buffers();
        let mut writing = std::pin::pin!(disk.write_vectored(&buffers, 0, false));
        assert!(block_on(poll_once(&mut writing)).is_none());
    }
    block_on(disk.drain());
    block_on(disk.sync_cache()).unwrap();
    assert_eq!(flushes.load(Ordering::Relaxed), 2);
}
