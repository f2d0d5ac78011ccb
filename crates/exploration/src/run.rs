//! Runs of a scenario under many schedules.

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, Runner};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use sync::Race;

/// The environment variable that replays a run: the seed that a failed one printed, decimal, or hexadecimal after `0x`.
pub const SEED_VARIABLE: &str = "EXPLORATION_SEED";

/// Where planted races are looked for.
const FIXED_SEED: u64 = 1;

/// How many preemptions the second kind of schedule has: what most races need.
const PCT_DEPTH: usize = 3;

/// Enough for the futures of a stack of layers.
const STACK_BYTES: usize = 512 << 10;

/// Runs `scenario` under `schedules` schedules from a seed never used before, or the one to replay: half of them switch threads at
/// random, half seldom but where it hurts (PCT).
///
/// # Panics
/// As the scenario does, after a line that tells how to have it again.
pub fn explore(test: &str, schedules: usize, scenario: fn()) {
    let seed = seed_to_replay().unwrap_or_else(fresh_seed);
    say(&format!("{test}: {SEED_VARIABLE}={seed:#x}"));
    let run = AssertUnwindSafe(|| run(seed, schedules, scenario));
    if let Err(panic) = catch_unwind(run) {
        let program = test.split("::").next().unwrap_or(test);
        say(&format!(
            "{test} failed; to run the same again: {SEED_VARIABLE}={seed:#x} \
             cargo test -p exploration --features shuttle --test {program}"
        ));
        resume_unwind(panic);
    }
}

/// Plants a race and demands that it is found within `schedules` schedules, half of each kind, from a fixed seed.
///
/// # Panics
/// If nothing was found, or something else than the histories that `scenario` complains about.
pub fn expect_found(race: Race, schedules: usize, scenario: fn()) {
    let planted = sync::plant(race);
    let found = catch_unwind(AssertUnwindSafe(|| run(FIXED_SEED, schedules, scenario)));
    drop(planted);
    let Err(panic) = found else {
        panic!("{race:?} was planted, and {schedules} schedules did not show it");
    };
    let text = panic.downcast_ref::<String>().map_or("", String::as_str);
    assert!(
        text.contains("no order explains"),
        "{race:?} was planted, but what was found is: {text}"
    );
}

fn run(seed: u64, schedules: usize, scenario: fn()) {
    let half = schedules.div_ceil(2);
    steer(RandomScheduler::new_from_seed(seed, half), scenario);
    steer(PctScheduler::new_from_seed(seed, PCT_DEPTH, half), scenario);
}

fn steer(scheduler: impl Scheduler + 'static, scenario: fn()) {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    // The seed is shorter than a schedule, and does the same.
    config.failure_persistence = FailurePersistence::None;
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(scenario);
}

fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

fn seed_to_replay() -> Option<u64> {
    let text = std::env::var(SEED_VARIABLE).ok()?;
    let number = match text.trim().strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.trim().parse().ok(),
    };
    match number {
        Some(number) => Some(number),
        None => panic!(
            "{SEED_VARIABLE}={text} is not a number: write it in decimal, or with 0x in front"
        ),
    }
}

#[allow(
    clippy::print_stderr,
    reason = "a test's seed is for whoever looks at its output"
)]
fn say(line: &str) {
    eprintln!("{line}");
}
