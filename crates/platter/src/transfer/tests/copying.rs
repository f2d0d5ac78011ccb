//! Facts about copies.

use super::super::fault::Attempt;
use super::*;
use disk_backend::BlockState;

/// 256 KiB: data, a hole, a page of zeros in data, data, and a tail that is no whole granule.
fn image() -> Vec<u8> {
    let mut bytes = vec![0; 256 * KIB as usize + 512];
    bytes[..40 * 1024].copy_from_slice(&noise(1, 40 * KIB));
    bytes[100 * 1024..180 * 1024].copy_from_slice(&noise(2, 80 * KIB));
    bytes[120 * 1024..124 * 1024].fill(0);
    bytes[256 * 1024..].copy_from_slice(&noise(3, 512));
    bytes
}

fn holes(probe: &Probe) -> u64 {
    let mut extents = super::super::Extents::new(View::new(probe.inner(), Side::First));
    let mut bytes = 0;
    while let Some(extent) = block_on(extents.next()).unwrap() {
        if extent.state == BlockState::Hole {
            bytes += extent.range.end - extent.range.start;
        }
    }
    bytes
}

#[test]
fn a_copy_holds_what_the_source_holds_and_is_flushed() {
    let source = disk(&image(), 512);
    for is_blank in [false, true] {
        let destination = disk(&vec![0; image().len()], 512);
        let copied = copy_as(&source, &destination, is_blank, Tail::Zero).unwrap();
        assert_eq!(content(&destination), image());
        assert_eq!(destination.take_log().flush_count, 1);
        assert_eq!(compare(&source, &destination).unwrap().first_offset, None);
        let data_bytes = 40 * KIB + 76 * KIB + 512;
        assert_eq!(copied.tally.written_bytes, data_bytes);
        assert_eq!(copied.tally.zeroed_bytes, 0);
        let compared_bytes = if is_blank { 0 } else { image().len() as u64 };
        assert_eq!(copied.tally.compared_bytes, compared_bytes);
        assert_eq!(source.take_log().written, []);
    }
}

#[test]
fn what_is_zero_in_the_source_is_a_hole_in_the_copy() {
    let traits = Traits {
        says_all_is_data: true,
        ..Traits::default()
    };
    let source = probe(&image(), 512, traits);
    let destination = disk(&vec![0; image().len()], 512);
    copy_as(&source, &destination, true, Tail::Zero).unwrap();
    assert_eq!(holes(&destination), 256 * KIB + 512 - (116 * KIB + 512));
}

#[test]
fn holes_of_the_source_are_not_read() {
    let source = disk(&image(), 512);
    let destination = disk(&vec![0; image().len()], 512);
    let copied = copy_as(&source, &destination, true, Tail::Zero).unwrap();
    assert_eq!(copied.tally.source_read_bytes, 116 * KIB + 512);
    assert_eq!(source.take_log().read_bytes, 116 * KIB + 512);
    assert_eq!(copied.tally.destination_read_bytes, 0);
    assert_eq!(destination.take_log().read_bytes, 0);
}

#[test]
fn what_the_destination_held_is_replaced_and_given_back() {
    let source = disk(&image(), 512);
    let destination = disk(&noise(9, image().len() as u64), 512);
    let copied = copy(&source, &destination).unwrap();
    assert_eq!(content(&destination), image());
    assert_eq!(copied.tally.written_bytes, 116 * KIB + 512);
    assert_eq!(copied.tally.zeroed_bytes, 140 * KIB);
    assert_eq!(holes(&destination), 140 * KIB);
}

#[test]
fn a_second_run_writes_nothing() {
    let (source, destination) = (disk(&image(), 512), disk(&noise(9, 256 * KIB + 512), 512));
    copy(&source, &destination).unwrap();
    destination.take_log();
    let copied = copy(&source, &destination).unwrap();
    let log = destination.take_log();
    assert_eq!((log.written, log.zeroed), (vec![], vec![]));
    assert_eq!(copied.tally.skipped_bytes, image().len() as u64);
    assert_eq!(copied.tally.compared_bytes, image().len() as u64);
}

#[test]
fn a_run_over_an_older_copy_writes_only_the_granules_that_differ() {
    let mut old = image();
    old[1] ^= 1;
    old[39 * 1024] ^= 1;
    // A page that is zero in the source, and one that is not in the copy.
    old[60 * 1024] = 1;
    old[100 * 1024..104 * 1024].fill(0);
    let (source, destination) = (disk(&image(), 512), disk(&old, 512));
    copy(&source, &destination).unwrap();
    assert_eq!(content(&destination), image());
    let mut log = destination.take_log();
    log.written.sort_by_key(|range| range.start);
    let written = [0..4, 36..40, 100..104].map(|range| range.start * KIB..range.end * KIB);
    assert_eq!(log.written, written);
    assert_eq!(log.zeroed.len(), 1);
    assert_eq!(log.zeroed[0], 60 * KIB..64 * KIB);
}

#[test]
fn sectors_of_different_sizes_are_copied_as_bytes() {
    for (from, to) in [(512, 4096), (4096, 512), (512, 8192), (16384, 512)] {
        let mut image = image();
        image.resize(272 * KIB as usize, 0);
        let (source, destination) = (disk(&image, from), disk(&noise(4, 272 * KIB), to));
        copy(&source, &destination).unwrap();
        assert_eq!(content(&destination), image, "{from} to {to}");
    }
}

#[test]
fn a_longer_destination_reads_zero_behind_the_copy() {
    // The source ends inside of a sector of the destination.
    let source = disk(&image(), 512);
    let destination = disk(&noise(4, 320 * KIB), 4096);
    copy(&source, &destination).unwrap();
    let mut expected = image();
    expected.resize(320 * KIB as usize, 0);
    assert_eq!(content(&destination), expected);
    assert_eq!(compare(&source, &destination).unwrap().first_offset, None);
}

#[test]
fn a_tail_that_is_kept_is_kept_to_the_byte() {
    for trailing_zeros in [false, true] {
        let mut image = image();
        if trailing_zeros {
            image[256 * 1024..].fill(0);
        }
        let (source, destination) = (disk(&image, 512), disk(&noise(4, 320 * KIB), 4096));
        copy_as(&source, &destination, false, Tail::Keep).unwrap();
        let mut expected = noise(4, 320 * KIB);
        expected[..image.len()].copy_from_slice(&image);
        assert_eq!(content(&destination), expected);
    }
}

/// Makes the source longer when the run has begun.
struct Grower<'a> {
    source: &'a Probe,
    sector_count: u64,
}

impl Watch for Grower<'_> {
    fn is_stopped(&self) -> bool {
        block_on(self.source.inner().resize(self.sector_count)).unwrap();
        false
    }

    fn advance(&self, _bytes: u64) {}
}

#[test]
fn a_source_that_grows_meanwhile_is_copied_as_long_as_it_was() {
    let (source, destination) = (disk(&image(), 512), disk(&noise(4, 320 * KIB), 4096));
    let copy = Copy {
        source: source.disk(),
        destination: destination.disk(),
        is_blank: false,
        tail: Tail::Keep,
    };
    let watch = Grower {
        source: &source,
        sector_count: 640,
    };
    assert!(block_on(copy.run(EFFORT, &watch)).unwrap().is_complete);
    assert_eq!(size(&source), 320 * KIB);
    let mut expected = noise(4, 320 * KIB);
    expected[..image().len()].copy_from_slice(&image());
    assert_eq!(content(&destination), expected);
}

#[test]
fn several_chunks_are_in_flight_and_no_more_than_asked_for() {
    let source = disk(&noise(1, 512 * KIB), 512);
    let destination = disk(&vec![0; 512 * 1024], 512);
    copy_as(&source, &destination, true, Tail::Zero).unwrap();
    assert_eq!(source.take_log().in_flight_max, EFFORT.depth);
    let longest = destination
        .take_log()
        .written
        .iter()
        .map(|range| range.end - range.start)
        .max();
    assert_eq!(longest, Some(EFFORT.chunk_bytes));
}

#[test]
fn a_sector_that_cannot_be_read_is_named_and_ends_the_copy() {
    let traits = Traits {
        bad_sector: Some(333),
        ..Traits::default()
    };
    let source = probe(&noise(1, 512 * KIB), 512, traits);
    let destination = disk(&vec![0; 512 * 1024], 512);
    let fault = copy(&source, &destination).unwrap_err();
    assert_eq!(fault.side, Side::First);
    assert_eq!(fault.attempt, Attempt::Read(333 * 512..334 * 512));
    let log = destination.take_log();
    assert_eq!(log.in_flight_max, log.in_flight_max.min(EFFORT.depth));
    // What was in flight beside the fault may have been written, but nothing was begun after it.
    let behind = 333 * 512 + (EFFORT.depth as u64 + 1) * EFFORT.chunk_bytes;
    assert!(
        log.written.iter().all(|range| range.start < behind),
        "{log:?}"
    );
    assert_eq!(log.flush_count, 0);
}

#[test]
fn a_sector_that_cannot_be_written_ends_the_copy_on_the_other_side() {
    let traits = Traits {
        bad_sector: Some(333),
        ..Traits::default()
    };
    let source = disk(&noise(1, 512 * KIB), 512);
    let destination = probe(&vec![0; 512 * 1024], 512, traits);
    let fault = copy_as(&source, &destination, true, Tail::Zero).unwrap_err();
    assert_eq!(fault.side, Side::Second);
    let Attempt::Write(range) = &fault.attempt else {
        panic!("{fault:?}");
    };
    assert!(range.contains(&(333 * 512)), "{range:?}");
}

#[test]
fn of_several_faults_the_one_in_front_is_reported() {
    let bad = |sector| Traits {
        bad_sector: Some(sector),
        ..Traits::default()
    };
    // In neighbouring chunks, so that both are in flight at once.
    let source = probe(&noise(1, 512 * KIB), 512, bad(64));
    let destination = probe(&noise(2, 512 * KIB), 512, bad(40));
    let fault = copy(&source, &destination).unwrap_err();
    assert_eq!((fault.side, fault.offset()), (Side::Second, 40 * 512));
}

#[test]
fn a_flush_that_fails_is_a_fault() {
    let traits = Traits {
        flush_fails: true,
        ..Traits::default()
    };
    let destination = probe(&vec![0; image().len()], 512, traits);
    let fault = copy(&disk(&image(), 512), &destination).unwrap_err();
    assert_eq!((fault.side, fault.attempt), (Side::Second, Attempt::Flush));
}

#[test]
fn a_copy_that_was_stopped_is_flushed_and_can_be_continued() {
    let source = disk(&noise(1, 512 * KIB), 512);
    let destination = disk(&vec![0; 512 * 1024], 512);
    let request = Copy {
        source: source.disk(),
        destination: destination.disk(),
        is_blank: true,
        tail: Tail::Zero,
    };
    let stopped = block_on(request.run(EFFORT, &Counter::new(100 * KIB))).unwrap();
    assert!(!stopped.is_complete);
    let first = stopped.tally.written_bytes;
    assert!((100 * KIB..200 * KIB).contains(&first), "{first}");
    let log = destination.take_log();
    assert_eq!(log.flush_count, 1);
    assert_eq!(log.written.len() as u64, first / EFFORT.chunk_bytes);

    let copied = copy(&source, &destination).unwrap();
    assert_eq!(copied.tally.written_bytes, 512 * KIB - first);
    assert_eq!(content(&destination), noise(1, 512 * KIB));
}
