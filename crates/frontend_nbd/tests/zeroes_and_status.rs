//! `TRIM`, `WRITE_ZEROES` and `BLOCK_STATUS`, and what is no command at all.

mod common;

use common::client::{
    BLOCK_STATUS, CACHE, Client, DF, EINVAL, EIO, ENOSPC, ENOTSUP, FAST_ZERO, FLUSH, FUA, NO_HOLE,
    PAYLOAD_LEN, READ, REQ_ONE, STYLES, Style, TRIM, WRITE, WRITE_ZEROES,
};
use common::disk::{Kind, Plan, TestDisk, Traits};
use common::{Running, pattern};
use disk_backend::{DiskError, UnmapBehavior};
use std::io;

const MIB: u64 = 1 << 20;
const DATA: u64 = 0;
const ZERO: u64 = 2;
const HOLE: u64 = 3;

fn filled(traits: Traits) -> (TestDisk, Vec<u8>) {
    let disk = TestDisk::with(traits);
    let content = pattern(MIB as usize, 5);
    disk.set_content(0, &content);
    (disk, content)
}

/// All extents of a range, however many answers they take.
fn map(client: &mut Client, mut offset: u64, len: u32) -> Vec<(u64, u64)> {
    let end = offset + u64::from(len);
    let mut extents: Vec<(u64, u64)> = Vec::new();
    while offset < end {
        let answer = client.call(BLOCK_STATUS, 0, offset, (end - offset) as u32, &[]);
        assert_eq!((answer.errno, answer.chunk_count), (0, 1));
        for (len, flags) in answer.extents {
            offset += len;
            match extents.last_mut() {
                Some(last) if last.1 == flags => last.0 += len,
                _ => extents.push((len, flags)),
            }
        }
    }
    extents
}

#[test]
fn zeros_are_written_exactly_where_they_belong() {
    for sector_size in [512, 4096] {
        let (disk, mut expected) = filled(Traits {
            sector_size,
            sector_count: MIB / u64::from(sector_size),
            ..Traits::default()
        });
        let server = Running::one(disk.disk());
        for style in STYLES {
            let mut client = server.client(style);
            for offset in [0, 1, 511, 512, 4095, 4096, 5000] {
                for len in [1, 511, 512, 513, 4096, 8193] {
                    for flags in [0, FUA, NO_HOLE, FAST_ZERO, FUA | NO_HOLE | FAST_ZERO] {
                        let offset = offset + usize::from(flags) * 20_000;
                        let answer = client.errno(WRITE_ZEROES, flags, offset as u64, len);
                        assert_eq!(answer, 0);
                        expected[offset..offset + len as usize].fill(0);
                        assert!(disk.content() == expected, "{len} bytes at {offset}");
                    }
                }
            }
        }
    }
}

#[test]
fn more_than_can_be_written_at_once_can_be_zeroed() {
    let disk = TestDisk::with(Traits {
        sector_count: 100 * 2048,
        ..Traits::default()
    });
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Structured);
    client.write(99 * MIB, &[1; 512]);
    assert_eq!(client.errno(WRITE_ZEROES, 0, 1, (100 * MIB - 2) as u32), 0);
    assert_eq!(client.read(99 * MIB, 512), [0; 512]);
    assert_eq!(client.errno(TRIM, 0, 1, (100 * MIB - 2) as u32), 0);
}

#[test]
fn only_zeros_that_may_be_holes_become_holes() {
    let (disk, _) = filled(Traits::default());
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Structured);
    assert_eq!(client.errno(WRITE_ZEROES, 0, 0, 1024), 0);
    assert_eq!(client.errno(WRITE_ZEROES, NO_HOLE, 1024, 512), 0);
    assert_eq!(
        map(&mut client, 0, 4096),
        [(1024, HOLE), (512, ZERO), (2560, DATA)]
    );
}

#[test]
fn fast_zeros_are_refused_where_they_would_be_slow_and_nothing_changes() {
    let (disk, content) = filled(Traits {
        zeroes_fast: false,
        ..Traits::default()
    });
    let server = Running::one(disk.disk());
    for style in STYLES {
        let mut client = server.client(style);
        for (offset, len) in [(0, 4096), (100, 4096), (511, 1026)] {
            assert_eq!(client.errno(WRITE_ZEROES, FAST_ZERO, offset, len), ENOTSUP);
        }
        assert!(disk.content() == content);
    }
}

#[test]
fn a_trim_discards_whole_sectors_and_leaves_parts_alone() {
    let (disk, mut expected) = filled(Traits {
        is_fua_respected: false,
        ..Traits::default()
    });
    let server = Running::one(disk.disk());
    for (style, base) in STYLES.into_iter().zip([0, 65536]) {
        let mut client = server.client(style);
        assert_eq!(client.errno(TRIM, 0, base as u64 + 512, 1024), 0);
        expected[base + 512..base + 1536].fill(0);
        assert_eq!(client.errno(TRIM, FUA, base as u64 + 4097, 1024), 0);
        expected[base + 4608..base + 5120].fill(0);
        assert_eq!(client.errno(TRIM, FUA, base as u64 + 8193, 510), 0);
        assert_eq!(client.errno(TRIM, 0, base as u64, 0), 0);
        assert!(disk.content() == expected);
        let kinds: Vec<_> = disk.log().iter().map(|op| op.kind).collect();
        assert_eq!(kinds, [Kind::Unmap, Kind::Unmap, Kind::Flush]);
        disk.clear_log();
    }
}

#[test]
fn a_disk_that_ignores_unmaps_cannot_be_trimmed() {
    let disk = TestDisk::with(Traits {
        unmap_behavior: UnmapBehavior::Ignored,
        ..Traits::default()
    });
    let server = Running::one(disk.disk());
    for style in STYLES {
        assert_eq!(server.client(style).errno(TRIM, 0, 0, 512), EINVAL);
    }
    assert_eq!(disk.log(), []);
}

#[test]
fn zeros_beyond_the_end_find_no_space_and_the_rest_is_invalid() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    for style in STYLES {
        let mut client = server.client(style);
        for (offset, len) in [
            (MIB, 1),
            (MIB - 1, 2),
            (u64::MAX, 1),
            (0, u32::MAX),
            (MIB + 1, 0),
        ] {
            assert_eq!(client.errno(WRITE_ZEROES, 0, offset, len), ENOSPC);
            assert_eq!(client.errno(TRIM, 0, offset, len), EINVAL);
            assert_eq!(client.errno(BLOCK_STATUS, 0, offset, len), EINVAL);
        }
    }
    assert_eq!(disk.log(), []);
}

#[test]
fn trims_and_zeros_fail_as_the_disk_does() {
    let (disk, _) = filled(Traits::default());
    let server = Running::one(disk.disk());
    disk.plan(|op| match op.kind {
        Kind::Unmap => Plan::Fail(DiskError::Io(io::Error::other("planned"))),
        Kind::Zero => Plan::Fail(DiskError::NoSpace),
        Kind::Status => Plan::Fail(DiskError::Io(io::Error::other("planned"))),
        _ => Plan::Do,
    });
    for style in STYLES {
        let mut client = server.client(style);
        assert_eq!(client.errno(TRIM, 0, 0, 4096), EIO);
        assert_eq!(client.errno(WRITE_ZEROES, 0, 0, 4096), ENOSPC);
        assert_eq!(client.errno(WRITE_ZEROES, 0, 1, 4096), ENOSPC);
        if style == Style::Structured {
            assert_eq!(client.errno(BLOCK_STATUS, 0, 0, 4096), EIO);
        }
    }
}

#[test]
fn a_block_status_tells_data_zeros_and_holes() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Structured);
    client.write(4096, &[1; 1024]);
    assert_eq!(client.errno(WRITE_ZEROES, NO_HOLE, 5120, 512), 0);
    let all = [(4096, HOLE), (1024, DATA), (512, ZERO), (MIB - 5632, HOLE)];
    assert_eq!(map(&mut client, 0, MIB as u32), all);
    let answer = client.call(BLOCK_STATUS, 0, 0, MIB as u32, &[]);
    assert_eq!(answer.extents, all, "in one answer");
}

#[test]
fn a_block_status_of_parts_of_sectors_covers_what_was_asked_for() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Structured);
    client.write(512, &[1; 512]);
    assert_eq!(map(&mut client, 500, 12), [(12, HOLE)]);
    assert_eq!(map(&mut client, 511, 2), [(1, HOLE), (1, DATA)]);
    assert_eq!(
        map(&mut client, 1, 2000),
        [(511, HOLE), (512, DATA), (977, HOLE)]
    );
    assert_eq!(map(&mut client, MIB - 1, 1), [(1, HOLE)]);
}

#[test]
fn req_one_gets_one_extent_as_long_as_it_is() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Structured);
    client.write(4096, &[1; 1024]);
    for (offset, expected) in [
        (0, (4096, HOLE)),
        (100, (3996, HOLE)),
        (4096, (1024, DATA)),
        (5120, (MIB - 5120, HOLE)),
    ] {
        let len = (MIB - offset) as u32;
        let answer = client.call(BLOCK_STATUS, REQ_ONE, offset, len, &[]);
        assert_eq!(answer.extents, [expected], "at {offset}");
    }
}

#[test]
fn a_block_status_of_many_extents_is_bounded_and_can_be_continued() {
    let disk = TestDisk::new();
    let mut content = vec![0; MIB as usize];
    for sector in (0..2048).step_by(2) {
        content[sector * 512] = 1;
        disk.set_content(sector * 512, &[1; 512]);
    }
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Structured);
    let answer = client.call(BLOCK_STATUS, 0, 0, MIB as u32, &[]);
    assert!((2..2048).contains(&answer.extents.len()));
    let extents = map(&mut client, 0, MIB as u32);
    assert_eq!(extents.len(), 2048);
    assert!(
        extents
            .iter()
            .enumerate()
            .all(|(i, e)| *e == (512, [DATA, HOLE][i % 2]))
    );
}

#[test]
fn a_block_status_without_a_context_or_a_length_is_invalid() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    assert_eq!(
        server.client(Style::Simple).errno(BLOCK_STATUS, 0, 0, 512),
        EINVAL
    );
    assert_eq!(
        server
            .client(Style::Structured)
            .errno(BLOCK_STATUS, 0, 0, 0),
        EINVAL
    );
    assert_eq!(disk.log(), []);
}

#[test]
fn flags_that_do_not_belong_to_a_command_are_invalid() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    for style in STYLES {
        let mut client = server.client(style);
        let df = if style == Style::Simple { 0 } else { DF };
        let allowed = [
            (READ, FUA | df),
            (WRITE, FUA),
            (FLUSH, FUA),
            (TRIM, FUA),
            (CACHE, FUA),
            (WRITE_ZEROES, FUA | NO_HOLE | FAST_ZERO),
            (BLOCK_STATUS, FUA | REQ_ONE),
        ];
        for (command, allowed) in allowed {
            for flag in (0..16)
                .map(|bit| 1 << bit)
                .filter(|flag| allowed & flag == 0)
            {
                // What announces a payload has one.
                let is_announced = style == Style::Extended && flag == PAYLOAD_LEN;
                if command == WRITE && is_announced {
                    continue;
                }
                let payload_len = if command == WRITE || is_announced {
                    512
                } else {
                    0
                };
                let answer = client.call(command, flag, 0, 512, &vec![1; payload_len]);
                assert_eq!(answer.errno, EINVAL, "command {command}, flag {flag:#x}");
            }
        }
    }
    assert_eq!(disk.log(), []);
}

#[test]
fn a_command_that_is_not_known_is_invalid_and_the_client_may_go_on() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    for style in STYLES {
        let mut client = server.client(style);
        for command in [8, 9, 100, u16::MAX] {
            for flags in [0, FUA, !PAYLOAD_LEN] {
                assert_eq!(client.errno(command, flags, u64::MAX, u32::MAX), EINVAL);
            }
        }
        assert_eq!(client.read(0, 512), [0; 512]);
    }
}

#[test]
fn a_request_without_its_magic_closes_the_connection() {
    let server = Running::one(TestDisk::new().disk());
    for style in STYLES {
        for position in 0..4 {
            let mut client = server.client(style);
            let mut bytes = client.header(READ, 0, 1, 0, 512);
            bytes[position] ^= 0x10;
            client.send(&bytes);
            client.expect_closed();
        }
    }
    server.wait_for_connections(0);
}

#[test]
fn a_goodbye_closes_the_connection_without_an_answer() {
    let server = Running::one(TestDisk::new().disk());
    for style in STYLES {
        server.client(style).disconnect();
    }
    server.wait_for_connections(0);
}
