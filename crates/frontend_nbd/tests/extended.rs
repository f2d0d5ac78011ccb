//! Headers with lengths of 64 bits, and what can only be asked for with them.

mod common;

use common::client::{
    BLOCK_STATUS, CACHE, Client, EINVAL, ENOSPC, ESHUTDOWN, FUA, NO_HOLE, OPT_EXTENDED_HEADERS,
    OPT_STRUCTURED_REPLY, PAYLOAD_LEN, READ, REP_ACK, REP_ERR_EXT_HEADER_REQD, REP_ERR_INVALID,
    Style, TRIM, WRITE, WRITE_ZEROES, extended_request, request,
};
use common::disk::{Kind, Op, Plan, TestDisk, Traits};
use common::{Running, export, wait_until};
use disk_backend::UnmapBehavior;
use disklayer_ram::ram_disk;
use frontend_nbd::Limits;
use std::sync::atomic::{AtomicBool, Ordering};

const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// A disk of 8 TiB that keeps only its beginning.
fn huge() -> TestDisk {
    TestDisk::with(Traits {
        sector_count: 8 * TIB / 512,
        unmap_behavior: UnmapBehavior::Zeroes,
        ..Traits::default()
    })
}

fn ram(size: u64) -> (Running, Client) {
    let disk = ram_disk(size, false).expect("a disk");
    let server = Running::new([export("disk", disk)], Limits::default());
    let client = server.client(Style::Extended);
    (server, client)
}

/// The errno of a request without a payload.
fn errno(client: &mut Client, command: u16, flags: u16, offset: u64, len: u64) -> u32 {
    client.send_long(command, flags, offset, len, &[]);
    client.answer().errno
}

fn ranges(disk: &TestDisk, kind: Kind) -> Vec<(u64, u64)> {
    let log = disk.log().into_iter().filter(|op| op.kind == kind);
    log.map(|Op { sector, count, .. }| (sector * 512, count * 512))
        .collect()
}

#[test]
fn extended_headers_are_agreed_to_before_and_after_structured_replies() {
    let (server, _) = ram(1 << 20);
    let mut client = server.greeted();
    let code = OPT_EXTENDED_HEADERS;
    assert_eq!(client.ask_kind(code, b"x"), REP_ERR_INVALID);
    client.negotiate_structured();
    client.negotiate_extended();
    let again = client.ask_kind(OPT_STRUCTURED_REPLY, b"");
    assert_eq!(again, REP_ERR_EXT_HEADER_REQD);
    assert_eq!(client.ask_kind(code, b""), REP_ACK);
    client.go("disk", Style::Extended);
    client.write(3, b"wide");
    assert_eq!(client.read(2, 6), b"\0wide\0");
}

#[test]
fn a_disk_larger_than_32_bits_is_mapped_zeroed_and_trimmed_at_once() {
    let (_server, mut client) = ram(64 * TIB);
    client.write(5 * TIB, &[7; 4096]);
    client.send_long(BLOCK_STATUS, 0, 0, 64 * TIB, &[]);
    let answer = client.answer();
    let flags: Vec<_> = answer.extents.iter().map(|extent| extent.1).collect();
    assert_eq!((answer.errno, &flags[..]), (0, &[3, 0, 3][..]));
    assert!(answer.extents[0].0 <= 5 * TIB && answer.extents[0].0 > 4 * TIB);
    let total: u64 = answer.extents.iter().map(|extent| extent.0).sum();
    assert_eq!(total, 64 * TIB);
    for command in [TRIM, WRITE_ZEROES] {
        client.write(5 * TIB, &[7; 4096]);
        assert_eq!(errno(&mut client, command, 0, 0, 64 * TIB), 0);
        client.send_long(BLOCK_STATUS, 0, 0, 64 * TIB, &[]);
        assert_eq!(client.answer().extents, [(64 * TIB, 3)]);
    }
}

#[test]
fn lengths_that_reach_beyond_the_end_are_refused_however_large() {
    let disk = huge();
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Extended);
    for len in [8 * TIB + 1, 1 << 63, u64::MAX] {
        for offset in [0, 1, u64::MAX] {
            for (command, expected) in [
                (TRIM, EINVAL),
                (BLOCK_STATUS, EINVAL),
                (CACHE, EINVAL),
                (READ, EINVAL),
                (WRITE_ZEROES, ENOSPC),
            ] {
                let found = errno(&mut client, command, 0, offset, len);
                assert_eq!(found, expected, "{command} at {offset} of {len}");
            }
        }
    }
    assert_eq!(disk.log(), []);
}

#[test]
fn long_changes_are_made_in_pieces_and_flushed_once() {
    let disk = huge();
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Extended);
    let (offset, len) = (512, 9 * GIB);
    for (command, kind) in [(TRIM, Kind::Unmap), (WRITE_ZEROES, Kind::Zero)] {
        disk.clear_log();
        assert_eq!(errno(&mut client, command, FUA, offset, len), 0);
        let pieces = [
            (512, 4 * GIB),
            (512 + 4 * GIB, 4 * GIB),
            (512 + 8 * GIB, GIB),
        ];
        assert_eq!(ranges(&disk, kind), pieces);
        assert_eq!(disk.count_of(Kind::Flush), 1);
        assert_eq!(disk.log().last().map(|op| op.kind), Some(Kind::Flush));
    }
}

#[test]
fn long_zeros_that_are_not_whole_sectors_keep_what_is_around_them() {
    let disk = huge();
    disk.set_content(0, &[9; 1024]);
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Extended);
    // The sector at the end is one that the disk keeps nothing of: so end at a whole one.
    assert_eq!(
        errno(&mut client, WRITE_ZEROES, NO_HOLE, 100, 5 * GIB - 100),
        0
    );
    let content = disk.content();
    assert_eq!(content[..100], [9; 100]);
    assert_eq!(content[100..1024], [0; 924]);
    let zeroed = ranges(&disk, Kind::Zero);
    assert_eq!(zeroed, [(512, 4 * GIB - 512), (4 * GIB, GIB)]);
}

#[test]
fn others_are_served_between_the_pieces_of_a_long_trim() {
    let disk = huge();
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Extended);
    disk.hold_all(Kind::Unmap);
    let long = client.send_long(TRIM, 0, 0, 12 * GIB, &[]);
    for piece in 0..3 {
        let begun = || disk.count_of(Kind::Unmap) as u64;
        wait_until(|| begun() > piece, || format!("{} pieces", begun()));
        disk.wait_for_held(1);
        let read = client.send_request(READ, 0, 0, 512, &[]);
        assert_eq!(client.answer().cookie, read);
        disk.release(|op| op.sector * 512 == piece * 4 * GIB);
    }
    assert_eq!(client.answer().cookie, long);
}

#[test]
fn a_stop_does_not_wait_for_all_pieces_of_something_long() {
    for (command, kind) in [
        (TRIM, Kind::Unmap),
        (WRITE_ZEROES, Kind::Zero),
        (CACHE, Kind::Read),
    ] {
        let disk = huge();
        let server = Running::one(disk.disk());
        let mut client = server.client(Style::Extended);
        disk.hold_all(kind);
        client.send_long(command, 0, 0, 8 * TIB, &[]);
        disk.wait_for_held(1);
        server.handle.stop();
        // The connection learns of it a moment later; until then piece after piece is let go.
        let is_answered = AtomicBool::new(false);
        let answer = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_answered.load(Ordering::Acquire) {
                    disk.release(|_| true);
                    std::thread::yield_now();
                }
            });
            let answer = client.answer();
            is_answered.store(true, Ordering::Release);
            answer
        });
        assert_eq!(answer.errno, ESHUTDOWN, "command {command}");
        assert_eq!(answer.message, "the server stops");
        client.expect_closed();
        server.wait_for_end().expect("a good end");
        // The shortest of the three has 2048 pieces.
        assert!(disk.count_of(kind) < 2048, "command {command}");
    }
}

#[test]
fn a_payload_that_nobody_wants_is_read_past() {
    let (_server, mut client) = ram(1 << 20);
    let len = 100_000;
    for command in [READ, TRIM, BLOCK_STATUS, CACHE, 99] {
        let answer = client.call(command, PAYLOAD_LEN, 0, len, &vec![1; len as usize]);
        assert_eq!(answer.errno, EINVAL, "command {command}");
    }
    assert_eq!(client.read(0, 512), [0; 512]);
}

#[test]
fn a_write_has_a_payload_whether_it_says_so_or_not() {
    let (_server, mut client) = ram(1 << 20);
    let cookie = client.expect_answer(WRITE, 0, 512);
    client.send(&extended_request(WRITE, 0, cookie, 0, 512));
    client.send(&[4; 512]);
    assert_eq!(client.answer().errno, 0);
    assert_eq!(client.read(0, 512), [4; 512]);
}

#[test]
fn headers_of_the_other_width_close_the_connection() {
    let (server, mut wide) = ram(1 << 20);
    wide.send(&request(READ, 0, 1, 0, 512));
    wide.send(&[0; 4]);
    wide.expect_closed();
    let mut narrow = server.client(Style::Structured);
    narrow.send(&extended_request(READ, 0, 1, 0, 512)[..28]);
    narrow.expect_closed();
}

#[test]
fn a_cache_reads_the_range_in_small_pieces_and_returns_nothing() {
    let disk = TestDisk::with(Traits {
        sector_count: 1 << 16,
        ..Traits::default()
    });
    let server = Running::one(disk.disk());
    let len = 20 << 20;
    for style in [Style::Simple, Style::Structured, Style::Extended] {
        disk.clear_log();
        let mut client = server.client(style);
        let answer = client.call(CACHE, 0, 100, len, &[]);
        assert_eq!((answer.errno, answer.data.len()), (0, 0));
        let read = ranges(&disk, Kind::Read);
        assert_eq!(read.first(), Some(&(0, 128 * 1024)));
        let total: u64 = read.iter().map(|piece| piece.1).sum();
        assert_eq!(
            total,
            u64::from(len) + 512,
            "the sectors at both ends are whole"
        );
    }
}

#[test]
fn many_caches_stay_within_the_memory_of_their_connection_and_let_reads_pass() {
    let disk = TestDisk::with(Traits {
        sector_count: 1 << 16,
        ..Traits::default()
    });
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Structured);
    disk.plan(|_| Plan::Yield);
    for _ in 0..100 {
        client.send_request(CACHE, 0, 0, 32 << 20, &[]);
    }
    let read = client.send_request(READ, 0, 512, 512, &[]);
    let mut answers: Vec<_> = (0..101).map(|_| client.answer()).collect();
    assert!(answers.iter().all(|answer| answer.errno == 0));
    let place = answers.iter().position(|answer| answer.cookie == read);
    assert_eq!(place, Some(0), "a read does not wait for the caches");
    answers.remove(0);
    let limit = Limits::default().bytes_in_flight_max;
    assert!(disk.bytes_in_flight_max() <= limit);
}

#[test]
fn a_cache_fails_as_the_disk_does() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Structured);
    disk.plan(|op| match op.sector {
        0 => Plan::Do,
        _ => Plan::Fail(disk_backend::DiskError::IllegalBlock),
    });
    assert_eq!(client.errno(CACHE, 0, 0, 512), 0);
    assert_eq!(client.errno(CACHE, 0, 0, 1 << 20), EINVAL);
}
