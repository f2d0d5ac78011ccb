//! The end: what is in flight is finished, answered and flushed, and nobody can hold it up.

mod common;

use common::client::{FLUSH, READ, STYLES, Style, WRITE, option, request};
use common::disk::{Kind, Op, Plan, TestDisk, Traits};
use common::{Running, export, pattern, serve, wait_until};
use disk_backend::DiskError;
use frontend_nbd::{Limits, ServeError, Server};
use std::io;
use std::net::Shutdown;
use std::time::Duration;

#[test]
fn a_stop_finishes_and_answers_what_is_in_flight_then_flushes() {
    for style in STYLES {
        let disk = TestDisk::new();
        let server = Running::one(disk.disk());
        let mut clients: Vec<_> = (0..3).map(|_| server.client(style)).collect();
        disk.plan(|op| match op.kind {
            Kind::Flush => Plan::Do,
            _ => Plan::Hold,
        });
        for (client, base) in clients.iter_mut().zip([0, 100, 200]) {
            for sector in base..base + 4 {
                client.send_request(WRITE, 0, sector * 512, 512, &[sector as u8; 512]);
            }
            client.send_request(READ, 0, (base + 9) * 512, 512, &[]);
        }
        disk.wait_for_held(15);
        server.handle.stop();
        disk.release_all();
        for client in &mut clients {
            for _ in 0..5 {
                assert_eq!(client.answer().errno, 0);
            }
            client.expect_closed();
        }
        server.wait_for_end().expect("a good end");
        assert_eq!(server.handle.connection_count(), 0);
        assert_eq!(disk.count_of(Kind::Write), 12);
        assert_eq!(disk.log().last().map(|op| op.kind), Some(Kind::Flush));
        assert_eq!(disk.count_of(Kind::Flush), 1);
        assert!(disk.content()[203 * 512..204 * 512] == [203; 512]);
    }
}

#[test]
fn a_stop_still_serves_what_was_sent_before_it() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Structured);
    disk.plan(|op| match op.kind {
        Kind::Flush => Plan::Do,
        _ => Plan::Hold,
    });
    // All but the first 128 wait in the socket when the server stops.
    let mut sent = Vec::new();
    for sector in 0..200 {
        let cookie = client.expect_answer(WRITE, sector * 512, 512);
        sent.extend(request(WRITE, 0, cookie, sector * 512, 512));
        sent.extend([1; 512]);
    }
    client.send(&sent);
    disk.wait_for_held(128);
    server.handle.stop();
    disk.release_all();
    for _ in 0..200 {
        assert_eq!(client.answer().errno, 0);
    }
    client.expect_closed();
    server.wait_for_end().expect("a good end");
    assert!(disk.content()[..200 * 512].iter().all(|byte| *byte == 1));
    assert_eq!(disk.log().last().map(|op| op.kind), Some(Kind::Flush));
}

#[test]
fn a_stop_waits_for_no_idle_client_wherever_it_is() {
    let server = Running::one(TestDisk::new().disk());
    let mut silent = server.connect();
    let mut greeted = server.greeted();
    let mut halfway = server.greeted();
    halfway.send(&option(3, &[])[..7]);
    let mut idle = server.client(Style::Simple);
    let mut in_a_header = server.client(Style::Simple);
    in_a_header.send(&request(READ, 0, 1, 0, 512)[..11]);
    let mut in_a_payload = server.client(Style::Simple);
    in_a_payload.send(&request(WRITE, 0, 1, 0, 512));
    in_a_payload.send(&[1; 100]);
    server.wait_for_connections(6);
    server.stop().expect("a good end");
    // The greeting was on its way.
    silent.drain();
    for client in [
        &mut greeted,
        &mut halfway,
        &mut idle,
        &mut in_a_header,
        &mut in_a_payload,
    ] {
        client.expect_closed();
    }
}

#[test]
fn a_write_that_had_not_arrived_whole_at_the_stop_does_not_happen() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Simple);
    client.write(0, &[1; 512]);
    client.send(&request(WRITE, 0, 1, 0, 4096));
    client.send(&[2; 4095]);
    server.stop().expect("a good end");
    client.expect_closed();
    assert!(disk.content()[..512] == [1; 512]);
}

#[test]
fn a_client_that_takes_no_replies_holds_a_stop_up_no_longer_than_the_grace() {
    let disk = TestDisk::new();
    let mut limits = Limits::default();
    limits.stop_grace = Duration::from_millis(100);
    let server = Running::new([export("disk", disk.disk())], limits);
    let mut clients = Vec::new();
    for style in STYLES {
        let mut client = server.client(style);
        for _ in 0..16 {
            client.send_request(READ, 0, 0, 1 << 20, &[]);
        }
        // It takes the first reply's head and no more: 16 MiB do not fit into a socket.
        client.receive::<16>();
        clients.push(client);
    }
    server.wait_for_connections(STYLES.len());
    server.stop().expect("a good end");
    assert_eq!(server.handle.connection_count(), 0);
    assert_eq!(disk.log().last().map(|op| op.kind), Some(Kind::Flush));
}

#[test]
fn a_client_that_takes_its_replies_late_gets_all_within_the_grace() {
    let disk = TestDisk::with(Traits {
        sector_count: 16 * 2048,
        ..Traits::default()
    });
    let content = pattern(16 << 20, 4);
    disk.set_content(0, &content);
    let mut limits = Limits::default();
    limits.stop_grace = common::DEADLINE;
    let server = Running::new([export("disk", disk.disk())], limits);
    let mut client = server.client(Style::Structured);
    disk.hold_all(Kind::Read);
    let cookies: Vec<_> = (0..16)
        .map(|i| client.send_request(READ, 0, i << 20, 1 << 20, &[]))
        .collect();
    // More than two do not fit into the connection's memory.
    disk.wait_for_held(2);
    server.handle.stop();
    disk.release_all();
    for _ in 0..16 {
        let answer = client.answer();
        let index = cookies.iter().position(|cookie| *cookie == answer.cookie);
        let start = index.expect("a read of mine") << 20;
        assert!(answer.data == content[start..start + (1 << 20)]);
    }
    client.expect_closed();
    server.wait_for_end().expect("a good end");
}

#[test]
fn a_stop_waits_for_the_disk_however_long_the_client_is_gone() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Simple);
    disk.hold_all(Kind::Write);
    client.send_request(WRITE, 0, 0, 512, &[7; 512]);
    disk.wait_for_held(1);
    drop(client);
    server.handle.stop();
    assert_eq!(
        server.handle.connection_count(),
        1,
        "its write is still in flight"
    );
    disk.release_all();
    server.wait_for_end().expect("a good end");
    let flush_last = |log: Vec<Op>| log.last().map(|op| op.kind) == Some(Kind::Flush);
    assert!(flush_last(disk.log()));
    assert!(disk.content()[..512] == [7; 512]);
}

#[test]
fn a_flush_that_fails_at_the_end_names_its_export_and_the_others_are_flushed() {
    let disks = [TestDisk::new(), TestDisk::new(), TestDisk::new()];
    disks[1].plan(|op| match op.kind {
        Kind::Flush => Plan::Fail(DiskError::Io(io::Error::other("planned"))),
        _ => Plan::Do,
    });
    let names = ["a", "broken", "z"];
    let exports = names
        .iter()
        .zip(&disks)
        .map(|(name, disk)| export(name, disk.disk()));
    let server = Running::new(exports, Limits::default());
    match server.stop() {
        Err(ServeError::Flush { export, source }) => {
            assert_eq!(export, "broken");
            assert!(matches!(source, DiskError::Io(_)), "{source}");
        }
        other => panic!("{other:?}"),
    }
    assert!(disks.iter().all(|disk| disk.count_of(Kind::Flush) == 1));
}

#[test]
fn a_disk_that_hangs_at_the_end_does_not_keep_the_others_from_being_flushed() {
    let disks = [TestDisk::new(), TestDisk::new(), TestDisk::new()];
    disks[0].hold_all(Kind::Flush);
    let names = ["hangs", "y", "z"];
    let exports = names.iter().zip(&disks);
    let exports = exports.map(|(name, disk)| export(name, disk.disk()));
    let server = Running::new(exports, Limits::default());
    server.handle.stop();
    wait_until(
        || {
            disks[1..]
                .iter()
                .all(|disk| disk.count_of(Kind::Flush) == 1)
        },
        || "they wait for the one that hangs".to_owned(),
    );
    disks[0].wait_for_held(1);
    disks[0].release_all();
    server.wait_for_end().expect("a good end");
}

#[test]
fn an_export_that_takes_no_changes_is_not_flushed_at_the_end() {
    let disk = TestDisk::new();
    let server = Running::new([export("disk", disk.disk()).read_only()], Limits::default());
    assert_eq!(server.client(Style::Simple).errno(FLUSH, 0, 0, 0), 0);
    disk.clear_log();
    server.stop().expect("a good end");
    assert_eq!(disk.count_of(Kind::Flush), 0);
}

#[test]
fn a_stop_before_the_start_ends_serving_at_once() {
    let disk = TestDisk::new();
    let server = Server::new([export("disk", disk.disk())], Limits::default()).expect("a server");
    let handle = server.handle();
    handle.stop();
    handle.stop();
    let ended = serve(server).recv_timeout(common::DEADLINE);
    ended.expect("in time").expect("a good end");
}

#[test]
fn all_is_given_back_at_the_end() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    let mut clients: Vec<_> = (0..10).map(|_| server.client(Style::Simple)).collect();
    clients[3].write(5, b"something");
    clients[4]
        .stream()
        .shutdown(Shutdown::Both)
        .expect("it is open");
    server.stop().expect("a good end");
    assert!(
        disk.other_owner_count() > 0,
        "the handle shows the exports still"
    );
    drop(server);
    assert_eq!(disk.other_owner_count(), 0);
}
