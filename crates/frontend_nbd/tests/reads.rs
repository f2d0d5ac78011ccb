//! `READ`, with simple and with structured replies.

mod common;

use common::client::{Client, DF, DISC, EINVAL, EIO, EOVERFLOW, FUA, READ, STYLES, Style, request};
use common::disk::{Kind, Plan, TestDisk, Traits};
use common::{Running, pattern};
use disk_backend::DiskError;
use std::io;

const MIB: usize = 1 << 20;

/// A disk of `len` random bytes.
fn filled(len: usize, sector_size: u32) -> (TestDisk, Vec<u8>) {
    let disk = TestDisk::with(Traits {
        sector_size,
        physical_sector_size: sector_size,
        sector_count: (len / sector_size as usize) as u64,
        ..Traits::default()
    });
    let content = pattern(len, len as u64);
    disk.set_content(0, &content);
    (disk, content)
}

fn expect_read(client: &mut Client, content: &[u8], offset: usize, len: usize) {
    let data = client.read(offset as u64, len as u32);
    assert!(
        data == content[offset..offset + len],
        "{len} bytes at {offset}"
    );
}

#[test]
fn a_read_returns_what_the_disk_holds_aligned_or_not() {
    for sector_size in [512, 4096] {
        let (disk, content) = filled(64 << 10, sector_size);
        let server = Running::one(disk.disk());
        for style in STYLES {
            let mut client = server.client(style);
            for offset in [0, 1, 511, 512, 513, 4095, 4096, 5000] {
                for len in [1, 2, 511, 512, 513, 1024, 4096, 4097, 10_000] {
                    expect_read(&mut client, &content, offset, len);
                }
            }
            expect_read(&mut client, &content, 0, content.len());
            expect_read(&mut client, &content, content.len() - 1, 1);
        }
    }
}

#[test]
fn a_read_of_nothing_succeeds_without_asking_the_disk() {
    let (disk, content) = filled(MIB, 512);
    let server = Running::one(disk.disk());
    for style in STYLES {
        let mut client = server.client(style);
        for offset in [0, 7, content.len()] {
            assert!(client.read(offset as u64, 0).is_empty());
        }
    }
    assert_eq!(disk.log(), []);
}

#[test]
fn a_long_read_arrives_whole() {
    let (disk, content) = filled(40 * MIB, 4096);
    let server = Running::one(disk.disk());
    for style in STYLES {
        let mut client = server.client(style);
        for (offset, len) in [
            (0, 256 << 10),
            (1, 256 << 10),
            (4095, (256 << 10) + 2),
            (513, MIB + 1),
            (100, 2 * MIB - 8192),
            (100, 2 * MIB - 8191),
            (12_345, 5 * MIB + 678),
            (8 * MIB - 1, 32 * MIB),
        ] {
            expect_read(&mut client, &content, offset, len);
        }
    }
}

#[test]
fn a_long_structured_read_comes_in_chunks_and_with_df_in_one() {
    let (disk, content) = filled(4 * MIB, 512);
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Structured);
    // More than a connection may hold at once.
    let chunked = client.call(READ, 0, 5, 3 * MIB as u32, &[]);
    assert!(chunked.chunk_count > 1 && chunked.data == content[5..][..3 * MIB]);
    for len in [1, 512, 256 << 10, MIB, 2 * MIB - 1024] {
        let whole = client.call(READ, DF, 5, len as u32, &[]);
        assert_eq!((whole.errno, whole.chunk_count), (0, 1), "{len} bytes");
        assert!(whole.data == content[5..5 + len]);
    }
}

#[test]
fn a_read_too_long_for_one_chunk_is_refused_with_df() {
    let (disk, content) = filled(4 * MIB, 512);
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Structured);
    assert_eq!(client.errno(READ, DF, 0, 2 * MIB as u32), EOVERFLOW);
    assert_eq!(client.errno(READ, DF, 0, 3 * MIB as u32), EOVERFLOW);
    expect_read(&mut client, &content, 0, 3 * MIB);
}

#[test]
fn df_without_structured_replies_is_a_wrong_flag() {
    let (disk, content) = filled(MIB, 512);
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Simple);
    assert_eq!(client.errno(READ, DF, 0, 512), EINVAL);
    assert_eq!(client.errno(READ, FUA, 0, 0), 0);
    expect_read(&mut client, &content, 3, 17);
}

#[test]
fn a_read_beyond_the_end_is_invalid() {
    let (disk, content) = filled(MIB, 512);
    let server = Running::one(disk.disk());
    let size = MIB as u64;
    for style in STYLES {
        let mut client = server.client(style);
        for (offset, len) in [
            (size, 1),
            (size - 1, 2),
            (size + 1, 0),
            (0, MIB as u32 + 1),
            (u64::MAX, 1),
            (u64::MAX - 511, 512),
            (1 << 63, 512),
            (u64::MAX, 0),
        ] {
            assert_eq!(
                client.errno(READ, 0, offset, len),
                EINVAL,
                "{len} bytes at {offset}"
            );
        }
        expect_read(&mut client, &content, MIB - 1, 1);
    }
    assert!(
        disk.count_of(Kind::Read) <= STYLES.len(),
        "refused before the disk is asked"
    );
}

#[test]
fn a_read_longer_than_advertised_is_invalid() {
    let (disk, content) = filled(34 * MIB, 512);
    let server = Running::one(disk.disk());
    for style in STYLES {
        let mut client = server.client(style);
        for len in [(32 << 20) + 1, 33 << 20] {
            assert_eq!(client.errno(READ, 0, 0, len), EINVAL);
        }
        assert_eq!(client.errno(READ, 0, 0, u32::MAX), EINVAL);
        expect_read(&mut client, &content, 0, 512);
    }
}

#[test]
fn a_read_that_fails_is_told_and_explained() {
    let (disk, content) = filled(MIB, 512);
    let server = Running::one(disk.disk());
    disk.plan(|op| match op.sector {
        8 => Plan::Fail(DiskError::Io(io::Error::other("the head fell off"))),
        9 => Plan::Fail(DiskError::ReservationConflict),
        _ => Plan::Do,
    });
    for style in STYLES {
        let mut client = server.client(style);
        let failed = client.call(READ, 0, 8 * 512, 512, &[]);
        assert_eq!(failed.errno, EIO);
        if style != Style::Simple {
            assert!(
                failed.message.contains("the head fell off"),
                "{}",
                failed.message
            );
        }
        assert_eq!(client.errno(READ, 0, 9 * 512, 512), 1);
        expect_read(&mut client, &content, 0, 512);
    }
}

#[test]
fn a_structured_read_that_fails_midway_ends_with_the_error() {
    let (disk, content) = filled(12 * MIB, 512);
    let server = Running::one(disk.disk());
    let bad = (9 * MIB / 512) as u64;
    disk.plan(
        move |op| match op.sector <= bad && bad < op.sector + op.count {
            true => Plan::Fail(DiskError::Io(io::Error::other("planned"))),
            false => Plan::Do,
        },
    );
    let mut client = server.client(Style::Structured);
    let failed = client.call(READ, 0, 0, 10 * MIB as u32, &[]);
    assert_eq!(failed.errno, EIO);
    assert!(failed.chunk_count > 1, "what was read before is delivered");
    assert!(failed.data[..MIB] == content[..MIB]);
    expect_read(&mut client, &content, 0, MIB);
    expect_read(&mut client, &content, 10 * MIB, 2 * MIB);
}

#[test]
fn a_simple_read_that_fails_midway_closes_the_connection_and_no_other() {
    let (disk, content) = filled(8 * MIB, 512);
    let server = Running::one(disk.disk());
    disk.plan(|op| match op.sector >= 4 * 2048 {
        true => Plan::Fail(DiskError::Io(io::Error::other("planned"))),
        false => Plan::Do,
    });
    let mut other = server.client(Style::Simple);
    let mut client = server.client(Style::Simple);
    let cookie = client.expect_answer(READ, 0, 5 * MIB as u64);
    client.send(&request(READ, 0, cookie, 0, 5 * MIB as u32));
    let received = client.drain();
    // It began well, so no error could be told any more; what came is right, and is not all.
    assert!(received.len() < 16 + 5 * MIB);
    let data = received.get(16..).unwrap_or_default();
    assert!(data == &content[..data.len()]);
    assert_eq!(other.errno(READ, 0, 4 * MIB as u64, 512), EIO);
    expect_read(&mut other, &content, 0, MIB);
    // A read that fails at its first piece is answered.
    assert_eq!(other.errno(READ, 0, 4 * MIB as u64, 4 * MIB as u32), EIO);
    expect_read(&mut other, &content, 512, 512);
}

#[test]
fn reads_complete_out_of_order_while_the_disk_holds_one() {
    let (disk, content) = filled(MIB, 512);
    let server = Running::one(disk.disk());
    for style in STYLES {
        let mut client = server.client(style);
        disk.plan(|op| if op.sector == 0 { Plan::Hold } else { Plan::Do });
        let held = client.send_request(READ, 0, 0, 512, &[]);
        disk.wait_for_held(1);
        for sector in 1..100 {
            expect_answer_to_sector(&mut client, &content, sector);
        }
        disk.release_all();
        let last = client.answer();
        assert_eq!((last.cookie, last.errno), (held, 0));
        assert!(last.data == content[..512]);
    }
}

fn expect_answer_to_sector(client: &mut Client, content: &[u8], sector: usize) {
    let offset = sector * 512;
    let cookie = client.send_request(READ, 0, offset as u64, 512, &[]);
    let answer = client.answer();
    assert_eq!((answer.cookie, answer.errno), (cookie, 0));
    assert!(answer.data == content[offset..offset + 512]);
}

#[test]
fn many_reads_at_once_are_all_answered() {
    let (disk, content) = filled(4 * MIB, 512);
    let server = Running::one(disk.disk());
    let mut count = 0_u32;
    disk.plan(move |_| {
        count += 1;
        if count.is_multiple_of(3) {
            Plan::Yield
        } else {
            Plan::Do
        }
    });
    for style in STYLES {
        let mut client = server.client(style);
        let mut offsets = std::collections::BTreeMap::new();
        for i in 0..600_u64 {
            let (offset, len) = (i * 4099, 3000);
            let cookie = client.send_request(READ, 0, offset, len, &[]);
            offsets.insert(cookie, offset as usize);
            // Half of them wait in the sockets.
            if i >= 300 {
                expect_one(&mut client, &content, &mut offsets);
            }
        }
        while !offsets.is_empty() {
            expect_one(&mut client, &content, &mut offsets);
        }
    }
}

fn expect_one(
    client: &mut Client,
    content: &[u8],
    offsets: &mut std::collections::BTreeMap<u64, usize>,
) {
    let answer = client.answer();
    let offset = offsets.remove(&answer.cookie).expect("a read of mine");
    assert!(answer.data == content[offset..offset + 3000]);
}

#[test]
fn replies_that_were_begun_are_sent_before_the_connection_ends() {
    let (disk, content) = filled(4 * MIB, 512);
    let server = Running::one(disk.disk());
    for style in STYLES {
        let mut client = server.client(style);
        disk.hold_all(Kind::Read);
        client.send_request(READ, 0, 512, 1024, &[]);
        disk.wait_for_held(1);
        let goodbye = client.header(DISC, 0, 0, 0, 0);
        client.send(&goodbye);
        disk.release_all();
        assert!(client.answer().data == content[512..1536]);
        client.expect_closed();
    }
    server.wait_for_connections(0);
}
