//! Sessions that end too early, at every byte: nothing is left behind. A program of its own, because it counts what the whole
//! process holds.

mod common;

use common::client::{
    BLOCK_STATUS, Client, DISC, FLUSH, FUA, OPT_GO, OPT_LIST, OPT_SET_META_CONTEXT,
    OPT_STRUCTURED_REPLY, READ, Style, TRIM, WRITE, WRITE_ZEROES, contexts, info_request, option,
    request,
};
use common::disk::TestDisk;
use common::{Running, wait_until};
use std::fs;
use std::io::Write;

/// All that a client sends in a session that goes well.
fn good_session() -> Vec<u8> {
    let mut bytes = 3_u32.to_be_bytes().to_vec();
    bytes.extend(option(OPT_STRUCTURED_REPLY, &[]));
    bytes.extend(option(OPT_LIST, &[]));
    bytes.extend(option(
        OPT_SET_META_CONTEXT,
        &contexts("disk", &["base:allocation"]),
    ));
    bytes.extend(option(OPT_GO, &info_request("disk", &[3])));
    bytes.extend(request(WRITE, 0, 1, 512, 512));
    bytes.extend([1; 512]);
    bytes.extend(request(WRITE, FUA, 2, 100, 30));
    bytes.extend([2; 30]);
    bytes.extend(request(READ, 0, 3, 0, 70_000));
    bytes.extend(request(READ, 0, 4, 3, 500_000));
    bytes.extend(request(BLOCK_STATUS, 0, 5, 0, 4096));
    bytes.extend(request(WRITE_ZEROES, 0, 6, 700, 1000));
    bytes.extend(request(TRIM, 0, 7, 0, 8192));
    bytes.extend(request(FLUSH, 0, 8, 0, 0));
    bytes.extend(request(DISC, 0, 0, 0, 0));
    bytes
}

/// Leaves after `sent`, in one of three ways.
fn leave_after(mut client: Client, sent: &[u8], way: usize) {
    // The server may have had enough before the end: after a goodbye.
    let _ = client.stream().write_all(sent);
    match way % 3 {
        // Says that nothing more will come, and takes every answer.
        0 => {
            client.finish_sending();
            assert!(client.drain().starts_with(b"NBDMAGICIHAVEOPT"));
        }
        // Takes a part of the answers.
        1 => drop(client.receive::<10>()),
        _ => {}
    }
}

fn session_cut_at_every_byte(server: &Running) {
    let session = good_session();
    for len in 0..=session.len() {
        leave_after(server.connect(), &session[..len], len);
    }
    server.wait_for_connections(0);
}

fn count_in(folder: &str) -> usize {
    fs::read_dir(folder).expect("Linux").count()
}

/// In bytes.
fn memory_in_use() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm.split(' ').nth(1).expect("a second field");
    pages.parse::<usize>().expect("a number") * 4096
}

#[test]
fn a_session_cut_at_every_byte_leaves_neither_memory_nor_descriptors_nor_threads() {
    let disk = TestDisk::new();
    let server = Running::one(disk.disk());
    let descriptors_before = count_in("/proc/self/fd");
    session_cut_at_every_byte(&server);
    disk.clear_log();
    let memory_before = memory_in_use();
    for _ in 0..3 {
        session_cut_at_every_byte(&server);
        disk.clear_log();
    }
    let memory_after = memory_in_use();
    let connections = 3 * (good_session().len() + 1);
    // Room for the allocator's moods, but not for one buffer per connection.
    let allowed = connections * 6_500;
    assert!(
        memory_after <= memory_before + allowed,
        "{memory_before} bytes before {connections} connections, {memory_after} after"
    );
    // A descriptor is closed, and a thread ends, a little after the connection is off the list.
    let descriptors = || count_in("/proc/self/fd");
    wait_until(
        || descriptors() == descriptors_before,
        || format!("{} descriptors, not {descriptors_before}", descriptors()),
    );
    let threads = || count_in("/proc/self/task");
    wait_until(|| threads() <= 4, || format!("{} threads", threads()));

    let mut client = server.client(Style::Structured);
    assert_eq!(client.read(8192, 512), [0; 512]);
    client.disconnect();
    server.stop().expect("a good end");
    drop(server);
    assert_eq!(disk.other_owner_count(), 0);
}
