//! Layers that verify their data: what has rotted is never read as if it were right, and nothing else is taken for rot.

mod common;

use common::verified::{SECTORS, counts, place, rot, verified};
use common::{
    bytes_at, few_pages, flip, layer_on, memory, open, put, read, read_disk, report, store, tight,
    try_read, watched, with_unreadable, write,
};
use disk_backend::{Disk, DiskError};
use disk_contract::{Operation, ScriptedDisk, When};
use disk_layered::{DiskLayer, LayerConfiguration, LayerIo, LayeredDisk};
use disklayer_durable::{
    Condition, FormatError, FormatOptions, LazyDurableLayer, OpenError, Role, Verify, compact,
    format, info, repair,
};
use disklayer_ram::ram_disk;
use futures_lite::future::{block_on, poll_once};
use scsi_buffers::HostBuffers;
use std::pin::pin;

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
        let other = bytes_at(&store, place(3), 512).await;
        put(&store, place(1), &other).await;
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
        let sums = bytes_at(&store, page, 512).await;
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
fn compacting_does_not_make_zeros_of_what_was_lost() {
    block_on(async {
        let store = store(1, 512).await;
        let layer = layer_on(&store, &verified(), &few_pages()).await;
        write(&layer, 1, 7).await;
        write(&layer, 2, 0).await;
        layer.close().await.unwrap();
        drop(layer);
        put(&store, place(1), &[0; 512]).await;
        let done = compact(store.clone(), watched).await.unwrap();
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
    put(&lower, 0, &[9; SECTORS as usize * 512]).await;
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
                assert_eq!(read_disk(&disk, sector).await, 9);
            }
            disk.close().await.unwrap();
            assert_eq!(counts(&report(&store).await), (4, 0, 0));
            flip(&store, place(2)).await;
            for _ in 0..2 {
                assert_eq!(read_disk(&disk, 2).await, 9);
            }
            assert_eq!(bytes_at(&store, place(2), 512).await, [9; 512]);
            // And once more, when it was found on the store.
            disk.close().await.unwrap();
            drop(disk);
            flip(&store, place(3) + 9).await;
            let disk = cached(&store, role, Verify::Data).await;
            assert_eq!(read_disk(&disk, 3).await, 9);
            assert_eq!(read_disk(&disk, 3).await, 9);
            disk.close().await.unwrap();
            assert_eq!(counts(&report(&store).await), (4, 0, 0));
        });
    }
}

/// They look at it one after the other; none must wait for those that look after it, or all of them look for ever.
#[test]
fn who_finds_rot_in_a_cache_throws_it_away_whoever_else_looks_at_it() {
    block_on(async {
        let store = ScriptedDisk::new(memory(1, 512).await);
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
        assert_eq!(read_disk(&disk, 1).await, 9);
        let info = info(&emptied).await.unwrap();
        assert_eq!((info.verify, info.stripe_sectors), (Verify::Data, 512));
    });
}

/// A program that knows nothing of this feature finds its bit, and refuses it.
#[test]
fn the_feature_has_a_bit_that_an_older_program_refuses() {
    block_on(async {
        let store = store(1, 512).await;
        format(&store, &verified()).await.unwrap();
        for copy in [0, 8] {
            let sector = bytes_at(&store, copy * 512, 512).await;
            assert_eq!(sector[24..32], 1_u64.to_le_bytes());
        }
    });
}
