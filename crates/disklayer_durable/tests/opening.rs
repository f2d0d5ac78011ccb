//! What opening finds: damage, other disks, and caches that may be emptied.

mod common;

use clock::Clock;
use common::{
    few_pages, flip, layer_on, open, read, store, tight, try_open, try_read, try_write, write,
    write_disk,
};
use disk_backend::{Disk, DiskError};
use disk_fault::{Action, FaultDisk, FaultOptions, InjectedError, Operation, Rule};
use disk_layered::{
    DiskLayer, DiskLayerMetadata, InvalidLayer, InvalidLayeredDisk, LayerAttach,
    LayerConfiguration, LayerIo, LayeredDisk, SectorBitmap, SectorMarker,
};
use disklayer_durable::{
    DurableLayer, DurableOptions, FormatOptions, LazyDurableLayer, OpenError, Role, format, info,
};
use disklayer_ram::RamDiskLayer;
use futures_lite::future::{block_on, yield_now, zip};
use scsi_buffers::HostBuffers;

fn lower(sector_count: u64) -> DiskLayerMetadata {
    DiskLayerMetadata {
        disk_id: Some([3; 16]),
        content_stamp: None,
        sector_size: 512,
        sector_count,
        physical_sector_size: 512,
    }
}

/// Where the first page of a layer with a log of three blocks is.
const FIRST_PAGE: u64 = 8192 + 3 * 4096;

#[test]
fn what_was_written_is_there_when_it_is_opened_again_closed_or_not() {
    block_on(async {
        for is_closed in [true, false] {
            let store = store(1, 512).await;
            let layer = layer_on(&store, &tight(100, 512), &few_pages()).await;
            for sector in (0..100).step_by(3) {
                write(&layer, sector, sector as u8 + 1).await;
            }
            layer.unmap(30, 10, false, false).await.unwrap();
            match is_closed {
                true => layer.close().await.unwrap(),
                false => layer.sync_cache().await.unwrap(),
            }
            drop(layer);
            let layer = open(&store).await;
            for sector in 0..100 {
                let expected = match sector {
                    30..40 => Some(0),
                    _ if sector % 3 == 0 => Some(sector as u8 + 1),
                    _ => None,
                };
                assert_eq!(read(&layer, sector).await, expected, "{sector}");
            }
        }
    });
}

#[test]
fn a_damaged_page_is_an_error_that_names_it_and_its_neighbours_are_there() {
    block_on(async {
        let store = store(1, 512).await;
        let layer = layer_on(&store, &tight(32, 512), &few_pages()).await;
        for sector in 0..32 {
            write(&layer, sector, 7).await;
        }
        layer.close().await.unwrap();
        drop(layer);
        // The second of the stripes, each a page and eight sectors.
        flip(&store, FIRST_PAGE + 8192 + 100).await;
        let layer = open(&store).await;
        let error = try_read(&layer, 9).await.unwrap_err();
        let DiskError::MediumError(error, _) = error else {
            panic!("{error:?}");
        };
        let message = error.to_string();
        let place = format!("stripe 1, at byte {}", FIRST_PAGE + 8192);
        assert!(message.contains(&place), "{message}");
        assert_eq!(read(&layer, 3).await, Some(7));
        assert_eq!(read(&layer, 16).await, Some(7));
        try_write(&layer, 9, 8).await.unwrap_err();
    });
}

#[test]
fn one_superblock_is_enough_and_without_both_the_error_says_so() {
    block_on(async {
        let store = store(1, 512).await;
        let layer = layer_on(&store, &tight(32, 512), &few_pages()).await;
        write(&layer, 0, 7).await;
        layer.close().await.unwrap();
        drop(layer);
        for copy in [0, 1] {
            flip(&store, copy * 4096 + 60).await;
            let layer = open(&store).await;
            assert_eq!(read(&layer, 0).await, Some(7));
            // The next one makes both right again.
            write(&layer, 1, 7).await;
            layer.close().await.unwrap();
        }
        flip(&store, 60).await;
        flip(&store, 4096 + 60).await;
        let error = try_open(&store).await.unwrap_err();
        assert!(matches!(error, OpenError::Superblocks { .. }), "{error}");
        let empty = common::store(64, 512).await;
        let error = try_open(&empty).await.unwrap_err();
        assert!(matches!(error, OpenError::NotALayer), "{error}");
    });
}

/// Opening 1 TiB reads nothing behind the log.
#[test]
fn opening_reads_superblocks_and_log_and_nothing_else() {
    block_on(async {
        let ram = store(1, 512).await;
        let layer = layer_on(
            &ram,
            &FormatOptions::new(1 << 31),
            &DurableOptions::default(),
        )
        .await;
        for stripe in 0..200 {
            write(&layer, stripe * 8192 * 1000, 7).await;
        }
        layer.sync_cache().await.unwrap();
        drop(layer);
        let begin = (8192 + 1024 * 4096) / 512;
        let count = ram.sector_count() - begin;
        let (faulty, control) = FaultDisk::new(ram, FaultOptions::new(7, Clock::real())).unwrap();
        let rule = Rule::new(Action::Error(InjectedError::Io)).on([Operation::Read]);
        let rule = control.add(rule.sectors(begin, count)).unwrap();
        let store = Disk::new(faulty).unwrap();
        let layer = DurableLayer::open(store, &DurableOptions::default())
            .await
            .unwrap();
        control.remove(rule).unwrap();
        assert_eq!(read(&layer, 8192 * 1000).await, Some(7));
        assert_eq!(read(&layer, 1).await, None);
    });
}

#[test]
fn a_full_store_refuses_a_write_before_it_is_acknowledged_and_heals() {
    block_on(async {
        let ram = store(1, 512).await;
        let (faulty, control) = FaultDisk::new(ram, FaultOptions::new(7, Clock::real())).unwrap();
        let store = Disk::new(faulty).unwrap();
        let layer = layer_on(&store, &tight(32, 512), &few_pages()).await;
        write(&layer, 0, 1).await;
        // The log has its room; the stripes have not.
        let begin = FIRST_PAGE / 512;
        let rule = Rule::new(Action::Error(InjectedError::NoSpace)).on([Operation::Write]);
        let rule = control.add(rule.sectors(begin, 1 << 20)).unwrap();
        assert!(matches!(
            try_write(&layer, 9, 2).await,
            Err(DiskError::NoSpace)
        ));
        assert_eq!(read(&layer, 9).await, None);
        layer.sync_cache().await.unwrap();
        assert_eq!(read(&layer, 0).await, Some(1));
        control.remove(rule).unwrap();
        write(&layer, 9, 2).await;
        assert_eq!(read(&layer, 9).await, Some(2));
    });
}

#[test]
fn an_overlay_is_refused_above_another_disk_unless_it_is_forced() {
    block_on(async {
        let store = store(1, 512).await;
        let lazy = || LazyDurableLayer::new(store.clone());
        let created = lazy().created(FormatOptions::new(0));
        let layer = created.attach(Some(lower(50))).await.unwrap();
        assert_eq!(layer.sector_count(), 50);
        write(&layer, 0, 7).await;
        layer.close().await.unwrap();
        drop(layer);
        lazy().attach(Some(lower(50))).await.unwrap();
        for other in [Some(lower(51)), None] {
            let error = lazy().attach(other).await.unwrap_err();
            assert!(matches!(error, OpenError::Bound { .. }), "{error}");
            // Above nothing it would be forced to read zero where it holds nothing: then its base was forgotten.
            let said = error.to_string();
            assert_eq!(said.contains("force"), other.is_some(), "{said}");
            assert_eq!(said.contains("from the top"), other.is_none(), "{said}");
        }
        let layer = lazy().forced().attach(Some(lower(51))).await.unwrap();
        assert_eq!(read(&layer, 0).await, Some(7));
        let error = lazy().with_role(Role::ReadCache).attach(Some(lower(50)));
        assert!(matches!(error.await, Err(OpenError::Role { .. })));
    });
}

#[test]
fn a_cache_is_emptied_where_an_overlay_is_refused() {
    block_on(async {
        let store = store(1, 512).await;
        let lazy = |role| {
            let mut options = tight(0, 512);
            options.role = role;
            LazyDurableLayer::new(store.clone())
                .with_role(role)
                .created(options)
        };
        for role in [Role::ReadCache, Role::WriteThrough] {
            let filled = async |is_closed: bool| {
                let mut options = tight(50, 512);
                options.role = role;
                format(&store, &options).await.unwrap();
                let layer = lazy(role).attach(Some(lower(50))).await.unwrap();
                write(&layer, 0, 7).await;
                layer.sync_cache().await.unwrap();
                if is_closed {
                    layer.close().await.unwrap();
                }
            };
            filled(true).await;
            let layer = lazy(role).attach(Some(lower(50))).await.unwrap();
            assert_eq!(read(&layer, 0).await, Some(7), "{role}");
            drop(layer);
            let layer = lazy(role).attach(Some(lower(51))).await.unwrap();
            assert_eq!(read(&layer, 0).await, None, "{role}");
            assert_eq!(layer.sector_count(), 51);
            drop(layer);
            // What was not closed may be older, or newer, than what it is written through to.
            filled(false).await;
            let layer = lazy(role).attach(Some(lower(50))).await.unwrap();
            let kept = (role == Role::ReadCache).then_some(7);
            assert_eq!(read(&layer, 0).await, kept, "{role}");
            drop(layer);
            filled(true).await;
            flip(&store, FIRST_PAGE + 40).await;
            let layer = lazy(role).attach(Some(lower(50))).await.unwrap();
            assert_eq!(read(&layer, 0).await, None, "{role}");
            drop(layer);
            flip(&store, 60).await;
            flip(&store, 4096 + 60).await;
            lazy(role).attach(Some(lower(50))).await.unwrap();
        }
    });
}

fn lazily(layer: LazyDurableLayer) -> LayerConfiguration {
    LayerConfiguration::new(DiskLayer::new(layer))
}

fn ram(sector_count: u64) -> LayerConfiguration {
    let ram = RamDiskLayer::new(sector_count * 512).unwrap();
    LayerConfiguration::new(DiskLayer::new(ram))
}

/// However it came into the stack: who links the crates has no configuration that could be looked at before.
#[test]
fn a_stack_has_no_cache_that_would_hold_the_only_copy() {
    block_on(async {
        for role in [Role::ReadCache, Role::WriteThrough] {
            let store = store(1, 512).await;
            let cache = async || {
                let mut options = tight(50, 512);
                options.role = role;
                format(&store, &options).await.unwrap();
                lazily(LazyDurableLayer::new(store.clone()).with_role(role))
            };
            let mut top = cache().await;
            top.read_cache = true;
            let refused = LayeredDisk::new(false, vec![top, ram(50)]).await;
            let Err(InvalidLayeredDisk::Layer { index: 0, error }) = refused else {
                panic!("{refused:?}");
            };
            assert!(matches!(error, InvalidLayer::OnlyCopy), "{error}");
            let layers = vec![ram(50), cache().await, ram(50)];
            LayeredDisk::new(false, layers).await.unwrap();
            let mut top = cache().await;
            top.write_through = true;
            LayeredDisk::new(false, vec![top, ram(50)]).await.unwrap();
        }
    });
}

/// The overlay lies on what the cache is a copy of.
#[test]
fn an_overlay_is_not_refused_because_a_cache_below_it_was_made_anew() {
    block_on(async {
        let (overlay, cache) = (store(1, 512).await, store(1, 512).await);
        for _ in 0..2 {
            let mut options = tight(50, 512);
            options.role = Role::ReadCache;
            format(&cache, &options).await.unwrap();
            let mut middle =
                lazily(LazyDurableLayer::new(cache.clone()).with_role(Role::ReadCache));
            middle.read_cache = true;
            let top = LazyDurableLayer::new(overlay.clone()).created(tight(0, 512));
            let disk = LayeredDisk::new(false, vec![lazily(top), middle, ram(50)]).await;
            let disk = Disk::new(disk.unwrap()).unwrap();
            write_disk(&disk, 3, 7).await;
            disk.close().await.unwrap();
        }
    });
}

/// What the medium has lost, of a cache of ten sectors in stripes of eight that was closed: a sector of the store.
async fn cache_without(lost: u64) -> DurableLayer {
    let ram = store(1, 512).await;
    let mut options = tight(10, 512);
    options.role = Role::ReadCache;
    let layer = layer_on(&ram, &options, &few_pages()).await;
    write(&layer, 0, 7).await;
    write(&layer, 9, 7).await;
    layer.close().await.unwrap();
    drop(layer);
    let (faulty, control) = FaultDisk::new(ram, FaultOptions::new(7, Clock::real())).unwrap();
    let rule = Rule::new(Action::Error(InjectedError::UnrecoveredReadError)).on([Operation::Read]);
    control.add(rule.sectors(lost, 1).times(1)).unwrap();
    let lazy = LazyDurableLayer::new(Disk::new(faulty).unwrap());
    let lazy = lazy.with_role(Role::ReadCache);
    lazy.attach(Some(lower(10))).await.unwrap()
}

#[test]
fn a_cache_is_emptied_of_what_the_medium_has_lost() {
    block_on(async {
        // A superblock, the log, each of the pages.
        for (lost, expected) in [
            (0, [Some(7), Some(7)]),
            (8192 / 512, [None, None]),
            (FIRST_PAGE / 512, [None, Some(7)]),
            ((FIRST_PAGE + 8192) / 512, [Some(7), None]),
        ] {
            let layer = cache_without(lost).await;
            let found = [read(&layer, 0).await, read(&layer, 9).await];
            assert_eq!(found, expected, "{lost}");
        }
    });
}

#[test]
fn the_last_page_of_a_cache_may_be_damaged_as_any_other() {
    block_on(async {
        let store = store(1, 512).await;
        let mut options = tight(10, 512);
        options.role = Role::ReadCache;
        let layer = layer_on(&store, &options, &few_pages()).await;
        write(&layer, 9, 7).await;
        layer.close().await.unwrap();
        drop(layer);
        flip(&store, FIRST_PAGE + 8192 + 40).await;
        let layer = open(&store).await;
        assert_eq!(read(&layer, 9).await, None);
        write(&layer, 9, 8).await;
        assert_eq!(read(&layer, 9).await, Some(8));
    });
}

#[test]
fn each_of_those_who_write_to_a_stripe_first_is_told_that_the_store_is_full() {
    block_on(async {
        let ram = store(1, 512).await;
        let (full, full_control) =
            FaultDisk::new(ram, FaultOptions::new(7, Clock::real())).unwrap();
        let full = Disk::new(full).unwrap();
        let (slow, control) = FaultDisk::new(full, FaultOptions::new(7, Clock::real())).unwrap();
        let layer = layer_on(&Disk::new(slow).unwrap(), &tight(32, 512), &few_pages()).await;
        write(&layer, 0, 1).await;
        let second = |action| {
            let rule = Rule::new(action).on([Operation::Write]);
            rule.sectors((FIRST_PAGE + 8192) / 512, 16)
        };
        let no_space = Action::Error(InjectedError::NoSpace);
        full_control.add(second(no_space)).unwrap();
        let held = control.add(second(Action::Hold)).unwrap();
        // All are at it before the store answers.
        let writers = zip(
            try_write(&layer, 9, 2),
            zip(try_write(&layer, 10, 2), try_write(&layer, 11, 2)),
        );
        let (results, ()) = zip(writers, async {
            yield_now().await;
            control.remove(held).unwrap();
        })
        .await;
        for result in [results.0, results.1.0, results.1.1] {
            assert!(matches!(result, Err(DiskError::NoSpace)), "{result:?}");
        }
    });
}

#[test]
fn a_layer_that_is_closed_while_a_change_is_under_way_stays_in_use() {
    block_on(async {
        let ram = store(1, 512).await;
        let (slow, control) =
            FaultDisk::new(ram.clone(), FaultOptions::new(7, Clock::real())).unwrap();
        let layer = layer_on(&Disk::new(slow).unwrap(), &tight(32, 512), &few_pages()).await;
        // Over data, and where there is none: the first changes no page.
        for (sector, has_data) in [(0, true), (1, false)] {
            if has_data {
                write(&layer, sector, 1).await;
            }
            layer.close().await.unwrap();
            assert!(!info(&ram).await.unwrap().is_in_use);
            write(&layer, 20, 1).await;
            let rule = Rule::new(Action::Hold).on([Operation::Write]);
            let place = FIRST_PAGE / 512 + 8 + sector;
            let held = control.add(rule.sectors(place, 1)).unwrap();
            let (written, ()) = zip(try_write(&layer, sector, 2), async {
                yield_now().await;
                layer.close().await.unwrap();
                assert!(info(&ram).await.unwrap().is_in_use, "{sector}");
                control.remove(held).unwrap();
            })
            .await;
            written.unwrap();
            layer.close().await.unwrap();
            assert!(!info(&ram).await.unwrap().is_in_use);
        }
    });
}

#[test]
fn what_the_disk_below_does_not_have_is_not_seen_when_it_has_it_later() {
    block_on(async {
        let store = store(1, 512).await;
        let lazy = || LazyDurableLayer::new(store.clone());
        let created = lazy().created(FormatOptions::new(100));
        let layer = created.attach(Some(lower(50))).await.unwrap();
        assert_eq!(read(&layer, 49).await, None);
        assert_eq!(read(&layer, 50).await, Some(0));
        layer.sync_cache().await.unwrap();
        drop(layer);
        assert_eq!(info(&store).await.unwrap().shown_below, 50);
        let layer = lazy().forced().attach(Some(lower(100))).await.unwrap();
        assert_eq!(read(&layer, 99).await, Some(0));
    });
}

#[test]
fn what_cannot_be_read_between_two_runs_of_data_is_nobodys_loss() {
    block_on(async {
        let ram = store(1, 512).await;
        let (faulty, control) = FaultDisk::new(ram, FaultOptions::new(7, Clock::real())).unwrap();
        let layer = layer_on(&Disk::new(faulty).unwrap(), &tight(32, 512), &few_pages()).await;
        for sector in [0, 2, 4] {
            write(&layer, sector, 7).await;
        }
        let lost = |sector| {
            let rule = Rule::new(Action::Error(InjectedError::UnrecoveredReadError));
            let rule = rule.on([Operation::Read]);
            control.add(rule.sectors(FIRST_PAGE / 512 + 8 + sector, 1))
        };
        lost(1).unwrap();
        let mut data = vec![0xee; 5 * 512];
        let mut present = SectorBitmap::new(5);
        let host = HostBuffers::from_mut(&mut data);
        let marker = SectorMarker::new(&mut present, 0, 0..5);
        layer.read(&host.buffers(), 0, marker).await.unwrap();
        drop(host);
        for sector in [0, 2, 4] {
            assert!(data[sector * 512..][..512].iter().all(|byte| *byte == 7));
        }
        lost(2).unwrap();
        try_read(&layer, 2).await.unwrap_err();
    });
}
