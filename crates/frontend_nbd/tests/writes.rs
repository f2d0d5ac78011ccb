//! `WRITE` and `FLUSH`, with simple and with structured replies.

mod common;

use common::client::{
    EINVAL, EIO, ENOSPC, EPERM, FLUSH, FUA, NO_HOLE, READ, STYLES, Style, TRIM, WRITE, WRITE_ZEROES,
};
use common::disk::{Kind, Plan, TestDisk, Traits};
use common::{Running, export, pattern};
use disk_backend::DiskError;
use frontend_nbd::Limits;
use std::io;

const MIB: usize = 1 << 20;

fn sized(sector_size: u32, len: usize, is_fua_respected: bool) -> TestDisk {
    TestDisk::with(Traits {
        sector_size,
        physical_sector_size: sector_size,
        sector_count: (len / sector_size as usize) as u64,
        is_fua_respected,
        ..Traits::default()
    })
}

#[test]
fn a_write_changes_its_bytes_and_no_others() {
    for sector_size in [512, 4096] {
        let disk = sized(sector_size, 64 << 10, true);
        let mut expected = pattern(64 << 10, 1);
        disk.set_content(0, &expected);
        let server = Running::one(disk.disk());
        for style in STYLES {
            let mut client = server.client(style);
            for offset in [0, 1, 511, 512, 513, 4095, 4096, 5000] {
                for len in [1, 2, 511, 512, 513, 1024, 4096, 4097, 10_000] {
                    let data = pattern(len, (offset * len) as u64);
                    client.write(offset as u64, &data);
                    expected[offset..offset + len].copy_from_slice(&data);
                    assert!(disk.content() == expected, "{len} bytes at {offset}");
                }
            }
        }
    }
}

#[test]
fn a_long_write_arrives_whole() {
    let disk = sized(4096, 40 * MIB, true);
    let mut expected = pattern(40 * MIB, 2);
    disk.set_content(0, &expected);
    let server = Running::one(disk.disk());
    for style in STYLES {
        let mut client = server.client(style);
        for (offset, len) in [
            (0, 256 << 10),
            (1, 256 << 10),
            (4095, (256 << 10) + 2),
            (12_345, 5 * MIB + 678),
            (8 * MIB - 1, 32 * MIB),
        ] {
            let data = pattern(len, len as u64);
            client.write(offset as u64, &data);
            expected[offset..offset + len].copy_from_slice(&data);
            assert!(disk.content() == expected, "{len} bytes at {offset}");
        }
    }
}

#[test]
fn a_write_of_nothing_succeeds_without_asking_the_disk() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    for style in STYLES {
        let mut client = server.client(style);
        for offset in [0, 7, MIB as u64] {
            client.write(offset, &[]);
            assert_eq!(client.errno(WRITE, FUA, offset, 0), 0);
        }
    }
    assert_eq!(disk.log(), []);
}

#[test]
fn a_durable_write_reaches_a_disk_that_respects_fua_as_such() {
    let disk = sized(512, 4 * MIB, true);
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Simple);
    assert_eq!(client.call(WRITE, FUA, 512, 1024, &[1; 1024]).errno, 0);
    let log = disk.log();
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0].fua && log[0].kind == Kind::Write);
    disk.clear_log();
    client.write(512, &[1; 1024]);
    assert!(!disk.log()[0].fua);
}

#[test]
fn a_write_of_a_mib_is_one_of_the_disk_and_a_longer_one_is_cut_and_flushed_once() {
    let disk = sized(512, 4 * MIB, true);
    let server = Running::one(disk.disk());
    for style in STYLES {
        let mut client = server.client(style);
        for (len, writes) in [(MIB, 1), (MIB + 512, 2), (3 * MIB, 3)] {
            disk.clear_log();
            let data = vec![9; len];
            assert_eq!(client.call(WRITE, FUA, 512, len as u32, &data).errno, 0);
            let is_one = writes == 1;
            assert_eq!(disk.count_of(Kind::Write), writes, "{len} bytes");
            assert_eq!(disk.count_of(Kind::Flush), usize::from(!is_one));
            assert_eq!(disk.log()[0].fua, is_one);
        }
    }
}

/// Whether every write since the log was cleared is durable: by itself, or by a flush at the end.
fn is_durable(disk: &TestDisk) -> bool {
    let log = disk.log();
    let mut writes = log.iter().filter(|op| op.kind == Kind::Write);
    writes.all(|op| op.fua) || log.last().is_some_and(|op| op.kind == Kind::Flush)
}

#[test]
fn long_writes_arrive_whole_and_durable_whatever_the_sectors_and_the_memory() {
    for sector_size in [512, 4096, 65_536, 262_144_u32] {
        for memory_len in [MIB, MIB + 4096, 2 * MIB] {
            let disk = sized(sector_size, 8 * MIB, true);
            let mut expected = pattern(8 * MIB, 3);
            disk.set_content(0, &expected);
            let mut limits = Limits::default();
            limits.bytes_in_flight_max = memory_len;
            let server = Running::new([export("disk", disk.disk())], limits);
            let mut client = server.client(Style::Simple);
            let sector = sector_size as usize;
            for (offset, len) in [
                (0, 2 * sector),
                (sector, MIB),
                (sector, 3 * MIB),
                (1, sector),
                (1, MIB),
                (7, 3 * MIB + 5),
                (sector - 1, MIB + 2),
            ] {
                let data = pattern(len, (offset + len) as u64);
                expected[offset..offset + len].copy_from_slice(&data);
                for flags in [0, FUA] {
                    disk.clear_log();
                    let reply = client.call(WRITE, flags, offset as u64, len as u32, &data);
                    let case = format!("{len} at {offset}, sectors of {sector}, {memory_len}");
                    assert_eq!(reply.errno, 0, "{case}");
                    assert!(flags == 0 || is_durable(&disk), "{case}");
                    assert!(disk.content() == expected, "{case}");
                }
            }
        }
    }
}

/// A flush that began after the last write ended.
fn expect_flush_at_end(disk: &TestDisk) {
    let log = disk.log();
    assert_eq!(log.last().map(|op| op.kind), Some(Kind::Flush), "{log:?}");
    disk.clear_log();
}

#[test]
fn a_durable_write_ends_with_a_flush_where_the_disk_has_no_fua() {
    let disk = sized(512, 4 * MIB, false);
    let server = Running::one(disk.disk());
    for style in STYLES {
        let mut client = server.client(style);
        for (offset, len) in [(0, 512), (3, 5), (511, 1026), (512, MIB), (7, 2 * MIB)] {
            let data = vec![9; len];
            assert_eq!(client.call(WRITE, FUA, offset, len as u32, &data).errno, 0);
            expect_flush_at_end(&disk);
            client.write(offset, &data);
            assert_eq!(disk.count_of(Kind::Flush), 0);
            disk.clear_log();
        }
    }
}

#[test]
fn a_durable_write_fails_if_its_flush_does() {
    let disk = sized(512, 4 * MIB, false);
    let server = Running::one(disk.disk());
    disk.plan(|op| match op.kind {
        Kind::Flush => Plan::Fail(DiskError::Io(io::Error::other("planned"))),
        _ => Plan::Do,
    });
    for style in STYLES {
        let mut client = server.client(style);
        for len in [512, MIB] {
            assert_eq!(
                client
                    .call(WRITE, FUA, 512, len as u32, &vec![9; len])
                    .errno,
                EIO
            );
            assert_eq!(
                client.call(WRITE, 0, 512, len as u32, &vec![9; len]).errno,
                0
            );
        }
    }
    disk.release_all();
}

#[test]
fn a_flush_is_one_flush_of_the_disk_and_fails_as_it_does() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    for style in STYLES {
        let mut client = server.client(style);
        disk.clear_log();
        assert_eq!(client.errno(FLUSH, 0, 0, 0), 0);
        assert_eq!(client.errno(FLUSH, FUA, 0, 0), 0);
        assert_eq!(disk.count_of(Kind::Flush), 2);
        disk.plan(|_| Plan::Fail(DiskError::Io(io::Error::other("planned"))));
        assert_eq!(client.errno(FLUSH, 0, 0, 0), EIO);
        disk.release_all();
        assert_eq!(client.errno(FLUSH, 0, 0, 0), 0);
    }
}

#[test]
fn a_flush_with_an_offset_or_a_length_is_invalid() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    for style in STYLES {
        let mut client = server.client(style);
        assert_eq!(client.errno(FLUSH, 0, 512, 0), EINVAL);
        assert_eq!(client.errno(FLUSH, 0, 0, 512), EINVAL);
        assert_eq!(client.errno(FLUSH, NO_HOLE, 0, 0), EINVAL);
    }
    assert_eq!(disk.log(), []);
}

#[test]
fn a_write_beyond_the_end_finds_no_space_and_its_payload_is_read_past() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    let size = MIB as u64;
    for style in STYLES {
        let mut client = server.client(style);
        for (offset, len) in [
            (size, 1),
            (size - 1, 2),
            (size + 1, 0),
            (0, MIB + 1),
            (u64::MAX, 100_000),
            (u64::MAX - 511, 512),
            (1 << 63, 4096),
        ] {
            let answer = client.call(WRITE, 0, offset, len as u32, &vec![7; len]);
            assert_eq!(answer.errno, ENOSPC, "{len} bytes at {offset}");
        }
        assert_eq!(disk.log(), []);
        client.write(size - 1, &[7]);
        assert_eq!(client.read(size - 1, 1), [7]);
        disk.clear_log();
    }
}

#[test]
fn a_write_longer_than_advertised_is_invalid_and_its_payload_is_read_past() {
    let disk = TestDisk::with(Traits {
        sector_count: 80 * 2048,
        ..Traits::default()
    });
    let server = Running::one(disk.disk());
    for style in STYLES {
        let mut client = server.client(style);
        let data = vec![7; 33 * MIB];
        let answer = client.call(WRITE, 0, 0, data.len() as u32, &data);
        assert_eq!(answer.errno, EINVAL);
        assert_eq!(client.read(0, 512), [0; 512]);
    }
}

#[test]
fn a_write_that_fails_is_told_and_the_rest_of_its_payload_read_past() {
    let disk = sized(512, 8 * MIB, true);
    let server = Running::one(disk.disk());
    disk.plan(|op| match (op.kind, op.sector) {
        (Kind::Write, 0) => Plan::Fail(DiskError::NoSpace),
        (Kind::Write, 2048..) => Plan::Fail(DiskError::Io(io::Error::other("planned"))),
        _ => Plan::Do,
    });
    for style in STYLES {
        let mut client = server.client(style);
        for (offset, len, errno) in [
            (0, 512, ENOSPC),
            (0, 4 * MIB, ENOSPC),
            (512, 4 * MIB, EIO),
            (MIB as u64, 1, EIO),
            (3, 5, ENOSPC),
        ] {
            let answer = client.call(WRITE, 0, offset, len as u32, &vec![7; len]);
            assert_eq!(answer.errno, errno, "{len} bytes at {offset}");
        }
        client.write(4096, &[8; 512]);
        assert_eq!(client.read(4096, 512), [8; 512]);
    }
}

#[test]
fn an_unaligned_write_whose_sector_cannot_be_read_fails_and_changes_nothing() {
    let disk = sized(4096, MIB, true);
    let content = pattern(MIB, 3);
    disk.set_content(0, &content);
    let server = Running::one(disk.disk());
    disk.plan(|op| match op.kind {
        Kind::Read => Plan::Fail(DiskError::Io(io::Error::other("planned"))),
        _ => Plan::Do,
    });
    for style in STYLES {
        let mut client = server.client(style);
        assert_eq!(client.call(WRITE, 0, 5, 1, &[1]).errno, EIO);
        assert_eq!(client.call(WRITE, 0, 4096, 4097, &[1; 4097]).errno, EIO);
        assert!(disk.content() == content);
    }
}

#[test]
fn a_read_only_export_refuses_every_change() {
    let by_choice = TestDisk::new();
    let given = TestDisk::with(Traits {
        is_read_only: true,
        ..Traits::default()
    });
    let exports = [
        export("chosen", by_choice.disk()).read_only(),
        export("given", given.disk()),
    ];
    let server = Running::new(exports, Limits::default());
    for name in ["chosen", "given"] {
        for style in STYLES {
            let mut client = server.client_of(name, style);
            assert_eq!(client.call(WRITE, 0, 0, 512, &[1; 512]).errno, EPERM);
            assert_eq!(
                client.call(WRITE, FUA, 3, 70_000, &[1; 70_000]).errno,
                EPERM
            );
            assert_eq!(client.errno(WRITE_ZEROES, 0, 0, 512), EPERM);
            assert_eq!(client.errno(TRIM, 0, 0, 512), EPERM);
            assert_eq!(client.errno(READ, 0, 0, 512), 0);
            assert_eq!(client.errno(FLUSH, 0, 0, 0), 0);
        }
    }
    for disk in [by_choice, given] {
        let log = disk.log();
        let changes = |kind| matches!(kind, Kind::Write | Kind::Zero | Kind::Unmap);
        assert!(!log.iter().any(|op| changes(op.kind)), "{log:?}");
    }
}

#[test]
fn writes_complete_out_of_order_while_the_disk_holds_one() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    for style in STYLES {
        let mut client = server.client(style);
        disk.plan(|op| match (op.kind, op.sector) {
            (Kind::Write, 0) => Plan::Hold,
            _ => Plan::Do,
        });
        let held = client.send_request(WRITE, 0, 0, 512, &[1; 512]);
        disk.wait_for_held(1);
        for sector in 1..100 {
            let cookie = client.send_request(WRITE, 0, sector * 512, 512, &[2; 512]);
            let answer = client.answer();
            assert_eq!((answer.cookie, answer.errno), (cookie, 0));
        }
        let flush = client.send_request(FLUSH, 0, 0, 0, &[]);
        // A flush covers what is complete, and waits for nothing else.
        assert_eq!(client.answer().cookie, flush);
        disk.release_all();
        assert_eq!(client.answer().cookie, held);
    }
}
