//! What each action does to each operation that it can be done to, and that nothing else is touched.

mod common;

use clock::Clock;
use common::{SECTOR, SECTORS, World, plain, read, request, stamps, write};
use disk_backend::{Disk, DiskError, MediumErrorDetails, Persistence, UnmapBehavior};
use disk_contract::ProbeLog;
use disk_fault::{Action, FaultDisk, FaultOptions, InjectedError, Operation, Rule};
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;

/// A fault that changes what is read is the test's, not the content's.
#[test]
fn the_content_is_what_it_is_of_below() {
    let below = Disk::new(common::probe(&ProbeLog::default()).read_only()).unwrap();
    assert!(below.content_stamp().is_some());
    let options = FaultOptions::new(1, Clock::real());
    let (disk, _) = FaultDisk::new(below.clone(), options).unwrap();
    assert_eq!(
        Disk::new(disk).unwrap().content_stamp(),
        below.content_stamp()
    );
}

#[test]
fn without_rules_everything_is_passed_on_as_it_came() {
    let world = World::new([]);
    for operation in Operation::ALL {
        block_on(request(&world.disk, operation)).unwrap();
        assert_eq!(world.log.take(), [plain(operation)]);
    }
    block_on(async {
        world.disk.eject().await.unwrap();
        world
            .disk
            .write_zeroes(1, 3, true, false, true)
            .await
            .unwrap();
        world.disk.unmap(1, 3, true).await.unwrap();
        assert_eq!(world.disk.wait_resize(SECTORS + 1).await, SECTORS);
        world.disk.close().await.unwrap();
        world.disk.drain().await;
    });
    let expected = [
        "eject",
        "zero 1+3 true false true",
        "unmap 1+3 true",
        "wait_resize 17",
        "flush",
        "close",
        "drain",
    ];
    assert_eq!(world.log.take(), expected);
    assert_eq!(world.disk.disk_type(), "fault");
    assert_eq!(world.disk.disk_id(), Some([7; 16]));
    assert_eq!(world.disk.physical_sector_size(), 4096);
    assert_eq!(world.disk.atomic_write_sectors(), 8);
    assert_eq!(world.disk.optimal_unmap_sectors(), 4);
    assert_eq!(world.disk.persistence(), Persistence::Persistent);
    assert_eq!(world.disk.unmap_behavior(), UnmapBehavior::Zeroes);
    assert!(world.disk.pr().is_none());
}

#[test]
fn an_error_fails_every_operation_and_nothing_reaches_the_disk() {
    for operation in Operation::ALL {
        let rule = Rule::new(Action::Error(InjectedError::NoSpace)).on([operation]);
        let world = World::new([rule]);
        for other in Operation::ALL {
            let result = block_on(request(&world.disk, other));
            if other == operation {
                assert!(matches!(result, Err(DiskError::NoSpace)), "{other}");
                assert_eq!(world.log.take(), [""; 0], "{other}");
            } else {
                result.unwrap();
                assert_eq!(world.log.take(), [plain(other)]);
            }
        }
        assert_eq!(world.struck(0), 1);
    }
}

#[test]
fn every_error_of_a_disk_can_be_had() {
    use InjectedError as E;
    let cause =
        |error: &std::io::Error| assert_eq!(error.to_string(), "rule 3 of a fault disk says so");
    for (error, details) in [
        (
            E::UnrecoveredReadError,
            MediumErrorDetails::UnrecoveredReadError,
        ),
        (E::WriteFault, MediumErrorDetails::WriteFault),
        (E::GuardCheckFailed, MediumErrorDetails::GuardCheckFailed),
        (
            E::ApplicationTagCheckFailed,
            MediumErrorDetails::ApplicationTagCheckFailed,
        ),
        (
            E::ReferenceTagCheckFailed,
            MediumErrorDetails::ReferenceTagCheckFailed,
        ),
    ] {
        let DiskError::MediumError(source, found) = error.to_disk_error(3) else {
            panic!("{error:?} is a medium error");
        };
        assert_eq!(found, details);
        cause(&source);
    }
    let DiskError::Io(source) = E::Io.to_disk_error(3) else {
        panic!("this is an I/O error");
    };
    cause(&source);
    let is = |error: E, matches: fn(&DiskError) -> bool| {
        assert!(matches(&error.to_disk_error(0)), "{error:?}")
    };
    is(E::NoSpace, |error| matches!(error, DiskError::NoSpace));
    is(E::ReadOnly, |error| matches!(error, DiskError::ReadOnly));
    is(E::Unsupported, |error| {
        matches!(error, DiskError::Unsupported)
    });
    is(E::IllegalBlock, |error| {
        matches!(error, DiskError::IllegalBlock)
    });
    is(E::InvalidInput, |error| {
        matches!(error, DiskError::InvalidInput)
    });
    is(E::MemoryAccess, |error| {
        matches!(error, DiskError::MemoryAccess(_))
    });
    is(E::ReservationConflict, |error| {
        matches!(error, DiskError::ReservationConflict)
    });
    is(E::AbortDueToPreemptAndAbort, |error| {
        matches!(error, DiskError::AbortDueToPreemptAndAbort)
    });
    is(E::UnsupportedEject, |error| {
        matches!(error, DiskError::UnsupportedEject)
    });
}

#[test]
fn what_failed_once_for_ever_fails_until_the_rule_goes() {
    for operation in Operation::ALL {
        let mut rule = Rule::new(Action::FailForever(InjectedError::Io)).on([operation]);
        rule.after_requests = 1;
        rule.times = Some(1);
        let world = World::new([rule]);
        block_on(request(&world.disk, operation)).unwrap();
        for _ in 0..3 {
            let result = block_on(request(&world.disk, operation));
            assert!(matches!(result, Err(DiskError::Io(_))), "{operation}");
        }
        world.control.remove(0).unwrap();
        block_on(request(&world.disk, operation)).unwrap();
    }
}

#[test]
fn what_is_dropped_is_acknowledged_and_not_done() {
    for operation in [Operation::Write, Operation::WriteZeroes, Operation::Unmap] {
        let world = World::new([Rule::new(Action::Drop).on([operation])]);
        block_on(write(&world.below, 0, SECTORS, 5)).unwrap();
        block_on(request(&world.disk, operation)).unwrap();
        assert_eq!(world.stamps(), [5; SECTORS as usize], "{operation}");
        assert_eq!(world.struck(0), 1);
    }
}

/// A request for all sectors that changes them to something else than 5.
async fn change_all(world: &World, operation: Operation) -> Result<(), DiskError> {
    match operation {
        Operation::Write => write(&world.disk, 0, SECTORS, 6).await,
        _ => {
            world
                .disk
                .write_zeroes(0, SECTORS, false, true, false)
                .await
        }
    }
}

#[test]
fn a_partial_write_leaves_out_some_sectors_that_the_rule_is_about_and_no_others() {
    for (operation, new) in [(Operation::Write, 6), (Operation::WriteZeroes, 0)] {
        for (action, fails) in [
            (Action::Partial, false),
            (Action::PartialError(InjectedError::WriteFault), true),
        ] {
            for seed in 0..30 {
                let rule = Rule::new(action.clone()).on([operation]).sectors(4, 5);
                let world = World::with(FaultOptions::new(seed, clock::Clock::real()), [rule]);
                block_on(write(&world.below, 0, SECTORS, 5)).unwrap();
                let result = block_on(change_all(&world, operation));
                assert_eq!(result.is_err(), fails, "{operation}, seed {seed}");
                let stamps = world.stamps();
                let written = |range: std::ops::Range<usize>| {
                    stamps[range].iter().filter(|stamp| **stamp == new).count()
                };
                assert!(
                    (1..5).contains(&written(4..9)),
                    "{operation}, seed {seed}: {stamps:?}"
                );
                assert_eq!(
                    written(0..4) + written(9..16),
                    11,
                    "{operation}, seed {seed}"
                );
            }
        }
    }
}

#[test]
fn of_one_sector_that_the_rule_is_about_nothing_is_written() {
    let world = World::new([Rule::new(Action::Partial).sectors(3, 1)]);
    block_on(write(&world.disk, 2, 3, 6)).unwrap();
    assert_eq!(world.stamps()[..6], [0, 0, 6, 0, 6, 0]);
}

#[test]
fn bits_flip_in_the_answer_among_the_sectors_of_the_rule_and_never_in_the_store() {
    for count in [1, 3, 4096] {
        let rule = Rule::new(Action::FlipBits(count)).sectors(5, 1);
        let world = World::new([rule]);
        block_on(write(&world.below, 0, SECTORS, 5)).unwrap();
        let data = block_on(read(&world.disk, 4, 3)).unwrap();
        let flipped = |sector: usize| -> u32 {
            let bytes = &data[sector * SECTOR..][..SECTOR];
            bytes.iter().map(|byte| (byte ^ 5).count_ones()).sum()
        };
        assert_eq!([flipped(0), flipped(1), flipped(2)], [0, count, 0]);
        assert_eq!(world.stamps(), [5; SECTORS as usize]);
        assert_eq!(stamps(&world.disk, 6, 2), [5, 5]);
        assert_eq!(world.struck(0), 1);
    }
}

#[test]
fn a_misdirected_request_goes_to_other_sectors_inside_the_disk() {
    let mut places = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let rule = Rule::new(Action::Misdirect);
        let world = World::with(FaultOptions::new(seed, clock::Clock::real()), [rule]);
        for operation in [Operation::Write, Operation::WriteZeroes, Operation::Read] {
            block_on(request(&world.disk, operation)).unwrap();
            let [entry] = &world.log.take()[..] else {
                panic!("{operation}: one request");
            };
            let place = entry.split(' ').nth(1).unwrap().split('+').next().unwrap();
            let place: u64 = place.parse().unwrap();
            assert!(place != 2 && place <= SECTORS - 2, "{entry}");
            places.insert(place);
        }
    }
    assert_eq!(
        places.len() as u64,
        SECTORS - 2,
        "each place but one: {places:?}"
    );
}

#[test]
fn a_request_as_long_as_the_disk_cannot_be_misdirected_and_is_not_counted() {
    let world = World::new([Rule::new(Action::Misdirect)]);
    block_on(write(&world.disk, 0, SECTORS, 6)).unwrap();
    assert_eq!(world.stamps(), [6; SECTORS as usize]);
    assert_eq!(world.control.list()[0].concerned, 0);
}

#[test]
fn a_disk_that_lies_about_flushes_does_not_flush() {
    let world = World::new([Rule::new(Action::SkipFlush)]);
    let data = [1; SECTOR];
    let host = HostBuffers::from_ref(&data);
    block_on(async {
        world.disk.sync_cache().await.unwrap();
        world
            .disk
            .write_vectored(&host.buffers(), 1, true)
            .await
            .unwrap();
        world
            .disk
            .write_zeroes(2, 1, true, true, false)
            .await
            .unwrap();
    });
    assert_eq!(world.log.take(), ["write 1+1", "zero 2+1 false true false"]);
    assert_eq!(world.struck(0), 3);
    block_on(write(&world.disk, 0, 1, 1)).unwrap();
    assert_eq!(
        world.control.list()[0].concerned,
        3,
        "a plain write asks for no flush"
    );
}

#[test]
fn a_durable_write_stays_one_through_other_actions() {
    let world = World::new([Rule::new(Action::Misdirect)]);
    let data = [1; SECTOR];
    block_on(async {
        let host = HostBuffers::from_ref(&data);
        world
            .disk
            .write_vectored(&host.buffers(), 1, true)
            .await
            .unwrap();
    });
    assert!(world.log.take()[0].ends_with("fua"));
}

#[test]
fn where_the_disk_has_no_durable_writes_rules_see_the_flush_that_follows() {
    let log = disk_contract::ProbeLog::default();
    let probe = common::probe(&log).without_fua();
    let mut options = FaultOptions::new(1, clock::Clock::real());
    options.rules = vec![Rule::new(Action::SkipFlush).on([Operation::Flush])];
    let below = disk_backend::Disk::new(probe).unwrap();
    let (disk, control) = disk_fault::FaultDisk::new(below, options).unwrap();
    let disk = disk_backend::Disk::new(disk).unwrap();
    let data = [1; SECTOR];
    let host = HostBuffers::from_ref(&data);
    block_on(disk.write_vectored(&host.buffers(), 1, true)).unwrap();
    assert_eq!(log.take(), ["write 1+1"]);
    control.remove(0).unwrap();
    block_on(disk.write_vectored(&host.buffers(), 1, true)).unwrap();
    assert_eq!(log.take(), ["write 1+1", "flush"], "one flush, not two");
}
