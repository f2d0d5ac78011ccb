//! Work that may block runs on the threads of the `blocking` pool, and goes on there whatever becomes of whoever waits for it.

use async_task::{Runnable, Task};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

fn schedule(runnable: Runnable) {
    blocking::unblock(move || runnable.run()).detach();
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

/// Waits for `task`, which ends early if nobody waits for it any more, unless it `must_end` of itself.
pub(crate) async fn wait_for<T>(task: Task<T>, must_end: bool) -> T {
    struct LetGo<T>(Option<Task<T>>);
    impl<T> Drop for LetGo<T> {
        fn drop(&mut self) {
            if let Some(task) = self.0.take() {
                task.detach();
            }
        }
    }
    if !must_end {
        return task.await;
    }
    let mut task = LetGo(Some(task));
    task.0.as_mut().expect("it was just put there").await
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
