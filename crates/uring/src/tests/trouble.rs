//! Systems and callers that make trouble.

use super::*;

/// Has a ring refused, or its answers spoilt: so many times, with this error.
#[derive(Default)]
pub(crate) struct Obstacle {
    calls: Mutex<(usize, i32)>,
    answers: Mutex<(usize, i32)>,
}

impl Obstacle {
    fn refuse_calls(&self, times: usize, errno: i32) {
        *self.calls.lock() = (times, errno);
    }

    fn spoil_answers(&self, times: usize, errno: i32) {
        *self.answers.lock() = (times, errno);
    }

    fn next_of(left: &Mutex<(usize, i32)>) -> Option<i32> {
        let (times, errno) = &mut *left.lock();
        *times = times.checked_sub(1)?;
        Some(*errno)
    }

    /// Before a call.
    pub(crate) fn meet(&self) -> io::Result<()> {
        match Self::next_of(&self.calls) {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }

    /// What becomes of an answer.
    pub(crate) fn spoilt(&self, answer: i32) -> i32 {
        Self::next_of(&self.answers).map_or(answer, |errno| -errno)
    }
}

#[test]
fn a_panic_is_for_whoever_waits() {
    let (ring, file) = (ring(), file_of(b"abc"));
    let (_buffer, memory) = room(3);
    let reading = ring.read(file.clone(), memory, 0, |_| panic!("as planned"));
    let reading = reading.expect("memory");
    let caught = thread::spawn(move || block_on(reading)).join();
    assert!(caught.is_err());
    let (_buffer, memory) = room(3);
    block_on(ring.read(file, memory, 0, itself).expect("memory")).expect("the ring goes on");
}

#[test]
fn a_waker_that_panics_is_nobody_elses_business() {
    struct Panicking(AtomicUsize);
    impl Wake for Panicking {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic!("as planned");
        }
    }
    let (ring, core) = ring_with_room(64);
    let panicking = Arc::new(Panicking(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&panicking));
    let (pipes, mut first): (Vec<_>, Vec<_>) = (0..3)
        .map(|_| {
            let (reading, writing) = pipe();
            let (mut operation, told) = read_telling(ring, reading, room(1).1);
            assert!(
                Pin::new(&mut operation)
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            (writing, (operation, told))
        })
        .unzip();
    let nobody_reaps = core.reap_nothing_meanwhile();
    for mut writing in &pipes {
        writing.write_all(b"x").expect("somebody reads");
    }
    drop(nobody_reaps);
    for (_, told) in &mut first {
        told.recv_timeout(LONG_ENOUGH)
            .expect("it ends")
            .expect("it reads");
    }
    while panicking.0.load(Ordering::SeqCst) < 3 {
        thread::yield_now();
    }
    // By whoever drives, and by whoever polls.
    let (reading, mut writing) = pipe();
    let (_operation, told) = read_telling(ring, reading, room(1).1);
    writing.write_all(b"x").expect("somebody reads");
    told.recv_timeout(LONG_ENOUGH)
        .expect("it ends")
        .expect("it reads");
}

#[test]
fn a_kernel_without_means_is_asked_again_after_a_pause() {
    for errno in [libc::EAGAIN, libc::EBUSY, libc::EINTR] {
        let (ring, core) = ring_with_room(64);
        core.obstacle.refuse_calls(3, errno);
        let file = file_of(b"x");
        let (tell, told) = channel();
        // Where it hangs, the test does not.
        thread::spawn(move || {
            let (operation, end) = read_telling(ring, file, room(1).1);
            operation.detach();
            tell.send(end.recv()).expect("the test listens");
        });
        let outcome = told.recv_timeout(LONG_ENOUGH).expect("nobody hangs");
        outcome.expect("it ends").expect("it reads");
    }
}

#[test]
fn a_system_that_comes_to_refuse_ends_what_it_was_not_asked() {
    let (ring, core) = ring_with_room(8);
    let (reading, mut writing) = pipe();
    let (mut buffer, memory) = room(2);
    let (_begun, end_of_begun) = read_telling(ring, reading, memory);
    // Those that stand in the queue, and those that wait for room in it.
    core.obstacle.refuse_calls(usize::MAX, libc::EAGAIN);
    core.pause_for_ever();
    let file = file_of(b"x");
    let operations: Vec<_> = (0..20)
        .map(|_| read_telling(ring, file.clone(), room(1).1))
        .collect();
    assert_eq!(core.in_kernel(), 1 + 4, "the queue has four places");
    core.obstacle.refuse_calls(usize::MAX, libc::EPERM);
    let last = read_telling(ring, file.clone(), room(1).1);
    for (operation, end) in operations.into_iter().chain([last]) {
        let error = end
            .try_recv()
            .expect("it has ended")
            .expect_err("nobody did it");
        let refused = Refused::of(error).expect("that is why");
        assert_eq!(refused.memory.buffers().len(), 1);
        block_on(operation);
    }
    assert!(ring.is_refused());
    assert_eq!((core.operation_count(), core.in_kernel()), (1, 1));
    // What the kernel has goes on, until it would have to be asked again.
    writing.write_all(b"a").expect("somebody reads");
    let error = end_of_begun.recv_timeout(LONG_ENOUGH).expect("it ends");
    Refused::of(error.expect_err("half of it")).expect("that is why");
    assert_eq!(buffer.as_slice().map(|bytes| bytes[0]), Some(b'a'));
    assert_eq!((core.operation_count(), core.in_kernel()), (0, 0));
    // What comes later, too.
    let (operation, end) = read_telling(ring, file, room(1).1);
    drop(operation);
    Refused::of(end.try_recv().expect("it has ended").expect_err("refused")).expect("that is why");
}

#[test]
fn what_the_kernel_cannot_do_just_now_is_asked_again_after_a_while_and_not_for_ever() {
    for errno in [libc::EAGAIN, libc::ECANCELED, libc::EINTR] {
        let (_buffer, memory) = room(1);
        let file = file_of(b"x");
        let finish = Box::new(|_| {});
        let mut entry = Entry::new(Direction::Read, file, memory, 0, finish).expect("memory");
        assert!(entry.end_at_once().is_none(), "there is something to do");
        let (mut at_once, mut later) = (0, 0);
        let error = loop {
            match entry.take_answer(-errno) {
                Step::Again if later == 0 => at_once += 1,
                Step::Again => panic!("it has no patience"),
                Step::AgainLater => later += 1,
                Step::Finished(outcome) => break outcome.expect_err("nothing was read"),
            }
            assert!(later <= 10_000, "it never gives up");
        };
        assert!(
            (1..=10).contains(&at_once),
            "{at_once} times without a pause"
        );
        assert!(later > 1, "it gives up too early");
        assert_eq!(error.raw_os_error(), Some(errno));
    }
}

#[test]
fn what_is_asked_later_is_asked_and_ends() {
    let (ring, core) = ring_with_room(64);
    core.obstacle.spoil_answers(50, libc::EAGAIN);
    let file = file_of(b"x");
    let running: Vec<_> = (0..3)
        .map(|_| read_telling(ring, file.clone(), room(1).1))
        .collect();
    for (_operation, told) in &running {
        let outcome = told.recv_timeout(LONG_ENOUGH).expect("it ends");
        outcome.expect("it reads");
    }
    assert_eq!((core.operation_count(), core.in_kernel()), (0, 0));
}

#[test]
fn a_waker_is_dropped_with_nothing_locked() {
    /// When it is dropped, it ends the operation, and waits until its successor hears of that.
    struct First(Mutex<(PipeWriter, Receiver<()>)>);
    struct Second(Mutex<Sender<()>>);
    impl Wake for First {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for First {
        fn drop(&mut self) {
            let (writing, told) = self.0.get_mut();
            writing.write_all(b"x").expect("somebody reads");
            told.recv_timeout(LONG_ENOUGH).expect("the other is woken");
        }
    }
    impl Wake for Second {
        fn wake(self: Arc<Self>) {
            self.0.lock().send(()).expect("the first listens");
        }
    }
    let (reading, writing) = pipe();
    let (tell, told) = channel();
    let (mut operation, _told) = read_telling(ring(), reading, room(1).1);
    let mut poll = |waker: Waker| Pin::new(&mut operation).poll(&mut Context::from_waker(&waker));
    assert!(poll(Waker::from(Arc::new(First(Mutex::new((writing, told)))))).is_pending());
    // The operation has the only copy of the first.
    assert!(poll(Waker::from(Arc::new(Second(Mutex::new(tell))))).is_pending());
    assert!(poll(Waker::noop().clone()).is_ready());
}
