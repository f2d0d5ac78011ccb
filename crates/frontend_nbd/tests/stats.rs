//! What a server tells of itself: by export, by connection, by operation.

mod common;

use common::client::{
    BLOCK_STATUS, EINVAL, EIO, FLUSH, READ, Style, TRIM, WRITE, WRITE_ZEROES, request,
};
use common::disk::{Kind, Plan, TestDisk};
use common::{Running, export, wait_until};
use disk_backend::DiskError;
use frontend_nbd::{ExportStats, Limits, Operation, OperationStats};
use futures_lite::future::block_on;
use serde_json::{Value, json};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

const MIB: usize = 1 << 20;

fn shown(server: &Running, path: &str) -> Value {
    block_on(inspect::inspect(path, None, &server.handle)).expect("it is there")
}

fn stats(server: &Running) -> ExportStats {
    let mut all = server.handle.export_stats();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn of(stats: &ExportStats, wanted: Operation) -> OperationStats {
    let mut all = stats.operations.iter();
    let found = all.find(|(operation, _)| *operation == wanted);
    found.expect("every operation is there").1.clone()
}

#[test]
fn what_was_done_is_counted_by_operation_and_outlives_its_connections() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    for style in [Style::Simple, Style::Structured] {
        let mut client = server.client_of("disk", style);
        client.write(0, &[1; 1000]);
        client.write(5000, &[2; 24]);
        client.read(0, 300_000);
        assert_eq!(client.errno(FLUSH, 0, 0, 0), 0);
        assert_eq!(client.errno(TRIM, 0, 0, 8192), 0);
        assert_eq!(client.errno(WRITE_ZEROES, 0, 512, 512), 0);
        assert_eq!(client.errno(READ, 0, MIB as u64, 1), EINVAL);
        assert_eq!(client.errno(99, 0, 0, 512), EINVAL);
        if style == Style::Structured {
            assert_eq!(client.errno(BLOCK_STATUS, 0, 0, 4096), 0);
        }
        client.disconnect();
    }
    server.wait_for_connections(0);
    let stats = stats(&server);
    let expected = [
        (Operation::Read, 4, 2, 600_000),
        (Operation::Write, 4, 0, 2048),
        (Operation::WriteZeroes, 2, 0, 1024),
        (Operation::Trim, 2, 0, 16384),
        (Operation::Flush, 2, 0, 0),
        (Operation::BlockStatus, 1, 0, 0),
        (Operation::Cache, 0, 0, 0),
        (Operation::Other, 2, 2, 0),
    ];
    for (operation, requests, errors, bytes) in expected {
        let seen = of(&stats, operation);
        let name = operation.name();
        assert_eq!(
            (seen.requests, seen.errors, seen.bytes),
            (requests, errors, bytes),
            "{name}"
        );
        assert_eq!(seen.latency_ns.count(), requests, "{name}");
        let path = format!("exports/disk/operations/{name}");
        let tree = shown(&server, &path);
        assert_eq!(tree["requests"], requests, "{name}");
        assert_eq!(tree["errors"], errors, "{name}");
        assert_eq!(tree["bytes"], bytes, "{name}");
        assert_eq!(tree["latency_ns"]["count"], requests, "{name}");
    }
    assert_eq!((stats.name.as_str(), stats.connections), ("disk", 0));
    assert_eq!(server.handle.accepted_count(), 2);
    assert_eq!(server.handle.refused_count(), 0);
}

#[test]
fn a_connection_shows_who_it_is_and_what_it_does() {
    let disk = TestDisk::new();
    let mut limits = Limits::default();
    limits.bytes_in_flight_max = 4 * MIB;
    let server = Running::new([export("disk", disk.disk())], limits);
    let negotiating = server.greeted();
    server.wait_for_connections(1);
    let early = shown(&server, "connections/0");
    assert!(
        early["peer"]
            .as_str()
            .is_some_and(|peer| peer.starts_with("pid ")),
        "{early}"
    );
    assert_eq!((early.get("export"), &early["requests"]), (None, &json!(0)));
    drop(negotiating);

    let mut client = server.client(Style::Structured);
    client.read(0, 512);
    disk.hold_all(Kind::Write);
    client.send_request(WRITE, 0, 0, 4096, &[1; 4096]);
    client.send_request(WRITE, 0, 8192, 4096, &[1; 4096]);
    disk.wait_for_held(2);
    wait_until(
        || shown(&server, "connections/1/requests_in_flight") == 2,
        || shown(&server, "connections").to_string(),
    );
    let busy = shown(&server, "connections/1");
    assert_eq!(busy["export"], "disk");
    assert_eq!(busy["framing"], "structured");
    assert_eq!(busy["contexts"], json!(["base:allocation"]));
    assert_eq!(busy["bounce_pool"]["bytes_max"], 4 * MIB);
    assert_eq!(busy["bounce_pool"]["bytes_in_use"], 8192);
    assert_eq!(busy["bounce_pool"]["waiters"], 0);
    assert_eq!(busy["requests"], 3);
    assert_eq!(busy["bytes_read"], 512);
    assert_eq!(
        busy["operations"]["write"],
        json!({ "requests": 2, "errors": 0, "bytes": 0 })
    );
    let (age, idle) = (busy["age_s"].as_f64(), busy["idle_s"].as_f64());
    assert!(idle >= Some(0.0) && age >= idle, "{age:?} {idle:?}");
    assert_eq!(shown(&server, "exports/disk/requests_in_flight"), 2);
    assert_eq!(shown(&server, "exports/disk/connections"), 1);
    disk.release_all();
    (0..2).for_each(|_| assert_eq!(client.answer().errno, 0));
    assert_eq!(shown(&server, "connections/1/operations/write/bytes"), 8192);
    assert!(server.handle.remove_export("disk").is_ok());
    assert_eq!(shown(&server, "exports"), json!({}));
}

#[test]
fn latencies_are_those_of_the_disk() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Simple);
    disk.hold_all(Kind::Read);
    let sent = Instant::now();
    client.send_request(READ, 0, 0, 512, &[]);
    disk.wait_for_held(1);
    let held = Instant::now();
    client.send_request(FLUSH, 0, 0, 0, &[]);
    let flush = client.answer();
    assert_eq!(flush.data.len(), 0, "the flush was quicker");
    let released = Instant::now();
    disk.release_all();
    assert_eq!(client.answer().errno, 0);
    let (at_least, at_most) = (released - held, sent.elapsed());
    let stats = stats(&server);
    let read = of(&stats, Operation::Read).latency_ns;
    let flush = of(&stats, Operation::Flush).latency_ns;
    assert_eq!((read.count(), flush.count()), (1, 1));
    assert!(u128::from(read.max()) >= at_least.as_nanos());
    assert!(u128::from(read.max()) <= at_most.as_nanos());
    assert!(flush.max() <= read.max());
}

#[test]
fn a_failed_request_is_an_error_of_its_operation() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Structured);
    disk.plan(|op| match op.kind {
        Kind::Write => Plan::Fail(DiskError::Io(io::Error::other("planned"))),
        _ => Plan::Do,
    });
    assert_eq!(client.call(WRITE, 0, 0, 512, &[1; 512]).errno, EIO);
    // In pieces, of which several fail: one error.
    let len = 900_000;
    assert_eq!(
        client.call(WRITE, 0, 0, len, &vec![1; len as usize]).errno,
        EIO
    );
    let write = of(&stats(&server), Operation::Write);
    assert_eq!((write.requests, write.errors, write.bytes), (2, 2, 0));
}

#[test]
fn totals_never_shrink_while_connections_come_and_go() {
    const CLIENTS: u64 = 4;
    const SESSIONS: u64 = 40;
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    let (handle, address) = (server.handle.clone(), &server.address);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut last = 0;
            while !is_over.load(Ordering::Relaxed) {
                let stats = handle.export_stats().remove(0);
                let write = of(&stats, Operation::Write);
                assert!(write.requests >= last, "{} after {last}", write.requests);
                assert!(write.requests <= CLIENTS * SESSIONS);
                last = write.requests;
            }
        });
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..SESSIONS {
                        let mut client = common::connect(address);
                        client.greet(3);
                        client.go("disk", Style::Simple);
                        client.write(0, &[1; 512]);
                        client.send(&request(2, 0, 0, 0, 0));
                    }
                })
            })
            .collect();
        let clients = clients.into_iter().map(|client| client.join());
        let all_well = clients.collect::<Result<Vec<_>, _>>();
        is_over.store(true, Ordering::Relaxed);
        all_well.expect("no panic");
        watcher.join().expect("the totals never shrink");
    });
    server.wait_for_connections(0);
    let write = of(&stats(&server), Operation::Write);
    assert_eq!((write.requests, write.bytes), (160, 160 * 512));
    assert_eq!(write.latency_ns.count(), 160);
}
