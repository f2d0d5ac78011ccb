//! Exports that come and go while the server serves.

mod common;

use common::client::{
    Client, EINVAL, ENOSPC, OPT_EXPORT_NAME, OPT_GO, OPT_INFO, OPT_LIST, OPT_LIST_META_CONTEXT,
    OPT_SET_META_CONTEXT, READ, REP_ACK, REP_ERR_UNKNOWN, REP_SERVER, STYLES, Style, WRITE,
    contexts, info_request, option, string,
};
use common::disk::{Kind, Plan, TestDisk, Traits};
use common::{DEADLINE, Running, export, pattern, wait_until};
use disk_backend::DiskError;
use disklayer_ram::ram_disk;
use frontend_nbd::{InvalidExport, Limits, ListenAddress, RemoveExportError, ServerHandle};
use futures_lite::future::block_on;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// Serves two disks: `stays` and `goes`.
fn two() -> (Running, TestDisk, TestDisk) {
    let (stays, goes) = (TestDisk::new(), TestDisk::new());
    let exports = [("stays", &stays), ("goes", &goes)];
    let exports = exports.map(|(name, disk)| export(name, disk.disk()));
    let mut limits = Limits::default();
    limits.stop_grace = Duration::from_millis(100);
    (Running::new(exports, limits), stays, goes)
}

/// Removes an export from another thread; the outcome comes through the channel.
fn removing(
    handle: &ServerHandle,
    name: impl Into<String>,
) -> Receiver<Result<(), RemoveExportError>> {
    let (sender, outcome) = channel();
    let (handle, name) = (handle.clone(), name.into());
    std::thread::spawn(move || {
        // A test that has failed already does not wait for it.
        let _ = sender.send(handle.remove_export(&name));
    });
    outcome
}

fn expect_removed(outcome: &Receiver<Result<(), RemoveExportError>>) {
    let outcome = outcome.recv_timeout(DEADLINE).expect("in time");
    outcome.expect("a good end");
}

fn names_listed(client: &mut Client) -> Vec<String> {
    let replies = client.ask(OPT_LIST, &[]);
    let names = replies.iter().filter(|reply| reply.kind == REP_SERVER);
    let names = names.map(|reply| String::from_utf8_lossy(&reply.data[4..]).into_owned());
    names.collect()
}

fn go_kind(client: &mut Client, name: &str) -> u32 {
    let replies = client.ask(OPT_GO, &info_request(name, &[]));
    replies.last().expect("an answer").kind
}

#[test]
fn an_export_added_while_serving_is_listed_and_served() {
    let (server, ..) = two();
    let mut early = server.greeted();
    let mut busy = server.client_of("stays", Style::Simple);
    let disk = TestDisk::new();
    server
        .handle
        .add_export(export("new", disk.disk()))
        .expect("a new name");
    assert_eq!(server.handle.export_names(), ["goes", "new", "stays"]);
    assert_eq!(names_listed(&mut early), ["goes", "new", "stays"]);
    early.go("new", Style::Structured);
    early.write(700, b"here");
    assert_eq!(disk.content()[700..704], *b"here");
    assert_eq!(busy.read(0, 512), [0; 512]);
    server.stop().expect("a good end");
    assert_eq!(disk.count_of(Kind::Flush), 1);
}

#[test]
fn a_name_in_use_is_refused_and_free_again_after_its_removal() {
    let (server, _, goes) = two();
    let other = ram_disk(2 * MIB, false).expect("a disk");
    match server.handle.add_export(export("goes", other.clone())) {
        Err(InvalidExport::DuplicateName { name }) => assert_eq!(name, "goes"),
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(
        server.client_of("goes", Style::Simple).size,
        MIB,
        "the first one"
    );
    server.handle.remove_export("goes").expect("it is there");
    assert_eq!(goes.other_owner_count(), 0);
    server
        .handle
        .add_export(export("goes", other))
        .expect("it is free");
    assert_eq!(server.client_of("goes", Style::Simple).size, 2 * MIB);
}

#[test]
fn the_last_export_can_go_and_another_becomes_the_only_one() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    let mut client = server.greeted();
    server.handle.remove_export("disk").expect("it is there");
    assert_eq!(go_kind(&mut client, ""), REP_ERR_UNKNOWN);
    assert_eq!(names_listed(&mut client), [""; 0]);
    server
        .handle
        .add_export(export("other", ram_disk(MIB, false).expect("a disk")))
        .expect("a new name");
    assert_eq!(go_kind(&mut client, ""), REP_ACK);
    assert_eq!(client.read(0, 512), [0; 512]);
    server.stop().expect("a good end");
}

#[test]
fn a_name_that_is_not_there_cannot_be_removed() {
    let (server, stays, goes) = two();
    for name in ["", "gone", "stays\0"] {
        match server.handle.remove_export(name) {
            Err(RemoveExportError::Unknown { name: named }) => assert_eq!(named, name),
            outcome => panic!("{outcome:?}"),
        }
    }
    assert!(server.handle.disk("gone").is_none() && server.handle.disk("").is_none());
    let disk = server.handle.disk("stays").expect("it is there");
    assert_eq!(disk.disk_type(), "test");
    drop(disk);
    assert_eq!(stays.count_of(Kind::Flush) + goes.count_of(Kind::Flush), 0);
}

#[test]
fn a_removed_export_is_unknown_to_every_option() {
    let (server, ..) = two();
    let mut client = server.greeted();
    client.negotiate_structured();
    server.handle.remove_export("goes").expect("it is there");
    let info = info_request("goes", &[]);
    let context = contexts("goes", &["base:allocation"]);
    for (code, data) in [
        (OPT_GO, &info),
        (OPT_INFO, &info),
        (OPT_SET_META_CONTEXT, &context),
        (OPT_LIST_META_CONTEXT, &context),
    ] {
        assert_eq!(client.ask_kind(code, data), REP_ERR_UNKNOWN, "{code}");
    }
    assert_eq!(names_listed(&mut client), ["stays"]);
    // There is no other way to say it here.
    client.send_option(OPT_EXPORT_NAME, b"goes");
    client.expect_closed();
    assert_eq!(server.client_of("stays", Style::Simple).read(0, 9), [0; 9]);
}

#[test]
fn a_client_that_negotiates_does_not_hold_up_a_removal_and_goes_on_to_another_export() {
    let (server, _, goes) = two();
    let mut client = server.greeted();
    client.negotiate_structured();
    let selected = client.ask(
        OPT_SET_META_CONTEXT,
        &contexts("goes", &["base:allocation"]),
    );
    assert_eq!(selected.len(), 2);
    assert_eq!(client.ask(OPT_INFO, &info_request("goes", &[])).len(), 3);
    // In the middle of choosing it.
    let choice = option(OPT_GO, &info_request("goes", &[]));
    client.send(&choice[..choice.len() - 1]);
    expect_removed(&removing(&server.handle, "goes"));
    assert_eq!(goes.other_owner_count(), 0, "nobody holds its disk");
    client.send(&choice[choice.len() - 1..]);
    assert_eq!(client.option_reply(OPT_GO).kind, REP_ERR_UNKNOWN);
    client.go("stays", Style::Structured);
    assert_eq!(client.read(0, 512), [0; 512]);
}

#[test]
fn a_client_that_takes_no_list_of_exports_holds_up_no_removal() {
    let names: Vec<_> = (0..200).map(|i| format!("{i:03}")).collect();
    let disk = TestDisk::new();
    let exports = names.iter().map(|name| {
        let described = export(name, disk.disk()).with_description("x".repeat(4096));
        described.expect("a description")
    });
    let server = Running::new(exports, Limits::default());
    let mut client = server.greeted();
    // The list does not fit into the socket. Its beginning has come, and nobody takes the rest.
    client.send_option(OPT_LIST, &[]);
    client.receive::<1>();
    for name in names {
        let outcome = removing(&server.handle, name);
        expect_removed(&outcome);
    }
    assert_eq!(disk.other_owner_count(), 0);
}

#[test]
fn a_removal_finishes_and_answers_what_is_in_flight_then_flushes() {
    for style in STYLES {
        let (server, stays, goes) = two();
        let mut clients: Vec<_> = (0..3).map(|_| server.client_of("goes", style)).collect();
        let mut other = server.client_of("stays", style);
        goes.plan(|op| match op.kind {
            Kind::Flush => Plan::Do,
            _ => Plan::Hold,
        });
        for (client, base) in clients.iter_mut().zip([0, 100, 200]) {
            for sector in base..base + 4 {
                client.send_request(WRITE, 0, sector * 512, 512, &[sector as u8; 512]);
            }
            client.send_request(READ, 0, (base + 9) * 512, 512, &[]);
        }
        goes.wait_for_held(15);
        let outcome = removing(&server.handle, "goes");
        goes.release_all();
        for client in &mut clients {
            for _ in 0..5 {
                assert_eq!(client.answer().errno, 0);
            }
            client.expect_closed();
        }
        expect_removed(&outcome);
        assert_eq!(goes.log().last().map(|op| op.kind), Some(Kind::Flush));
        assert_eq!(
            (goes.count_of(Kind::Write), goes.count_of(Kind::Flush)),
            (12, 1)
        );
        assert!(goes.content()[203 * 512..204 * 512] == [203; 512]);
        assert_eq!(goes.other_owner_count(), 0);
        other.write(0, &[1; 512]);
        server.wait_for_connections(1);
        server.stop().expect("a good end");
        assert_eq!(
            (goes.count_of(Kind::Flush), stays.count_of(Kind::Flush)),
            (1, 1)
        );
    }
}

#[test]
fn a_read_only_export_is_removed_without_a_flush() {
    let disk = TestDisk::new();
    let server = Running::new([export("disk", disk.disk()).read_only()], Limits::default());
    server.handle.remove_export("disk").expect("it is there");
    assert_eq!(disk.count_of(Kind::Flush), 0);
}

#[test]
fn a_flush_that_fails_at_a_removal_is_told_and_the_export_is_gone() {
    let (server, _, goes) = two();
    goes.plan(|_| Plan::Fail(DiskError::Io(io::Error::other("planned"))));
    match server.handle.remove_export("goes") {
        Err(RemoveExportError::Flush { export, source }) => {
            assert_eq!(export, "goes");
            assert!(matches!(source, DiskError::Io(_)), "{source}");
        }
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(server.handle.export_names(), ["stays"]);
    assert_eq!(goes.other_owner_count(), 0);
    server.stop().expect("the others are well");
}

#[test]
fn a_disk_that_hangs_holds_up_its_own_removal_only() {
    let (server, stays, goes) = two();
    let mut client = server.client_of("goes", Style::Simple);
    goes.hold_all(Kind::Write);
    client.send_request(WRITE, 0, 0, 512, &[7; 512]);
    goes.wait_for_held(1);
    drop(client);
    let outcome = removing(&server.handle, "goes");
    wait_until(
        || server.handle.export_names() == ["stays"],
        || "it is still on the list".to_owned(),
    );
    // Everybody else comes, works and goes as ever, also under its name.
    let mut other = server.client_of("stays", Style::Structured);
    other.write(0, &[1; 512]);
    for name in ["goes", "another"] {
        let disk = TestDisk::new();
        server
            .handle
            .add_export(export(name, disk.disk()))
            .expect("a new name");
        server.client_of(name, Style::Simple).write(0, &[2; 512]);
        server.handle.remove_export(name).expect("it is there");
        assert_eq!(disk.other_owner_count(), 0);
    }
    server.handle.remove_export("stays").expect("it is there");
    assert_eq!(stays.other_owner_count(), 0);
    assert!(matches!(outcome.try_recv(), Err(TryRecvError::Empty)));
    goes.release_all();
    expect_removed(&outcome);
    assert_eq!(goes.log().last().map(|op| op.kind), Some(Kind::Flush));
    assert!(goes.content()[..512] == [7; 512]);
}

#[test]
fn a_stop_waits_for_the_flush_of_an_export_that_is_being_removed() {
    let (server, stays, goes) = two();
    goes.hold_all(Kind::Flush);
    let outcome = removing(&server.handle, "goes");
    goes.wait_for_held(1);
    let is_released = Arc::new(AtomicBool::new(false));
    let was_released = Arc::clone(&is_released);
    stays.plan(move |_| match was_released.load(Ordering::Relaxed) {
        true => Plan::Do,
        false => Plan::Fail(DiskError::Io(io::Error::other("flushed before the other"))),
    });
    server.handle.stop();
    let ListenAddress::Unix(path) = &server.address else {
        panic!("it is a Unix socket");
    };
    // The last step before the server waits.
    wait_until(|| !path.exists(), || "it still listens".to_owned());
    is_released.store(true, Ordering::Relaxed);
    goes.release_all();
    server.wait_for_end().expect("a good end");
    expect_removed(&outcome);
    assert_eq!(goes.count_of(Kind::Flush), 1);
}

#[test]
fn an_export_can_be_removed_while_the_last_flush_of_another_hangs() {
    let (server, stays, goes) = two();
    stays.hold_all(Kind::Flush);
    server.handle.stop();
    stays.wait_for_held(1);
    expect_removed(&removing(&server.handle, "goes"));
    assert_eq!(goes.other_owner_count(), 0);
    stays.release_all();
    server.wait_for_end().expect("a good end");
}

#[test]
fn an_export_can_be_removed_after_the_end() {
    let (server, _, goes) = two();
    server.stop().expect("a good end");
    server.handle.remove_export("goes").expect("it is there");
    assert_eq!(goes.other_owner_count(), 0);
}

/// Writes until the server has had enough, and returns how many sectors were answered.
fn write_sectors(mut client: Client, base: u64) -> u64 {
    for sector in 0.. {
        let cookie = client.expect_answer(WRITE, (base + sector) * 512, 512);
        let mut bytes = client.header(WRITE, 0, cookie, (base + sector) * 512, 512);
        bytes.extend([base as u8 | 1; 512]);
        if !client.try_send(&bytes) || !client.is_answered() {
            return sector;
        }
        assert_eq!(client.answer().errno, 0);
    }
    unreachable!("a disk has an end")
}

#[test]
fn an_export_is_removed_under_load_with_clients_that_never_read() {
    let goes = TestDisk::with(Traits {
        sector_count: 64 * 2048,
        ..Traits::default()
    });
    let content = pattern(1 << 20, 3);
    let stays = TestDisk::new();
    stays.set_content(0, &content);
    let mut limits = Limits::default();
    limits.stop_grace = Duration::from_millis(100);
    let exports =
        [("goes", &goes), ("stays", &stays)].map(|(name, disk)| export(name, disk.disk()));
    let server = Running::new(exports, limits);
    let mut deaf = Vec::new();
    for style in STYLES {
        let mut client = server.client_of("goes", style);
        for _ in 0..16 {
            client.send_request(READ, 0, 0, 1 << 20, &[]);
        }
        client.receive::<16>();
        deaf.push(client);
    }
    let is_over = AtomicBool::new(false);
    let answered: Vec<u64> = std::thread::scope(|scope| {
        let bases = [0, 20_000, 40_000].into_iter();
        let writers: Vec<_> = bases
            .map(|base| {
                let client = server.client_of("goes", Style::Simple);
                scope.spawn(move || write_sectors(client, base))
            })
            .collect();
        let mut other = server.client_of("stays", Style::Structured);
        let (content, is_over) = (&content, &is_over);
        let other = scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                assert!(other.read(0, 1 << 20) == *content);
            }
        });
        wait_until(
            || goes.count_of(Kind::Write) > 200,
            || "nobody writes".to_owned(),
        );
        expect_removed(&removing(&server.handle, "goes"));
        assert_eq!(goes.other_owner_count(), 0);
        assert_eq!(goes.log().last().map(|op| op.kind), Some(Kind::Flush));
        let answered = writers.into_iter();
        let answered = answered.map(|writer| writer.join().expect("no panic"));
        let answered = answered.collect();
        is_over.store(true, Ordering::Relaxed);
        other.join().expect("the other export goes on");
        answered
    });
    let written = goes.content();
    for (base, count) in [0_u64, 20_000, 40_000].into_iter().zip(answered) {
        let start = base as usize * 512;
        let acknowledged = &written[start..start + count as usize * 512];
        assert!(acknowledged.iter().all(|byte| *byte == base as u8 | 1));
    }
    server.wait_for_connections(0);
    server.stop().expect("a good end");
}

#[test]
fn after_a_resize_old_clients_keep_their_size_and_new_ones_see_the_new_one() {
    let server = Running::one(ram_disk(MIB, false).expect("a disk"));
    let mut old = server.client(Style::Structured);
    let disk = server.handle.disk("disk").expect("it is there");
    let resize = |sector_count| block_on(disk.resize(sector_count)).expect("it can be resized");
    let size_now = || server.client(Style::Simple).size;

    old.write(MIB - 512, &[1; 512]);
    resize(1024);
    assert_eq!(size_now(), MIB / 2);
    let end = MIB / 2;
    assert_eq!(old.errno(READ, 0, end, 512), EINVAL);
    assert_eq!(
        old.errno(READ, 0, end - 1, 2),
        EINVAL,
        "partly beyond the end"
    );
    assert_eq!(old.call(WRITE, 0, end, 512, &[2; 512]).errno, ENOSPC);
    assert_eq!(old.read(end - 512, 512), [0; 512]);

    resize(4096);
    assert_eq!(size_now(), 2 * MIB);
    assert_eq!(old.read(MIB - 512, 512), [0; 512], "sectors added are zero");
    let mut new = server.client(Style::Structured);
    new.write(2 * MIB - 512, &[3; 512]);
    assert_eq!(new.read(2 * MIB - 512, 512), [3; 512]);
}

#[test]
fn many_exports_are_listed_and_removed_one_by_one() {
    let server = Running::new([], Limits::default());
    let name = |i: usize| format!("{i:04}");
    for i in 0..1000 {
        let disk = ram_disk(4096, false).expect("a disk");
        let added = server.handle.add_export(export(&name(i), disk));
        added.expect("a new name");
    }
    let mut client = server.greeted();
    let all: Vec<_> = (0..1000).map(name).collect();
    assert_eq!(names_listed(&mut client), all);
    assert_eq!(server.handle.export_names(), all);
    for name in &all[1..] {
        server.handle.remove_export(name).expect("it is there");
    }
    client.send_option(OPT_INFO, &[&string("0999")[..], &[0, 0]].concat());
    assert_eq!(client.option_reply(OPT_INFO).kind, REP_ERR_UNKNOWN);
    assert_eq!(names_listed(&mut client), ["0000"]);
}
