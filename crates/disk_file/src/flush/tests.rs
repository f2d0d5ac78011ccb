//! The flusher over an `fdatasync` that the test holds in its hands.

use super::*;
use futures_lite::future::{block_on, poll_once};
use std::pin::pin;
use std::sync::Weak;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Wake, Waker};

/// The other end of an `fdatasync` that begins and ends when the test says so.
struct Strings {
    flusher: Arc<Flusher>,
    begun: Receiver<()>,
    end_with: Sender<io::Result<()>>,
}

fn on_strings() -> Strings {
    let (begin, begun) = channel();
    let (end_with, end) = channel::<io::Result<()>>();
    let end = Mutex::new(end);
    let flusher = Flusher::new(SyncPlace::InPool, move |_| {
        begin.send(()).expect("the test listens");
        end.lock().recv().expect("the test answers")
    });
    Strings {
        flusher,
        begun,
        end_with,
    }
}

fn io_failure() -> io::Error {
    io::Error::other("the medium is gone")
}

#[test]
fn a_flush_does_not_ride_on_one_that_is_running() {
    let s = on_strings();
    block_on(async {
        let mut first = pin!(s.flusher.flush());
        assert!(poll_once(&mut first).await.is_none());
        s.begun.recv().expect("the first sync begins");
        s.flusher.note_change();
        let mut second = pin!(s.flusher.flush());
        assert!(poll_once(&mut second).await.is_none());
        s.end_with.send(Ok(())).expect("it runs");
        first.await.expect("the first sync was good");
        s.begun.recv().expect("a second sync begins");
        assert!(
            poll_once(&mut second).await.is_none(),
            "its own sync still runs"
        );
        s.end_with.send(Ok(())).expect("it runs");
        second.await.expect("the second sync was good");
    });
    assert_eq!(s.flusher.syncs(), 2);
}

#[test]
fn a_drain_waits_for_the_syncs_of_dropped_flushes() {
    let s = on_strings();
    block_on(async {
        assert!(poll_once(pin!(s.flusher.flush())).await.is_none());
        s.begun.recv().expect("it begins");
        let mut drain = pin!(s.flusher.drain());
        assert!(poll_once(&mut drain).await.is_none());
        s.end_with.send(Ok(())).expect("it runs");
        drain.await;
    });
}

#[test]
fn the_file_is_let_go_before_anybody_is_answered() {
    struct Look {
        sync: Weak<Sync>,
        holder_count_at_wake: Mutex<Option<usize>>,
    }
    impl Wake for Look {
        fn wake(self: Arc<Self>) {
            let count = self.sync.strong_count();
            self.holder_count_at_wake.lock().get_or_insert(count);
        }
    }
    let s = on_strings();
    let look = Arc::new(Look {
        sync: Arc::downgrade(&s.flusher.sync),
        holder_count_at_wake: Mutex::default(),
    });
    let waker = Waker::from(Arc::clone(&look));
    let mut flush = pin!(s.flusher.flush());
    let first = flush.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(first.is_pending());
    s.begun.recv().expect("it begins");
    assert_eq!(look.sync.strong_count(), 2, "the flusher's, and the pool's");
    s.end_with.send(Ok(())).expect("it runs");
    block_on(s.flusher.drain());
    assert_eq!(*look.holder_count_at_wake.lock(), Some(1));
}

#[test]
fn flushes_that_wait_share_the_next_sync() {
    let s = on_strings();
    block_on(async {
        let mut first = pin!(s.flusher.flush());
        assert!(poll_once(&mut first).await.is_none());
        s.begun.recv().expect("the first sync begins");
        let mut crowd: Vec<_> = (0..10).map(|_| Box::pin(s.flusher.flush())).collect();
        for one in &mut crowd {
            assert!(poll_once(one).await.is_none());
        }
        s.end_with.send(Ok(())).expect("it runs");
        s.end_with.send(Ok(())).expect("it runs");
        first.await.expect("good");
        for one in crowd {
            one.await.expect("good");
        }
    });
    assert_eq!(s.flusher.syncs(), 2);
}

#[test]
fn nothing_new_means_no_sync_but_the_first_flush_always_syncs() {
    let s = on_strings();
    for _ in 0..3 {
        s.end_with.send(Ok(())).expect("queued");
    }
    block_on(s.flusher.flush()).expect("good");
    assert_eq!(
        s.flusher.syncs(),
        1,
        "the file may have been changed before it was opened"
    );
    block_on(s.flusher.flush()).expect("good");
    assert_eq!(s.flusher.syncs(), 1);
    s.flusher.note_change();
    block_on(s.flusher.flush()).expect("good");
    assert_eq!(s.flusher.syncs(), 2);
}

#[test]
fn a_change_during_a_sync_is_not_taken_for_durable() {
    let s = on_strings();
    s.flusher.note_change();
    block_on(async {
        let mut first = pin!(s.flusher.flush());
        assert!(poll_once(&mut first).await.is_none());
        s.begun.recv().expect("the first sync begins");
        s.flusher.note_change();
        s.end_with.send(Ok(())).expect("it runs");
        first.await.expect("good");
    });
    s.end_with.send(Ok(())).expect("queued");
    block_on(s.flusher.flush()).expect("good");
    assert_eq!(s.flusher.syncs(), 2);
}

#[test]
fn after_a_failure_nothing_succeeds_and_nothing_is_synced() {
    let s = on_strings();
    block_on(async {
        let mut first = pin!(s.flusher.flush());
        assert!(poll_once(&mut first).await.is_none());
        s.begun.recv().expect("the first sync begins");
        let mut waiting = pin!(s.flusher.flush());
        assert!(poll_once(&mut waiting).await.is_none());
        s.end_with.send(Err(io_failure())).expect("it runs");
        let error = first.await.expect_err("the sync failed").to_string();
        assert!(
            error.contains("the medium is gone") && error.contains("reopen"),
            "{error}"
        );
        waiting.await.expect_err("its own sync could only lie");
        s.flusher.note_change();
        s.flusher.flush().await.expect_err("no more flushes");
    });
    s.flusher.check().expect_err("no more writes");
    assert_eq!(s.flusher.syncs(), 1);
}

#[test]
fn a_flush_whose_future_is_dropped_holds_nobody_up() {
    let s = on_strings();
    block_on(async {
        {
            let mut first = pin!(s.flusher.flush());
            assert!(poll_once(&mut first).await.is_none());
        }
        s.begun.recv().expect("it goes on without its future");
        let mut second = pin!(s.flusher.flush());
        assert!(poll_once(&mut second).await.is_none());
        s.end_with.send(Ok(())).expect("it runs");
        s.end_with.send(Ok(())).expect("it runs");
        second.await.expect("good");
    });
}

#[test]
fn a_sync_that_does_not_wait_is_done_at_the_first_poll() {
    let outcomes = Mutex::new(vec![Err(io_failure()), Ok(())]);
    let flusher = Flusher::new(SyncPlace::AtOnce, move |_| {
        outcomes.lock().pop().expect("two calls")
    });
    let flush_now = || block_on(poll_once(flusher.flush())).expect("at once");
    flush_now().expect("good");
    flusher.note_change();
    flush_now().expect_err("bad");
    flush_now().expect_err("and stays so");
    assert_eq!(flusher.syncs(), 2);
}

#[test]
fn the_time_is_synced_with_the_first_change_and_at_the_end() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let flusher = Flusher::new(SyncPlace::AtOnce, {
        let calls = Arc::clone(&calls);
        move |reach| {
            calls.lock().push(reach);
            Ok(())
        }
    });
    let flush = || block_on(flusher.flush()).expect("good");
    let close = || block_on(flusher.flush_for_good()).expect("good");
    let called = || std::mem::take(&mut *calls.lock());
    // Somebody may have changed the file before; but that one has not reached what is changed from now on.
    flush();
    assert_eq!(called(), [Reach::DataAndTime]);
    flusher.note_change();
    flush();
    assert_eq!(called(), [Reach::DataAndTime]);
    close();
    assert_eq!(called(), [], "that was the last change");
    for _ in 0..2 {
        flusher.note_change();
        flush();
        assert_eq!(called(), [Reach::Data]);
    }
    close();
    assert_eq!(called(), [Reach::DataAndTime]);
    close();
    assert_eq!(called(), []);
}

#[test]
fn whoever_closes_beside_a_flush_has_the_time_synced() {
    let (begin, begun) = channel();
    let (end_with, end) = channel::<()>();
    let end = Mutex::new(end);
    let flusher = Flusher::new(SyncPlace::InPool, move |reach| {
        begin.send(reach).expect("the test listens");
        end.lock().recv().expect("the test answers");
        Ok(())
    });
    block_on(async {
        for round in 0..2 {
            flusher.note_change();
            let mut first = pin!(flusher.flush());
            assert!(poll_once(&mut first).await.is_none());
            let reach = begun.recv().expect("it begins");
            let is_first = round == 0;
            assert_eq!(reach == Reach::DataAndTime, is_first);
            flusher.note_change();
            // In either order, they share the next.
            let mut flush = pin!(flusher.flush());
            let mut close = pin!(flusher.flush_for_good());
            if is_first {
                assert!(poll_once(&mut close).await.is_none());
                assert!(poll_once(&mut flush).await.is_none());
            } else {
                assert!(poll_once(&mut flush).await.is_none());
                assert!(poll_once(&mut close).await.is_none());
            }
            end_with.send(()).expect("it runs");
            end_with.send(()).expect("it runs");
            first.await.expect("good");
            assert_eq!(begun.recv().expect("it begins"), Reach::DataAndTime);
            flush.await.expect("good");
            close.await.expect("good");
        }
    });
    assert_eq!(flusher.syncs(), 4);
}
