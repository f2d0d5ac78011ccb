//! What a run leaves behind: nothing.

use std::fs;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// After so many runs everything that is made once has been made.
const WARM_UP_RUNS: u64 = 256;
/// Looking costs more than a run.
const RUNS_BETWEEN_LOOKS: u64 = 64;
/// What is kept for later (pools, names, tables that have grown once) is less than that for all runs together.
const GROWTH_BYTES_MAX: usize = 2 << 20;
/// Some things a process makes once, when it first needs them, however late: the thread that watches files, and its descriptor. What is
/// left over again and again is soon more.
const MADE_LATE_MAX: usize = 3;
/// How long a thread that is ending, or a socket that is being closed, is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Counts the runs of one target.
#[derive(Debug)]
pub struct Watch(Mutex<State>);

#[derive(Debug)]
struct State {
    runs: u64,
    baseline: Option<Held>,
}

/// What this process has.
#[derive(Debug, Clone, Copy)]
struct Held {
    descriptors: usize,
    threads: usize,
    bytes: usize,
}

impl Watch {
    /// Nothing has run yet.
    #[expect(clippy::new_without_default, reason = "it is made in a constant")]
    pub const fn new() -> Self {
        Self(Mutex::new(State {
            runs: 0,
            baseline: None,
        }))
    }

    /// Call it after each run, with everything that the run made dropped.
    ///
    /// # Panics
    /// If descriptors, threads or memory are left over, compared with the end of the warm-up.
    pub fn run_ended(&self) {
        let mut state = self.0.lock().expect("no run panicked while it looked");
        state.runs += 1;
        if state.runs < WARM_UP_RUNS || !state.runs.is_multiple_of(RUNS_BETWEEN_LOOKS) {
            return;
        }
        let Some(baseline) = state.baseline else {
            state.baseline = Some(Held::settled());
            return;
        };
        let deadline = Instant::now() + PATIENCE;
        let mut held = Held::now();
        while !held.is_within(&baseline) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
            held = Held::now();
        }
        assert!(
            held.is_within(&baseline),
            "something is left over after {} runs: {held:?} now, {baseline:?} after the warm-up",
            state.runs
        );
    }
}

impl Held {
    fn now() -> Self {
        let threads = entries("/proc/self/task");
        // Those of the pool for blocking calls come and go by themselves, up to a bound of the pool's own.
        let pooled = threads.iter().filter(|id| {
            let name = fs::read_to_string(format!("/proc/self/task/{id}/comm"));
            name.map_or(true, |name| name.starts_with("blocking-"))
        });
        Self {
            descriptors: entries("/proc/self/fd").len(),
            threads: threads.len() - pooled.count(),
            bytes: crate::ALLOCATOR.allocated(),
        }
    }

    /// The least of several looks: what is ending meanwhile is no part of it.
    fn settled() -> Self {
        let mut least = Self::now();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(5));
            let held = Self::now();
            least.descriptors = least.descriptors.min(held.descriptors);
            least.threads = least.threads.min(held.threads);
            least.bytes = least.bytes.min(held.bytes);
        }
        least
    }

    fn is_within(&self, baseline: &Self) -> bool {
        self.descriptors <= baseline.descriptors + MADE_LATE_MAX
            && self.threads <= baseline.threads + MADE_LATE_MAX
            && self.bytes <= baseline.bytes + GROWTH_BYTES_MAX
    }
}

fn entries(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("Linux has it");
    entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// From now on, a run that holds more than this beyond what it found ends the process.
pub fn bound_memory(bytes: usize) {
    let limit = crate::ALLOCATOR.allocated() + bytes;
    crate::ALLOCATOR
        .set_limit(limit)
        .expect("more than what is allocated");
}
