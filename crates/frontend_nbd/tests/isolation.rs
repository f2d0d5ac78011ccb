//! Clients that share a server: neither a slow one, nor a hungry one, nor a panic in one's disk touches the others.

mod common;

use common::client::{
    BLOCK_STATUS, Client, DF, FLUSH, READ, STYLES, Style, WRITE, WRITE_ZEROES, request,
};
use common::disk::{Kind, Plan, TestDisk, Traits};
use common::{Running, export, pattern};
use frontend_nbd::Limits;

const MIB: usize = 1 << 20;

fn filled(len: usize) -> (TestDisk, Vec<u8>) {
    let disk = TestDisk::with(Traits {
        sector_count: (len / 512) as u64,
        ..Traits::default()
    });
    let content = pattern(len, 11);
    disk.set_content(0, &content);
    (disk, content)
}

#[test]
fn a_client_that_stops_reading_holds_up_only_itself() {
    for style in STYLES {
        let (disk, content) = filled(32 * MIB);
        let server = Running::one(disk.disk());
        let mut slow = server.client(style);
        let mut cookies = Vec::new();
        for i in 0..20_u64 {
            cookies.push(slow.send_request(READ, 0, i << 20, MIB as u32, &[]));
        }
        // A stream of several pieces, of which the last cannot even be read before the first is taken.
        cookies.push(slow.send_request(READ, 0, 0, 32 << 20, &[]));
        // Unaligned, so that it locks what the other works on, too.
        cookies.push(slow.send_request(WRITE, 0, 1, 3, &content[1..4]));
        let mut fast = server.client(style);
        for i in 0..500 {
            let offset = i * 1009;
            assert!(fast.read(offset as u64, 700) == content[offset..offset + 700]);
            fast.write(offset as u64, &content[offset..offset + 700]);
            assert_eq!(fast.errno(FLUSH, 0, 0, 0), 0);
        }
        assert!(fast.read(0, 32 << 20) == content);
        for _ in 0..cookies.len() {
            let answer = slow.answer();
            let index = cookies.iter().position(|cookie| *cookie == answer.cookie);
            let expected = match index.expect("mine") {
                21 => &[],
                20 => &content[..],
                i => &content[i << 20..(i + 1) << 20],
            };
            assert!(answer.data == expected);
        }
        server.stop().expect("a good end");
    }
}

#[test]
fn a_connection_works_on_no_more_requests_and_bytes_than_allowed() {
    let (disk, content) = filled(16 * MIB);
    let mut limits = Limits::default();
    limits.requests_in_flight_max = 5;
    limits.bytes_in_flight_max = MIB;
    let server = Running::new([export("disk", disk.disk())], limits);
    for style in STYLES {
        let mut client = server.client(style);
        disk.hold_all(Kind::Read);
        for i in 0..50 {
            client.send_request(READ, 0, i * 512, 512, &[]);
        }
        disk.wait_for_held(5);
        disk.plan(|_| Plan::Yield);
        disk.release(|_| true);
        for _ in 0..50 {
            assert_eq!(client.answer().errno, 0);
        }
        for i in 0..15 {
            client.send_request(READ, 0, i << 20, 900_001, &[]);
            client.send_request(WRITE, 0, 15 << 20, 3001, &content[15 << 20..][..3001]);
        }
        for _ in 0..30 {
            assert_eq!(client.answer().errno, 0);
        }
        let in_flight_max = disk.bytes_in_flight_max();
        assert!(in_flight_max <= MIB, "{in_flight_max} bytes");
    }
    assert!(disk.content() == content);
}

#[test]
fn a_request_in_flight_does_not_hold_up_overlapping_reads_or_other_clients_writes() {
    let (disk, _) = filled(MIB);
    let server = Running::one(disk.disk());
    let mut first = server.client(Style::Simple);
    let mut second = server.client(Style::Structured);
    disk.plan(|op| match (op.kind, op.sector) {
        (Kind::Write, 0) => Plan::Hold,
        _ => Plan::Do,
    });
    first.send_request(WRITE, 0, 0, 1024, &[1; 1024]);
    disk.wait_for_held(1);
    second.write(512, &[2; 512]);
    second.write(2049, &[3; 5]);
    assert_eq!(second.read(512, 512), [2; 512]);
    disk.release_all();
    assert_eq!(first.answer().errno, 0);
}

#[test]
fn a_write_of_a_part_of_a_sector_waits_for_one_in_flight_there() {
    let (disk, mut expected) = filled(MIB);
    let server = Running::one(disk.disk());
    let mut first = server.client(Style::Simple);
    let mut second = server.client(Style::Simple);
    disk.plan(|op| match (op.kind, op.sector) {
        (Kind::Write, 2) => Plan::Hold,
        _ => Plan::Do,
    });
    first.send_request(WRITE, 0, 1024, 1, &[1]);
    disk.wait_for_held(1);
    second.send_request(WRITE, 0, 1025, 1, &[2]);
    // Served by the same thread after the one above: that one has begun, and is waiting.
    let other = second.send_request(READ, 0, 0, 1, &[]);
    assert_eq!(second.answer().cookie, other);
    assert_eq!(disk.count_of(Kind::Write), 1);
    disk.release_all();
    assert_eq!((first.answer().errno, second.answer().errno), (0, 0));
    expected[1024..1026].copy_from_slice(&[1, 2]);
    assert!(disk.content() == expected);
}

/// Writers that own every `WRITERS`th byte of the same sectors.
const WRITERS: usize = 4;
const SHARED_LEN: usize = 2048;

/// Writes each of its bytes in each round, several at once, zeros among them, and returns what it wrote last.
fn write_own_bytes(mut client: Client, writer: usize, rounds: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(writer as u64);
    let mut bytes = Vec::new();
    for _ in 0..rounds {
        bytes = (0..SHARED_LEN / WRITERS).map(|_| random.u8(..4)).collect();
        let mut order: Vec<usize> = (0..bytes.len()).collect();
        random.shuffle(&mut order);
        for indices in order.chunks(16) {
            for &index in indices {
                let offset = (index * WRITERS + writer) as u64;
                match bytes[index] {
                    0 => client.send_request(WRITE_ZEROES, 0, offset, 1, &[]),
                    byte => client.send_request(WRITE, 0, offset, 1, &[byte]),
                };
            }
            for _ in indices {
                assert_eq!(client.answer().errno, 0);
            }
        }
    }
    bytes
}

#[test]
fn writers_of_parts_of_the_same_sectors_lose_no_byte() {
    for sector_size in [512, 4096] {
        let disk = TestDisk::with(Traits {
            sector_size,
            physical_sector_size: 4096,
            sector_count: 64,
            ..Traits::default()
        });
        let mut count = 0_u32;
        disk.plan(move |_| {
            count += 1;
            if count.is_multiple_of(5) {
                Plan::Do
            } else {
                Plan::Yield
            }
        });
        let server = Running::one(disk.disk());
        let written: Vec<_> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let client = server.client(STYLES[writer % 2]);
                    scope.spawn(move || write_own_bytes(client, writer, 12))
                })
                .collect();
            let joined = writers
                .into_iter()
                .map(|writer| writer.join().expect("no panic"));
            joined.collect()
        });
        let content = disk.content();
        for (offset, byte) in content[..SHARED_LEN].iter().enumerate() {
            assert_eq!(
                *byte,
                written[offset % WRITERS][offset / WRITERS],
                "at {offset}"
            );
        }
        assert!(content[SHARED_LEN..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_panicking_disk_ends_its_connection_and_no_other() {
    let (disk, content) = filled(MIB);
    let server = Running::one(disk.disk());
    let mut other = server.client(Style::Structured);
    let plans = [
        (Kind::Read, READ, 0, 512),
        (Kind::Read, READ, 0, 3 * 512 + 1),
        (Kind::Read, WRITE, 3, 4),
        (Kind::Write, WRITE, 3, 4),
        (Kind::Write, WRITE, 0, 512),
        (Kind::Zero, WRITE_ZEROES, 3, 4096),
        (Kind::Flush, FLUSH, 0, 0),
        (Kind::Status, BLOCK_STATUS, 0, 512),
    ];
    for (kind, command, offset, len) in plans {
        let mut client = server.client(Style::Structured);
        disk.plan(move |op| {
            if op.kind == kind {
                Plan::Panic
            } else {
                Plan::Do
            }
        });
        client.send(&request(command, 0, 1, offset, len));
        if command == WRITE {
            client.send(&vec![1; len as usize]);
        }
        client.expect_closed();
        server.wait_for_connections(1);
        disk.plan(|_| Plan::Do);
        // What it had locked is free again.
        other.write(0, &content[..8192]);
        other.write(1, &content[1..1000]);
        assert!(other.read(0, 8192) == content[..8192]);
        assert!(server.client(Style::Simple).read(5, 5) == content[5..10]);
        server.wait_for_connections(1);
    }
    server.stop().expect("a good end");
}

#[test]
fn a_disk_that_panics_after_it_waited_ends_its_connection_and_no_other() {
    let (disk, content) = filled(MIB);
    let server = Running::one(disk.disk());
    let mut other = server.client(Style::Simple);
    let mut client = server.client(Style::Simple);
    let mut count = 0;
    disk.plan(move |_| {
        count += 1;
        match count {
            1..=8 => Plan::Hold,
            9 => Plan::Panic,
            _ => Plan::Do,
        }
    });
    for sector in 0..8 {
        client.send_request(READ, 0, sector * 512, 512, &[]);
    }
    disk.wait_for_held(8);
    client.send_request(READ, 0, 0, 512, &[]);
    client.expect_closed();
    server.wait_for_connections(1);
    assert!(other.read(0, 512) == content[..512]);
    server.stop().expect("a good end");
}

#[test]
fn several_servers_in_one_process_do_not_know_of_each_other() {
    let servers: Vec<_> = (0..4)
        .map(|i| {
            let (disk, content) = filled((i + 1) * MIB);
            (Running::one(disk.disk()), content)
        })
        .collect();
    std::thread::scope(|scope| {
        for (server, content) in &servers {
            let mut client = server.client(Style::Structured);
            scope.spawn(move || {
                assert_eq!(client.size, content.len() as u64);
                for i in 0..200 {
                    let answer = client.call(READ, DF, i * 4093, 5000, &[]);
                    assert!(answer.data == content[i as usize * 4093..][..5000]);
                }
            });
        }
    });
    for (server, _) in servers {
        server.stop().expect("a good end");
    }
}
