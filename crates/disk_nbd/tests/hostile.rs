//! Servers that break the protocol, or the connection: the disk fails, and does nothing worse.
mod common;

use common::script::{CONTEXT_ID, Offer, Scripted};
use common::{in_time, pattern, read, text, write};
use disk_backend::DiskError;
use futures_lite::future::{block_on, poll_once};
use nbd_protocol::reply::{self, Extent};
use nbd_protocol::{Command, Errno, Framing, Request};
use scsi_buffers::HostBuffers;

/// What a server answers to a read of 8 KiB at byte 4096.
type Answer = fn(Framing, &Request) -> Vec<u8>;

/// Sends an answer, and returns the error of the read and that of the next one.
fn errors_of(framing: Framing, answer: Answer) -> (DiskError, DiskError) {
    let script = Scripted::new(Offer::new(framing), move |mut peer| {
        let request = peer.expect(Command::Read);
        peer.send(&answer(framing, &request));
        // Its end is the client's doing, as far as the client can know.
        peer.wait_for_end();
    });
    in_time(move || {
        let disk = script.connect();
        let first = read(&disk, 8, 8192).expect_err("a broken reply");
        let next = read(&disk, 8, 8192).expect_err("the connection is gone");
        drop(disk);
        script.end();
        (first, next)
    })
}

/// A chunk's header alone, or that of a simple reply.
fn header(framing: Framing, kind: u16, request: &Request, payload_len: u64) -> Vec<u8> {
    let mut bytes = match framing {
        Framing::Simple => panic!("no chunks there"),
        Framing::Structured => 0x668e_33ef_u32,
        Framing::Extended => 0x6e8a_278c,
    }
    .to_be_bytes()
    .to_vec();
    bytes.extend([0, 1]);
    bytes.extend(kind.to_be_bytes());
    bytes.extend(request.cookie.to_be_bytes());
    match framing {
        Framing::Extended => {
            bytes.extend(request.offset.to_be_bytes());
            bytes.extend(payload_len.to_be_bytes());
        }
        _ => bytes.extend((payload_len as u32).to_be_bytes()),
    }
    bytes
}

fn with_data(head: &[u8], len: usize) -> Vec<u8> {
    [head, &vec![1; len]].concat()
}

#[test]
fn a_broken_reply_ends_the_connection_with_a_reason() {
    let cases: &[(&str, Answer)] = &[
        ("wrong magic", |_, _| {
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()
        }),
        ("never sent", |framing, request| {
            let other = Request {
                cookie: request.cookie + 1,
                ..*request
            };
            reply::error(framing, &other, Errno::Io, "").to_vec()
        }),
        ("never sent", |framing, request| {
            let other = Request {
                cookie: u64::MAX,
                ..*request
            };
            reply::error(framing, &other, Errno::Io, "").to_vec()
        }),
        ("4096 to 12288 were asked for", |framing, request| {
            with_data(&reply::data(framing, true, request, 0, 8192), 8192)
        }),
        ("4096 to 12288 were asked for", |framing, request| {
            with_data(&reply::data(framing, true, request, 4096, 8193), 8193)
        }),
        ("4096 to 12288 were asked for", |framing, request| {
            with_data(&reply::data(framing, true, request, u64::MAX, 512), 512)
        }),
        ("4096 to 12288 were asked for", |framing, request| {
            reply::hole(framing, true, request, 8192, 4097).to_vec()
        }),
        ("4096 to 12288 were asked for", |framing, request| {
            reply::hole(framing, true, request, u64::MAX - 5, 100).to_vec()
        }),
        ("the same bytes of a read twice", |framing, request| {
            let first = with_data(&reply::data(framing, false, request, 4096, 512), 512);
            [
                first,
                reply::hole(framing, true, request, 4607, 100).to_vec(),
            ]
            .concat()
        }),
        ("without all of its data", |framing, request| {
            with_data(&reply::data(framing, true, request, 4096, 8191), 8191)
        }),
        ("without all of its data", |framing, request| {
            reply::no_data(framing, request).to_vec()
        }),
        ("a hole is empty", |framing, request| {
            reply::hole(framing, true, request, 4096, 0).to_vec()
        }),
        ("without data", |framing, request| {
            header(framing, 1, request, 8)
        }),
        ("without data", |framing, request| {
            header(framing, 1, request, 0)
        }),
        ("a message", |framing, request| {
            with_data(&header(framing, 2, request, 11), 11)
        }),
        ("a message", |framing, request| {
            with_data(&header(framing, 2, request, 13), 13)
        }),
        ("chunk of another command", |framing, request| {
            let extents = [Extent { len: 512, value: 0 }];
            reply::block_status(framing, true, request, CONTEXT_ID, &extents).to_vec()
        }),
        ("bytes that are not data", |framing, request| {
            header(framing, 2, request, u32::MAX.into())
        }),
        ("bytes that are not data", |framing, request| {
            header(framing, 77, request, u32::MAX.into())
        }),
        ("bytes that are not data", |framing, request| {
            header(framing, 0x8001, request, (16 << 20) + 1)
        }),
        ("a message ends too early", |framing, request| {
            // The message is said to be longer than the chunk.
            let payload = [0, 0, 0, 5, 0xff, 0xff, b'x'];
            [&header(framing, 0x8001, request, 7)[..], &payload].concat()
        }),
        ("not UTF-8", |framing, request| {
            let payload = [0, 0, 0, 5, 0, 1, 0xff];
            [&header(framing, 0x8001, request, 7)[..], &payload].concat()
        }),
        ("not agreed on", |framing, request| {
            let other = match framing {
                Framing::Structured => Framing::Extended,
                _ => Framing::Structured,
            };
            reply::no_data(other, request).to_vec()
        }),
    ];
    for framing in [Framing::Structured, Framing::Extended] {
        for (reason, answer) in cases {
            let (first, next) = errors_of(framing, *answer);
            for error in [first, next] {
                let text = text(&error);
                assert!(
                    text.contains(reason) && text.contains("broke the protocol"),
                    "{framing:?}: not {reason:?} but {text}"
                );
                assert!(matches!(error, DiskError::Io(_)));
            }
        }
    }
}

#[test]
fn simple_data_where_chunks_were_agreed_on_ends_the_connection() {
    let (first, _) = errors_of(Framing::Structured, |_, request| {
        with_data(&reply::data(Framing::Simple, true, request, 0, 8192), 8192)
    });
    assert!(text(&first).contains("without a chunk"), "{}", text(&first));
}

#[test]
fn a_length_of_64_bits_is_not_believed() {
    for kind in [1, 2, 6, 0x8001, 3] {
        let script = Scripted::new(Offer::new(Framing::Extended), move |mut peer| {
            let request = peer.expect(Command::Read);
            peer.send(&header(Framing::Extended, kind, &request, u64::MAX));
            peer.send(&[0; 64]);
            peer.wait_for_end();
        });
        in_time(move || {
            let disk = script.connect();
            let error = read(&disk, 0, 512).unwrap_err();
            assert!(
                text(&error).contains("broke the protocol"),
                "{}",
                text(&error)
            );
        });
    }
}

/// What a server answers to a block status of 8 sectors ends the connection for this reason.
fn status_fails(reason: &str, answer: fn(&Request) -> Vec<u8>) {
    let framing = Framing::Structured;
    let script = Scripted::new(Offer::new(framing), move |mut peer| {
        let request = peer.expect(Command::BlockStatus);
        peer.send(&answer(&request));
        peer.wait_for_end();
    });
    let error = in_time(move || block_on(script.connect().block_status(0, 8)).unwrap_err());
    assert!(text(&error).contains(reason), "{}", text(&error));
}

#[test]
fn a_broken_block_status_ends_the_connection() {
    status_fails("an extent is empty", |request| {
        let extents = [Extent { len: 0, value: 0 }];
        reply::block_status(Framing::Structured, true, request, CONTEXT_ID, &extents).to_vec()
    });
    status_fails("without a word about it", |request| {
        let extents = [Extent { len: 512, value: 0 }];
        reply::block_status(Framing::Structured, true, request, 99, &extents).to_vec()
    });
    status_fails("without a word about it", |request| {
        reply::success(Framing::Structured, request).to_vec()
    });
    status_fails("whole number of extents", |request| {
        with_data(&header(Framing::Structured, 5, request, 11), 11)
    });
    status_fails("whole number of extents", |request| {
        with_data(&header(Framing::Structured, 5, request, 4), 4)
    });
}

#[test]
fn a_block_status_of_a_million_extents_is_taken_in_part() {
    let framing = Framing::Structured;
    let script = Scripted::new(Offer::new(framing), move |mut peer| {
        let request = peer.expect(Command::BlockStatus);
        let extents: Vec<_> = (0..1 << 20)
            .map(|i| Extent {
                len: 512,
                value: i % 2 * 3,
            })
            .collect();
        peer.send(&reply::block_status(
            framing, true, &request, CONTEXT_ID, &extents,
        ));
        peer.expect(Command::Disconnect);
    });
    in_time(move || {
        let status = block_on(script.connect().block_status(0, 1 << 21)).unwrap();
        assert_eq!(
            status.extents().len(),
            disk_backend::BlockStatus::EXTENTS_MAX
        );
        script.end();
    });
}

#[test]
fn a_server_that_goes_on_talking_does_not_outlive_its_disk() {
    let framing = Framing::Structured;
    let (asked, has_asked) = std::sync::mpsc::channel();
    let script = Scripted::new(Offer::new(framing), move |mut peer| {
        let request = peer.expect(Command::Read);
        asked.send(()).expect("the client waits for it");
        let mut chunk = header(framing, 0, &request, 0);
        // There are more to come.
        chunk[5] = 0;
        peer.flood(&chunk.repeat(1000));
    });
    in_time(move || {
        let disk = script.connect();
        let mut memory = [0; 512];
        let buffers = HostBuffers::from_mut(&mut memory);
        let buffers = buffers.buffers();
        let mut reading = Box::pin(disk.read_vectored(&buffers, 0));
        assert!(block_on(poll_once(&mut reading)).is_none());
        has_asked.recv().expect("the request was sent");
        drop(reading);
        drop(disk);
        // The connection ends after the ten seconds that a server is given.
        script.end();
    });
}

#[test]
fn a_connection_that_ends_anywhere_in_a_reply_fails_the_request() {
    for framing in [Framing::Simple, Framing::Structured, Framing::Extended] {
        let whole =
            |request: &Request| with_data(&reply::data(framing, true, request, 0, 512), 512);
        let request = Request {
            command: Command::Read,
            flags: 0,
            cookie: 0,
            offset: 0,
            len: 512,
        };
        let len = whole(&request).len();
        for cut in (0..60).chain([len - 1]) {
            let script = Scripted::new(Offer::new(framing), move |mut peer| {
                let request = peer.expect(Command::Read);
                let head = reply::data(framing, true, &request, 0, 512);
                peer.send(&with_data(&head, 512)[..cut]);
            });
            in_time(move || {
                let disk = script.connect();
                let error = text(&read(&disk, 0, 512).unwrap_err());
                assert!(error.contains("the server closed it"), "{cut}: {error}");
                assert_eq!(error.contains("in the middle"), cut > 0, "{cut}: {error}");
                let later = text(&write(&disk, 0, &[1; 512], false).unwrap_err());
                assert!(later.contains("opened anew"), "{later}");
                assert!(block_on(disk.sync_cache()).is_err());
                block_on(disk.drain());
            });
        }
    }
}

#[test]
fn no_answer_however_mangled_panics_or_hangs() {
    for seed in disk_contract::seeds(0, 150) {
        let mut random = fastrand::Rng::with_seed(seed.value());
        let framing = random.choice([Framing::Simple, Framing::Structured, Framing::Extended]);
        let framing = framing.expect("there are some");
        let script = Scripted::new(Offer::new(framing), move |mut peer| {
            for _ in 0..3 {
                let (request, _) = peer.request();
                let mut bytes = match request.command {
                    Command::Read => {
                        let len = request.len as u32;
                        let head = reply::data(framing, true, &request, request.offset, len);
                        with_data(&head, len as usize)
                    }
                    Command::BlockStatus => {
                        let extents = [Extent {
                            len: 1024,
                            value: 3,
                        }; 3];
                        reply::block_status(framing, true, &request, CONTEXT_ID, &extents).to_vec()
                    }
                    Command::Disconnect => return,
                    _ => reply::error(framing, &request, Errno::Io, "words").to_vec(),
                };
                let changes = random.usize(0..4);
                for _ in 0..changes {
                    // Mostly in the header, where it matters.
                    let at = random.usize(..bytes.len().min(48));
                    bytes[at] = random.u8(..);
                }
                let len = bytes.len();
                if random.u8(..8) == 0 {
                    bytes.truncate(random.usize(..len));
                }
                peer.send(&bytes);
                if changes > 0 || bytes.len() < len {
                    // Who waits for more of it is told that there is none.
                    return;
                }
            }
        });
        in_time(move || {
            let disk = script.connect();
            // Whatever they come to; only that they do.
            let _ = read(&disk, 0, 2048);
            if framing != Framing::Simple {
                let _ = block_on(disk.block_status(0, 16));
            }
            let _ = write(&disk, 0, &pattern(512, 1), false);
            drop(disk);
            script.end();
        });
    }
}
