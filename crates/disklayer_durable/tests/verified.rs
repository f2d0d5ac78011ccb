//! Layers that verify their data: what has rotted is never read as if it were right, and nothing else is taken for rot.

mod common;

use clock::Clock;
use common::{few_pages, layer_on, store, tight};
use disk_backend::{Disk, DiskError, MediumErrorDetails};
use disk_contract::{Operation, Script, ScriptedDisk, When};
use disk_fault::{Action, FaultDisk, FaultOptions, InjectedError, Rule};
use disk_layered::{
    DiskLayer, LayerConfiguration, LayerIo, LayeredDisk, SectorBitmap, SectorMarker,
    WriteNoOverwrite,
};
use disklayer_durable::{
    CheckReport, Condition, DurableLayer, DurableOptions, FormatError, FormatOptions,
    LazyDurableLayer, OpenError, Role, Verify, check, compact, format, info, repair,
};
use disklayer_ram::{RamDiskLayer, ram_disk};
use futures_lite::future::{block_on, poll_once};
use guestmem::GuestMemory;
use scsi_buffers::{HostBuffers, OwnedRequestBuffers};
use std::ops::{ControlFlow, Range};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const SECTORS: u64 = 24;

/// Stripes of eight sectors, and a log of 15 blocks.
fn verified() -> FormatOptions {
    let mut options = tight(SECTORS, 512);
    options.log_blocks = Some(15);
    options.verify = Verify::Data;
    options.layer_id = Some([0xab; 16]);
    options
}

async fn write(layer: &DurableLayer, sector: u64, byte: u8) {
    let data = [byte; 512];
    let host = HostBuffers::from_ref(&data);
    layer.write(&host.buffers(), sector, false).await.unwrap();
}

async fn try_read(layer: &DurableLayer, sector: u64) -> Result<Option<u8>, DiskError> {
    let mut data = [0xee; 512];
    let mut present = SectorBitmap::new(1);
    let host = HostBuffers::from_mut(&mut data);
    let marker = SectorMarker::new(&mut present, sector, sector..sector + 1);
    layer.read(&host.buffers(), sector, marker).await?;
    drop(host);
    Ok(present.is_full().then_some(data[0]))
}

async fn read(layer: &DurableLayer, sector: u64) -> Option<u8> {
    try_read(layer, sector).await.unwrap()
}

/// What is said of a sector that has rotted.
async fn rot(layer: &DurableLayer, sector: u64) -> String {
    match try_read(layer, sector).await {
        Err(DiskError::MediumError(error, MediumErrorDetails::UnrecoveredReadError)) => {
            error.to_string()
        }
        other => panic!("sector {sector}: {other:?}"),
    }
}

/// Where the data of a sector lies.
fn place(sector: u64) -> u64 {
    let stripe = 8192 + 15 * 4096 + sector / 8 * (4096 + 8 * 512);
    stripe + 4096 + sector % 8 * 512
}

async fn flip(store: &Disk, offset: u64) {
    let mut data = sector_at(store, offset / 512).await;
    data[(offset % 512) as usize] ^= 0x20;
    put(store, offset / 512, data).await;
}

async fn sector_at(store: &Disk, sector: u64) -> [u8; 512] {
    let mut data = [0; 512];
    let host = HostBuffers::from_mut(&mut data);
    store.read_vectored(&host.buffers(), sector).await.unwrap();
    drop(host);
    data
}

async fn put(store: &Disk, sector: u64, data: [u8; 512]) {
    let host = HostBuffers::from_ref(&data);
    let written = store.write_vectored(&host.buffers(), sector, false).await;
    written.unwrap();
}

async fn open(store: &Disk) -> DurableLayer {
    DurableLayer::open(store.clone(), &few_pages())
        .await
        .unwrap()
}

async fn report(store: &Disk) -> CheckReport {
    let go = |_, _| ControlFlow::Continue(());
    check(store, go).await.unwrap()
}

fn counts(report: &CheckReport) -> (u64, u64, u64) {
    (
        report.verified_sectors,
        report.unverified_sectors,
        report.bad_sectors,
    )
}

#[test]
fn a_bit_that_rots_in_data_is_an_error_that_names_its_sector_and_costs_no_other() {
    block_on(async {
        let store = store(1, 512).await;
        let layer = layer_on(&store, &verified(), &few_pages()).await;
        for sector in [8, 9, 10] {
            write(&layer, sector, sector as u8).await;
        }
        // While it is open, before anything is on record; on record; and after it was closed.
        for round in 0..3 {
            match round {
                0 => {}
                1 => layer.sync_cache().await.unwrap(),
                _ => layer.close().await.unwrap(),
            }
            let fresh = match round {
                2 => Some(open(&store).await),
                _ => None,
            };
            let layer = fresh.as_ref().unwrap_or(&layer);
            for at in [0, 1, 200, 511] {
                flip(&store, place(9) + at).await;
                let said = rot(layer, 9).await;
                let identity = "ab".repeat(16);
                let offset = place(9);
                for part in ["sector 9 ", &identity, &format!("byte {offset} ")] {
                    assert!(said.contains(part), "{said}");
                }
                assert_eq!(
                    (read(layer, 8).await, read(layer, 10).await),
                    (Some(8), Some(10))
                );
                flip(&store, place(9) + at).await;
                assert_eq!(read(layer, 9).await, Some(9));
            }
        }
    });
}

#[test]
fn what_lies_in_another_sectors_place_is_an_error() {
    block_on(async {
        let store = store(1, 512).await;
        let layer = layer_on(&store, &verified(), &few_pages()).await;
        // The same bytes, but for one: a checksum of the bytes alone could not tell a whole sector that was written elsewhere.
        for (sector, byte) in [(1, 7), (2, 7), (3, 8)] {
            write(&layer, sector, byte).await;
        }
        layer.close().await.unwrap();
        let other = sector_at(&store, place(3) / 512).await;
        put(&store, place(1) / 512, other).await;
        let layer = open(&store).await;
        rot(&layer, 1).await;
        assert_eq!(
            (read(&layer, 2).await, read(&layer, 3).await),
            (Some(7), Some(8))
        );
    });
}

/// A page that another stripe's data came to would vouch for it, if the sector's number did not go into its checksum.
#[test]
fn a_checksum_is_of_the_sector_and_not_of_its_bytes_alone() {
    block_on(async {
        let store = store(1, 512).await;
        let layer = layer_on(&store, &verified(), &few_pages()).await;
        write(&layer, 0, 7).await;
        write(&layer, 1, 7).await;
        layer.close().await.unwrap();
        let page = 8192 + 15 * 4096;
        let sums = sector_at(&store, page / 512).await;
        assert_ne!(sums[160..164], sums[164..168]);
        let mut bytes = 1_u64.to_le_bytes().to_vec();
        bytes.extend([7; 512]);
        assert_eq!(sums[164..168], crc32c::crc32c(&bytes).to_le_bytes());
    });
}

#[test]
fn a_write_or_a_zero_over_what_has_rotted_heals_it() {
    block_on(async {
        let store = store(1, 512).await;
        let layer = layer_on(&store, &verified(), &few_pages()).await;
        for sector in [1, 2, 3] {
            write(&layer, sector, 7).await;
        }
        layer.close().await.unwrap();
        for sector in [1, 2, 3] {
            flip(&store, place(sector)).await;
        }
        let layer = open(&store).await;
        write(&layer, 1, 8).await;
        layer.unmap(2, 1, false, false).await.unwrap();
        assert_eq!(
            (read(&layer, 1).await, read(&layer, 2).await),
            (Some(8), Some(0))
        );
        layer.close().await.unwrap();
        let report = report(&store).await;
        assert_eq!(counts(&report), (1, 0, 1));
        assert_eq!(report.damage[0].sectors, Some((3, 1)));
    });
}

#[test]
fn a_stripe_is_marked_once_and_then_written_over_without_a_flush() {
    block_on(async {
        let store = store(1, 512).await;
        let layer = layer_on(&store, &verified(), &DurableOptions::default()).await;
        for sector in 0..8 {
            write(&layer, sector, 1).await;
        }
        layer.sync_cache().await.unwrap();
        let used = async || info(&store).await.unwrap().log_blocks_used;
        assert_eq!(used().await, 2);
        write(&layer, 0, 2).await;
        // The mark is there before the data.
        assert_eq!(used().await, 4);
        for round in 3..10 {
            for sector in 0..8 {
                write(&layer, sector, round).await;
            }
            layer.sync_cache().await.unwrap();
        }
        assert_eq!(used().await, 4);
        assert_eq!(counts(&report(&store).await), (0, 8, 0));
        // All of that is verified as long as the layer is open, and after it was closed.
        flip(&store, place(5)).await;
        rot(&layer, 5).await;
        layer.close().await.unwrap();
        let report = report(&store).await;
        assert_eq!(
            (counts(&report), report.condition),
            ((7, 0, 1), Condition::Damaged)
        );
    });
}

#[test]
fn what_is_not_written_any_more_is_put_on_record_while_the_layer_is_open() {
    block_on(async {
        let store = store(1, 512).await;
        let mut options = DurableOptions::default();
        options.close_after_flushes = 4;
        let layer = layer_on(&store, &verified(), &options).await;
        write(&layer, 0, 1).await;
        write(&layer, 8, 1).await;
        layer.sync_cache().await.unwrap();
        assert_eq!(counts(&report(&store).await), (2, 0, 0));
        write(&layer, 0, 2).await;
        for _ in 0..8 {
            // One of the two stripes goes on being written.
            write(&layer, 8, 2).await;
            layer.sync_cache().await.unwrap();
        }
        assert_eq!(counts(&report(&store).await), (1, 1, 0));
        flip(&store, place(0)).await;
        // What a crash leaves now is known to be wrong.
        drop(layer);
        let layer = open(&store).await;
        rot(&layer, 0).await;
        assert_eq!(read(&layer, 8).await, Some(2));
    });
}

#[test]
fn what_a_crash_leaves_of_an_open_stripe_is_read_unverified_until_it_is_written() {
    block_on(async {
        let store = store(1, 512).await;
        let layer = layer_on(&store, &verified(), &few_pages()).await;
        write(&layer, 0, 1).await;
        write(&layer, 1, 1).await;
        layer.sync_cache().await.unwrap();
        write(&layer, 0, 2).await;
        drop(layer);
        assert_eq!(counts(&report(&store).await), (0, 2, 0));
        let layer = open(&store).await;
        assert_eq!(
            (read(&layer, 0).await, read(&layer, 1).await),
            (Some(2), Some(1))
        );
        // It is not known to be wrong.
        flip(&store, place(1) + 5).await;
        assert_eq!(read(&layer, 1).await, Some(1));
        // A write takes no mark, because nothing is vouched for, and then it is known.
        write(&layer, 0, 3).await;
        flip(&store, place(0)).await;
        rot(&layer, 0).await;
        flip(&store, place(0)).await;
        layer.close().await.unwrap();
        assert_eq!(counts(&report(&store).await), (1, 1, 0));
    });
}

#[test]
fn sectors_that_a_layer_loses_and_gains_again_are_verified_by_what_they_hold_then() {
    block_on(async {
        let store = store(1, 512).await;
        let layer = layer_on(&store, &verified(), &few_pages()).await;
        for sector in 0..SECTORS {
            write(&layer, sector, 1).await;
        }
        layer.sync_cache().await.unwrap();
        layer.resize(4).await.unwrap();
        layer.resize(SECTORS).await.unwrap();
        for sector in 10..12 {
            write(&layer, sector, 2).await;
        }
        drop(layer);
        let layer = open(&store).await;
        for sector in 0..SECTORS {
            let now = read(&layer, sector).await;
            let expected: &[Option<u8>] = match sector {
                0..4 => &[Some(1)],
                // Not flushed.
                10..12 => &[Some(0), Some(2)],
                _ => &[Some(0)],
            };
            assert!(expected.contains(&now), "{sector}: {now:?}");
        }
    });
}

#[test]
fn compacting_does_not_make_zeros_of_what_was_lost() {
    block_on(async {
        let store = store(1, 512).await;
        let layer = layer_on(&store, &verified(), &few_pages()).await;
        write(&layer, 1, 7).await;
        write(&layer, 2, 0).await;
        layer.close().await.unwrap();
        drop(layer);
        put(&store, place(1) / 512, [0; 512]).await;
        let go = |_, _| ControlFlow::Continue(());
        let done = compact(store.clone(), go).await.unwrap();
        assert_eq!(done.zeroed_sectors, 1);
        let layer = open(&store).await;
        rot(&layer, 1).await;
        assert_eq!(read(&layer, 2).await, Some(0));
    });
}

#[test]
fn a_repair_takes_the_checksums_of_what_a_crash_left() {
    block_on(async {
        let store = store(1, 512).await;
        let layer = layer_on(&store, &verified(), &few_pages()).await;
        for sector in [0, 1, 8, 9] {
            write(&layer, sector, 1).await;
        }
        layer.sync_cache().await.unwrap();
        write(&layer, 0, 2).await;
        drop(layer);
        flip(&store, place(9)).await;
        assert_eq!(counts(&report(&store).await), (1, 2, 1));
        repair(store.clone()).await.unwrap();
        let after = report(&store).await;
        // What is known to be wrong is not taken for right.
        assert_eq!(
            (counts(&after), after.condition),
            ((3, 0, 1), Condition::Damaged)
        );
        let layer = open(&store).await;
        assert_eq!(
            (read(&layer, 0).await, read(&layer, 8).await),
            (Some(2), Some(1))
        );
        rot(&layer, 9).await;
        flip(&store, place(1)).await;
        rot(&layer, 1).await;
    });
}

/// A stack of a cache over what it is a copy of, which holds 9 everywhere.
async fn cached(store: &Disk, role: Role, verify: Verify) -> Disk {
    let lower = ram_disk(SECTORS * 512, false).unwrap();
    let data = vec![9; (SECTORS * 512) as usize];
    let host = HostBuffers::from_ref(&data);
    lower
        .write_vectored(&host.buffers(), 0, false)
        .await
        .unwrap();
    let lazy = LazyDurableLayer::new(store.clone()).with_role(role);
    let lazy = lazy.forced().that_verifies(verify);
    let mut cache = LayerConfiguration::new(DiskLayer::new(lazy));
    cache.read_cache = true;
    cache.write_through = role == Role::WriteThrough;
    let layers = vec![cache, LayerConfiguration::new(DiskLayer::from_disk(lower))];
    let is_read_only = role == Role::ReadCache;
    let stack = LayeredDisk::new(is_read_only, layers).await.unwrap();
    Disk::new(stack).unwrap()
}

async fn read_disk(disk: &Disk, sector: u64) -> Result<u8, DiskError> {
    let mut data = [0xee; 512];
    let host = HostBuffers::from_mut(&mut data);
    disk.read_vectored(&host.buffers(), sector).await?;
    drop(host);
    Ok(data[0])
}

#[test]
fn what_rots_in_a_cache_is_had_from_below_and_filled_again() {
    for role in [Role::ReadCache, Role::WriteThrough] {
        block_on(async {
            let store = store(1, 512).await;
            let mut options = verified();
            options.role = role;
            format(&store, &options).await.unwrap();
            let disk = cached(&store, role, Verify::Data).await;
            for sector in 0..4 {
                assert_eq!(read_disk(&disk, sector).await.unwrap(), 9);
            }
            disk.close().await.unwrap();
            assert_eq!(counts(&report(&store).await), (4, 0, 0));
            flip(&store, place(2)).await;
            for _ in 0..2 {
                assert_eq!(read_disk(&disk, 2).await.unwrap(), 9);
            }
            assert_eq!(sector_at(&store, place(2) / 512).await, [9; 512]);
            // And once more, when it was found on the store.
            disk.close().await.unwrap();
            drop(disk);
            flip(&store, place(3) + 9).await;
            let disk = cached(&store, role, Verify::Data).await;
            assert_eq!(read_disk(&disk, 3).await.unwrap(), 9);
            assert_eq!(read_disk(&disk, 3).await.unwrap(), 9);
            disk.close().await.unwrap();
            assert_eq!(counts(&report(&store).await), (4, 0, 0));
        });
    }
}

/// They look at it one after the other; none must wait for those that look after it, or all of them look for ever.
#[test]
fn who_finds_rot_in_a_cache_throws_it_away_whoever_else_looks_at_it() {
    block_on(async {
        let ram = RamDiskLayer::new(512).unwrap();
        let layers = vec![LayerConfiguration::new(DiskLayer::new(ram))];
        let store = ScriptedDisk::new(LayeredDisk::new(false, layers).await.unwrap());
        let script = store.script().clone();
        let store = Disk::new(store).unwrap();
        let mut options = verified();
        options.role = Role::WriteThrough;
        let layer = layer_on(&store, &options, &few_pages()).await;
        write(&layer, 0, 1).await;
        layer.sync_cache().await.unwrap();
        flip(&store, place(0)).await;
        // Each reads once, and the first one looks again.
        let first_look = script.hold_nth(1, Operation::Read, When::After);
        let mut first = pin!(read(&layer, 0));
        assert!(poll_once(first.as_mut()).await.is_none());
        let mut second = pin!(read(&layer, 0));
        assert!(poll_once(second.as_mut()).await.is_none());
        let second_look = script.hold(Operation::Read, When::After);
        first_look.open();
        assert!(poll_once(second.as_mut()).await.is_none());
        assert!(!script.is_pending(), "the second looks now");
        assert_eq!(poll_once(first.as_mut()).await, Some(None));
        second_look.open();
        assert_eq!(second.await, None);
    });
}

/// A store that cannot read some of its sectors until they are written.
async fn with_unreadable(store: &Disk, sectors: Range<u64>) -> Disk {
    let (faulty, control) =
        FaultDisk::new(store.clone(), FaultOptions::new(7, Clock::real())).unwrap();
    let rule = Rule::new(Action::Error(InjectedError::UnrecoveredReadError));
    let rule = rule.on([disk_fault::Operation::Read]);
    let rule = rule.sectors(sectors.start, sectors.end - sectors.start);
    control.add(rule).unwrap();
    Disk::new(faulty).unwrap()
}

#[test]
fn what_the_store_of_a_cache_cannot_read_is_had_from_below_like_what_has_rotted() {
    for (role, verify) in [
        (Role::ReadCache, Verify::Data),
        (Role::ReadCache, Verify::Metadata),
        (Role::WriteThrough, Verify::Data),
        (Role::WriteThrough, Verify::Metadata),
    ] {
        block_on(async {
            let plain = store(1, 512).await;
            let mut options = verified();
            options.verify = verify;
            options.role = role;
            format(&plain, &options).await.unwrap();
            let disk = cached(&plain, role, verify).await;
            let mut data = vec![0; 8 * 512];
            let host = HostBuffers::from_mut(&mut data);
            disk.read_vectored(&host.buffers(), 0).await.unwrap();
            disk.close().await.unwrap();
            drop(host);
            // Of a run of eight two that lie apart.
            let lost = place(2) / 512;
            let faulty = with_unreadable(&plain, lost..lost + 1).await;
            let faulty = with_unreadable(&faulty, lost + 3..lost + 4).await;
            let disk = cached(&faulty, role, verify).await;
            for _ in 0..2 {
                let host = HostBuffers::from_mut(&mut data);
                disk.read_vectored(&host.buffers(), 0).await.unwrap();
                drop(host);
                assert_eq!(data, [9; 8 * 512]);
            }
            disk.close().await.unwrap();
            // They were filled again, and the others were left alone.
            let found = report(&plain).await;
            assert_eq!((found.data_sectors, found.bad_sectors), (8, 0));
        });
    }
}

#[test]
fn what_cannot_be_read_and_is_no_copy_stays_an_error() {
    block_on(async {
        for role in [Role::Overlay, Role::WriteThrough] {
            let plain = store(1, 512).await;
            let mut options = verified();
            options.role = role;
            format(&plain, &options).await.unwrap();
            let layer = open(&plain).await;
            layer.resize(20).await.unwrap();
            layer.resize(SECTORS).await.unwrap();
            write(&layer, 22, 5).await;
            write(&layer, 3, 5).await;
            layer.close().await.unwrap();
            drop(layer);
            let faulty = with_unreadable(&plain, place(22) / 512..place(22) / 512 + 1).await;
            let faulty = with_unreadable(&faulty, place(3) / 512..place(3) / 512 + 1).await;
            let layer = open(&faulty).await;
            for _ in 0..2 {
                let lost = try_read(&layer, 22).await;
                assert!(matches!(lost, Err(DiskError::MediumError(..))), "{lost:?}");
            }
            let below = try_read(&layer, 3).await;
            match role {
                Role::Overlay => assert!(matches!(below, Err(DiskError::MediumError(..)))),
                _ => assert_eq!(below.unwrap(), None),
            }
        }
    });
}

/// The only copy is never thrown away: that of a sector which the layer below does not have.
#[test]
fn what_rots_in_a_cache_beyond_what_it_is_a_copy_of_is_an_error() {
    block_on(async {
        let store = store(1, 512).await;
        let mut options = verified();
        options.role = Role::WriteThrough;
        format(&store, &options).await.unwrap();
        let layer = open(&store).await;
        layer.resize(20).await.unwrap();
        layer.resize(SECTORS).await.unwrap();
        write(&layer, 22, 5).await;
        write(&layer, 3, 5).await;
        layer.sync_cache().await.unwrap();
        flip(&store, place(22)).await;
        flip(&store, place(3)).await;
        rot(&layer, 22).await;
        assert_eq!(read(&layer, 3).await, None);
    });
}

#[test]
fn what_was_made_otherwise_is_refused_or_emptied() {
    block_on(async {
        let mut options = verified();
        options.stripe_sectors = Some(1024);
        let error = format(&store(1, 512).await, &options).await.unwrap_err();
        assert!(matches!(error, FormatError::Option { .. }), "{error}");
        assert!(error.to_string().contains("512"), "{error}");
        let plain = store(1, 512).await;
        format(&plain, &tight(SECTORS, 512)).await.unwrap();
        assert_eq!(info(&plain).await.unwrap().verify, Verify::Metadata);
        let lazy = LazyDurableLayer::new(plain.clone()).that_verifies(Verify::Data);
        let attached = disk_layered::LayerAttach::attach(lazy, None).await;
        assert!(
            matches!(attached, Err(OpenError::Unverified)),
            "{attached:?}"
        );
        // A layer that verifies more than is asked for does so.
        let more = store(1, 512).await;
        format(&more, &verified()).await.unwrap();
        let lazy = LazyDurableLayer::new(more.clone());
        disk_layered::LayerAttach::attach(lazy, None).await.unwrap();
        assert_eq!(info(&more).await.unwrap().verify, Verify::Data);
        // A cache is made anew, with the most that a page can speak of.
        let mut cache = FormatOptions::new(SECTORS);
        cache.role = Role::ReadCache;
        let emptied = store(1, 512).await;
        format(&emptied, &cache).await.unwrap();
        let disk = cached(&emptied, Role::ReadCache, Verify::Data).await;
        assert_eq!(read_disk(&disk, 1).await.unwrap(), 9);
        let info = info(&emptied).await.unwrap();
        assert_eq!((info.verify, info.stripe_sectors), (Verify::Data, 512));
    });
}

/// A store under a script, and a layer on it whose sectors 0 and 1 hold 1, as is not on record yet.
async fn scripted() -> (Disk, Script, DurableLayer) {
    let ram = RamDiskLayer::new(512).unwrap();
    let layers = vec![LayerConfiguration::new(DiskLayer::new(ram))];
    let store = ScriptedDisk::new(LayeredDisk::new(false, layers).await.unwrap());
    let script = store.script().clone();
    let store = Disk::new(store).unwrap();
    let layer = layer_on(&store, &verified(), &few_pages()).await;
    write(&layer, 0, 1).await;
    write(&layer, 1, 1).await;
    (store, script, layer)
}

/// C3: a checksum of what the memory held a moment before would call the data wrong for ever.
#[test]
fn memory_that_changes_under_a_write_changes_data_and_checksum_alike() {
    block_on(async {
        for (sector, is_fill) in [(0, false), (2, false), (2, true)] {
            let (store, script, layer) = scripted().await;
            let memory = GuestMemory::allocate(512);
            memory.fill_at(0, 7, 512).unwrap();
            let owned = OwnedRequestBuffers::linear(0, 512, false);
            let buffers = owned.buffer(&memory);
            let gate = script.hold(Operation::Write, When::Before);
            let fill = layer.write_no_overwrite().unwrap();
            let mut writing = pin!(async {
                match is_fill {
                    true => fill.write_no_overwrite(&buffers, sector).await,
                    false => layer.write(&buffers, sector, false).await,
                }
            });
            assert!(poll_once(writing.as_mut()).await.is_none());
            memory.fill_at(0, 8, 512).unwrap();
            gate.open();
            writing.await.unwrap();
            assert_eq!(read(&layer, sector).await, Some(7));
            layer.close().await.unwrap();
            let count = if sector == 0 { 2 } else { 3 };
            assert_eq!(counts(&report(&store).await), (count, 0, 0));
        }
    });
}

#[test]
fn what_is_read_beside_a_write_is_old_or_new_and_no_rot() {
    block_on(async {
        for when in [When::Before, When::After] {
            let (_, script, layer) = scripted().await;
            let gate = script.hold(Operation::Read, when);
            let mut reading = pin!(read(&layer, 0));
            assert!(poll_once(reading.as_mut()).await.is_none());
            write(&layer, 0, 2).await;
            gate.open();
            let expected = if when == When::Before { 2 } else { 1 };
            assert_eq!(reading.await, Some(expected));
        }
    });
}

#[test]
fn of_a_write_that_failed_or_was_dropped_no_checksum_is_kept() {
    block_on(async {
        for is_done in [true, false] {
            let (store, script, layer) = scripted().await;
            let data = [2; 512];
            let host = HostBuffers::from_ref(&data);
            let when = if is_done { When::After } else { When::Before };
            script.fail_nth(0, Operation::Write, when);
            let written = layer.write(&host.buffers(), 0, false).await;
            written.unwrap_err();
            let now = if is_done { 2 } else { 1 };
            assert_eq!(read(&layer, 0).await, Some(now));
            let gate = script.hold(Operation::Write, when);
            {
                let buffers = host.buffers();
                let mut writing = pin!(layer.write(&buffers, 1, false));
                assert!(poll_once(writing.as_mut()).await.is_none());
            }
            gate.open();
            assert_eq!(read(&layer, 1).await, Some(now));
            layer.close().await.unwrap();
            assert_eq!(counts(&report(&store).await), (0, 2, 0));
            // The next one that succeeds is known.
            write(&layer, 0, 3).await;
            layer.close().await.unwrap();
            assert_eq!(counts(&report(&store).await), (1, 1, 0));
        }
    });
}

/// How many flushes of the store `work` takes.
async fn flushes_of(script: &Script, work: impl Future<Output = ()>) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    script.run(Operation::Flush, When::Before, move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    work.await;
    script.clear();
    count.load(Ordering::Relaxed)
}

#[test]
fn a_long_write_takes_one_mark_and_writes_in_order_few() {
    block_on(async {
        const STRIPES: u64 = 256;
        let ram = RamDiskLayer::new(512).unwrap();
        let layers = vec![LayerConfiguration::new(DiskLayer::new(ram))];
        let store = ScriptedDisk::new(LayeredDisk::new(false, layers).await.unwrap());
        let script = store.script().clone();
        let store = Disk::new(store).unwrap();
        let mut options = verified();
        options.sector_count = 8 * STRIPES;
        options.log_blocks = Some(1000);
        let layer = layer_on(&store, &options, &DurableOptions::default()).await;
        let data = vec![1; STRIPES as usize * 4096];
        let host = HostBuffers::from_ref(&data);
        layer.write(&host.buffers(), 0, false).await.unwrap();
        layer.sync_cache().await.unwrap();
        // A mark is two flushes of the store: for the first 64 stripes; for 64 more and the 64 that lie ahead of them; and for the rest.
        let all = flushes_of(&script, async {
            layer.write(&host.buffers(), 0, false).await.unwrap();
        });
        assert_eq!(all.await, 2 * 3);
        layer.close().await.unwrap();
        write(&layer, 0, 1).await;
        let in_order = flushes_of(&script, async {
            for sector in 1..8 * STRIPES {
                write(&layer, sector, 2).await;
            }
        });
        // 1, 1, 2, 4, 8, 16, 32, and then 64 each.
        assert!(in_order.await <= 2 * 10);
        let at_random = flushes_of(&script, async {
            for stripe in 0..STRIPES {
                write(&layer, 8 * (stripe * 77 % STRIPES), 3).await;
                layer.sync_cache().await.unwrap();
            }
        });
        // All of them stay open, so that each flush is one of the store.
        assert_eq!(at_random.await, STRIPES as usize);
    });
}

/// V2: what a flush that failed may have left counts.
#[test]
fn nothing_is_written_over_what_a_failed_flush_may_have_put_on_record() {
    block_on(async {
        // The flush before the entry, the entry, and the flush behind it.
        for (nth, operation) in [
            (0, Operation::Flush),
            (0, Operation::Write),
            (1, Operation::Flush),
        ] {
            let (store, script, layer) = scripted().await;
            script.fail_nth(nth, operation, When::After);
            layer.sync_cache().await.unwrap_err();
            // While the mark cannot be made, the data is not written.
            script.fail_nth(0, Operation::Flush, When::Before);
            let data = [2; 512];
            let host = HostBuffers::from_ref(&data);
            let written = layer.write(&host.buffers(), 0, false).await;
            written.unwrap_err();
            assert_eq!(read(&layer, 0).await, Some(1));
            write(&layer, 0, 2).await;
            drop(layer);
            // Killed here: what was written is there, and is not called wrong.
            let layer = open(&store).await;
            let found = (read(&layer, 0).await, read(&layer, 1).await);
            assert_eq!(found, (Some(2), Some(1)));
        }
    });
}

/// A program that knows nothing of this feature finds its bit, and refuses it.
#[test]
fn the_feature_has_a_bit_that_an_older_program_refuses() {
    block_on(async {
        let store = store(1, 512).await;
        format(&store, &verified()).await.unwrap();
        for copy in [0, 8] {
            let sector = sector_at(&store, copy).await;
            assert_eq!(sector[24..32], 1_u64.to_le_bytes());
        }
    });
}
