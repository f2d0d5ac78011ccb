//! The table of `docs/composition.md`, row by row.

mod common;

use common::{plain, through};
use disk_backend::{ContentStamp, DiskError, DiskIo, Persistence, UnmapBehavior};
use disk_layered::{
    DiskLayer, InvalidLayer, InvalidLayeredDisk, LayerConfiguration, LayerIo, LayerStatus,
    LayeredDisk, NoOverwriteUnsupported, SectorMarker, WriteNoOverwrite,
};
use disklayer_ram::RamDiskLayer;
use futures_lite::future::block_on;
use inspect::Inspect;
use scsi_buffers::{HostBuffers, RequestBuffers};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A layer that says of itself what a test wants, holds nothing, and remembers its size.
#[derive(Clone, Inspect)]
struct Says {
    #[inspect(skip)]
    disk_id: Option<[u8; 16]>,
    #[inspect(skip)]
    content_stamp: Option<ContentStamp>,
    is_read_only: bool,
    physical_sector_size: u32,
    is_fua_respected: bool,
    persistence: Persistence,
    atomic_write_sectors: u32,
    unmap_behavior: UnmapBehavior,
    optimal_unmap_sectors: u32,
    may_be_emptied: bool,
    #[inspect(skip)]
    sector_count: Arc<AtomicU64>,
}

const SECTORS: u64 = 100;

impl Says {
    fn new() -> Self {
        Self {
            disk_id: None,
            content_stamp: None,
            is_read_only: false,
            physical_sector_size: 512,
            is_fua_respected: true,
            persistence: Persistence::Volatile,
            atomic_write_sectors: 1,
            unmap_behavior: UnmapBehavior::Zeroes,
            optimal_unmap_sectors: 1,
            may_be_emptied: false,
            sector_count: Arc::new(AtomicU64::new(SECTORS)),
        }
    }

    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut layer = Self::new();
        change(&mut layer);
        layer
    }

    fn persistent(atomic_write_sectors: u32) -> Self {
        Self::with(|layer| {
            layer.persistence = Persistence::Persistent;
            layer.atomic_write_sectors = atomic_write_sectors;
        })
    }

    fn unmaps(unmap_behavior: UnmapBehavior) -> Self {
        Self::with(|layer| layer.unmap_behavior = unmap_behavior)
    }
}

impl LayerIo for Says {
    fn layer_type(&self) -> &str {
        "says"
    }
    fn sector_count(&self) -> u64 {
        self.sector_count.load(Ordering::Relaxed)
    }
    fn sector_size(&self) -> u32 {
        512
    }
    fn disk_id(&self) -> Option<[u8; 16]> {
        self.disk_id
    }
    fn content_stamp(&self) -> Option<ContentStamp> {
        self.content_stamp
    }
    fn physical_sector_size(&self) -> u32 {
        self.physical_sector_size
    }
    fn is_fua_respected(&self) -> bool {
        self.is_fua_respected
    }
    fn is_logically_read_only(&self) -> bool {
        self.is_read_only
    }
    fn persistence(&self) -> Persistence {
        self.persistence
    }
    fn atomic_write_sectors(&self) -> u32 {
        self.atomic_write_sectors
    }
    fn may_be_emptied(&self) -> bool {
        self.may_be_emptied
    }
    async fn read(
        &self,
        _: &RequestBuffers<'_>,
        _: u64,
        _: SectorMarker<'_>,
    ) -> Result<(), DiskError> {
        Ok(())
    }
    async fn write(&self, _: &RequestBuffers<'_>, _: u64, _: bool) -> Result<(), DiskError> {
        Ok(())
    }
    async fn sync_cache(&self) -> Result<(), DiskError> {
        Ok(())
    }
    async fn unmap(&self, _: u64, _: u64, _: bool, _: bool) -> Result<(), DiskError> {
        Ok(())
    }
    fn unmap_behavior(&self) -> UnmapBehavior {
        self.unmap_behavior
    }
    fn optimal_unmap_sectors(&self) -> u32 {
        self.optimal_unmap_sectors
    }
    async fn layer_status(&self, _: u64, count: u64) -> Result<LayerStatus, DiskError> {
        Ok(LayerStatus::Absent {
            sector_count: count,
        })
    }
    fn write_no_overwrite(&self) -> Option<impl WriteNoOverwrite> {
        None::<NoOverwriteUnsupported>
    }
    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        self.sector_count.store(sector_count, Ordering::Relaxed);
        Ok(())
    }
    async fn wait_resize(&self, _: u64) -> u64 {
        std::future::pending().await
    }
}

fn stack(layers: Vec<LayerConfiguration>) -> LayeredDisk {
    block_on(LayeredDisk::new(false, layers)).unwrap()
}

/// A stack in which only the first of `layers` is written, and one in which all but the last are: `[one, several]`.
fn both(layers: [Says; 3]) -> [LayeredDisk; 2] {
    let [top, middle, lower] = layers;
    [
        stack(vec![
            plain(top.clone()),
            plain(middle.clone()),
            plain(lower.clone()),
        ]),
        stack(vec![through(top), plain(middle), plain(lower)]),
    ]
}

#[test]
fn sector_count_is_the_tops() {
    let longer = || Says::with(|layer| layer.sector_count = Arc::new(AtomicU64::new(300)));
    for disk in both([Says::new(), longer(), longer()]) {
        assert_eq!(disk.sector_count(), SECTORS);
    }
}

#[test]
fn physical_sector_size_is_the_largest_of_any_layer() {
    for place in 0..3 {
        let mut layers = [Says::new(), Says::new(), Says::new()];
        layers[place].physical_sector_size = 8192;
        for disk in both(layers) {
            assert_eq!(disk.physical_sector_size(), 8192);
            assert_eq!(disk.sector_size(), 512);
        }
    }
}

#[test]
fn disk_id_is_of_the_topmost_layer_that_has_one() {
    let id = |byte| Says::with(|layer| layer.disk_id = Some([byte; 16]));
    for disk in both([Says::new(), id(2), id(3)]) {
        assert_eq!(disk.disk_id(), Some([2; 16]));
    }
    for disk in both([id(1), Says::new(), id(3)]) {
        assert_eq!(disk.disk_id(), Some([1; 16]));
    }
    for disk in both([Says::new(), Says::new(), Says::new()]) {
        assert_eq!(disk.disk_id(), None);
    }
}

/// It would be another one when the layer has been emptied, and the disk holds what it held.
#[test]
fn disk_id_is_of_no_layer_that_may_be_emptied() {
    let id = |byte| Says::with(|layer| layer.disk_id = Some([byte; 16]));
    let cache = || {
        Says::with(|layer| {
            layer.disk_id = Some([9; 16]);
            layer.may_be_emptied = true;
        })
    };
    let disk = stack(vec![plain(Says::new()), plain(cache()), plain(id(3))]);
    assert_eq!(disk.disk_id(), Some([3; 16]));
    let disk = stack(vec![through(cache()), plain(Says::new()), plain(id(3))]);
    assert_eq!(disk.disk_id(), Some([3; 16]));
    let disk = stack(vec![through(cache()), plain(Says::new())]);
    assert_eq!(disk.disk_id(), None);
}

#[test]
fn content_stamp_is_of_all_layers_that_are_no_copies() {
    let stamp = |text: &str| ContentStamp::from_text(text).unwrap();
    let says = |text: &str| {
        Says::with(|layer| {
            layer.content_stamp = Some(stamp(text));
            layer.is_read_only = true;
        })
    };
    let read_only = |layers| block_on(LayeredDisk::new(true, layers)).unwrap();
    let of = |layers: Vec<Says>| {
        let layers = layers.into_iter().map(plain).collect();
        read_only(layers).content_stamp()
    };
    assert_eq!(of(vec![says("a")]), Some(stamp("a")));
    let both = stamp("a").over(stamp("b"));
    assert_eq!(of(vec![says("a"), says("b")]), Some(both));
    assert_eq!(
        of(vec![says("a"), says("b"), says("c")]),
        Some(stamp("a").over(stamp("b").over(stamp("c"))))
    );
    // One that may change is enough.
    let mut writable = says("b");
    writable.is_read_only = false;
    for (place, other) in [(0, Says::new()), (1, Says::new()), (1, writable)] {
        let mut layers = vec![says("a"), says("b"), says("c")];
        layers[place] = other;
        assert_eq!(of(layers), None, "{place}");
    }
    // A copy of what lies below is that, whatever it says.
    let mut cache = says("x");
    cache.may_be_emptied = true;
    assert_eq!(of(vec![cache, says("b")]), Some(stamp("b")));
    // What takes writes has none.
    let disk = stack(vec![plain(Says::new()), plain(says("b"))]);
    assert_eq!(disk.content_stamp(), None);
}

/// It can hold nothing but what it was filled with from below, as long as the stack stands.
#[test]
fn a_cache_that_begins_with_nothing_has_no_content_of_its_own() {
    let base = || {
        plain(Says::with(|layer| {
            layer.content_stamp = ContentStamp::from_text("b");
            layer.is_read_only = true;
        }))
    };
    let cache = |ram: RamDiskLayer, read_cache| LayerConfiguration {
        layer: DiskLayer::new(ram),
        write_through: false,
        read_cache,
    };
    let ram = || RamDiskLayer::new(SECTORS * 512).unwrap();
    let of = |layers| {
        let disk = block_on(LayeredDisk::new(true, layers)).unwrap();
        disk.content_stamp()
    };
    assert_eq!(
        of(vec![cache(ram(), true), base()]),
        ContentStamp::from_text("b")
    );
    assert_eq!(of(vec![cache(ram(), false), base()]), None);
    let filled = ram();
    let data = [1; 512];
    let host = HostBuffers::from_ref(&data);
    block_on(filled.write(&host.buffers(), SECTORS - 1, false)).unwrap();
    assert_eq!(of(vec![cache(filled, true), base()]), None);
}

/// The layer at fault, and whether there is nothing below it (else it would be the last to take writes).
fn refused(read_only: bool, layers: Vec<LayerConfiguration>) -> Option<(usize, bool)> {
    match block_on(LayeredDisk::new(read_only, layers)) {
        Ok(_) => None,
        Err(InvalidLayeredDisk::Layer { index, error }) => match error {
            InvalidLayer::OnlyCopy => Some((index, false)),
            InvalidLayer::CopyOfNothing => Some((index, true)),
            error => panic!("{error}"),
        },
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_layer_that_may_be_emptied_is_refused_where_it_would_hold_the_only_copy() {
    let cache = || Says::with(|layer| layer.may_be_emptied = true);
    let kept = Says::new;
    for read_only in [false, true] {
        // Where it takes writes, another one takes them too; or it takes none.
        let right = [
            vec![through(cache()), plain(kept())],
            vec![through(cache()), through(cache()), plain(kept())],
            vec![
                through(kept()),
                plain(kept()),
                plain(cache()),
                plain(kept()),
            ],
            vec![plain(kept()), plain(cache()), plain(kept())],
        ];
        for (number, layers) in right.into_iter().enumerate() {
            assert_eq!(refused(read_only, layers), None, "{number} {read_only}");
        }
        let last = |index| (!read_only).then_some((index, false));
        let wrong = [
            (vec![plain(cache()), plain(kept())], last(0)),
            (
                vec![through(cache()), plain(cache()), plain(kept())],
                last(1),
            ),
            (
                vec![through(kept()), plain(cache()), plain(kept())],
                last(1),
            ),
            // What it was a copy of is nowhere.
            (vec![plain(cache())], last(0).or(Some((0, true)))),
            (vec![plain(kept()), plain(cache())], Some((1, true))),
            (
                vec![through(kept()), plain(cache())],
                last(1).or(Some((1, true))),
            ),
        ];
        for (number, (layers, expected)) in wrong.into_iter().enumerate() {
            assert_eq!(refused(read_only, layers), expected, "{number} {read_only}");
        }
    }
    let Err(error) = block_on(LayeredDisk::new(false, vec![plain(cache())])) else {
        panic!("it was taken");
    };
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.to_string().contains("layer 0"), "{error}");
    assert!(
        why.contains("only copy") && why.contains("write_through"),
        "{why}"
    );
}

#[test]
fn persistence_is_that_of_the_last_written_layer() {
    use Persistence::{Persistent, Volatile};
    let expected = |layers: [Says; 3]| both(layers).map(|disk| disk.persistence());
    let [a, b, c] = [Says::persistent(1), Says::new(), Says::new()];
    // The copy may be thrown away, and then nothing of what was flushed would be left.
    assert_eq!(expected([a, b, c]), [Persistent, Volatile]);
    let [a, b, c] = [Says::new(), Says::persistent(1), Says::new()];
    assert_eq!(expected([a, b, c]), [Volatile, Persistent]);
    let [a, b, c] = [Says::new(), Says::new(), Says::persistent(1)];
    assert_eq!(expected([a, b, c]), [Volatile, Volatile]);
}

#[test]
fn atomic_write_sectors_is_the_least_of_the_persistent_written_layers() {
    let found = |layers: [Says; 3]| both(layers).map(|disk| disk.atomic_write_sectors());
    let [a, b, c] = [
        Says::persistent(8),
        Says::persistent(4),
        Says::persistent(2),
    ];
    assert_eq!(found([a, b, c]), [8, 4]);
    let volatile = || Says::with(|layer| layer.atomic_write_sectors = 3);
    let [a, b, c] = [volatile(), Says::persistent(16), Says::persistent(2)];
    assert_eq!(found([a, b, c]), [3, 16]);
    assert_eq!(
        found([volatile(), Says::new(), Says::persistent(2)]),
        [3, 3]
    );
}

#[test]
fn fua_is_respected_if_all_written_layers_do() {
    let deaf = || Says::with(|layer| layer.is_fua_respected = false);
    let found = |layers: [Says; 3]| both(layers).map(|disk| disk.is_fua_respected());
    assert_eq!(found([Says::new(), Says::new(), deaf()]), [true, true]);
    assert_eq!(found([Says::new(), deaf(), Says::new()]), [true, false]);
    assert_eq!(found([deaf(), Says::new(), Says::new()]), [false, false]);
}

#[test]
fn unmap_behavior_is_what_the_truth_makes_of_it() {
    use UnmapBehavior::{Ignored, Unspecified, Zeroes};
    for top in [Ignored, Unspecified, Zeroes] {
        for middle in [Ignored, Unspecified, Zeroes] {
            let layers = [
                Says::unmaps(top),
                Says::unmaps(middle),
                Says::unmaps(Ignored),
            ];
            let [one, several] = both(layers);
            assert_eq!(one.unmap_behavior(), top);
            let expected = match middle {
                Ignored => Ignored,
                Unspecified | Zeroes => Zeroes,
            };
            assert_eq!(
                several.unmap_behavior(),
                expected,
                "{top:?} over {middle:?}"
            );
        }
    }
}

#[test]
fn optimal_unmap_sectors_is_the_largest_of_the_written_layers() {
    let coarse = |sectors| Says::with(|layer| layer.optimal_unmap_sectors = sectors);
    let [one, several] = both([coarse(2), coarse(8), coarse(64)]);
    assert_eq!(one.optimal_unmap_sectors(), 2);
    assert_eq!(several.optimal_unmap_sectors(), 8);
}

#[test]
fn a_resize_resizes_the_written_layers() {
    let layers = [Says::new(), Says::new(), Says::new()];
    let counts = layers.clone().map(|layer| layer.sector_count);
    let counts = || [0, 1, 2].map(|n: usize| counts[n].load(Ordering::Relaxed));
    let [one, several] = both(layers.clone());
    block_on(one.resize(120)).unwrap();
    assert_eq!(counts(), [120, 100, 100]);
    block_on(several.resize(150)).unwrap();
    assert_eq!(counts(), [150, 150, 100]);
    block_on(several.resize(50)).unwrap();
    assert_eq!(counts(), [50, 50, 100]);
}

#[test]
fn a_stack_has_no_reservations_and_nothing_to_eject() {
    for disk in both([Says::new(), Says::new(), Says::new()]) {
        assert!(disk.pr().is_none());
        let ejected = block_on(disk.eject());
        assert!(matches!(ejected, Err(DiskError::UnsupportedEject)));
    }
}
