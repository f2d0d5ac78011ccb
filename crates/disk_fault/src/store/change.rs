//! Requests that change sectors below directly, beside the writes of pieces.

use super::{State, Store};
use std::ops::Range;

/// A request that changes sectors below, until this is dropped (S4).
pub(super) struct Change<'a> {
    store: &'a Store,
    sectors: Range<u64>,
}

impl<'a> Change<'a> {
    pub(super) fn new(store: &'a Store, sectors: Range<u64>) -> Self {
        Self { store, sectors }
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        if !self.store.is_idle() {
            self.store.state.lock().renew(&self.sectors);
        }
    }
}

impl State {
    /// What is being written of these sectors does not count any more.
    fn renew(&mut self, sectors: &Range<u64>) {
        let numbers_used = &mut self.numbers_used;
        self.pieces.renew(sectors, || {
            *numbers_used += 1;
            *numbers_used
        });
        if !sectors.is_empty() {
            let disturbed = self.under_way.iter();
            for writing in disturbed.filter(|writing| writing.overlaps(sectors)) {
                writing.disturbed.lock().insert(sectors.clone());
            }
        }
    }
}
