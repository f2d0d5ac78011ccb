//! The loop over a kernel that returns short counts, interruptions and refusals, and the calls over real files.

use crate::kernel::Linux;
use crate::transfer::{Direction, Kernel, transfer};
use crate::{Durability, Mode, Outcome, TransferError, read_at, write_at};
use guestmem::{AccessError, GuestMemory, Segment};
use proptest::prelude::*;
use scsi_buffers::{HostBuffers, IOVEC_COUNT_MAX, OwnedRequestBuffers, RequestBuffers};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

/// What a scripted kernel does with one call.
#[derive(Clone, Debug)]
enum Act {
    /// Moves at most so many bytes.
    AtMost(usize),
    Fail(i32),
    /// Says that it moved nothing.
    Nothing,
}

/// The real kernel, handicapped by a script; whole once the script is over.
struct Scripted<'a> {
    real: Linux<'a>,
    script: VecDeque<Act>,
    calls: usize,
}

impl<'a> Scripted<'a> {
    fn new(file: &'a File, script: impl IntoIterator<Item = Act>) -> Self {
        let real = Linux {
            file: file.as_fd(),
            mode: Mode::Wait,
            durability: Durability::Cached,
        };
        Self {
            real,
            script: script.into_iter().collect(),
            calls: 0,
        }
    }
}

impl Kernel for Scripted<'_> {
    fn call(
        &mut self,
        direction: Direction,
        batch: &[Segment<'_>],
        offset: u64,
    ) -> io::Result<usize> {
        self.calls += 1;
        match self.script.pop_front().unwrap_or(Act::AtMost(usize::MAX)) {
            Act::Fail(errno) => Err(io::Error::from_raw_os_error(errno)),
            Act::Nothing => Ok(0),
            Act::AtMost(max) => {
                let mut room = max;
                let mut shortened = Vec::new();
                for segment in batch {
                    let len = segment.len().min(room);
                    room -= len;
                    shortened.push(segment.subsegment(0, len));
                }
                self.real.call(direction, &shortened, offset)
            }
        }
    }
}

fn file_of(content: &[u8]) -> File {
    let file = tempfile::tempfile().expect("a temporary file");
    let outcome = write_at(
        &file,
        &HostBuffers::from_ref(content).buffers(),
        0,
        Mode::Wait,
        Durability::Cached,
    );
    assert_eq!(outcome.expect("it is written"), Outcome::Complete);
    file
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn read_scripted(
    file: &File,
    script: &[Act],
    mode: Mode,
    buffers: &RequestBuffers<'_>,
) -> (Result<Outcome, TransferError>, usize) {
    let mut kernel = Scripted::new(file, script.iter().cloned());
    let outcome = transfer(&mut kernel, Direction::Read, buffers, 0, mode);
    (outcome, kernel.calls)
}

fn io_error(result: Result<Outcome, TransferError>) -> io::Error {
    match result {
        Err(TransferError::Io(error)) => error,
        other => panic!("not an I/O error: {other:?}"),
    }
}

#[test]
fn short_and_interrupted_reads_are_continued() {
    let content = pattern(100);
    let file = file_of(&content);
    let mut bytes = [0; 100];
    let script = [
        Act::AtMost(1),
        Act::Fail(libc::EINTR),
        Act::AtMost(50),
        Act::Fail(libc::EINTR),
        Act::AtMost(48),
    ];
    let (outcome, calls) = read_scripted(
        &file,
        &script,
        Mode::Wait,
        &HostBuffers::from_mut(&mut bytes).buffers(),
    );
    assert_eq!(
        (outcome.expect("it completes"), calls),
        (Outcome::Complete, 6)
    );
    assert_eq!(bytes[..], content[..]);
}

#[test]
fn a_read_beyond_the_end_is_an_error_that_names_the_place() {
    let file = file_of(&pattern(100));
    let mut bytes = [0xee; 64];
    let error = io_error(read_at(
        &file,
        &HostBuffers::from_mut(&mut bytes).buffers(),
        50,
        Mode::Wait,
    ));
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert!(
        error
            .to_string()
            .contains("64 bytes at byte 50 stop at byte 100"),
        "{error}"
    );
    let error = io_error(read_at(
        &file,
        &HostBuffers::from_mut(&mut bytes).buffers(),
        4096,
        Mode::Wait,
    ));
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_read_that_does_not_wait_tells_how_far_it_got() {
    let file = file_of(&pattern(100));
    let mut bytes = [0; 100];
    let script = [Act::AtMost(30), Act::Fail(libc::EAGAIN)];
    let (outcome, _) = read_scripted(
        &file,
        &script,
        Mode::NoWait,
        &HostBuffers::from_mut(&mut bytes).buffers(),
    );
    assert_eq!(outcome.expect("no error"), Outcome::WouldBlock { done: 30 });
    assert_eq!(bytes[..30], pattern(100)[..30]);
}

#[test]
fn a_read_that_does_not_wait_leaves_the_end_of_the_file_to_one_that_does() {
    let file = file_of(&pattern(100));
    let mut bytes = [0; 100];
    let script = [Act::AtMost(30), Act::Nothing];
    let (outcome, _) = read_scripted(
        &file,
        &script,
        Mode::NoWait,
        &HostBuffers::from_mut(&mut bytes).buffers(),
    );
    assert_eq!(outcome.expect("no error"), Outcome::WouldBlock { done: 30 });
}

#[test]
fn a_file_that_only_knows_how_to_wait_says_so_before_the_first_byte() {
    let file = file_of(&pattern(100));
    let mut bytes = [0; 100];
    let buffers = HostBuffers::from_mut(&mut bytes);
    let refused = [Act::Fail(libc::EOPNOTSUPP)];
    assert_eq!(
        read_scripted(&file, &refused, Mode::NoWait, &buffers.buffers())
            .0
            .expect("no error"),
        Outcome::NoWaitUnsupported
    );
    let refused_later = [Act::AtMost(9), Act::Fail(libc::EOPNOTSUPP)];
    assert_eq!(
        read_scripted(&file, &refused_later, Mode::NoWait, &buffers.buffers())
            .0
            .expect("no error"),
        Outcome::WouldBlock { done: 9 }
    );
}

#[test]
fn refusals_are_errors_for_a_call_that_waits() {
    let file = file_of(&pattern(100));
    let mut bytes = [0; 100];
    let buffers = HostBuffers::from_mut(&mut bytes);
    for errno in [libc::EAGAIN, libc::EOPNOTSUPP, libc::EIO] {
        let error = io_error(
            read_scripted(
                &file,
                &[Act::AtMost(3), Act::Fail(errno)],
                Mode::Wait,
                &buffers.buffers(),
            )
            .0,
        );
        assert_eq!(error.raw_os_error(), Some(errno));
    }
}

#[test]
fn a_write_that_moves_nothing_is_an_error() {
    let file = file_of(&[]);
    let mut kernel = Scripted::new(&file, [Act::AtMost(3), Act::Nothing]);
    let buffers = HostBuffers::from_ref(b"0123456789");
    let error = io_error(transfer(
        &mut kernel,
        Direction::Write,
        &buffers.buffers(),
        0,
        Mode::Wait,
    ));
    assert_eq!(error.kind(), ErrorKind::WriteZero);
    assert_eq!(kernel.calls, 2);
}

#[test]
fn a_full_device_is_reported_as_full() {
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("Linux has /dev/full");
    let buffers = HostBuffers::from_ref(b"x");
    let error = io_error(write_at(
        &full,
        &buffers.buffers(),
        0,
        Mode::Wait,
        Durability::Cached,
    ));
    assert_eq!(error.kind(), ErrorKind::StorageFull);
}

#[test]
fn memory_that_may_only_be_read_is_never_read_into() {
    let file = file_of(&pattern(8));
    let bytes = [1; 8];
    let result = read_at(
        &file,
        &HostBuffers::from_ref(&bytes).buffers(),
        0,
        Mode::Wait,
    );
    assert!(
        matches!(result, Err(TransferError::Memory(AccessError::ReadOnly))),
        "{result:?}"
    );
    assert_eq!(bytes, [1; 8]);
}

#[test]
fn guest_ranges_that_are_no_memory_fail_before_the_first_byte() {
    let memory = GuestMemory::allocate(8192);
    let file = file_of(&[0xaa; 8192]);
    let request = OwnedRequestBuffers::linear(4096, 8192, true);
    let result = read_at(&file, &request.buffer(&memory), 0, Mode::Wait);
    assert!(
        matches!(
            result,
            Err(TransferError::Memory(AccessError::OutOfRange { .. }))
        ),
        "{result:?}"
    );
    assert_eq!(
        memory.read_plain::<[u8; 4096]>(4096).expect("inside"),
        [0; 4096]
    );
    let result = write_at(
        &file,
        &request.buffer(&memory),
        0,
        Mode::Wait,
        Durability::Cached,
    );
    assert!(
        matches!(
            result,
            Err(TransferError::Memory(AccessError::OutOfRange { .. }))
        ),
        "{result:?}"
    );
    let mut first = [0];
    read_at(
        &file,
        &HostBuffers::from_mut(&mut first).buffers(),
        0,
        Mode::Wait,
    )
    .expect("unchanged");
    assert_eq!(first, [0xaa]);
}

#[test]
fn a_request_beyond_the_largest_file_is_refused() {
    let file = file_of(&[]);
    let mut bytes = [0; 2];
    for offset in [u64::MAX, i64::MAX as u64 - 1, i64::MAX as u64] {
        let error = io_error(read_at(
            &file,
            &HostBuffers::from_mut(&mut bytes).buffers(),
            offset,
            Mode::Wait,
        ));
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "at {offset}");
    }
}

#[test]
fn an_empty_request_is_complete_without_a_call() {
    let file = file_of(&[]);
    let (outcome, calls) = read_scripted(&file, &[], Mode::Wait, &RequestBuffers::empty());
    assert_eq!((outcome.expect("no error"), calls), (Outcome::Complete, 0));
}

#[test]
fn lists_longer_than_the_kernel_takes_are_split() {
    let content = pattern(3 * (IOVEC_COUNT_MAX + 500));
    let file = file_of(&[]);
    let chunks = HostBuffers::from_slices(content.chunks(3));
    let mut kernel = Scripted::new(&file, []);
    let outcome = transfer(
        &mut kernel,
        Direction::Write,
        &chunks.buffers(),
        0,
        Mode::Wait,
    );
    assert_eq!(
        (outcome.expect("no error"), kernel.calls),
        (Outcome::Complete, 2)
    );
    let mut bytes = vec![0; content.len()];
    let scattered = HostBuffers::from_mut_slices(bytes.chunks_mut(2));
    assert_eq!(
        read_at(&file, &scattered.buffers(), 0, Mode::Wait).expect("no error"),
        Outcome::Complete
    );
    drop(scattered);
    assert_eq!(bytes, content);
}

#[test]
fn a_durable_write_is_a_write() {
    let file = file_of(&[]);
    let buffers = HostBuffers::from_ref(b"durable");
    let outcome = write_at(
        &file,
        &buffers.buffers(),
        3,
        Mode::Wait,
        Durability::Durable,
    );
    assert_eq!(outcome.expect("no error"), Outcome::Complete);
    let mut bytes = [0xee; 10];
    read_at(
        &file,
        &HostBuffers::from_mut(&mut bytes).buffers(),
        0,
        Mode::Wait,
    )
    .expect("no error");
    assert_eq!(&bytes, b"\0\0\0durable");
}

#[test]
fn what_was_just_written_is_read_without_waiting_or_not_at_all() {
    let content = pattern(8192);
    let file = file_of(&content);
    let mut bytes = vec![0; 8192];
    let outcome = read_at(
        &file,
        &HostBuffers::from_mut(&mut bytes).buffers(),
        0,
        Mode::NoWait,
    )
    .expect("no error");
    let done = match outcome {
        Outcome::Complete => 8192,
        Outcome::WouldBlock { done } => done,
        // Some file systems, tmpfs among them.
        Outcome::NoWaitUnsupported => 0,
    };
    assert_eq!(bytes[..done], content[..done]);
    assert!(
        bytes[done..].iter().all(|&byte| byte == 0),
        "nothing beyond what was reported"
    );
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => (1..400usize).prop_map(Act::AtMost),
        1 => Just(Act::Fail(libc::EINTR)),
    ];
    prop::collection::vec(act, 0..20)
}

proptest! {
    #[test]
    fn any_scatter_list_and_any_short_kernel_move_every_byte(
        cuts in prop::collection::vec(0..200usize, 1..40),
        offset in 0..5000u64,
        writing in acts(),
        reading in acts(),
    ) {
        let len: usize = cuts.iter().sum();
        let content = pattern(len);
        let file = file_of(&[0xee; 100]);

        let mut rest = &content[..];
        let slices: Vec<&[u8]> = cuts.iter().map(|&cut| { let (head, tail) = rest.split_at(cut); rest = tail; head }).collect();
        let from = HostBuffers::from_slices(slices);
        let mut kernel = Scripted::new(&file, writing);
        prop_assert_eq!(transfer(&mut kernel, Direction::Write, &from.buffers(), offset, Mode::Wait).unwrap(), Outcome::Complete);

        let mut bytes = vec![0; len];
        let mut rest = &mut bytes[..];
        let mut slices = Vec::new();
        for &cut in cuts.iter().rev() {
            let (head, tail) = rest.split_at_mut(cut);
            slices.push(head);
            rest = tail;
        }
        let to = HostBuffers::from_mut_slices(slices);
        let mut kernel = Scripted::new(&file, reading);
        prop_assert_eq!(transfer(&mut kernel, Direction::Read, &to.buffers(), offset, Mode::Wait).unwrap(), Outcome::Complete);
        drop(to);
        prop_assert_eq!(&bytes, &content);
    }
}
