//! How much may be in flight at once, and who gets in.
//!
//! - R1: what is in flight is counted until it is answered, whatever became of whoever waited for it.
//! - R2: who found no room holds nothing: it is woken, with all others, when half of the room is free, and tries again. So nobody is
//!   held up by a future that is no longer polled.
//! - R3: between those two moments newcomers find no room either, so they do not overtake for ever.

use super::Shared;
use disk_backend::DiskError;
use disk_backend::in_flight::OwnedCounted;
use std::sync::Arc;

/// The most requests in flight.
pub(crate) const REQUESTS_MAX: usize = 128;

/// The most bytes of data in flight.
pub(crate) const BYTES_MAX: usize = 32 << 20;

/// What is in flight.
#[derive(Debug, Default, inspect::Inspect)]
pub(super) struct Room {
    requests: usize,
    bytes: usize,
    /// Somebody found no room, and waits for half of it (R2, R3).
    is_crowded: bool,
}

impl Room {
    /// Whether there is room for one more request with so many bytes of data; if so it is taken.
    pub(super) fn enter(&mut self, bytes: usize) -> bool {
        assert!(bytes <= BYTES_MAX / 2, "a request fits when half is free");
        let is_full = self.requests == REQUESTS_MAX || self.bytes + bytes > BYTES_MAX;
        if self.is_crowded || is_full {
            self.is_crowded = true;
            return false;
        }
        self.requests += 1;
        self.bytes += bytes;
        true
    }

    /// Makes room; returns whether those who wait are to be woken.
    pub(super) fn leave(&mut self, bytes: usize) -> bool {
        self.requests -= 1;
        self.bytes -= bytes;
        let is_half_free = self.requests <= REQUESTS_MAX / 2 && self.bytes <= BYTES_MAX / 2;
        is_half_free && std::mem::take(&mut self.is_crowded)
    }

    pub(super) fn requests(&self) -> usize {
        self.requests
    }
}

/// A request's place among those in flight, given up when dropped.
pub(crate) struct Admission {
    shared: Arc<Shared>,
    bytes: usize,
    /// Told last that it has ended.
    _counted: OwnedCounted,
}

impl Admission {
    /// For a request that [`Room::enter`] let in.
    pub(super) fn new(shared: Arc<Shared>, bytes: usize) -> Self {
        Self {
            _counted: shared.in_flight.begin_owned(),
            shared,
            bytes,
        }
    }

    /// What to tell whoever waits for a request that will never be answered.
    pub(super) fn lost(&self) -> DiskError {
        self.shared.lost()
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let must_wake = self.shared.state.lock().room.leave(self.bytes);
        if must_wake {
            self.shared.has_room.notify(usize::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_no_room_is_woken_when_half_is_free() {
        let mut room = Room::default();
        for _ in 0..REQUESTS_MAX {
            assert!(room.enter(1));
        }
        assert!(!room.enter(1));
        for left in (0..REQUESTS_MAX).rev() {
            assert_eq!(room.leave(1), left == REQUESTS_MAX / 2, "{left} left");
        }
    }

    #[test]
    fn newcomers_do_not_overtake_those_who_wait() {
        let mut room = Room::default();
        let piece = BYTES_MAX / 8;
        for _ in 0..8 {
            assert!(room.enter(piece));
        }
        assert!(!room.enter(piece));
        for _ in 0..3 {
            assert!(!room.leave(piece));
            assert!(!room.enter(0));
        }
        assert!(room.leave(piece));
        assert!(room.enter(BYTES_MAX / 2));
        assert!(!room.enter(1));
    }

    #[test]
    fn nobody_is_woken_where_nobody_waits() {
        let mut room = Room::default();
        assert!(room.enter(5) && room.enter(6));
        assert!(!room.leave(5) && !room.leave(6));
        assert_eq!((room.requests, room.bytes), (0, 0));
    }
}
