//! What the server says before an export is chosen: greeting, `EXPORT_NAME`, `INFO`, `GO`, `LIST`, `ABORT`.

mod common;

use common::client::{
    Client, OPT_ABORT, OPT_EXPORT_NAME, OPT_GO, OPT_INFO, OPT_LIST, OPT_STARTTLS,
    OPT_STRUCTURED_REPLY, REP_ACK, REP_ERR_INVALID, REP_ERR_TOO_BIG, REP_ERR_UNKNOWN,
    REP_ERR_UNSUP, REP_INFO, REP_SERVER, Style, info_request, option, string,
};
use common::disk::{TestDisk, Traits};
use common::{Running, export};
use disk_backend::UnmapBehavior;
use disklayer_ram::ram_disk;
use frontend_nbd::Limits;
use std::io::Write;

const MIB: u64 = 1 << 20;
/// Has flags, flush, FUA, trim, write zeroes, multiple connections, fast zero.
const WRITABLE: u16 = 0b1101_0110_1101;
const DF: u16 = 1 << 7;
/// Has flags, read-only, flush, FUA, multiple connections, cache.
const READ_ONLY: u16 = 0b0101_0000_1111;

fn two_exports() -> Running {
    let second = export("second", ram_disk(2 * MIB, true).expect("a disk"));
    let second = second.with_description("für später").expect("an export");
    Running::new(
        [
            export("first", ram_disk(MIB, false).expect("a disk")),
            second,
        ],
        Limits::default(),
    )
}

/// The client has got through: the export answers.
fn expect_serving(client: &mut Client) {
    assert_eq!(client.read(512, 1024), [0; 1024]);
}

fn expect_export_name_reply(client: &mut Client, size: u64, flags: u16) {
    assert_eq!(u64::from_be_bytes(client.receive()), size);
    assert_eq!(u16::from_be_bytes(client.receive()), flags);
    client.entered(size);
}

#[test]
fn an_export_name_is_answered_with_padding_unless_the_client_declines_it() {
    let server = two_exports();
    for (client_flags, padding_len) in [(0, 124), (1, 124), (2, 0), (3, 0)] {
        let mut client = server.connect();
        client.greet(client_flags);
        client.send_option(OPT_EXPORT_NAME, b"first");
        expect_export_name_reply(&mut client, MIB, WRITABLE);
        assert_eq!(client.receive_vec(padding_len), vec![0; padding_len]);
        expect_serving(&mut client);
        client.disconnect();
    }
}

#[test]
fn an_export_chosen_by_name_keeps_the_structured_replies_negotiated_before() {
    let server = two_exports();
    let mut client = server.greeted();
    client.negotiate_structured();
    client.send_option(OPT_EXPORT_NAME, b"second");
    expect_export_name_reply(&mut client, 2 * MIB, READ_ONLY | DF);
    expect_serving(&mut client);
}

#[test]
fn an_export_name_that_cannot_be_served_closes_the_connection() {
    let server = two_exports();
    let long = "x".repeat(4097);
    let too_long = "x".repeat(65537);
    let wrong: [&[u8]; 6] = [
        b"third",
        b"",
        b"first\0",
        b"\xff\xfe",
        long.as_bytes(),
        too_long.as_bytes(),
    ];
    for name in wrong {
        let mut client = server.greeted();
        // The server need not hear a name to its end to know that it is too long.
        let _ = client.stream().write_all(&option(OPT_EXPORT_NAME, name));
        client.expect_closed();
    }
    server.wait_for_connections(0);
    expect_serving(&mut server.client_of("first", Style::Simple));
}

#[test]
fn the_empty_name_means_the_only_export() {
    let only = Running::one(ram_disk(MIB, false).expect("a disk"));
    expect_serving(&mut only.client_of("", Style::Structured));
    let mut client = only.greeted();
    client.send_option(OPT_EXPORT_NAME, b"");
    expect_export_name_reply(&mut client, MIB, WRITABLE);
    let two = two_exports();
    let data = info_request("", &[]);
    assert_eq!(two.greeted().ask_kind(OPT_GO, &data), REP_ERR_UNKNOWN);
}

#[test]
fn an_abort_is_acknowledged_and_ends_the_connection() {
    let server = two_exports();
    let mut client = server.greeted();
    assert_eq!(client.ask_kind(OPT_ABORT, &[]), REP_ACK);
    client.expect_closed();
    server.wait_for_connections(0);
}

#[test]
fn a_list_names_every_export_with_its_description() {
    let server = two_exports();
    let mut client = server.greeted();
    let replies = client.ask(OPT_LIST, &[]);
    let kinds: Vec<_> = replies.iter().map(|reply| reply.kind).collect();
    assert_eq!(kinds, [REP_SERVER, REP_SERVER, REP_ACK]);
    assert_eq!(replies[0].data, string("first"));
    let second = [&string("second")[..], "für später".as_bytes()].concat();
    assert_eq!(replies[1].data, second);
    assert_eq!(client.ask_kind(OPT_LIST, b"x"), REP_ERR_INVALID);
}

#[test]
fn a_long_list_arrives_whole() {
    let disk = ram_disk(MIB, true).expect("a disk");
    let names: Vec<_> = (0..1000)
        .map(|i| format!("{i:04}{}", "x".repeat(500)))
        .collect();
    let exports = names.iter().map(|name| export(name, disk.clone()));
    let server = Running::new(exports, Limits::default());
    let mut replies = server.greeted().ask(OPT_LIST, &[]);
    assert_eq!(replies.pop().map(|last| last.kind), Some(REP_ACK));
    let listed: Vec<_> = replies.into_iter().map(|reply| reply.data).collect();
    let expected: Vec<_> = names.iter().map(|name| string(name)).collect();
    assert_eq!(listed, expected);
}

#[test]
fn info_and_go_tell_size_flags_and_block_sizes_unasked() {
    let server = Running::one(TestDisk::new().disk());
    let mut client = server.greeted();
    let export = [&[0, 0][..], &MIB.to_be_bytes(), &WRITABLE.to_be_bytes()].concat();
    let sizes = [1_u32, 4096, 32 << 20].map(u32::to_be_bytes).concat();
    let sizes = [&[0, 3][..], &sizes].concat();
    for code in [OPT_INFO, OPT_GO] {
        let replies = client.ask(code, &info_request("disk", &[]));
        let kinds: Vec<_> = replies.iter().map(|reply| reply.kind).collect();
        assert_eq!(kinds, [REP_INFO, REP_INFO, REP_ACK]);
        assert_eq!(replies[0].data, export);
        assert_eq!(replies[1].data, sizes);
        assert!(replies[2].data.is_empty());
    }
    expect_serving(&mut client);
}

#[test]
fn info_tells_name_and_description_when_asked_and_ignores_what_it_does_not_know() {
    let server = two_exports();
    let mut client = server.greeted();
    let wanted = [1, 2, 3, 0, 4711, 3];
    let infos = |replies: Vec<common::client::OptionReply>| -> Vec<Vec<u8>> {
        let infos = replies.into_iter().filter(|reply| reply.kind == REP_INFO);
        infos.map(|reply| reply.data).collect()
    };
    let second = infos(client.ask(OPT_INFO, &info_request("second", &wanted)));
    let kinds: Vec<_> = second.iter().map(|data| data[1]).collect();
    assert_eq!(kinds, [0, 3, 1, 2]);
    assert_eq!(second[2][2..], *b"second");
    assert_eq!(second[3][2..], *"für später".as_bytes());
    let first = infos(client.ask(OPT_INFO, &info_request("first", &wanted)));
    let kinds: Vec<_> = first.iter().map(|data| data[1]).collect();
    assert_eq!(kinds, [0, 3, 1], "there is no description to tell");
}

#[test]
fn flags_say_what_the_export_and_the_connection_can_do() {
    let with = |is_read_only, unmap_behavior| {
        let traits = Traits {
            is_read_only,
            unmap_behavior,
            ..Traits::default()
        };
        TestDisk::with(traits).disk()
    };
    let exports = [
        export("ignores", with(false, UnmapBehavior::Ignored)),
        export("chosen", with(false, UnmapBehavior::Zeroes)).read_only(),
        export("given", with(true, UnmapBehavior::Zeroes)),
        export("writable", with(false, UnmapBehavior::Unspecified)),
    ];
    let server = Running::new(exports, Limits::default());
    let trim = 1 << 5;
    for (name, flags) in [
        ("ignores", WRITABLE & !trim),
        ("chosen", READ_ONLY),
        ("given", READ_ONLY),
        ("writable", WRITABLE),
    ] {
        assert_eq!(server.client_of(name, Style::Simple).flags, flags, "{name}");
        assert_eq!(
            server.client_of(name, Style::Structured).flags,
            flags | DF,
            "{name}"
        );
    }
}

#[test]
fn an_unknown_export_is_refused_and_the_client_may_choose_again() {
    let server = two_exports();
    let mut client = server.greeted();
    let longest = "ü".repeat(2048);
    for name in ["third", "First", "firs", "first ", &longest] {
        for code in [OPT_INFO, OPT_GO] {
            let data = info_request(name, &[3]);
            assert_eq!(client.ask_kind(code, &data), REP_ERR_UNKNOWN, "{name}");
        }
    }
    client.go("first", Style::Simple);
    expect_serving(&mut client);
}

#[test]
fn info_and_go_of_a_wrong_length_are_refused_and_the_client_may_go_on() {
    let server = two_exports();
    let mut client = server.greeted();
    let good = info_request("first", &[3, 1]);
    let mut wrong: Vec<Vec<u8>> = (0..good.len()).map(|len| good[..len].to_vec()).collect();
    wrong.push([&good[..], &[0]].concat());
    wrong.push([&good[..], &[0, 3]].concat());
    wrong.push([&u32::MAX.to_be_bytes()[..], b"first\0\0"].concat());
    wrong.push([&string("a\0b")[..], &[0, 0]].concat());
    wrong.push(info_request(&"x".repeat(4097), &[]));
    wrong.push([&[0, 0, 0, 1][..], &[0xff], &[0, 0]].concat());
    for data in wrong {
        for code in [OPT_INFO, OPT_GO] {
            assert_eq!(client.ask_kind(code, &data), REP_ERR_INVALID, "{data:02x?}");
        }
    }
    client.go("first", Style::Structured);
    expect_serving(&mut client);
}

#[test]
fn an_option_that_is_not_known_is_not_supported_whatever_its_data() {
    let server = two_exports();
    let mut client = server.greeted();
    let long = vec![0xa5; 70_000];
    for code in [0, 4, OPT_STARTTLS, 12, 0xffff_ffff] {
        assert_eq!(client.ask_kind(code, &[]), REP_ERR_UNSUP);
        assert_eq!(client.ask_kind(code, b"some data"), REP_ERR_UNSUP);
        assert_eq!(client.ask_kind(code, &long), REP_ERR_UNSUP);
    }
    client.go("first", Style::Simple);
    expect_serving(&mut client);
}

#[test]
fn an_option_that_is_too_long_is_read_past_and_refused() {
    let server = two_exports();
    let mut client = server.greeted();
    let long = vec![0; 65537];
    for code in [
        OPT_ABORT,
        OPT_LIST,
        OPT_INFO,
        OPT_GO,
        OPT_STRUCTURED_REPLY,
        9,
        10,
    ] {
        assert_eq!(
            client.ask_kind(code, &long),
            REP_ERR_TOO_BIG,
            "option {code}"
        );
    }
    // Up to 64 KiB it is looked at.
    assert_eq!(client.ask_kind(OPT_LIST, &long[1..]), REP_ERR_INVALID);
    client.go("first", Style::Simple);
    expect_serving(&mut client);
}

#[test]
fn an_option_of_absurd_length_closes_the_connection() {
    let server = two_exports();
    for len in [(32 << 20) + 1, u32::MAX] {
        for code in [OPT_LIST, OPT_EXPORT_NAME, 4711] {
            let mut client = server.greeted();
            let mut header = option(code, &[]);
            header[12..].copy_from_slice(&len.to_be_bytes());
            client.send(&header);
            client.expect_closed();
        }
    }
}

#[test]
fn client_flags_that_are_not_known_close_the_connection() {
    let server = two_exports();
    for bit in 2..32 {
        let mut client = server.connect();
        client.greet(3 | 1 << bit);
        client.expect_closed();
    }
}

#[test]
fn an_option_without_its_magic_closes_the_connection() {
    let server = two_exports();
    for position in 0..8 {
        let mut client = server.greeted();
        let mut bytes = option(OPT_LIST, &[]);
        bytes[position] ^= 1;
        client.send(&bytes);
        client.expect_closed();
    }
}

#[test]
fn a_handshake_does_not_go_on_for_ever() {
    let server = two_exports();
    let mut client = server.greeted();
    let ours = client.stream().try_clone().expect("a descriptor");
    let sender = std::thread::spawn(move || {
        let options = option(4711, &[]).repeat(1 << 10);
        // More than the server wants, so at some time it fails.
        (0..1 << 10)
            .take_while(|_| (&ours).write_all(&options).is_ok())
            .count()
    });
    let answered = client.drain().len() / 20;
    assert!(sender.join().expect("no panic") < 1 << 10);
    assert!(answered <= 16 << 10, "{answered} options were answered");
    server.wait_for_connections(0);
}
