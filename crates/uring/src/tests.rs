//! Operations on pipes, which end when the test says so, and on files.

use crate::entry::{Direction, Entry, Step};
use crate::ring::Core;
use crate::rings::Rings;
use crate::{Operation, Refused, Ring, SharedFile};
use futures_lite::future::{block_on, poll_once};
use guestmem::{AccessError, GuestMemory};
use parking_lot::Mutex;
use scsi_buffers::{BounceBuffer, GuestRange, OwnedRequestBuffers, PinnedBuffers};
use std::fs::File;
use std::io::{self, ErrorKind, PipeWriter, Write};
use std::os::unix::fs::FileExt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

mod stress;
mod trouble;

pub(crate) use trouble::Obstacle;

/// What has not happened by then never will.
const LONG_ENOUGH: Duration = Duration::from_secs(60);

/// A ring of the test's own, with room for so many operations in the kernel.
fn ring_with_room(answers: u32) -> (Ring, &'static Core) {
    let core = Core::with_room(4, answers).expect("the tests need io_uring");
    (Ring(core), core)
}

fn ring() -> Ring {
    ring_with_room(64).0
}

fn pipe() -> (SharedFile, PipeWriter) {
    let (reading, writing) = io::pipe().expect("a pipe");
    (Arc::new(reading), writing)
}

fn file_of(content: &[u8]) -> Arc<File> {
    let file = tempfile::tempfile().expect("a temporary file");
    file.write_all_at(content, 0).expect("it is written");
    Arc::new(file)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// Room for `len` bytes, and an owner of it for the kernel to fill.
fn room(len: usize) -> (BounceBuffer, PinnedBuffers) {
    let buffer = BounceBuffer::unpooled(len).expect("memory");
    let pinned = buffer.buffers(true).pin().expect("it can be pinned");
    (buffer, pinned)
}

/// `bytes`, for the kernel to take.
fn pinned_copy(bytes: &[u8]) -> PinnedBuffers {
    let mut buffer = BounceBuffer::unpooled(bytes.len()).expect("memory");
    buffer
        .as_mut_slice()
        .expect("nobody has it")
        .copy_from_slice(bytes);
    buffer.buffers(false).pin().expect("it can be pinned")
}

fn itself(outcome: io::Result<()>) -> io::Result<()> {
    outcome
}

/// Begins to read, and tells the test how that ended, whoever polls.
fn read_telling(
    ring: Ring,
    file: SharedFile,
    memory: PinnedBuffers,
) -> (Operation<()>, Receiver<io::Result<()>>) {
    let (tell, told) = channel();
    let reading = ring.read(file, memory, 0, move |outcome| {
        // A test that looks for something else does not listen.
        let _ = tell.send(outcome);
    });
    (reading.expect("it can be written"), told)
}

#[test]
fn what_is_written_is_read_again() {
    let (ring, content) = (ring(), pattern(10_000));
    let file = file_of(b"");
    block_on(async {
        let writing = ring.write(file.clone(), pinned_copy(&content), 300, itself);
        writing.expect("memory").await.expect("it writes");
        let (mut buffer, memory) = room(content.len());
        let reading = ring.read(file, memory, 300, itself);
        reading.expect("memory").await.expect("it reads");
        assert_eq!(buffer.as_slice(), Some(&content[..]));
    });
}

#[test]
fn a_list_longer_than_the_kernel_takes_is_split() {
    const COUNT: usize = 2500;
    let memory = GuestMemory::allocate(COUNT * 4);
    let ranges: Vec<_> = (0..COUNT as u64)
        .map(|i| GuestRange {
            address: (COUNT as u64 - 1 - i) * 4,
            len: 3,
        })
        .collect();
    let request = OwnedRequestBuffers::from_ranges(ranges, true);
    let content = pattern(COUNT * 3);
    let (ring, file) = (ring(), file_of(&content));
    let pinned = request.buffer(&memory).pin().expect("guest memory");
    block_on(ring.read(file, pinned, 0, itself).expect("memory")).expect("it reads");
    for (index, expected) in content.chunks(3).enumerate() {
        let mut found = [0; 4];
        let address = (COUNT - 1 - index) * 4;
        memory.read_at(address as u64, &mut found).expect("inside");
        assert_eq!(found[..3], *expected, "segment {index}");
        assert_eq!(found[3], 0, "between the segments");
    }
    let file = file_of(b"");
    let pinned = request.buffer(&memory).pin().expect("guest memory");
    block_on(ring.write(file.clone(), pinned, 0, itself).expect("memory")).expect("it writes");
    let mut found = vec![0; content.len()];
    file.read_exact_at(&mut found, 0).expect("it was written");
    assert_eq!(found, content);
}

#[test]
fn short_transfers_are_continued_without_anybody_polling() {
    let (reading, mut writing) = pipe();
    let (mut buffer, memory) = room(100);
    let (operation, told) = read_telling(ring(), reading, memory);
    let content = pattern(100);
    for part in content.chunks(33) {
        assert!(told.try_recv().is_err(), "it is not whole yet");
        writing.write_all(part).expect("somebody reads");
    }
    told.recv().expect("it ends").expect("it is whole");
    drop(operation);
    assert_eq!(buffer.as_slice(), Some(&content[..]));
}

#[test]
fn a_file_that_ends_early_is_an_error_that_names_the_place() {
    let (ring, file) = (ring(), file_of(&pattern(100)));
    for offset in [50, 4096] {
        let (_buffer, memory) = room(64);
        let outcome = block_on(
            ring.read(file.clone(), memory, offset, itself)
                .expect("memory"),
        );
        let error = outcome.expect_err("the file is shorter");
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        let stop = format!("stop at byte {}", offset.max(100));
        assert!(error.to_string().contains(&stop), "{error}");
    }
}

#[test]
fn what_the_kernel_refuses_is_an_error() {
    let (ring, read_only) = (
        ring(),
        Arc::new(File::open("/dev/null").expect("it is there")),
    );
    let outcome = block_on(
        ring.write(read_only.clone(), pinned_copy(b"x"), 0, itself)
            .expect("memory"),
    );
    assert_eq!(
        outcome.expect_err("it is not open for that").raw_os_error(),
        Some(libc::EBADF)
    );
    for offset in [u64::MAX, i64::MAX as u64] {
        let (_buffer, memory) = room(1);
        let outcome = block_on(
            ring.read(read_only.clone(), memory, offset, itself)
                .expect("memory"),
        );
        assert_eq!(
            outcome.expect_err("no file is that long").kind(),
            ErrorKind::InvalidInput
        );
    }
}

#[test]
fn nothing_is_done_at_once() {
    let (ring, file) = (ring(), file_of(b"abc"));
    let (_buffer, memory) = room(0);
    let nothing = ring.read(file, memory, u64::MAX, itself).expect("memory");
    block_on(nothing).expect("nothing is easy");
}

#[test]
fn memory_that_may_only_be_read_is_never_read_into() {
    let (ring, file) = (ring(), file_of(b"new"));
    let refused = ring.read(file, pinned_copy(b"old"), 0, itself);
    assert_eq!(refused.expect_err("read-only"), AccessError::ReadOnly);
}

#[test]
fn an_operation_owns_its_memory_and_its_file_when_its_future_is_forgotten() {
    let (reading, mut writing) = pipe();
    let is_gone = Arc::downgrade(&reading);
    let (mut buffer, memory) = room(5);
    let (operation, told) = read_telling(ring(), reading, memory);
    std::mem::forget(operation);
    assert!(is_gone.upgrade().is_some(), "the kernel reads from it");
    assert_eq!(buffer.as_slice(), None, "the kernel writes it");
    writing.write_all(b"hello").expect("somebody reads");
    told.recv().expect("it ends").expect("it reads");
    assert!(is_gone.upgrade().is_none(), "nobody needs it any more");
    assert_eq!(buffer.as_slice(), Some(&b"hello"[..]));
}

#[test]
fn a_dropped_operation_is_given_up_and_still_says_so() {
    let (reading, mut writing) = pipe();
    let (_buffer, memory) = room(5);
    let (operation, told) = read_telling(ring(), reading.clone(), memory);
    drop(operation);
    let outcome = told.recv().expect("it ends");
    assert_eq!(
        outcome.expect_err("nothing came").kind(),
        ErrorKind::Interrupted
    );
    writing.write_all(b"later").expect("it is open");
    let mut found = [0; 5];
    rustix::io::read(reading, &mut found).expect("it is there");
    assert_eq!(&found, b"later", "nobody has taken any of it");
}

#[test]
fn a_dropped_operation_that_has_begun_is_completed() {
    let (reading, mut writing) = pipe();
    let (mut buffer, memory) = room(6);
    let (ring, core) = ring_with_room(64);
    let (mut operation, told) = read_telling(ring, reading.clone(), memory);
    writing.write_all(b"abc").expect("somebody reads");
    // Until the kernel has taken them, and has been asked for the rest.
    while rustix::io::ioctl_fionread(&reading).expect("a pipe") > 0 {
        thread::yield_now();
    }
    while !core.has_begun_something() {
        assert!(block_on(poll_once(&mut operation)).is_none());
    }
    drop(operation);
    writing.write_all(b"def").expect("somebody reads");
    told.recv().expect("it ends").expect("it is whole");
    assert_eq!(buffer.as_slice(), Some(&b"abcdef"[..]));
}

#[test]
fn an_operation_outlives_the_thread_that_began_it() {
    let (reading, mut writing) = pipe();
    let (mut buffer, memory) = room(5);
    let ring = ring();
    let beginner = thread::spawn(move || read_telling(ring, reading, memory));
    let (operation, told) = beginner.join().expect("it begins");
    writing.write_all(b"hello").expect("somebody reads");
    block_on(operation);
    told.recv().expect("it has ended").expect("it reads");
    assert_eq!(buffer.as_slice(), Some(&b"hello"[..]));
}

#[test]
fn more_operations_than_there_is_room_for_wait_and_all_end() {
    const COUNT: usize = 50;
    let (ring, core) = ring_with_room(8);
    let mut writers = Vec::new();
    let mut operations = Vec::new();
    for _ in 0..COUNT {
        let (reading, writing) = pipe();
        let (buffer, memory) = room(1);
        operations.push((buffer, read_telling(ring, reading, memory)));
        writers.push(writing);
        assert!(core.in_kernel() <= 8);
    }
    assert_eq!(core.operation_count(), COUNT);
    // One that waits, and is given up: nobody had to be asked.
    let (_, (operation, told)) = operations.remove(30);
    let _ = writers.remove(30);
    drop(operation);
    let outcome = told.try_recv().expect("it has ended");
    assert_eq!(
        outcome.expect_err("nothing came").kind(),
        ErrorKind::Interrupted
    );
    // In an order in which the last ones can only be done once the first ones have made room.
    for (writing, (buffer, (operation, told))) in writers.iter_mut().zip(&mut operations) {
        writing.write_all(b"x").expect("somebody reads");
        told.recv().expect("it ends").expect("it reads");
        block_on(operation);
        assert_eq!(buffer.as_slice(), Some(&b"x"[..]));
    }
    while core.operation_count() + core.in_kernel() > 0 {
        thread::yield_now();
    }
}

#[test]
fn a_file_that_would_rather_not_wait_is_waited_for() {
    let (reading, mut writing) = pipe();
    rustix::io::ioctl_fionbio(&reading, true).expect("a pipe");
    let (_buffer, memory) = room(1);
    let (_operation, told) = read_telling(ring(), reading, memory);
    writing.write_all(b"x").expect("somebody reads");
    told.recv().expect("it ends").expect("it reads");
}

#[test]
fn polling_reaps_what_is_there() {
    let (ring, core) = ring_with_room(64);
    let (reading, mut writing) = pipe();
    let (_buffer, memory) = room(1);
    let (operation, told) = read_telling(ring, reading, memory);
    let mut operation = pin!(operation);
    // As while somebody else reaps: then it is left to them.
    let others = core.reap_nothing_meanwhile();
    writing.write_all(b"x").expect("somebody reads");
    assert!(block_on(poll_once(&mut operation)).is_none());
    assert!(told.try_recv().is_err());
    drop(others);
    while block_on(poll_once(&mut operation)).is_none() {
        thread::yield_now();
    }
    told.try_recv().expect("it has ended").expect("it reads");
}

#[test]
fn answers_are_taken_in_however_many_there_are_at_once() {
    for count in [31, 32, 33, 64, 65, 200] {
        let (ring, core) = ring_with_room(256);
        let file = file_of(b"x");
        let nobody_reaps = core.reap_nothing_meanwhile();
        let running: Vec<_> = (0..count)
            .map(|_| read_telling(ring, file.clone(), room(1).1))
            .collect();
        // What is in the page cache is answered as it is asked.
        assert_eq!(core.in_kernel(), count);
        drop(nobody_reaps);
        for (_operation, told) in &running {
            let outcome = told.recv_timeout(LONG_ENOUGH);
            outcome
                .unwrap_or_else(|_| panic!("one of {count} never ends"))
                .expect("it reads");
        }
        assert_eq!((core.operation_count(), core.in_kernel()), (0, 0));
    }
}

#[test]
fn a_system_that_refuses_is_asked_once() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    static REFUSING: Rings = Rings::new(|| {
        CALLS.fetch_add(1, Ordering::Relaxed);
        Err(io::Error::from_raw_os_error(libc::EPERM))
    });
    for number in [0, 3, 0, 1] {
        let error = REFUSING.get(number, 4).expect_err("it refuses");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
}

#[test]
fn threads_share_the_rings_that_there_are() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    static STINGY: Rings = Rings::new(|| match CALLS.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => Core::with_room(4, 8),
        _ => Err(io::Error::from_raw_os_error(libc::EMFILE)),
    });
    let ring = |number| STINGY.get(number, 5).expect("the first is there").0;
    assert!(std::ptr::eq(ring(0), ring(2)));
    assert!(std::ptr::eq(ring(1), ring(3)));
    assert!(!std::ptr::eq(ring(0), ring(1)));
    assert_eq!(CALLS.load(Ordering::Relaxed), 3);
}

#[test]
fn whoever_polls_reaps_a_little_and_leaves_the_rest() {
    let core = Core::undriven(4, 256).expect("the tests need io_uring");
    let file = file_of(b"x");
    let mut operations: Vec<_> = (0..200)
        .map(|_| read_telling(Ring(core), file.clone(), room(1).1).0)
        .collect();
    for left in [200 - 128, 0] {
        let last = operations.last_mut().expect("there are 200");
        assert_eq!(block_on(poll_once(last)).is_some(), left == 0);
        assert_eq!((core.operation_count(), core.in_kernel()), (left, left));
    }
}
