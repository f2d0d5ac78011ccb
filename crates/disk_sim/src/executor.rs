//! An executor for one thread, in which chance decides who goes on, and time passes only when nobody can.

use crate::fate::Graveyard;
use clock::{Clock, SimulatedTime};
use fastrand::Rng;
use parking_lot::Mutex;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Runs tasks one poll at a time: the seed decides which of those that can go on does. When none can, simulated time passes until
/// one of them wakes up; so waiting for hours takes no time. Stop calling [`step`](Self::step), and the run has crashed.
pub struct Sim<'a> {
    rng: Rng,
    clock: Clock,
    time: SimulatedTime,
    tasks: Vec<Option<Task<'a>>>,
    /// How many of `tasks` are left.
    running: usize,
    ready: Arc<Ready>,
    polls: u64,
    graveyard: Graveyard<'a>,
}

/// A task of a [`Sim`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(usize);

/// The future of [`Sim::block_on`], which is no task.
const BLOCKED_ON: TaskId = TaskId(usize::MAX);

struct Task<'a> {
    name: &'static str,
    future: Pin<Box<dyn Future<Output = ()> + 'a>>,
    signal: Arc<Signal>,
    waker: Waker,
}

/// The tasks that were woken, each once.
#[derive(Default)]
struct Ready(Mutex<Vec<TaskId>>);

/// Wakes one task.
struct Signal {
    task: TaskId,
    is_ready: AtomicBool,
    ready: Arc<Ready>,
}

impl Signal {
    fn new(task: TaskId, ready: &Arc<Ready>) -> Self {
        Self {
            task,
            is_ready: AtomicBool::new(false),
            ready: Arc::clone(ready),
        }
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_ready.swap(true, Ordering::AcqRel) {
            self.ready.0.lock().push(self.task);
        }
    }
}

/// What [`Sim::step`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A task was polled.
    Polled(TaskId),
    /// Nobody could go on, so time passed.
    Slept,
    /// There is nothing left to run.
    Done,
}

/// Tasks are left, none of them can go on, and none of them sleeps: they wait for what will never happen (C4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// The names of those that wait.
    pub tasks: Vec<&'static str>,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "these wait for ever: {}", self.tasks.join(", "))
    }
}

impl std::error::Error for Stuck {}

impl<'a> Sim<'a> {
    /// An executor without tasks, at the beginning of its time.
    pub fn new(seed: u64) -> Self {
        let (clock, time) = Clock::simulated();
        Self {
            rng: Rng::with_seed(seed),
            clock,
            time,
            tasks: Vec::new(),
            running: 0,
            ready: Arc::default(),
            polls: 0,
            graveyard: Graveyard::default(),
        }
    }

    /// The time of this run.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Where forgotten futures of this run are kept until it ends.
    pub fn graveyard(&self) -> Graveyard<'a> {
        self.graveyard.clone()
    }

    /// How often tasks were polled.
    pub fn polls(&self) -> u64 {
        self.polls
    }

    /// Adds a task; `name` is what [`Stuck`] calls it.
    pub fn spawn(&mut self, name: &'static str, future: impl Future<Output = ()> + 'a) -> TaskId {
        let free = self.tasks.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.tasks.push(None);
            self.tasks.len() - 1
        });
        let signal = Arc::new(Signal::new(TaskId(index), &self.ready));
        signal.wake_by_ref();
        self.tasks[index] = Some(Task {
            name,
            future: Box::pin(future),
            waker: Waker::from(Arc::clone(&signal)),
            signal,
        });
        self.running += 1;
        TaskId(index)
    }

    /// Polls one task, or lets time pass.
    ///
    /// # Errors
    /// [`Stuck`] if neither is possible.
    pub fn step(&mut self) -> Result<Step, Stuck> {
        if self.running == 0 {
            return Ok(Step::Done);
        }
        let Some(id) = self.next()? else {
            return Ok(Step::Slept);
        };
        self.poll(id);
        Ok(Step::Polled(id))
    }

    /// Who goes on, or none if time had to pass.
    fn next(&mut self) -> Result<Option<TaskId>, Stuck> {
        match self.take_ready() {
            Some(id) => Ok(Some(id)),
            None => match self.time.advance_to_next() {
                Some(_) => Ok(None),
                None => Err(self.stuck()),
            },
        }
    }

    fn poll(&mut self, id: TaskId) {
        // It may have been woken by somebody who did not see its end.
        let Some(Some(task)) = self.tasks.get_mut(id.0) else {
            return;
        };
        task.signal.is_ready.store(false, Ordering::Release);
        self.polls += 1;
        let mut cx = Context::from_waker(&task.waker);
        if task.future.as_mut().poll(&mut cx) == Poll::Ready(()) {
            self.tasks[id.0] = None;
            self.running -= 1;
        }
    }

    fn take_ready(&mut self) -> Option<TaskId> {
        let mut ready = self.ready.0.lock();
        let count = ready.len();
        (count > 0).then(|| ready.swap_remove(self.rng.usize(0..count)))
    }

    fn stuck(&self) -> Stuck {
        let tasks = self.tasks.iter().flatten();
        Stuck {
            tasks: tasks.map(|task| task.name).collect(),
        }
    }

    /// Runs until no task is left.
    ///
    /// # Errors
    /// [`Stuck`] if those that are left cannot go on.
    pub fn run(&mut self) -> Result<(), Stuck> {
        while self.step()? != Step::Done {}
        Ok(())
    }

    /// Runs until this is done, among the tasks, of which some may be left.
    ///
    /// # Errors
    /// [`Stuck`] if neither it nor a task can go on before. It is not named.
    pub fn block_on<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Stuck> {
        let mut future = pin!(future);
        let signal = Arc::new(Signal::new(BLOCKED_ON, &self.ready));
        signal.wake_by_ref();
        let waker = Waker::from(Arc::clone(&signal));
        let mut cx = Context::from_waker(&waker);
        loop {
            match self.next()? {
                Some(BLOCKED_ON) => {
                    signal.is_ready.store(false, Ordering::Release);
                    self.polls += 1;
                    if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                        return Ok(output);
                    }
                }
                Some(id) => self.poll(id),
                None => {}
            }
        }
    }
}

impl fmt::Debug for Sim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim")
            .field("running", &self.running)
            .field("polls", &self.polls)
            .field("now", &self.clock.now())
            .finish_non_exhaustive()
    }
}
