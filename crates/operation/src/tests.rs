//! Operations with bodies that a test lets on.

use super::*;
use event_listener::Event;
use futures_lite::future::{block_on, poll_once};
use std::sync::atomic::AtomicUsize;

/// What the operations here are.
type Fallible = Operation<Result<(), String>>;

/// A place where a body waits.
#[derive(Clone, Default)]
struct Gate(Arc<(AtomicBool, Event)>);

impl Gate {
    fn open(&self) {
        self.0.0.store(true, Ordering::SeqCst);
        self.0.1.notify(usize::MAX);
    }

    async fn pass(self) -> Result<(), String> {
        loop {
            let listener = self.0.1.listen();
            if self.0.0.load(Ordering::SeqCst) {
                return Ok(());
            }
            listener.await;
        }
    }
}

/// A waker that counts.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll_with(operation: &Arc<Fallible>, count: &Arc<Count>) -> Poll<()> {
    let waker = Waker::from(Arc::clone(count));
    operation.poll(&mut Context::from_waker(&waker))
}

fn gated(earlier: Vec<Arc<Fallible>>) -> (Arc<Fallible>, Gate) {
    let gate = Gate::default();
    let operation = Operation::new(earlier, Box::pin(gate.clone().pass()));
    (operation, gate)
}

#[test]
fn whoever_polls_a_later_operation_finishes_the_earlier_ones() {
    let (first, first_gate) = gated(Vec::new());
    let (second, second_gate) = gated(vec![Arc::clone(&first)]);
    let (third, third_gate) = gated(vec![Arc::clone(&second), Arc::clone(&first)]);
    third_gate.open();
    second_gate.open();
    let mut waiting = Box::pin(third.run());
    assert!(block_on(poll_once(&mut waiting)).is_none());
    assert!(!second.is_done(), "the first one is not done");
    first_gate.open();
    assert_eq!(block_on(waiting), Some(Ok(())));
    assert!(first.is_done() && second.is_done() && third.is_done());
}

#[test]
fn everyone_who_polled_is_woken_though_the_first_one_has_gone() {
    let (operation, gate) = gated(Vec::new());
    let [gone, waiting] = [Arc::new(Count::default()), Arc::new(Count::default())];
    assert!(poll_with(&operation, &gone).is_pending());
    assert!(poll_with(&operation, &waiting).is_pending());
    gate.open();
    assert_eq!(waiting.0.load(Ordering::SeqCst), 1);
    // `gone` was woken as well, and never comes back.
    assert!(poll_with(&operation, &waiting).is_ready());
}

/// Another caller comes while the body is being polled, and a wake-up falls into the same moment: it must not be lost with the
/// first caller (O4).
#[test]
fn a_wake_up_while_the_body_is_busy_reaches_those_who_came_meanwhile() {
    let place: Arc<Mutex<Option<Arc<Fallible>>>> = Arc::default();
    let late = Arc::new(Count::default());
    let mut polls = 0;
    let body = std::future::poll_fn({
        let (place, late) = (Arc::clone(&place), Arc::clone(&late));
        move |cx| {
            polls += 1;
            if polls > 1 {
                return Poll::Ready(Ok(()));
            }
            // The wake-up comes first: `late` has not polled when it is delivered.
            cx.waker().wake_by_ref();
            let operation = place.lock().clone().expect("it was put there");
            assert!(poll_with(&operation, &late).is_pending());
            Poll::Pending
        }
    });
    let operation = Operation::new(Vec::new(), Box::pin(body));
    *place.lock() = Some(Arc::clone(&operation));
    let first = Arc::new(Count::default());
    assert!(poll_with(&operation, &first).is_pending());
    assert_eq!(late.0.load(Ordering::SeqCst), 1);
    assert!(poll_with(&operation, &late).is_ready());
}

#[test]
fn a_long_chain_that_nobody_polled_is_no_deep_recursion() {
    const COUNT: usize = 100_000;
    let mut last = Operation::new(
        Vec::new(),
        Box::pin(std::future::ready(Ok::<(), String>(()))),
    );
    let first = Arc::clone(&last);
    for _ in 0..COUNT {
        last = Operation::new(
            vec![last],
            Box::pin(std::future::ready(Ok::<(), String>(()))),
        );
    }
    assert_eq!(block_on(last.run()), Some(Ok(())));
    assert!(first.is_done());
}

#[test]
fn a_panic_in_one_caller_leaves_no_result_for_the_one_who_began_it_and_holds_up_nobody() {
    let body = std::future::poll_fn(|_| -> Poll<Result<(), String>> { panic!("a bug") });
    let operation = Operation::new(Vec::new(), Box::pin(body));
    let other = Arc::clone(&operation);
    let panicked = std::thread::spawn(move || block_on(other.finish())).join();
    panicked.unwrap_err();
    assert_eq!(block_on(operation.run()), None);
}

#[test]
fn two_threads_that_wait_for_one_operation_both_go_on() {
    for _ in 0..200 {
        let mut polls = 0;
        let body = std::future::poll_fn(move |cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            match polls < 50 {
                true => Poll::<Result<(), String>>::Pending,
                false => Poll::Ready(Ok(())),
            }
        });
        let operation = Operation::new(Vec::new(), Box::pin(body));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| block_on(operation.finish()));
            }
        });
        assert!(operation.is_done());
    }
}
