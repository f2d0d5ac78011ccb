//! What a failed check says.

use crate::Clause;
use crate::seed::replay_line;
use std::collections::VecDeque;
use std::fmt;

/// The requests before a failed one that a report shows.
const RECENT_MAX: usize = 8;

/// A broken clause, and all it takes to see it break again.
///
/// [`Debug`](fmt::Debug) prints what [`Display`](fmt::Display) prints, so that a test may return it or unwrap it.
#[derive(Clone)]
pub struct Violation {
    clause: Clause,
    what: String,
    trace: Box<Trace>,
}

impl Violation {
    /// The clause that is broken.
    pub fn clause(&self) -> Clause {
        self.clause
    }

    /// The seed of the run, as [`SEED_VARIABLE`](crate::SEED_VARIABLE) takes it.
    pub fn seed(&self) -> u64 {
        self.trace.seed
    }

    /// How many requests the run had made, that which broke the clause included.
    pub fn step(&self) -> u32 {
        self.trace.step
    }

    /// Says in which arrangement of layers it happened.
    pub(crate) fn within(mut self, arrangement: &str) -> Self {
        self.trace.disk = format!("{arrangement}, {}", self.trace.disk);
        self
    }

    /// Says how to see it again, in place of what the report says by itself: for whoever chose the seed of a [`World`](crate::World), and
    /// has a command that takes it.
    #[must_use]
    pub fn replayed_by(mut self, how: impl Into<String>) -> Self {
        self.trace.replay = how.into();
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Trace {
            disk,
            case,
            seed,
            step,
            recent,
            replay,
        } = &*self.trace;
        writeln!(f, "{} is broken: {}", self.clause, self.what)?;
        writeln!(f, "  disk: {disk}")?;
        writeln!(f, "  in:   {case}, seed {seed:#x}, step {step}")?;
        for (index, request) in recent.iter().enumerate() {
            let step = *step as usize + 1 + index - recent.len();
            writeln!(f, "  step {step}: {request}")?;
        }
        write!(f, "  replay: {replay}")
    }
}

impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Violation {}

/// Where a run stands.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    disk: String,
    case: &'static str,
    seed: u64,
    step: u32,
    recent: VecDeque<String>,
    replay: String,
}

impl Trace {
    /// Of a world, whose seed was chosen by whoever made it: no variable sets it.
    pub(crate) fn of_world(disk: String, seed: u64) -> Self {
        Self {
            replay: format!("`World::new({seed:#x})` with the same disk"),
            ..Self::new(disk, "world", seed)
        }
    }

    pub(crate) fn new(disk: String, case: &'static str, seed: u64) -> Self {
        Self {
            disk,
            case,
            seed,
            step: 0,
            recent: VecDeque::new(),
            replay: replay_line(seed),
        }
    }

    /// A request is about to be made.
    pub(crate) fn step(&mut self, request: String) {
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(request);
        self.step += 1;
    }

    pub(crate) fn violation(&self, clause: Clause, what: impl Into<String>) -> Violation {
        Violation {
            clause,
            what: what.into(),
            trace: Box::new(self.clone()),
        }
    }

    pub(crate) fn step_number(&self) -> u32 {
        self.step
    }
}
