//! Futures that are dropped, forgotten or not polled, and the end of a disk.

mod common;

use common::script::{CONTEXT_ID, Offer, Peer, Scripted};
use common::{Running, in_time, pattern, read, text, write};
use disk_backend::{Disk, DiskError};
use futures_lite::future::{block_on, poll_once};
use guestmem::GuestMemory;
use nbd_protocol::{Command, Extent, Framing, Request, reply};
use scsi_buffers::{HostBuffers, OwnedRequestBuffers};
use std::pin::{Pin, pin};
use std::sync::mpsc::{Receiver, Sender, channel};

const FRAMING: Framing = Framing::Simple;

/// How many requests a disk has in flight.
const REQUESTS_MAX: usize = 128;

fn offer() -> Offer {
    Offer::new(FRAMING)
}

fn answer_read(peer: &mut Peer, request: &Request, byte: u8) {
    let head = reply::data(FRAMING, true, request, request.offset, request.len as u32);
    peer.send(&head);
    peer.send(&vec![byte; request.len as usize]);
}

/// A server that tells what is asked of it, and answers when it is told to.
fn remote_controlled() -> (Scripted, Receiver<Request>, Sender<Request>) {
    let (tell, told) = channel();
    let (order, orders) = channel::<Request>();
    let script = Scripted::new(offer(), move |mut peer| {
        let mut writer = peer.another();
        let answers = std::thread::spawn(move || {
            for request in orders {
                match request.command {
                    Command::Read => {
                        answer_read(&mut writer, &request, request.offset as u8 ^ 0x55)
                    }
                    _ => writer.send(&reply::success(FRAMING, &request)),
                }
            }
        });
        loop {
            let (request, _) = peer.request();
            // A test that has seen enough listens no more.
            let _ = tell.send(request);
            if request.command == Command::Disconnect {
                break;
            }
        }
        answers.join().expect("it does not panic");
    });
    (script, told, order)
}

/// A request of the disk that owns what it uses.
type Boxed = Pin<Box<dyn Future<Output = Result<(), DiskError>> + Send>>;

fn reading(disk: &Disk, memory: &GuestMemory, sector: u64) -> Boxed {
    let (disk, memory) = (disk.clone(), memory.clone());
    Box::pin(async move {
        let into = OwnedRequestBuffers::linear(0, 512, true);
        disk.read_vectored(&into.buffer(&memory), sector).await
    })
}

fn writing(disk: &Disk, sector: u64) -> Boxed {
    let disk = disk.clone();
    Box::pin(async move {
        let bytes = vec![1; 512];
        let from = HostBuffers::from_ref(&bytes);
        disk.write_vectored(&from.buffers(), sector, false).await
    })
}

fn begin(future: &mut Boxed) {
    assert!(block_on(poll_once(future)).is_none());
}

#[test]
fn a_later_request_on_the_same_sectors_waits_for_a_dropped_one() {
    in_time(|| {
        let (script, told, order) = remote_controlled();
        let disk = script.connect();
        let memory = GuestMemory::allocate(512);
        let mut dropped = reading(&disk, &memory, 3);
        begin(&mut dropped);
        drop(dropped);
        let of_dropped = told.recv().unwrap();
        let mut behind = writing(&disk, 3);
        begin(&mut behind);
        // Shows that the write was taken up, and not sent.
        let mut elsewhere = writing(&disk, 4);
        begin(&mut elsewhere);
        let of_elsewhere = told.recv().unwrap();
        assert_eq!(
            (of_elsewhere.command, of_elsewhere.offset),
            (Command::Write, 4 * 512)
        );
        order.send(of_dropped).unwrap();
        let of_behind = told.recv().unwrap();
        assert_eq!(
            (of_behind.command, of_behind.offset),
            (Command::Write, 3 * 512)
        );
        // It has put its data where it belongs, though nobody waited for it.
        assert_eq!(memory.read_plain::<u8>(0).unwrap(), (3 * 512) as u8 ^ 0x55);
        order.send(of_elsewhere).unwrap();
        order.send(of_behind).unwrap();
        block_on(behind).unwrap();
        block_on(elsewhere).unwrap();
        drop((disk, order));
        script.end();
    });
}

#[test]
fn a_status_waits_for_a_dropped_write_to_its_sectors() {
    let framing = Framing::Structured;
    let script = Scripted::new(Offer::new(framing), move |mut peer| {
        let write = peer.expect(Command::Write);
        // Was submitted after the status, and overtakes it.
        let flush = peer.expect(Command::Flush);
        for request in [write, flush] {
            peer.send(&reply::success(framing, &request));
        }
        let status = peer.expect(Command::BlockStatus);
        let data = [Extent { len: 512, value: 0 }];
        let answer = reply::block_status(framing, true, &status, CONTEXT_ID, &data);
        peer.send(&answer);
    });
    in_time(move || {
        let disk = script.connect();
        let mut dropped = writing(&disk, 0);
        begin(&mut dropped);
        drop(dropped);
        let mut status = pin!(disk.block_status(0, 1));
        assert!(block_on(poll_once(&mut status)).is_none());
        block_on(disk.sync_cache()).unwrap();
        block_on(status).unwrap();
    });
}

#[test]
fn a_request_that_is_never_polled_again_holds_up_nobody() {
    in_time(|| {
        let (script, told, order) = remote_controlled();
        let disk = script.connect();
        let mut first = writing(&disk, 0);
        let mut forgotten = writing(&disk, 0);
        let mut last = writing(&disk, 0);
        for future in [&mut first, &mut forgotten, &mut last] {
            begin(future);
        }
        // The second waits for the first, and is sent and answered without its future.
        for _ in 0..3 {
            let request = told.recv().unwrap();
            order.send(request).unwrap();
        }
        block_on(last).unwrap();
        block_on(first).unwrap();
        std::mem::forget(forgotten);
        drop((disk, order));
    });
}

#[test]
fn reads_share_their_sectors_and_changes_do_not() {
    in_time(|| {
        let (script, told, order) = remote_controlled();
        let disk = script.connect();
        let memory = GuestMemory::allocate(512);
        let mut reads = [reading(&disk, &memory, 7), reading(&disk, &memory, 7)];
        reads.iter_mut().for_each(begin);
        let of_reads = [told.recv().unwrap(), told.recv().unwrap()];
        let mut changes: [Boxed; 3] = [
            writing(&disk, 7),
            Box::pin({
                let disk = disk.clone();
                async move { disk.unmap(6, 2, false).await }
            }),
            Box::pin({
                let disk = disk.clone();
                async move { disk.write_zeroes(7, 2, false, true, false).await }
            }),
        ];
        changes.iter_mut().for_each(begin);
        of_reads
            .into_iter()
            .for_each(|one| order.send(one).unwrap());
        for expected in [Command::Write, Command::Trim, Command::WriteZeroes] {
            let request = told.recv().unwrap();
            assert_eq!(request.command, expected);
            order.send(request).unwrap();
        }
        for future in reads.into_iter().chain(changes) {
            block_on(future).unwrap();
        }
        drop((disk, order));
        script.end();
    });
}

#[test]
fn what_is_in_flight_is_bounded_and_who_waits_for_room_holds_up_nobody() {
    in_time(|| {
        let (script, told, order) = remote_controlled();
        let disk = script.connect();
        let mut admitted: Vec<_> = (0..REQUESTS_MAX as u64)
            .map(|i| writing(&disk, i))
            .collect();
        admitted.iter_mut().for_each(begin);
        let mut crowd: Vec<_> = (0..50).map(|i| writing(&disk, 1000 + i)).collect();
        crowd.iter_mut().for_each(begin);
        let mut last = writing(&disk, 5000);
        begin(&mut last);
        // Those who wait are never polled again, but for the last.
        crowd.into_iter().for_each(std::mem::forget);
        let requests: Vec<_> = (0..REQUESTS_MAX).map(|_| told.recv().unwrap()).collect();
        assert!(requests.iter().all(|request| request.offset < 1000 * 512));
        requests
            .into_iter()
            .for_each(|one| order.send(one).unwrap());
        let answering = std::thread::spawn(move || {
            let request = told.recv().unwrap();
            assert_eq!(request.offset, 5000 * 512);
            order.send(request).unwrap();
        });
        block_on(last).unwrap();
        answering.join().unwrap();
        for future in admitted {
            block_on(future).unwrap();
        }
    });
}

#[test]
fn drain_waits_for_what_was_dropped() {
    in_time(|| {
        let (script, told, order) = remote_controlled();
        let disk = script.connect();
        let mut dropped = writing(&disk, 0);
        begin(&mut dropped);
        drop(dropped);
        let mut drained = pin!(disk.drain());
        assert!(block_on(poll_once(&mut drained)).is_none());
        order.send(told.recv().unwrap()).unwrap();
        block_on(drained);
    });
}

#[test]
fn when_the_server_goes_everything_in_flight_fails_and_says_so() {
    in_time(|| {
        let script = Scripted::new(offer(), |mut peer| {
            for _ in 0..2 {
                peer.expect(Command::Write);
            }
        });
        let disk = script.connect();
        let mut requests = [writing(&disk, 0), writing(&disk, 1), writing(&disk, 0)];
        requests.iter_mut().for_each(begin);
        for request in requests {
            let error = text(&block_on(request).unwrap_err());
            assert!(error.contains("nbd+unix:///disk?socket="), "{error}");
            assert!(error.contains("the server closed it"), "{error}");
        }
        let tree = block_on(inspect::inspect("connection", None, &disk)).unwrap();
        assert_eq!(tree["is_connected"], false);
        assert_eq!(tree["lost_because"], "the server closed it");
        assert_eq!(tree["in_flight"]["requests"], 0);
    });
}

#[test]
fn a_disk_that_is_dropped_says_goodbye_before_the_drop_returns() {
    in_time(|| {
        let script = Scripted::new(offer(), |mut peer| {
            peer.expect(Command::Disconnect);
        });
        drop(script.connect());
        script.end();
    });
}

#[test]
fn a_dropped_disk_lets_what_is_in_flight_end_first() {
    in_time(|| {
        let (script, told, order) = remote_controlled();
        let disk = script.connect();
        let mut dropped = writing(&disk, 0);
        begin(&mut dropped);
        drop((dropped, disk));
        let request = told.recv().unwrap();
        assert_eq!(request.command, Command::Write);
        order.send(request).unwrap();
        assert_eq!(told.recv().unwrap().command, Command::Disconnect);
        drop(order);
        script.end();
    });
}

#[test]
fn long_requests_of_many_threads_come_through_a_real_server() {
    in_time(|| {
        let server = Running::ram(64 << 20);
        let disk = server.connect();
        let threads: Vec<_> = (0..8_u64)
            .map(|i| {
                let disk = disk.clone();
                std::thread::spawn(move || {
                    // Several pieces, the first and the last of them odd.
                    let (sector, data) = (i * 16384 + i, pattern(7_000_064 - 64, i));
                    let data = &data[..data.len() - data.len() % 512];
                    write(&disk, sector, data, i % 2 == 0).unwrap();
                    assert!(read(&disk, sector, data.len()).unwrap() == data);
                })
            })
            .collect();
        threads.into_iter().for_each(|one| one.join().unwrap());
        let tree = block_on(inspect::inspect("", None, &disk)).unwrap();
        assert_eq!(tree["disk_type"], "nbd");
        assert_eq!(tree["connection"]["is_connected"], true);
        assert_eq!(tree["connection"]["framing"], "extended");
        assert_eq!(tree["connection"]["in_flight"]["bytes"], 0);
        assert!(tree["connection"]["counters"]["writes"].as_u64() > Some(8 * 6));
        server.stop();
    });
}
