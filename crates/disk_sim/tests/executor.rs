//! The executor: one seed, one run.

use disk_sim::{Ending, Fate, Fated, Graveyard, Sim, Step};
use futures_lite::future::yield_now;
use std::cell::RefCell;
use std::future::pending;
use std::time::{Duration, Instant};

/// In which order ten tasks of three steps each go on.
fn order(seed: u64) -> Vec<u32> {
    let order = RefCell::new(Vec::new());
    let mut sim = Sim::new(seed);
    for task in 0..10 {
        let (order, clock) = (&order, sim.clock());
        sim.spawn("counts", async move {
            for _ in 0..3 {
                order.borrow_mut().push(task);
                yield_now().await;
                clock.sleep(Duration::from_secs(u64::from(task % 2))).await;
            }
        });
    }
    sim.run().expect("all go on");
    drop(sim);
    order.into_inner()
}

#[test]
fn the_seed_decides_who_goes_on() {
    assert_eq!(order(7), order(7));
    assert_ne!(order(7), order(8));
    assert_eq!(order(7).len(), 30);
}

#[test]
fn hours_take_no_time() {
    let began = Instant::now();
    let mut sim = Sim::new(1);
    let clock = sim.clock();
    let day = Duration::from_secs(24 * 3600);
    sim.block_on(async move { clock.sleep(day).await })
        .expect("time passes");
    assert_eq!(sim.clock().now().since_origin(), day);
    // Far below a day, far above what any machine needs.
    assert!(began.elapsed() < Duration::from_secs(3600));
}

#[test]
fn who_waits_for_ever_is_named() {
    let mut sim = Sim::new(1);
    sim.spawn("the patient one", pending());
    sim.spawn("the quick one", async {});
    let stuck = sim.run().expect_err("one never ends");
    assert_eq!(stuck.tasks, ["the patient one"]);
}

#[test]
fn a_run_stops_at_any_step() {
    let reached = RefCell::new(0);
    let mut sim = Sim::new(1);
    sim.spawn("endless", async {
        loop {
            *reached.borrow_mut() += 1;
            yield_now().await;
        }
    });
    for _ in 0..5 {
        assert!(matches!(sim.step(), Ok(Step::Polled(_))));
    }
    drop(sim);
    assert_eq!(reached.into_inner(), 5);
}

#[test]
fn futures_meet_their_fate() {
    struct SeesItsEnd<'a>(&'a RefCell<Vec<&'static str>>, &'static str);
    impl Drop for SeesItsEnd<'_> {
        fn drop(&mut self) {
            self.0.borrow_mut().push(self.1);
        }
    }
    let ends = RefCell::new(Vec::new());
    let mut sim = Sim::new(1);
    let graveyard = Graveyard::default();
    let work = |name| {
        let guard = SeesItsEnd(&ends, name);
        async move {
            let _guard = guard;
            yield_now().await;
            yield_now().await;
        }
    };
    let fates = [
        ("whole", Fate::Completes, Ending::Completed(())),
        ("early", Fate::DroppedAfter(0), Ending::Dropped),
        ("midway", Fate::DroppedAfter(2), Ending::Dropped),
        ("late", Fate::DroppedAfter(3), Ending::Completed(())),
        ("lost", Fate::ForgottenAfter(1), Ending::Forgotten),
    ];
    for (name, fate, expected) in fates {
        let fated = Fated::new(work(name), fate, &graveyard);
        assert_eq!(sim.block_on(fated), Ok(expected), "{name}");
    }
    assert_eq!(*ends.borrow(), ["whole", "early", "midway", "late"]);
    assert_eq!(graveyard.count(), 1);
    drop(graveyard);
    assert_eq!(ends.borrow().last(), Some(&"lost"), "the run leaks nothing");
}
