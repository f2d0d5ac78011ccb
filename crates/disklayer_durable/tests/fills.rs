//! Fills that those who began them have left half-done: nobody waits for anybody else, and nothing stays behind (C4, C9).

mod common;

use clock::Clock;
use common::{open, read, store, tight, try_read_disk, try_write_disk};
use disk_backend::Disk;
use disk_contract::{DiskSpec, ReferenceDisk};
use disk_fault::{Action, FaultControl, FaultDisk, FaultOptions, Operation, Rule};
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disklayer_durable::{LazyDurableLayer, Role, format, info};
use disklayer_ram::LazyRamDiskLayer;
use futures_lite::future::{block_on, poll_once};
use std::pin::pin;

const SECTORS: u64 = 64;

/// So often is polled what must end without anybody else.
const POLLS_MAX: usize = 1000;

/// Ends without anybody else polling anything.
#[track_caller]
fn alone<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut polls = (0..POLLS_MAX).map(|_| block_on(poll_once(future.as_mut())));
    polls.find_map(|done| done).expect("it waits for somebody")
}

/// A cache on a store that can be held up, below memory or written through, above a disk of ones.
struct Cached {
    disk: Disk,
    store: Disk,
    control: FaultControl,
}

fn cached(role: Role) -> Cached {
    block_on(async {
        let store = store(1, 512).await;
        let mut options = tight(SECTORS, 512);
        options.role = role;
        format(&store, &options).await.unwrap();
        let slow = FaultDisk::new(store.clone(), FaultOptions::new(7, Clock::real()));
        let (slow, control) = slow.unwrap();
        let lazy = LazyDurableLayer::new(Disk::new(slow).unwrap()).with_role(role);
        let mut spec = DiskSpec::new(SECTORS, 512);
        spec.content.fill(1);
        let lower = Disk::new(ReferenceDisk::new(spec)).unwrap();
        let mut layers = vec![
            LayerConfiguration {
                layer: DiskLayer::new(lazy),
                read_cache: true,
                write_through: role == Role::WriteThrough,
            },
            LayerConfiguration::new(DiskLayer::from_disk(lower)),
        ];
        if role == Role::ReadCache {
            let top = DiskLayer::new(LazyRamDiskLayer::new());
            layers.insert(0, LayerConfiguration::new(top));
        }
        let disk = LayeredDisk::new(false, layers).await.unwrap();
        Cached {
            disk: Disk::new(disk).unwrap(),
            store,
            control,
        }
    })
}

/// What the cache has of a sector, when it is closed and opened again.
fn kept(store: &Disk, sector: u64) -> Option<u8> {
    block_on(async { read(&open(store).await, sector).await })
}

fn hold() -> Rule {
    Rule::new(Action::Hold).on([Operation::Write, Operation::Flush])
}

#[test]
fn a_read_does_not_wait_for_its_fill_and_whoever_comes_finishes_it() {
    for role in [Role::ReadCache, Role::WriteThrough] {
        // What is held up: the first that is written, which says that the cache is in use; or the data.
        for is_in_use in [false, true] {
            let Cached {
                disk,
                store,
                control,
            } = cached(role);
            if is_in_use {
                assert_eq!(alone(try_read_disk(&disk, 40)).unwrap(), 1);
                alone(disk.drain());
            }
            let held = control.add(hold()).unwrap();
            assert_eq!(alone(try_read_disk(&disk, 5)).unwrap(), 1);
            // Others read it meanwhile, and its neighbours.
            assert_eq!(alone(try_read_disk(&disk, 5)).unwrap(), 1);
            assert_eq!(alone(try_read_disk(&disk, 6)).unwrap(), 1);
            control.remove(held).unwrap();
            // A write of the same sector, a flush and the end: each is the only one that is polled.
            alone(try_write_disk(&disk, 5, 2)).unwrap();
            assert_eq!(alone(try_read_disk(&disk, 5)).unwrap(), 2);
            alone(disk.sync_cache()).unwrap();
            alone(disk.close()).unwrap();
            drop(disk);
            assert!(!alone(info(&store)).unwrap().is_in_use, "{role}");
            let expected = match role {
                Role::WriteThrough => 2,
                _ => 1,
            };
            assert_eq!(kept(&store, 5), Some(expected), "{role} {is_in_use}");
            assert_eq!(kept(&store, 6), Some(1), "{role} {is_in_use}");
        }
    }
}

#[test]
fn a_write_waits_for_a_fill_of_a_reader_that_went_away_and_gets_it_on() {
    let Cached {
        disk,
        store,
        control,
    } = cached(Role::WriteThrough);
    let held = control.add(hold()).unwrap();
    {
        let mut reading = pin!(try_read_disk(&disk, 5));
        let _ = block_on(poll_once(reading.as_mut()));
    }
    {
        let mut writing = pin!(try_write_disk(&disk, 5, 2));
        for _ in 0..10 {
            assert!(block_on(poll_once(writing.as_mut())).is_none());
        }
        control.remove(held).unwrap();
        alone(writing).unwrap();
    }
    alone(disk.close()).unwrap();
    drop(disk);
    assert_eq!(kept(&store, 5), Some(2));
}

/// More than are left to others at a time: the rest is let go of, half-done.
#[test]
fn fills_that_are_let_go_of_leave_nothing_behind() {
    for role in [Role::ReadCache, Role::WriteThrough] {
        let Cached {
            disk,
            store,
            control,
        } = cached(role);
        let held = control.add(hold()).unwrap();
        for sector in 0..40 {
            assert_eq!(alone(try_read_disk(&disk, sector)).unwrap(), 1);
        }
        control.remove(held).unwrap();
        for sector in 0..40 {
            alone(try_write_disk(&disk, sector, 2)).unwrap();
            assert_eq!(alone(try_read_disk(&disk, sector)).unwrap(), 2);
        }
        alone(disk.close()).unwrap();
        drop(disk);
        assert!(!alone(info(&store)).unwrap().is_in_use, "{role}");
        if role == Role::WriteThrough {
            assert!((0..40).all(|sector| kept(&store, sector) == Some(2)));
        }
    }
}
