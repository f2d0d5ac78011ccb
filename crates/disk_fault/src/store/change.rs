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
            let State {
                pieces,
                numbers_used,
                ..
            } = &mut *self.store.state.lock();
            pieces.renew(&self.sectors, || {
                *numbers_used += 1;
                *numbers_used
            });
        }
    }
}
