//! Real time. Nothing here depends on how fast the machine is: a sleep may last longer, never shorter.

use clock::{Clock, Moment};
use futures_lite::future::{block_on, or, poll_once};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(5);

#[test]
fn a_sleep_lasts_at_least_its_time() {
    let clock = Clock::real();
    for _ in 0..10 {
        let (began, began_here) = (Instant::now(), clock.now());
        block_on(clock.sleep(SHORT));
        assert!(began.elapsed() >= SHORT);
        assert!(clock.now().since(began_here) >= SHORT);
    }
}

#[test]
fn all_real_clocks_tell_the_same_time() {
    let first = Clock::real().now();
    let second = Clock::default().now();
    assert!(first <= second && second <= Clock::real().clone().now());
}

#[test]
fn a_shorter_sleep_that_begins_later_is_over_earlier() {
    let clock = Clock::real();
    let mut never = clock.sleep_until(Moment::NEVER);
    let mut hour = clock.sleep(Duration::from_secs(3600));
    assert!(block_on(poll_once(&mut hour)).is_none());
    // The thread waits for the hour by now, or is about to.
    block_on(clock.sleep(SHORT));
    assert!(block_on(poll_once(&mut hour)).is_none());
    assert!(block_on(poll_once(&mut never)).is_none());
}

#[test]
fn threads_may_sleep_together() {
    std::thread::scope(|scope| {
        for thread in 1..=8_u32 {
            scope.spawn(move || {
                let clock = Clock::real();
                for round in 0..20_u32 {
                    let wanted = SHORT / 5 * ((thread + round) % 4);
                    let began = Instant::now();
                    // One that goes before its time has come, each round.
                    let dropped = clock.sleep(Duration::from_secs(3600));
                    block_on(or(clock.sleep(wanted), dropped));
                    assert!(began.elapsed() >= wanted);
                }
            });
        }
    });
}
