//! Simulated time: whoever sleeps is woken at its time, in its order, and in no time.

use clock::{Clock, Moment, Sleep};
use futures_lite::future::{block_on, poll_once};
use proptest::prelude::*;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// Who was woken, and what time it was then.
type Log = Arc<Mutex<Vec<(usize, Moment)>>>;

/// Notes that it was called.
struct Noting {
    id: usize,
    log: Log,
    clock: Clock,
}

impl Wake for Noting {
    fn wake(self: Arc<Self>) {
        let now = self.clock.now();
        self.log.lock().unwrap().push((self.id, now));
    }
}

/// Polls the sleep as a task whose wake-up goes into the log.
fn poll(sleep: &mut Sleep, id: usize, log: &Log, clock: &Clock) -> Poll<()> {
    let waker = Waker::from(Arc::new(Noting {
        id,
        log: Arc::clone(log),
        clock: clock.clone(),
    }));
    Pin::new(sleep).poll(&mut Context::from_waker(&waker))
}

fn moment(after: Duration) -> Moment {
    Moment::ORIGIN + after
}

#[test]
fn time_stands_still_until_it_is_advanced() {
    let (clock, time) = Clock::simulated();
    assert_eq!(clock.now(), Moment::ORIGIN);
    let mut sleep = clock.sleep(HOUR);
    assert_eq!(sleep.until(), moment(HOUR));
    assert!(block_on(poll_once(&mut sleep)).is_none());
    time.advance(HOUR - Duration::from_nanos(1));
    assert!(block_on(poll_once(&mut sleep)).is_none());
    time.advance(Duration::from_nanos(1));
    assert!(block_on(poll_once(&mut sleep)).is_some());
    assert_eq!(clock.now().since(Moment::ORIGIN), HOUR);
    assert_eq!(Moment::ORIGIN.since(clock.now()), Duration::ZERO);
}

#[test]
fn a_sleep_of_no_time_is_over_at_once() {
    let (clock, time) = Clock::simulated();
    time.advance(HOUR);
    assert!(block_on(poll_once(clock.sleep(Duration::ZERO))).is_some());
    assert!(block_on(poll_once(clock.sleep_until(Moment::ORIGIN))).is_some());
    assert!(block_on(poll_once(clock.sleep_until(clock.now()))).is_some());
    assert_eq!(time.sleeper_count(), 0);
}

#[test]
fn a_sleep_begins_when_it_is_asked_for_and_not_when_it_is_polled() {
    let (clock, time) = Clock::simulated();
    let mut sleep = clock.sleep(HOUR);
    time.advance(HOUR);
    assert!(block_on(poll_once(&mut sleep)).is_some());
}

#[test]
fn advancing_to_the_next_wakes_all_of_that_moment_and_no_others() {
    let (clock, time) = Clock::simulated();
    let log = Log::default();
    let mut sleeps = [2, 1, 2, 3].map(|hours| clock.sleep(HOUR * hours));
    for (id, sleep) in sleeps.iter_mut().enumerate() {
        assert!(poll(sleep, id, &log, &clock).is_pending());
    }
    assert_eq!(time.next(), Some(moment(HOUR)));
    assert_eq!(time.advance_to_next(), Some(moment(HOUR)));
    assert_eq!(time.advance_to_next(), Some(moment(HOUR * 2)));
    let woken = log.lock().unwrap().clone();
    let expected = [(1, 1), (0, 2), (2, 2)].map(|(id, hours)| (id, moment(HOUR * hours)));
    assert_eq!(woken, expected);
    assert_eq!(time.advance_to_next(), Some(moment(HOUR * 3)));
    assert_eq!(time.advance_to_next(), None);
    assert_eq!(clock.now(), moment(HOUR * 3));
}

#[test]
fn a_dropped_sleep_leaves_nothing_behind() {
    let (clock, time) = Clock::simulated();
    let log = Log::default();
    let mut sleep = clock.sleep(HOUR);
    assert!(poll(&mut sleep, 0, &log, &clock).is_pending());
    assert_eq!(time.sleeper_count(), 1);
    drop(sleep);
    assert_eq!(time.sleeper_count(), 0);
    time.advance(HOUR);
    assert!(log.lock().unwrap().is_empty());
}

#[test]
fn only_the_latest_task_to_poll_is_woken() {
    let (clock, time) = Clock::simulated();
    let log = Log::default();
    let mut sleep = clock.sleep(HOUR);
    assert!(poll(&mut sleep, 1, &log, &clock).is_pending());
    assert!(poll(&mut sleep, 2, &log, &clock).is_pending());
    time.advance(HOUR);
    assert_eq!(*log.lock().unwrap(), [(2, moment(HOUR))]);
    assert!(poll(&mut sleep, 3, &log, &clock).is_ready());
    assert!(poll(&mut sleep, 3, &log, &clock).is_ready());
}

#[test]
fn what_never_comes_does_not_come() {
    let (clock, time) = Clock::simulated();
    time.advance(HOUR);
    let mut sleep = clock.sleep(Duration::MAX);
    assert_eq!(sleep.until(), Moment::NEVER);
    time.advance(HOUR * 1_000_000);
    assert!(block_on(poll_once(&mut sleep)).is_none());
}

/// Sleeps an hour again each time that it is woken, three times.
struct Again {
    clock: Clock,
    log: Log,
    sleep: Mutex<Option<Sleep>>,
}

impl Wake for Again {
    fn wake(self: Arc<Self>) {
        let mut log = self.log.lock().unwrap();
        let number = log.len();
        log.push((number, self.clock.now()));
        if log.len() < 3 {
            drop(log);
            let mut next = self.clock.sleep(HOUR);
            let waker = Waker::from(Arc::clone(&self));
            assert!(
                Pin::new(&mut next)
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            *self.sleep.lock().unwrap() = Some(next);
        }
    }
}

#[test]
fn whoever_begins_to_sleep_while_time_passes_is_woken_in_its_turn() {
    let (clock, time) = Clock::simulated();
    let log = Log::default();
    let again = Arc::new(Again {
        clock: clock.clone(),
        log: Arc::clone(&log),
        sleep: Mutex::new(None),
    });
    let mut first = clock.sleep(HOUR);
    let waker = Waker::from(again);
    assert!(
        Pin::new(&mut first)
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    time.advance(HOUR * 10);
    let expected = [1, 2, 3].map(|hours| (hours as usize - 1, moment(HOUR * hours)));
    assert_eq!(*log.lock().unwrap(), expected);
    assert_eq!(clock.now(), moment(HOUR * 10));
}

#[derive(Debug, Clone)]
enum Step {
    /// Begins to sleep for so many seconds.
    Sleep(u64),
    /// Drops one of those who sleep.
    Drop(prop::sample::Index),
    Advance(u64),
    AdvanceToNext,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..20_u64).prop_map(Step::Sleep),
        1 => any::<prop::sample::Index>().prop_map(Step::Drop),
        2 => (0..15_u64).prop_map(Step::Advance),
        1 => Just(Step::AdvanceToNext),
    ]
}

/// The same with a list, in seconds: the moment and the number of each sleeper that is asleep.
#[derive(Default)]
struct Model {
    now: u64,
    asleep: Vec<(u64, usize)>,
    woken: Vec<(usize, u64)>,
}

impl Model {
    fn advance_to(&mut self, end: u64) {
        self.asleep.sort();
        while let Some(&(moment, id)) = self.asleep.first().filter(|(moment, _)| *moment <= end) {
            self.asleep.remove(0);
            self.woken.push((id, moment));
        }
        self.now = end;
    }
}

proptest! {
    #[test]
    fn any_sleeps_are_as_in_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let (clock, time) = Clock::simulated();
        let log = Log::default();
        let mut sleeps: Vec<Option<Sleep>> = Vec::new();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Sleep(seconds) => {
                    let id = sleeps.len();
                    let mut sleep = clock.sleep(Duration::from_secs(seconds));
                    let is_ready = poll(&mut sleep, id, &log, &clock).is_ready();
                    prop_assert_eq!(is_ready, seconds == 0);
                    sleeps.push(Some(sleep));
                    if seconds > 0 {
                        model.asleep.push((model.now + seconds, id));
                    }
                }
                Step::Drop(index) if !sleeps.is_empty() => {
                    let id = index.index(sleeps.len());
                    sleeps[id] = None;
                    model.asleep.retain(|(_, asleep)| *asleep != id);
                }
                Step::Drop(_) => {}
                Step::Advance(seconds) => {
                    time.advance(Duration::from_secs(seconds));
                    model.advance_to(model.now + seconds);
                }
                Step::AdvanceToNext => {
                    let next = model.asleep.iter().map(|(moment, _)| *moment).min();
                    let found = time.advance_to_next().map(|moment| moment.since_origin().as_secs());
                    prop_assert_eq!(found, next);
                    if let Some(next) = next {
                        model.advance_to(next);
                    }
                }
            }
            prop_assert_eq!(clock.now().since_origin().as_secs(), model.now);
            prop_assert_eq!(time.sleeper_count(), model.asleep.len());
            let log = log.lock().unwrap();
            let woken: Vec<_> = log.iter().map(|(id, at)| (*id, at.since_origin().as_secs())).collect();
            prop_assert_eq!(&woken, &model.woken);
        }
        for (id, sleep) in sleeps.iter_mut().enumerate() {
            if let Some(sleep) = sleep {
                let is_asleep = model.asleep.iter().any(|(_, asleep)| *asleep == id);
                prop_assert_eq!(poll(sleep, id, &log, &clock).is_pending(), is_asleep);
            }
        }
    }
}

/// Whoever begins to sleep while time moves has either overslept, which it must learn, or sleeps on from the new time.
#[test]
fn a_sleep_that_begins_while_time_moves_is_not_overlooked() {
    const NAP: Duration = Duration::from_nanos(1);
    for round in 0..3000 {
        let (clock, time) = Clock::simulated();
        let start = std::sync::Barrier::new(2);
        let sleeps = std::thread::scope(|scope| {
            let begun = scope.spawn(|| {
                start.wait();
                (0..200).map(|_| clock.sleep(NAP)).collect::<Vec<_>>()
            });
            start.wait();
            (0..20).for_each(|_| time.advance(NAP));
            begun.join().unwrap()
        });
        for mut sleep in sleeps {
            let is_over = block_on(poll_once(&mut sleep)).is_some();
            assert_eq!(is_over, sleep.until() <= clock.now(), "round {round}");
        }
    }
}
