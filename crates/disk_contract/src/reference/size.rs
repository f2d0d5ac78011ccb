//! Waiting for another size.

use event_listener::Event;

/// Tells those who wait that the size changed.
#[derive(Debug, Default)]
pub(super) struct Resized(Event);

impl Resized {
    pub(super) fn notify(&self) {
        self.0.notify(usize::MAX);
    }

    /// Completes once `size()` is not `sector_count`.
    pub(super) async fn wait(&self, sector_count: u64, size: impl Fn() -> u64) -> u64 {
        loop {
            // Listens first: a change after the look is not missed.
            let listener = self.0.listen();
            let now = size();
            if now != sector_count {
                return now;
            }
            listener.await;
        }
    }
}
