//! The handshake: with whom it succeeds, and what it says to all others.

mod common;

use common::script::{Offer, Peer, Scripted};
use common::{Running, in_time};
use disk_nbd::{ConnectError, ConnectReason, NbdDisk, NbdOptions, NbdUri};
use futures_lite::future::block_on;
use nbd_protocol::{Framing, Info, OptionKind, ReplyKind, greeting};
use std::time::Duration;

/// The error that a client gets which meets this server.
fn refused(script: impl FnOnce(Peer) + Send + 'static) -> ConnectError {
    let script = Scripted::raw(script);
    in_time(move || script.try_connect().expect_err("it cannot succeed"))
}

/// The same for a server that answers `GO` in this way, and has no chunks.
fn refused_at_go(answer: impl FnOnce(&mut Peer) + Send + 'static) -> ConnectError {
    refused(|mut peer| {
        peer.greet().unwrap();
        loop {
            let (option, _) = peer.option().unwrap();
            if option == OptionKind::Go {
                answer(&mut peer);
                peer.wait_for_end();
                return;
            }
            peer.reply(option, ReplyKind::Unsupported, &[]);
        }
    })
}

#[track_caller]
fn assert_says(error: &ConnectError, words: &str) {
    let text = error.to_string();
    assert!(text.starts_with("nbd+unix:///disk?socket="), "{text}");
    assert!(text.contains(words) && !text.contains('\n'), "{text}");
}

#[test]
fn what_is_no_server_of_today_is_told_so() {
    let oldstyle = [
        &b"NBDMAGIC"[..],
        &0x0000_4202_8186_1253_u64.to_be_bytes(),
        &[0; 136],
    ]
    .concat();
    let newstyle = greeting::encode(0).to_vec();
    for (sent, words) in [
        (b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec(), "no NBD server"),
        (oldstyle, "before 2011"),
        (newstyle, "before 2011"),
        (b"NBDMAGICIHAVEOPX\0\x03".to_vec(), "broke the protocol"),
        (Vec::new(), "closed the connection"),
        (b"NBDMAGIC".to_vec(), "closed the connection"),
    ] {
        let error = refused(move |mut peer| peer.send(&sent));
        assert_says(&error, words);
    }
}

#[test]
fn a_refusal_is_told_in_the_servers_words() {
    for (kind, said, words) in [
        (
            ReplyKind::UnknownExport,
            "no disk\nhere",
            "no such export (no disk here)",
        ),
        (ReplyKind::TlsRequired, "", "demands TLS"),
        (
            ReplyKind::Policy,
            "not on Sundays",
            "refused the export (not on Sundays)",
        ),
        (ReplyKind::Invalid, "", "0x80000003, without a word"),
        (ReplyKind::Unsupported, "", "does not know the option GO"),
        (ReplyKind::Shutdown, "", "about to stop"),
        (ReplyKind::Unknown(1 << 31 | 99), "strange", "(strange)"),
    ] {
        let error = refused_at_go(move |peer| peer.reply(OptionKind::Go, kind, said.as_bytes()));
        assert_says(&error, words);
    }
}

#[test]
fn a_handshake_that_breaks_the_protocol_is_given_up() {
    type Answer = fn(&mut Peer);
    let cases: [(&str, Answer); 7] = [
        ("without telling the size", |peer| {
            peer.reply(OptionKind::Go, ReplyKind::Ack, &[]);
        }),
        ("where Go was asked", |peer| {
            peer.reply(OptionKind::List, ReplyKind::Ack, &[]);
        }),
        ("wrong magic", |peer| peer.send(&[7; 20])),
        ("ends too early", |peer| {
            peer.reply(OptionKind::Go, ReplyKind::Info, &[0, 0, 1]);
        }),
        ("there is none above", |peer| {
            let mut header = Vec::new();
            nbd_protocol::push_reply(&mut header, OptionKind::Go, ReplyKind::Info, &[]);
            header[16..].copy_from_slice(&u32::MAX.to_be_bytes());
            peer.send(&header);
        }),
        ("more than 256 replies", |peer| {
            for _ in 0..300 {
                peer.reply(OptionKind::Go, ReplyKind::Info, &[0, 99]);
            }
        }),
        ("closed the connection", |peer| {
            let info = Info::Export {
                size: 512,
                flags: 1,
            };
            peer.reply(OptionKind::Go, ReplyKind::Info, &info.encode());
            peer.hang_up();
        }),
    ];
    for (words, answer) in cases {
        assert_says(&refused_at_go(answer), words);
    }
}

#[test]
fn an_export_that_cannot_be_a_disk_is_refused_with_a_remedy() {
    let offer = Offer::new(Framing::Structured);
    for (offer, words) in [
        (
            Offer {
                size_bytes: 0,
                ..offer
            },
            "no bytes",
        ),
        (
            Offer {
                size_bytes: 1000,
                ..offer
            },
            "round-up=512",
        ),
        (
            Offer {
                size_bytes: 8704,
                block_sizes: Some([4096, 4096, 1 << 20]),
                ..offer
            },
            "round-up=4096",
        ),
        (
            Offer {
                block_sizes: Some([1, 1, 100]),
                ..offer
            },
            "100 at most",
        ),
        (
            Offer {
                block_sizes: Some([3, 4096, 1 << 20]),
                ..offer
            },
            "power of two",
        ),
    ] {
        let script = Scripted::new(offer, |mut peer| {
            peer.wait_for_end();
        });
        let error = in_time(move || script.try_connect().expect_err("it cannot be a disk"));
        assert_says(&error, words);
    }
}

#[test]
fn a_server_that_never_ends_its_handshake_is_given_up_in_time() {
    let script = Scripted::raw(|mut peer| {
        peer.greet().unwrap();
        // Never nothing for long, and never an end.
        let reply = Info::Description("x").encode();
        let (option, _) = peer.option().unwrap();
        let mut bytes = Vec::new();
        nbd_protocol::push_reply(&mut bytes, option, ReplyKind::Info, &[&reply]);
        peer.drip(&bytes);
    });
    let error = in_time(move || {
        let mut options = NbdOptions::default();
        options.connect_time_max = Duration::from_millis(200);
        block_on(NbdDisk::connect(&script.uri(), &options)).expect_err("it never ends")
    });
    assert!(
        matches!(error.reason(), ConnectReason::TimedOut(_)),
        "{error}"
    );
}

#[test]
fn nobody_there_is_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = common::uri(&folder, "disk");
    let long = format!("nbd+unix:///?socket=/{}", "x".repeat(200));
    for (uri, words) in [
        (nowhere.to_string(), "is the server running"),
        (long, "107 bytes"),
        ("nbd://127.0.0.1:1/x".to_owned(), "is the server running"),
    ] {
        let uri: NbdUri = uri.parse().unwrap();
        let error = in_time(move || {
            block_on(NbdDisk::connect(&uri, &NbdOptions::default())).expect_err("nobody is there")
        });
        assert!(error.to_string().contains(words), "{error}");
        assert!(matches!(error.reason(), ConnectReason::Unreachable(_)));
    }
}

#[test]
fn a_missing_export_of_our_own_server_is_unknown() {
    let server = Running::ram(1 << 20);
    let uri = NbdUri::new(server.uri().address().clone(), "other").unwrap();
    let error = in_time(move || {
        block_on(NbdDisk::connect(&uri, &NbdOptions::default())).expect_err("there is none")
    });
    assert!(
        matches!(error.reason(), ConnectReason::UnknownExport(_)),
        "{error}"
    );
}

#[test]
fn tcp_is_spoken_too() {
    let mut server = {
        let disk = disklayer_ram::ram_disk(1 << 20, false).unwrap();
        let export = frontend_nbd::Export::new("disk", disk).unwrap();
        frontend_nbd::Server::new([export], frontend_nbd::Limits::default()).unwrap()
    };
    let address = server.listen(&"tcp:0".parse().unwrap()).unwrap();
    let handle = server.handle();
    let serving = std::thread::spawn(|| server.serve());
    let uri: NbdUri = address.uri("disk").parse().unwrap();
    in_time(move || {
        let disk = block_on(NbdDisk::connect(&uri, &NbdOptions::default())).unwrap();
        let disk = disk_backend::Disk::new(disk).unwrap();
        common::write(&disk, 1, &[7; 512], true).unwrap();
        assert!(common::read(&disk, 1, 512).unwrap() == [7; 512]);
    });
    handle.stop();
    serving.join().unwrap().unwrap();
}
