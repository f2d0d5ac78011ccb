//! What is sent for each request of a disk, and what each answer means.

mod common;

use common::script::{ALL_FLAGS, CONTEXT_ID, Offer, Peer, SIZE_BYTES, Scripted};
use common::{in_time, pattern, read, text, write};
use disk_backend::{BlockState, Disk, DiskError, Persistence, UnmapBehavior};
use futures_lite::future::block_on;
use guestmem::GuestMemory;
use nbd_protocol::reply::{self, Extent};
use nbd_protocol::{Command, Errno, Framing, Request, command_flag, transmission_flag};
use scsi_buffers::OwnedRequestBuffers;

const FRAMINGS: [Framing; 3] = [Framing::Simple, Framing::Structured, Framing::Extended];

/// Lets a client of a script do something in time.
fn with(script: Scripted, work: impl FnOnce(&Disk) + Send + 'static) {
    in_time(move || {
        let disk = script.connect();
        work(&disk);
        drop(disk);
        script.end();
    });
}

/// Answers every request but reads with success, and remembers them until the goodbye.
fn accept_all(peer: &mut Peer, framing: Framing) -> Vec<(Request, Vec<u8>)> {
    let mut requests = Vec::new();
    loop {
        let (request, data) = peer.request();
        if request.command == Command::Disconnect {
            return requests;
        }
        peer.send(&reply::success(framing, &request));
        requests.push((request, data));
    }
}

#[test]
fn data_of_a_read_comes_in_every_framing() {
    for framing in FRAMINGS {
        let data = pattern(8192, 1);
        let sent = data.clone();
        let script = Scripted::new(Offer::new(framing), move |mut peer| {
            let request = peer.expect(Command::Read);
            assert_eq!((request.offset, request.len), (512, 8192));
            peer.send(&reply::data(framing, true, &request, 512, 8192));
            peer.send(&sent);
        });
        with(script, move |disk| {
            assert!(read(disk, 1, 8192).unwrap() == data, "{framing:?}");
        });
    }
}

#[test]
fn chunks_of_a_read_may_come_in_any_order_and_as_holes() {
    for framing in [Framing::Structured, Framing::Extended] {
        let script = Scripted::new(Offer::new(framing), move |mut peer| {
            let request = peer.expect(Command::Read);
            peer.send(&reply::data(framing, false, &request, 3072, 1024));
            peer.send(&[3; 1024]);
            peer.send(&reply::hole(framing, false, &request, 1024, 2048));
            peer.send(&reply::data(framing, false, &request, 0, 1024));
            peer.send(&[1; 1024]);
            peer.send(&reply::no_data(framing, &request));
        });
        with(script, |disk| {
            let expected = [vec![1; 1024], vec![0; 2048], vec![3; 1024]].concat();
            assert!(read(disk, 0, 4096).unwrap() == expected);
        });
    }
}

#[test]
fn a_reply_that_comes_byte_by_byte_is_whole_in_the_end() {
    let framing = Framing::Structured;
    let script = Scripted::new(Offer::new(framing), move |mut peer| {
        let request = peer.expect(Command::Read);
        let head = reply::data(framing, true, &request, 0, 512);
        for byte in head.iter().chain(&[9; 512]) {
            peer.send(&[*byte]);
        }
    });
    with(script, |disk| {
        assert!(read(disk, 0, 512).unwrap() == [9; 512])
    });
}

#[test]
fn guest_memory_is_read_and_written_in_place() {
    let framing = Framing::Simple;
    let script = Scripted::new(Offer::new(framing), move |mut peer| {
        let request = peer.expect(Command::Read);
        peer.send(&reply::data(framing, true, &request, 0, 1024));
        peer.send(&[7; 1024]);
        let (request, data) = peer.request();
        assert!(data == [7; 1024]);
        peer.send(&reply::success(framing, &request));
    });
    with(script, |disk| {
        let memory = GuestMemory::allocate(4096);
        let into = OwnedRequestBuffers::linear(100, 1024, true);
        block_on(disk.read_vectored(&into.buffer(&memory), 0)).unwrap();
        let from = OwnedRequestBuffers::linear(100, 1024, false);
        block_on(disk.write_vectored(&from.buffer(&memory), 5, false)).unwrap();
    });
}

#[test]
fn every_change_is_sent_with_its_flags() {
    for framing in FRAMINGS {
        let script = Scripted::new(Offer::new(framing), move |mut peer| {
            let found = accept_all(&mut peer, framing);
            let found: Vec<_> = found
                .iter()
                .map(|(request, data)| {
                    let flags = request.flags & !command_flag::PAYLOAD_LEN;
                    (
                        request.command,
                        flags,
                        request.offset,
                        request.len,
                        data.len(),
                    )
                })
                .collect();
            let expected = [
                (Command::Write, 0, 512, 1024, 1024),
                (Command::Write, command_flag::FUA, 512, 1024, 1024),
                (Command::WriteZeroes, command_flag::NO_HOLE, 0, 512, 0),
                (Command::WriteZeroes, command_flag::FUA, 0, 512, 0),
                (Command::WriteZeroes, command_flag::FAST_ZERO, 0, 512, 0),
                (Command::Trim, 0, 4096, 8192, 0),
                (Command::Flush, 0, 0, 0, 0),
            ];
            assert_eq!(found, expected, "{framing:?}");
        });
        with(script, |disk| {
            write(disk, 1, &pattern(1024, 2), false).unwrap();
            write(disk, 1, &pattern(1024, 3), true).unwrap();
            block_on(async {
                disk.write_zeroes(0, 1, false, false, false).await.unwrap();
                disk.write_zeroes(0, 1, true, true, false).await.unwrap();
                disk.write_zeroes(0, 1, false, true, true).await.unwrap();
                disk.unmap(8, 16, false).await.unwrap();
                disk.sync_cache().await.unwrap();
            });
        });
    }
}

#[test]
fn what_a_server_does_not_offer_is_not_asked_of_it() {
    let framing = Framing::Simple;
    let offer = Offer {
        flags: transmission_flag::HAS_FLAGS,
        ..Offer::new(framing)
    };
    let script = Scripted::new(offer, move |mut peer| {
        let found = accept_all(&mut peer, framing);
        assert_eq!(found.len(), 2);
        for (request, data) in found {
            assert_eq!((request.command, request.flags), (Command::Write, 0));
            assert!(data == [0; 1024] || data == [5; 512]);
        }
    });
    with(script, |disk| {
        assert_eq!(disk.persistence(), Persistence::Volatile);
        assert_eq!(disk.unmap_behavior(), UnmapBehavior::Ignored);
        assert!(!disk.is_fua_respected());
        write(disk, 0, &[5; 512], true).unwrap();
        block_on(async {
            disk.unmap(0, 8, false).await.unwrap();
            disk.sync_cache().await.unwrap();
            // Written as data, since there is no other way; not where that is ruled out.
            disk.write_zeroes(0, 2, false, true, false).await.unwrap();
            let fast = disk.write_zeroes(0, 2, false, true, true).await;
            assert!(matches!(fast, Err(DiskError::Unsupported)));
        });
        let status = block_on(disk.block_status(3, 5)).unwrap();
        assert_eq!(status.extents().len(), 1);
        assert_eq!(status.extents()[0].state, BlockState::Data);
    });
}

#[test]
fn sectors_and_pieces_follow_the_servers_block_sizes() {
    let framing = Framing::Structured;
    let offer = Offer {
        block_sizes: Some([4096, 8192, 16384]),
        ..Offer::new(framing)
    };
    let script = Scripted::new(offer, move |mut peer| {
        let found = accept_all(&mut peer, framing);
        let lens: Vec<_> = found.iter().map(|(r, _)| (r.offset, r.len)).collect();
        // Cut so that pieces end at multiples of the largest.
        let of_write = [(4096, 12288), (16384, 16384), (32768, 4096)];
        assert_eq!(lens[..3], of_write);
        let data: Vec<u8> = found[..3]
            .iter()
            .flat_map(|(_, data)| data.clone())
            .collect();
        assert!(data == pattern(32768, 4));
        assert_eq!(lens[3..], [(0, 16384), (16384, 4096)]);
    });
    with(script, |disk| {
        assert_eq!(
            (disk.sector_size(), disk.physical_sector_size()),
            (4096, 8192)
        );
        assert_eq!(disk.sector_count(), SIZE_BYTES / 4096);
        write(disk, 1, &pattern(32768, 4), false).unwrap();
        block_on(disk.write_zeroes(0, 5, false, true, false)).unwrap();
    });
}

#[test]
fn the_errors_of_a_server_have_their_meaning() {
    for framing in FRAMINGS {
        let script = Scripted::new(Offer::new(framing), move |mut peer| {
            for errno in [
                Errno::NoSpace,
                Errno::Perm,
                Errno::Io,
                Errno::Invalid,
                Errno::Shutdown,
                Errno::NotSupported,
            ] {
                let (request, _) = peer.request();
                peer.send(&reply::error(framing, &request, errno, "no\nluck"));
            }
        });
        with(script, move |disk| {
            let failed = |sector| write(disk, sector, &[1; 512], false).unwrap_err();
            assert!(matches!(failed(0), DiskError::NoSpace));
            assert!(matches!(failed(1), DiskError::ReadOnly));
            let io = text(&failed(3));
            assert!(io.contains("the write of 512 bytes at 1536 failed"), "{io}");
            // Only chunks have words.
            assert_eq!(io.contains("no luck"), framing != Framing::Simple, "{io}");
            assert!(text(&failed(0)).contains("called invalid"));
            assert!(text(&failed(0)).contains("about to stop"));
            let fast = block_on(disk.write_zeroes(0, 1, false, true, true));
            assert!(matches!(fast, Err(DiskError::Unsupported)));
        });
    }
}

#[test]
fn an_error_of_one_piece_is_the_error_of_the_request_and_the_disk_goes_on() {
    let framing = Framing::Simple;
    let offer = Offer {
        block_sizes: Some([512, 512, 512]),
        ..Offer::new(framing)
    };
    let script = Scripted::new(offer, move |mut peer| {
        let requests = [(); 3].map(|()| peer.expect(Command::Read));
        for request in requests {
            match request.offset {
                512 => peer.send(&reply::error(framing, &request, Errno::Io, "")),
                _ => {
                    peer.send(&reply::data(framing, true, &request, request.offset, 512));
                    peer.send(&[1; 512]);
                }
            }
        }
        accept_all(&mut peer, framing);
    });
    with(script, |disk| {
        assert!(text(&read(disk, 0, 1536).unwrap_err()).contains("at 512 failed"));
        write(disk, 0, &[1; 512], false).unwrap();
    });
}

#[test]
fn block_status_is_told_in_sectors() {
    for framing in [Framing::Structured, Framing::Extended] {
        let script = Scripted::new(Offer::new(framing), move |mut peer| {
            let request = peer.expect(Command::BlockStatus);
            assert_eq!((request.offset, request.len), (512, 8 * 512));
            let extents = [(1024, 3), (512, 0), (512, 2), (1 << 20, 3)];
            let extents = extents.map(|(len, value)| Extent { len, value });
            let other = [Extent { len: 99, value: 99 }];
            peer.send(&reply::block_status(
                framing,
                false,
                &request,
                CONTEXT_ID + 1,
                &other,
            ));
            peer.send(&reply::block_status(
                framing, true, &request, CONTEXT_ID, &extents,
            ));
        });
        with(script, |disk| {
            let status = block_on(disk.block_status(1, 8)).unwrap();
            let found: Vec<_> = status
                .extents()
                .iter()
                .map(|extent| (extent.sector_count, extent.state))
                .collect();
            let expected = [
                (2, BlockState::Hole),
                (1, BlockState::Data),
                (1, BlockState::Zero),
                (4, BlockState::Hole),
            ];
            assert_eq!(found, expected);
        });
    }
}

#[test]
fn after_a_failed_flush_changes_are_refused_and_reads_go_on() {
    let framing = Framing::Simple;
    for is_fua in [false, true] {
        let script = Scripted::new(Offer::new(framing), move |mut peer| {
            let (request, _) = peer.request();
            let expected = if is_fua {
                Command::Write
            } else {
                Command::Flush
            };
            assert_eq!(request.command, expected);
            peer.send(&reply::error(framing, &request, Errno::Io, ""));
            // Nothing else but the read is sent.
            let request = peer.expect(Command::Read);
            peer.send(&reply::data(framing, true, &request, 0, 512));
            peer.send(&[1; 512]);
            peer.expect(Command::Disconnect);
        });
        with(script, move |disk| {
            let failed = match is_fua {
                true => write(disk, 0, &[1; 512], true),
                false => block_on(disk.sync_cache()),
            };
            failed.unwrap_err();
            for refused in [
                write(disk, 0, &[1; 512], false),
                block_on(disk.write_zeroes(0, 1, false, true, false)),
                block_on(disk.unmap(0, 1, false)),
                block_on(disk.sync_cache()),
            ] {
                assert!(text(&refused.unwrap_err()).contains("opened anew"));
            }
            read(disk, 0, 512).unwrap();
        });
    }
}

#[test]
fn a_fua_write_that_found_no_space_spoils_nothing() {
    let framing = Framing::Simple;
    let script = Scripted::new(Offer::new(framing), move |mut peer| {
        let request = peer.expect(Command::Write);
        peer.send(&reply::error(framing, &request, Errno::NoSpace, ""));
        assert_eq!(accept_all(&mut peer, framing).len(), 2);
    });
    with(script, |disk| {
        let full = write(disk, 0, &[1; 512], true);
        assert!(matches!(full, Err(DiskError::NoSpace)));
        write(disk, 0, &[1; 512], true).unwrap();
        block_on(disk.sync_cache()).unwrap();
    });
}

#[test]
fn an_export_that_is_read_only_makes_a_read_only_disk() {
    let offer = Offer {
        flags: ALL_FLAGS | transmission_flag::READ_ONLY,
        ..Offer::new(Framing::Simple)
    };
    let script = Scripted::new(offer, |mut peer| {
        peer.expect(Command::Disconnect);
    });
    with(script, |disk| {
        assert!(disk.is_read_only());
        let refused = write(disk, 0, &[1; 512], false);
        assert!(matches!(refused, Err(DiskError::ReadOnly)));
        block_on(disk.sync_cache()).unwrap();
    });
}
