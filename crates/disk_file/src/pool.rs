//! Work that may block runs on the threads of the `blocking` pool, and goes on there whatever becomes of whoever waits for it.

use async_task::{Runnable, Task};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    static IS_OF_POOL: Cell<bool> = const { Cell::new(false) };
}

/// Whether this is a thread of the pool, which is in the kernel for long at times.
pub(crate) fn is_this_thread() -> bool {
    IS_OF_POOL.try_with(Cell::get).unwrap_or(false)
}

fn schedule(runnable: Runnable) {
    let run = move || {
        IS_OF_POOL.set(true); // And stays so.
        runnable.run()
    };
    blocking::unblock(run).detach();
}

/// Runs `work` on a pool thread.
///
/// If the task is dropped, work that has begun is completed, and work that has not is not begun.
pub(crate) fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Task<T> {
    let (runnable, task) = async_task::spawn(async move { work() }, schedule);
    runnable.schedule();
    task
}

/// Runs a task that waits now and then and blocks now and then. While it waits it holds no thread.
///
/// Its first step is taken here and now, so that it stands in whatever queue it waits in before this returns; the rest, from
/// the first [`Stage::enter_pool`] on, happens on pool threads. Dropping the task ends it where it next waits.
pub(crate) fn spawn_staged<T, F>(work: impl FnOnce(Stage) -> F) -> Task<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let (runnable, task) = async_task::spawn(
        work(Stage {
            is_in_pool: AtomicBool::new(false),
        }),
        schedule,
    );
    runnable.run();
    task
}

/// Runs a task on whatever thread it is woken by, so it must never block. Its first step is taken here and now.
///
/// Dropping the task ends it where it waits.
pub(crate) fn spawn_here<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Task<T> {
    let (runnable, task) = async_task::spawn(work, run_here);
    runnable.run();
    task
}

/// Runs it now, or, if this thread is running such a task already, right after that: a long row of tasks, each of which lets
/// the next go on, would not find room on the stack.
fn run_here(runnable: Runnable) {
    thread_local! {
        static NEXT: RefCell<Option<VecDeque<Runnable>>> = const { RefCell::new(None) };
    }
    struct Idle;
    impl Drop for Idle {
        fn drop(&mut self) {
            // Empty, unless a task has panicked; the others are woken again then, by nobody. A task of ours does not panic.
            NEXT.take();
        }
    }
    let is_running = NEXT.with_borrow_mut(|next| match next {
        Some(next) => {
            next.push_back(runnable);
            None
        }
        None => {
            *next = Some(VecDeque::new());
            Some(runnable)
        }
    });
    let Some(first) = is_running else {
        return;
    };
    let _idle = Idle;
    let mut runnable = Some(first);
    while let Some(now) = runnable {
        now.run();
        runnable = NEXT.with_borrow_mut(|next| next.as_mut()?.pop_front());
    }
}

/// Where a staged task is.
#[derive(Debug)]
pub(crate) struct Stage {
    is_in_pool: AtomicBool,
}

impl Stage {
    /// Returns on a pool thread, where blocking is allowed.
    pub(crate) async fn enter_pool(&self) {
        if !self.is_in_pool.swap(true, Ordering::Relaxed) {
            futures_lite::future::yield_now().await;
        }
    }
}
