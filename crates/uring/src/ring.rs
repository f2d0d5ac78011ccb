//! The ring itself: what is asked of the kernel, and what it answers.
//!
//! Invariants:
//! - **I3** The kernel has at most `in_kernel_max` questions without an answer taken, so that every answer has its place.
//! - **I4** An operation is in the slab from its beginning until its end is handed out, and in exactly one place: it waits, or
//!   the kernel has it, or somebody takes its answer in.
//! - **I5** What waits is asked as soon as there is room: whoever makes it wait looks for room afterwards, and whoever makes room
//!   looks for what waits afterwards. Both are `SeqCst`, so one of the two sees the other.
//! - **I6** The queue of questions is touched only with `questions` locked, and the queue of answers only with `reaping` locked. No
//!   other lock is taken with the slab locked, and nobody's code is called with any lock held.
//! - **I7** What a ring that was refused has left in its queue stays there: the kernel is never told of that queue again.
//! - **I8** A ring is never closed: what the kernel may still use is in its slab.

use crate::driver;
use crate::entry::{Entry, Step};
pub(crate) use crate::questions::Key;
use crate::questions::{Entries, NO_KEY, Question, Questions};
use crate::refused::Said;
use io_uring::{IoUring, Probe, opcode, squeue};
use parking_lot::{Mutex, MutexGuard};
use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// How many questions the kernel is asked in one call.
const QUESTION_COUNT: u32 = 128;
/// How many questions may be without an answer; beyond that they wait here.
const ANSWER_COUNT: u32 = 4096;
/// How many answers are taken in at a time.
const BATCH: usize = 32;
/// How many batches are taken in by somebody who only came to look for something else.
const BATCHES_BY_THE_WAY: usize = 4;
/// How long to wait where the kernel has no memory for a question. In tests it is over at once, which is the worst that can come.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 1 });

pub(crate) struct Core {
    ring: IoUring,
    questions: Mutex<Questions>,
    /// The length of `questions.waiting`, for those who only want to know.
    waiting_count: AtomicUsize,
    entries: Mutex<Entries>,
    reaping: Mutex<()>,
    in_kernel: AtomicUsize,
    in_kernel_max: usize,
    is_pausing: AtomicBool,
    /// The system takes no questions any more. Changed only with `questions` locked.
    is_refused: AtomicBool,
    #[cfg(test)]
    pub(crate) obstacle: crate::tests::Obstacle,
}

impl Core {
    /// Makes a ring, and sees to its being reaped.
    pub(crate) fn start() -> io::Result<&'static Self> {
        Self::with_room(QUESTION_COUNT, ANSWER_COUNT)
    }

    pub(crate) fn with_room(questions: u32, answers: u32) -> io::Result<&'static Self> {
        let core = Self::undriven(questions, answers)?;
        driver::start(core)?;
        Ok(core)
    }

    /// One that is reaped only by those who poll.
    pub(crate) fn undriven(questions: u32, answers: u32) -> io::Result<&'static Self> {
        let ring = IoUring::builder()
            .setup_clamp()
            .setup_cqsize(answers)
            .build(questions)?;
        check_abilities(&ring)?;
        let in_kernel_max = ring.params().cq_entries().min(answers) as usize;
        // I8
        Ok(Box::leak(Box::new(Self {
            ring,
            questions: Mutex::default(),
            waiting_count: AtomicUsize::new(0),
            entries: Mutex::default(),
            reaping: Mutex::new(()),
            in_kernel: AtomicUsize::new(0),
            in_kernel_max,
            is_pausing: AtomicBool::new(false),
            is_refused: AtomicBool::new(false),
            #[cfg(test)]
            obstacle: crate::tests::Obstacle::default(),
        })))
    }

    /// Takes the operation in, and begins it.
    pub(crate) fn begin(&'static self, entry: Box<Entry>) -> Key {
        let at_once = entry.end_at_once();
        let key = {
            let mut entries = self.entries.lock();
            let key = entries.insert(entry);
            if let Some(outcome) = at_once {
                let entry = entries.remove(key);
                drop(entries);
                entry.end(outcome);
                return key;
            }
            key
        };
        self.ask([Question::Do(key)]);
        key
    }

    /// Gives an operation up that nobody waits for any more, if that can be.
    pub(crate) fn let_go(&'static self, key: Key) {
        let mut questions = self.questions.lock();
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get(key) else {
            return; // It has just ended.
        };
        entry.is_unwanted = true;
        match questions.place_of(key) {
            Some((list, place)) if !entry.has_begun() => {
                let entry = entries.remove(key);
                list.remove(place);
                self.waiting_count.store(questions.waiting.len(), SeqCst);
                drop((questions, entries));
                entry.end(Err(io::ErrorKind::Interrupted.into()));
            }
            Some(_) => {}
            None => {
                drop((questions, entries));
                self.ask([Question::GiveUp(key)]);
            }
        }
    }

    /// Whether the system has come to refuse what it allowed when the ring was made.
    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused.load(SeqCst)
    }

    /// Asks the kernel, or has the questions wait until there is room.
    fn ask(&'static self, more: impl IntoIterator<Item = Question>) {
        let mut questions = self.questions.lock();
        questions.waiting.extend(more);
        self.waiting_count.store(questions.waiting.len(), SeqCst);
        if self.is_refused() {
            return self.end_all(questions);
        }
        loop {
            self.fill_queue(&mut questions);
            let outcome = self.submit();
            // SAFETY: I6; there is no other view of the queue.
            let left = unsafe { self.ring.submission_shared() }.len();
            let asked = questions.in_queue.len() - left;
            questions.in_queue.drain(..asked);
            match outcome.map_err(|error| (error.raw_os_error(), error)) {
                Ok(_) => {}
                Err((Some(libc::EINTR), _)) => continue,
                // No memory, or no room for answers, which I3 excludes.
                Err((Some(libc::EAGAIN | libc::ENOMEM | libc::EBUSY), error)) => {
                    tracing::debug!(%error, "the kernel takes no questions just now");
                    drop(questions); // The pause may be over before it has begun, and then asks right here (I6).
                    return self.ask_after_a_pause();
                }
                // A sandbox that was closed after the ring was made, for this thread at least.
                Err((_, error)) => {
                    // The other rings mostly find the same.
                    static SAID: Said = Said::nothing();
                    if SAID.is_new(&error) {
                        tracing::warn!(%error, "io_uring is refused from now on: requests that have to wait use threads instead");
                    }
                    self.is_refused.store(true, SeqCst);
                    return self.end_all(questions);
                }
            }
            if left == 0 && (questions.waiting.is_empty() || !self.has_room()) {
                return;
            }
        }
    }

    /// Ends what the kernel was not told of, because it never will be: all of it, and what has come back to be asked again.
    fn end_all(&self, mut questions: MutexGuard<'_, Questions>) {
        let mut ended = Vec::new();
        {
            let mut entries = self.entries.lock();
            let Questions {
                waiting,
                later,
                in_queue,
            } = &mut *questions;
            self.in_kernel.fetch_sub(in_queue.len(), SeqCst);
            let all = in_queue
                .drain(..)
                .chain(waiting.drain(..))
                .chain(later.drain(..));
            for question in all {
                if let Question::Do(key) = question {
                    ended.push(entries.remove(key));
                }
            }
        }
        self.waiting_count.store(0, SeqCst);
        drop(questions);
        for entry in ended {
            entry.end_refused();
        }
    }

    fn submit(&self) -> io::Result<usize> {
        #[cfg(test)]
        self.obstacle.meet()?;
        self.ring.submit()
    }

    fn has_room(&self) -> bool {
        self.in_kernel.load(SeqCst) < self.in_kernel_max // I3, I5
    }

    /// Puts into the queue what there is room for.
    fn fill_queue(&self, questions: &mut Questions) {
        // SAFETY: I6; there is no other view of the queue.
        let mut queue = unsafe { self.ring.submission_shared() };
        while self.has_room() && !queue.is_full() {
            let Some(question) = questions.waiting.pop_front() else {
                break;
            };
            questions.in_queue.push_back(question);
            let question = match question {
                Question::Do(key) => {
                    let mut entries = self.entries.lock();
                    let entry = entries.get(key).expect("what waits is in the slab (I4)");
                    entry.question(key.to_user_data())
                }
                Question::GiveUp(key) => give_up(key),
            };
            self.in_kernel.fetch_add(1, SeqCst);
            // SAFETY: the entry stays in its box in the slab until its answer is taken (I2, I4, I7, I8), and with it its memory, its file
            // and its list of vectors. That the memory fits the direction was checked before it came here.
            unsafe { queue.push(&question) }.expect("it is not full");
        }
        self.waiting_count.store(questions.waiting.len(), SeqCst);
    }

    /// Asks what waits, and what is to be asked later, once the pause is over that begins now, or has begun.
    fn ask_after_a_pause(&'static self) {
        if self.is_pausing.swap(true, SeqCst) {
            return;
        }
        let pause = async move {
            async_io::Timer::after(PAUSE).await;
            self.is_pausing.store(false, SeqCst);
            {
                let Questions { waiting, later, .. } = &mut *self.questions.lock();
                waiting.append(later);
            }
            self.ask([]);
        };
        let (runnable, task) = async_task::spawn(pause, |runnable: async_task::Runnable| {
            runnable.run();
        });
        task.detach();
        runnable.run();
    }

    /// Takes in all answers that are there, and waits for whoever else does.
    pub(crate) fn reap(&'static self) {
        self.reap_by(usize::MAX, || Some(self.reaping.lock()));
    }

    /// As [`reap`](Self::reap), but leaves it to others if they are at it, and to the reactor what is too much for somebody who has
    /// other things to do.
    pub(crate) fn reap_if_free(&'static self) {
        self.reap_by(BATCHES_BY_THE_WAY, || self.reaping.try_lock());
    }

    fn reap_by<Guard>(&'static self, batch_count_max: usize, lock: impl Fn() -> Option<Guard>) {
        // What is woken by reaping may come here again; then the outer round will see to it.
        let Some(_turn) = Turn::take() else {
            return;
        };
        for _ in 0..batch_count_max {
            let Some(guard) = lock() else {
                break;
            };
            // SAFETY: I6; there is no other view of the queue.
            let mut queue = unsafe { self.ring.completion_shared() };
            if queue.is_empty() {
                break;
            }
            let mut answers = [(0, 0); BATCH];
            let mut count = 0;
            // The place comes first: an answer that is taken and has none would be lost, and with it the operation.
            for place in &mut answers {
                let Some(answer) = queue.next() else {
                    break;
                };
                *place = (answer.user_data(), answer.result());
                count += 1;
            }
            drop((queue, guard));
            #[cfg(test)]
            for (_, answer) in &mut answers[..count] {
                *answer = self.obstacle.spoilt(*answer);
            }
            self.take_in(&answers[..count]);
        }
    }

    fn take_in(&'static self, answers: &[(u64, i32)]) {
        let (mut again, mut later) = (Vec::new(), Vec::new());
        let mut ended = Vec::with_capacity(answers.len());
        {
            let mut entries = self.entries.lock();
            for &(user_data, answer) in answers {
                if user_data == NO_KEY {
                    continue;
                }
                let key = Key::of_user_data(user_data);
                let entry = entries
                    .get(key)
                    .expect("what the kernel has is in the slab (I4)");
                match entry.take_answer(answer) {
                    Step::Again => again.push(Question::Do(key)),
                    Step::AgainLater => later.push(Question::Do(key)),
                    Step::Finished(outcome) => ended.push((entries.remove(key), outcome)),
                }
            }
        }
        self.in_kernel.fetch_sub(answers.len(), SeqCst);
        if !again.is_empty() || self.waiting_count.load(SeqCst) > 0 {
            self.ask(again); // I5
        }
        if !later.is_empty() {
            self.questions.lock().later.extend(later);
            self.ask_after_a_pause();
        }
        for (entry, outcome) in ended {
            entry.end(outcome);
        }
    }

    #[cfg(test)]
    pub(crate) fn in_kernel(&self) -> usize {
        self.in_kernel.load(SeqCst)
    }

    /// As while a pause lasts.
    #[cfg(test)]
    pub(crate) fn pause_for_ever(&self) {
        self.is_pausing.store(true, SeqCst);
    }

    /// Keeps everybody from reaping.
    #[cfg(test)]
    pub(crate) fn reap_nothing_meanwhile(&self) -> impl Drop + use<'_> {
        self.reaping.lock()
    }

    #[cfg(test)]
    pub(crate) fn has_begun_something(&self) -> bool {
        let entries = self.entries.lock();
        entries.iter().any(Entry::has_begun)
    }

    #[cfg(test)]
    pub(crate) fn operation_count(&self) -> usize {
        self.entries.lock().iter().count()
    }
}

thread_local! {
    static IS_REAPING: Cell<bool> = const { Cell::new(false) };
}

/// This thread reaps, and does not begin another time meanwhile.
struct Turn(());

impl Turn {
    fn take() -> Option<Self> {
        // Not `then_some`: what is made for nothing, and dropped, would end the other one's turn.
        (!IS_REAPING.replace(true)).then(|| Self(()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        IS_REAPING.set(false);
    }
}

impl AsFd for Core {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring owns its descriptor, and is open as long as `self` is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("fd", &self.ring.as_raw_fd())
            .field("in_kernel", &self.in_kernel)
            .field("waiting", &self.waiting_count)
            .finish_non_exhaustive()
    }
}

/// Asks for the end of an operation that the kernel may not have begun. What comes of it, the operation's own answer says.
fn give_up(key: Key) -> squeue::Entry {
    opcode::AsyncCancel::new(key.to_user_data())
        .build()
        .user_data(NO_KEY)
}

/// An old kernel has rings that cannot do this, or lose answers.
fn check_abilities(ring: &IoUring) -> io::Result<()> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let codes = [
        opcode::Read::CODE,
        opcode::Write::CODE,
        opcode::Readv::CODE,
        opcode::Writev::CODE,
        opcode::AsyncCancel::CODE,
    ];
    let is_able =
        ring.params().is_feature_nodrop() && codes.into_iter().all(|code| probe.is_supported(code));
    match is_able {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel's io_uring is too old",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_lasts_until_it_ends_however_often_another_is_asked_for() {
        let turn = Turn::take().expect("nobody reaps");
        for _ in 0..3 {
            assert!(Turn::take().is_none());
        }
        drop(turn);
        assert!(Turn::take().is_some());
    }
}
