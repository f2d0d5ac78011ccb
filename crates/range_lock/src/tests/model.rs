//! Random sequences of requests, polls, cancellations and releases, against a lock that is one list.

use super::invariants::{check_invariants, entry_count_and_capacity};
use super::{CountingWaker, poll};
use crate::{Acquire, RangeGuard, RangeLock};
use proptest::prelude::*;
use std::ops::Range;
use std::sync::Arc;

#[derive(Clone, Debug)]
enum Step {
    Request {
        range: Range<u64>,
        is_write: bool,
    },
    Try {
        range: Range<u64>,
        is_write: bool,
    },
    /// Drops the nth live request, waiting or held, counted round.
    Drop(usize),
    /// Polls the nth live request again, counted round.
    Poll(usize),
}

/// One live request: in the order of arrival, this is all that the naive lock needs to know.
struct Live<'a> {
    range: Range<u64>,
    is_write: bool,
    waker: Arc<CountingWaker>,
    acquire: Option<Acquire<'a>>,
    guard: Option<RangeGuard>,
}

impl Live<'_> {
    fn conflicts(&self, range: &Range<u64>, is_write: bool) -> bool {
        let overlap = self.range.start.max(range.start) < self.range.end.min(range.end);
        overlap && (self.is_write || is_write)
    }
}

/// The whole rule: a request is held once nothing before it conflicts with it.
fn model_holds(live: &[Live<'_>], index: usize) -> bool {
    let this = &live[index];
    !live[..index]
        .iter()
        .any(|earlier| earlier.conflicts(&this.range, this.is_write))
}

fn ranges() -> impl Strategy<Value = Range<u64>> {
    // With stripes of 4: inside one, over a few, round the end of the shards, over all of them, at the top, empty, reversed.
    prop_oneof![
        (0..16u64, 0..6u64).prop_map(|(start, len)| start..start + len),
        (0..300u64, 0..40u64).prop_map(|(start, len)| start..start + len),
        (0..300u64, 100..400u64).prop_map(|(start, len)| start..start + len),
        (0..9u64, 0..9u64).prop_map(|(back, cut)| u64::MAX - back..u64::MAX - cut),
        Just(0..u64::MAX),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (ranges(), any::<bool>()).prop_map(|(range, is_write)| Step::Request { range, is_write }),
        1 => (ranges(), any::<bool>()).prop_map(|(range, is_write)| Step::Try { range, is_write }),
        4 => any::<usize>().prop_map(Step::Drop),
        1 => any::<usize>().prop_map(Step::Poll),
    ]
}

fn request(lock: &RangeLock, range: Range<u64>, is_write: bool) -> Acquire<'_> {
    if is_write {
        lock.write(range)
    } else {
        lock.read(range)
    }
}

/// Requests that the model holds and the lock has not handed over yet must have been woken, and must get it when polled.
fn settle(live: &mut [Live<'_>]) {
    for index in 0..live.len() {
        let held = model_holds(live, index);
        let this = &mut live[index];
        let Some(acquire) = &mut this.acquire else {
            assert!(
                held,
                "{:?} was handed over and is not the model's to hold",
                this.range
            );
            continue;
        };
        assert_eq!(
            this.waker.wakes(),
            usize::from(held),
            "wake-ups of {:?}",
            this.range
        );
        if held {
            this.guard = Some(poll(acquire, &this.waker).expect("the model holds it"));
            this.acquire = None;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_lock_agrees_with_one_list(steps in prop::collection::vec(steps(), 1..60)) {
        let lock = RangeLock::with_stripe_len(4);
        let mut live: Vec<Live<'_>> = Vec::new();
        for step in steps {
            match step {
                Step::Request { range, is_write } => {
                    let waker = Arc::default();
                    let mut acquire = request(&lock, range.clone(), is_write);
                    let guard = poll(&mut acquire, &waker);
                    let acquire = guard.is_none().then_some(acquire);
                    live.push(Live { range, is_write, waker, acquire, guard });
                    let last = live.len() - 1;
                    prop_assert_eq!(live[last].guard.is_some(), model_holds(&live, last));
                }
                Step::Try { range, is_write } => {
                    let guard = if is_write { lock.try_write(range.clone()) } else { lock.try_read(range.clone()) };
                    let free = !live.iter().any(|other| other.conflicts(&range, is_write));
                    prop_assert_eq!(guard.is_some(), free);
                    if guard.is_some() {
                        live.push(Live { range, is_write, waker: Arc::default(), acquire: None, guard });
                    }
                }
                Step::Drop(nth) if !live.is_empty() => {
                    let gone = live.remove(nth % live.len());
                    drop((gone.acquire, gone.guard));
                }
                Step::Poll(nth) if !live.is_empty() => {
                    let index = nth % live.len();
                    let this = &mut live[index];
                    if let Some(acquire) = &mut this.acquire {
                        prop_assert!(poll(acquire, &this.waker).is_none(), "settled before: it still waits");
                    }
                }
                Step::Drop(_) | Step::Poll(_) => {}
            }
            check_invariants(&lock);
            settle(&mut live);
        }
        drop(live);
        prop_assert_eq!(entry_count_and_capacity(&lock).0, 0);
    }
}
