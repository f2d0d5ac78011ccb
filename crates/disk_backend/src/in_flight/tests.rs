use super::*;
use futures_lite::future::{block_on, poll_once};
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicBool;
use std::thread;

fn is_over(drain: Pin<&mut impl Future<Output = ()>>) -> bool {
    block_on(poll_once(drain)).is_some()
}

#[test]
fn a_drain_with_nothing_in_flight_is_over_at_once() {
    let in_flight = InFlight::new();
    for _ in 0..10 {
        assert!(is_over(pin!(in_flight.drain())));
    }
}

#[test]
fn a_drain_waits_for_what_began_before_it() {
    // Any number of drains before: the operation may be of any epoch.
    for drains_before in 0..2 * EPOCHS {
        let in_flight = InFlight::new();
        for _ in 0..drains_before {
            block_on(in_flight.drain());
        }
        let first = in_flight.begin();
        let second = in_flight.begin();
        let mut drain = pin!(in_flight.drain());
        assert!(!is_over(drain.as_mut()));
        drop(first);
        assert!(!is_over(drain.as_mut()));
        drop(second);
        assert!(is_over(drain.as_mut()));
        assert_eq!(in_flight.count_now(), 0);
    }
}

#[test]
fn a_drain_does_not_wait_for_what_begins_after_it() {
    let in_flight = InFlight::new();
    for round in 0..3 * EPOCHS {
        let before = in_flight.begin();
        let mut drain = pin!(in_flight.drain());
        assert!(!is_over(drain.as_mut()));
        let after = in_flight.begin();
        drop(before);
        assert!(is_over(drain.as_mut()), "round {round}");
        assert_eq!(in_flight.count_now(), 1);
        drop(after);
    }
}

#[test]
fn drains_that_wait_for_one_thing_are_over_together_however_many() {
    let in_flight = InFlight::new();
    let operation = in_flight.begin();
    let mut drains: Vec<_> = (0..3 * EPOCHS)
        .map(|_| Box::pin(in_flight.drain()))
        .collect();
    assert!(!drains.iter_mut().any(|drain| is_over(drain.as_mut())));
    drop(operation);
    assert!(drains.iter_mut().all(|drain| is_over(drain.as_mut())));
}

#[test]
fn nothing_is_counted_under_an_epoch_that_is_over() {
    let in_flight = InFlight::new();
    let seen_long_ago = in_flight.epoch.load(SeqCst);
    let (_, counter) = in_flight.count_in(seen_long_ago).expect("it is now");
    in_flight.uncount(counter);
    block_on(in_flight.drain());
    // Would it be counted there, a later drain might take it for something that began after it.
    assert!(in_flight.count_in(seen_long_ago).is_none());
    assert_eq!(in_flight.count_now(), 0);
}

#[test]
fn drains_do_not_depend_on_each_other() {
    let in_flight = InFlight::new();
    let operation = in_flight.begin();
    let mut first = pin!(in_flight.drain());
    let mut never_polled_again = pin!(in_flight.drain());
    assert!(!is_over(first.as_mut()));
    assert!(!is_over(never_polled_again.as_mut()));
    let later = in_flight.begin();
    let mut second = pin!(in_flight.drain());
    assert!(!is_over(second.as_mut()));
    drop(operation);
    assert!(is_over(first.as_mut()));
    assert!(!is_over(second.as_mut()));
    drop(later);
    assert!(is_over(second.as_mut()));
}

#[test]
fn a_dropped_drain_leaves_nothing_behind() {
    let in_flight = InFlight::new();
    let operation = in_flight.begin();
    assert!(!is_over(pin!(in_flight.drain())));
    assert_eq!(in_flight.drains.load(SeqCst), 0);
    drop(operation);
    assert!(is_over(pin!(in_flight.drain())));
}

#[test]
fn an_operation_that_was_forgotten_is_waited_for() {
    let in_flight = InFlight::new();
    std::mem::forget(in_flight.begin());
    assert!(!is_over(pin!(in_flight.drain())));
}

#[test]
fn a_drain_that_sleeps_is_woken_by_an_end_on_another_thread() {
    let in_flight = Arc::new(InFlight::new());
    for _ in 0..200 {
        let operation = in_flight.begin_owned();
        let (go, gone) = std::sync::mpsc::channel();
        let ender = thread::spawn(move || {
            gone.recv().unwrap();
            drop(operation);
        });
        go.send(()).unwrap();
        block_on(in_flight.drain());
        ender.join().unwrap();
    }
}

/// Threads begin and end operations without pause while others drain, over and over. What a drainer knew to have begun is seen
/// to have ended when its drain is over.
#[test]
fn under_load_no_drain_returns_too_early_or_never() {
    const WORKERS: usize = 3;
    const DRAINS: usize = 300;
    let in_flight = InFlight::new();
    let is_done = AtomicBool::new(false);
    let began: [AtomicUsize; WORKERS] = Default::default();
    let ended: [AtomicUsize; WORKERS] = Default::default();
    thread::scope(|scope| {
        for (began, ended) in began.iter().zip(&ended) {
            let (in_flight, is_done) = (&in_flight, &is_done);
            scope.spawn(move || {
                while !is_done.load(Relaxed) {
                    let operation = in_flight.begin();
                    began.fetch_add(1, SeqCst);
                    thread::yield_now();
                    // Relaxed: that the drain sees it is for the drain to ensure.
                    ended.fetch_add(1, Relaxed);
                    drop(operation);
                }
            });
        }
        let drainers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..DRAINS {
                        let before: Vec<_> = began.iter().map(|one| one.load(SeqCst)).collect();
                        block_on(in_flight.drain());
                        for (before, ended) in before.iter().zip(&ended) {
                            assert!(ended.load(Relaxed) >= *before);
                        }
                    }
                })
            })
            .collect();
        let outcomes: Vec<_> = drainers.into_iter().map(|one| one.join()).collect();
        is_done.store(true, Relaxed);
        outcomes.into_iter().for_each(|outcome| outcome.unwrap());
    });
    assert_eq!(in_flight.count_now(), 0);
}
