//! How many clients, and for how long: limits that change while the server serves.

mod common;

use common::client::{
    Client, OPT_EXPORT_NAME, OPT_GO, OPT_INFO, OPT_LIST, READ, REP_ACK, REP_ERR_POLICY, STYLES,
    Style, WRITE, info_request, option, request,
};
use common::disk::{Kind, TestDisk};
use common::{Running, export, wait_until};
use disklayer_ram::ram_disk;
use frontend_nbd::{Export, InvalidExport, Limits};
use futures_lite::future::block_on;
use serde_json::{Value, json};
use std::time::Duration;

const MIB: u64 = 1 << 20;

fn ram(name: &str) -> Export {
    export(name, ram_disk(MIB, false).expect("a disk"))
}

fn set(server: &Running, path: &str, value: &str) {
    let changed = block_on(inspect::update(path, value, &server.handle));
    changed.expect("it can be changed");
}

fn shown(server: &Running, path: &str) -> Value {
    block_on(inspect::inspect(path, None, &server.handle)).expect("it is there")
}

fn go_kind(client: &mut Client, name: &str) -> u32 {
    let replies = client.ask(OPT_GO, &info_request(name, &[]));
    replies.last().expect("an answer").kind
}

#[test]
fn a_lower_limit_of_connections_is_for_new_ones_and_a_higher_one_lets_them_in() {
    let server = Running::new([ram("disk")], Limits::default());
    let mut clients = [(); 3].map(|()| server.client(Style::Simple));
    set(&server, "limits/connections_max", "2");
    server.connect().expect_closed();
    for client in &mut clients {
        assert_eq!(client.read(0, 512), [0; 512]);
    }
    set(&server, "limits/connections_max", "4");
    let mut fourth = server.client(Style::Structured);
    assert_eq!(fourth.read(0, 512), [0; 512]);
    assert_eq!(shown(&server, "refused"), 1);
    let mut limits = server.handle.limits();
    assert_eq!(limits.connections_max, 4);
    limits.connections_max = 0;
    server.handle.set_limits(limits);
    server.connect().expect_closed();
    assert_eq!(shown(&server, "limits/connections_max"), 0);
}

#[test]
fn connections_above_the_limit_of_an_export_are_told_and_may_use_another() {
    let mut limits = Limits::default();
    limits.connections_per_export_max = Some(2);
    let server = Running::new([ram("one"), ram("two")], limits);
    let first = server.client_of("one", Style::Simple);
    let mut second = server.client_of("one", Style::Structured);
    let mut third = server.greeted();
    assert_eq!(go_kind(&mut third, "one"), REP_ERR_POLICY);
    assert_eq!(third.ask(OPT_INFO, &info_request("one", &[])).len(), 3);
    let mut by_name = server.greeted();
    by_name.send_option(OPT_EXPORT_NAME, b"one");
    by_name.expect_closed();
    assert_eq!(shown(&server, "exports/one/connections"), 2);
    assert_eq!(shown(&server, "exports/one/refused"), 2);
    assert_eq!(go_kind(&mut third, "two"), REP_ACK);
    assert_eq!(third.read(0, 512), [0; 512]);
    // A place that is given up can be taken.
    first.disconnect();
    wait_until(
        || shown(&server, "exports/one/connections") == 1,
        || "the place is not given back".to_owned(),
    );
    assert_eq!(server.client_of("one", Style::Simple).read(0, 9), [0; 9]);
    assert_eq!(second.read(0, 9), [0; 9]);
}

#[test]
fn an_export_may_have_a_limit_of_its_own_which_can_be_changed_and_taken_away() {
    let mut limits = Limits::default();
    limits.connections_per_export_max = Some(1);
    let server = Running::new([ram("own").with_connections_max(2), ram("other")], limits);
    let path = "exports/own/connections_max";
    assert_eq!(shown(&server, path), 2);
    assert_eq!(shown(&server, "exports/other/connections_max"), Value::Null);
    let _two = [(); 2].map(|()| server.client_of("own", Style::Simple));
    let mut client = server.greeted();
    assert_eq!(go_kind(&mut client, "own"), REP_ERR_POLICY);
    set(&server, path, "none");
    assert_eq!(
        go_kind(&mut client, "own"),
        REP_ERR_POLICY,
        "the general limit"
    );
    set(&server, "limits/connections_per_export_max", "none");
    assert_eq!(go_kind(&mut client, "own"), REP_ACK);
    assert!(block_on(inspect::update(path, "many", &server.handle)).is_err());
    set(&server, path, "0");
    let mut client = server.greeted();
    assert_eq!(go_kind(&mut client, "own"), REP_ERR_POLICY);
}

#[test]
fn the_limits_are_shown_as_they_are() {
    let mut limits = Limits::default();
    limits.idle_timeout = Some(Duration::from_millis(1500));
    let server = Running::new([ram("disk")], limits);
    assert_eq!(
        shown(&server, "limits"),
        json!({
            "connections_max": 1024, "connections_per_export_max": null, "requests_in_flight_max": 128,
            "bytes_in_flight_max": 2 * MIB, "stop_grace_s": 10.0, "handshake_timeout_s": 10.0,
            "idle_timeout_s": 1.5,
        })
    );
}

#[test]
fn fewer_requests_are_worked_on_at_once_as_soon_as_the_limit_is_lowered() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    let mut client = server.client(Style::Structured);
    set(&server, "limits/requests_in_flight_max", "3");
    disk.hold_all(Kind::Read);
    for i in 0..10 {
        client.send_request(READ, 0, i * 512, 512, &[]);
    }
    disk.wait_for_held(3);
    set(&server, "limits/requests_in_flight_max", "5");
    // A limit is looked at whenever a request may begin.
    disk.release(|op| op.sector == 0);
    assert_eq!(client.answer().errno, 0);
    disk.wait_for_held(5);
    disk.release_all();
    (0..9).for_each(|_| assert_eq!(client.answer().errno, 0));
}

#[test]
fn a_client_that_does_not_choose_in_time_loses_its_place_whatever_it_does_instead() {
    let server = Running::new([ram("disk")], Limits::default());
    // Chosen in time; the limit is none of its business any more.
    let mut chosen = server.client(Style::Structured);
    set(&server, "limits/handshake_timeout_s", "0.05");
    let mut silent = server.connect();
    let mut greeted = server.connect();
    greeted.receive::<18>();
    greeted.send(&3_u32.to_be_bytes());
    let mut halfway = server.connect();
    halfway.receive::<18>();
    halfway.send(&[0, 0]);
    // Sends as much as it can, and takes no reply. Its connection ends by itself, or by the server's closing it.
    let mut greedy = server.connect();
    let lists = option(OPT_LIST, &[]).repeat(16_000);
    while greedy.try_send(&[&3_u32.to_be_bytes()[..], &lists].concat()) {}
    for client in [&mut greeted, &mut halfway] {
        client.expect_closed();
    }
    assert_eq!(silent.drain().len(), 18, "the greeting, and no more");
    server.wait_for_connections(1);
    assert_eq!(chosen.read(0, 512), [0; 512]);
    set(&server, "limits/handshake_timeout_s", "none");
    let mut patient = server.client(Style::Simple);
    assert_eq!(patient.read(0, 512), [0; 512]);
}

#[test]
fn an_idle_client_is_closed_in_order_and_a_waiting_one_is_not_idle() {
    for style in STYLES {
        let disk = TestDisk::new();
        let server = Running::one(disk.disk());
        let mut waiting = server.client(style);
        disk.hold_all(Kind::Write);
        waiting.send_request(WRITE, 0, 0, 512, &[1; 512]);
        disk.wait_for_held(1);
        let mut idle = server.client(style);
        assert_eq!(idle.read(0, 512), [0; 512]);
        let mut in_a_header = server.client(style);
        in_a_header.send(&request(READ, 0, 1, 0, 512)[..11]);
        let mut in_a_payload = server.client(style);
        in_a_payload.send(&request(WRITE, 0, 1, 0, 512));
        in_a_payload.send(&[1; 100]);
        // They sleep already, or do soon.
        set(&server, "limits/idle_timeout_s", "0.05");
        for client in [&mut idle, &mut in_a_header, &mut in_a_payload] {
            client.expect_closed();
        }
        server.wait_for_connections(1);
        disk.release_all();
        assert_eq!(waiting.answer().errno, 0);
        // Now it is its turn.
        waiting.expect_closed();
        server.wait_for_connections(0);
        server.stop().expect("a good end");
    }
}

#[test]
fn a_client_that_takes_no_replies_is_idle() {
    let mut limits = Limits::default();
    limits.idle_timeout = Some(Duration::from_millis(50));
    let server = Running::new([ram("disk")], limits);
    let mut deaf = server.client(Style::Simple);
    for _ in 0..16 {
        deaf.send_request(READ, 0, 0, MIB as u32, &[]);
    }
    server.wait_for_connections(0);
    drop(deaf);
}

#[test]
fn a_client_that_goes_on_asking_is_never_idle() {
    let server = Running::new([ram("disk")], Limits::default());
    let mut busy = server.client(Style::Structured);
    let mut idle = server.client(Style::Simple);
    // Long enough that the busy one is not late by chance; the idle one is the clock.
    set(&server, "limits/idle_timeout_s", "3");
    while server.handle.connection_count() == 2 {
        assert_eq!(busy.read(0, 512), [0; 512]);
    }
    idle.expect_closed();
    assert_eq!(busy.read(0, 512), [0; 512]);
}

#[test]
fn the_message_about_a_long_name_is_short() {
    let disk = ram_disk(MIB, false).expect("a disk");
    let name = "ü".repeat(5000);
    let error = Export::new(name.clone(), disk.clone()).expect_err("too long");
    let text = error.to_string();
    assert!(text.len() < 300 && text.contains("(10000 bytes)"), "{text}");
    match error {
        InvalidExport::Text { name: whole, part } => assert_eq!((whole, part), (name, "name")),
        other => panic!("{other}"),
    }
    let error = Export::new("a\0b", disk).expect_err("a zero byte");
    assert!(
        error
            .to_string()
            .starts_with("export \"a\\0b\": the name must")
    );
}
