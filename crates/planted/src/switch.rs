//! Which bug acts in this thread.

use crate::Bug;
use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    static ACTIVE: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Whether the stack shall make this mistake, here and now.
#[must_use]
pub fn is_active(bug: Bug) -> bool {
    ACTIVE.get() == Some(bug)
}

/// Lets the stack make this mistake, in this thread, until the guard is dropped.
///
/// # Panics
/// If a bug is planted in this thread already.
#[must_use = "the bug goes with its guard"]
pub fn plant(bug: Bug) -> Planted {
    if let Some(other) = ACTIVE.get() {
        panic!("cannot plant {bug} beside {other}: drop the guard of that one first");
    }
    ACTIVE.set(Some(bug));
    Planted(PhantomData)
}

/// A bug is planted. Dropping this takes it out.
#[derive(Debug)]
pub struct Planted(
    /// Stays in the thread whose bug it is.
    PhantomData<*const ()>,
);

impl Drop for Planted {
    fn drop(&mut self) {
        ACTIVE.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_acts_alone_and_until_its_guard_is_dropped() {
        for bug in Bug::ALL {
            let planted = plant(*bug);
            let active: Vec<_> = Bug::ALL.iter().filter(|bug| is_active(**bug)).collect();
            assert_eq!(active, [bug]);
            drop(planted);
            assert!(!is_active(*bug));
        }
    }

    #[test]
    fn another_thread_has_no_bug() {
        let _planted = plant(Bug::TornSector);
        let elsewhere = std::thread::spawn(|| is_active(Bug::TornSector));
        assert!(!elsewhere.join().unwrap());
    }

    #[test]
    fn a_second_bug_is_refused_and_a_panic_takes_the_first_one_out() {
        let attempt = std::panic::catch_unwind(|| {
            let _first = plant(Bug::TornSector);
            let _second = plant(Bug::LostResize);
        });
        assert!(attempt.is_err());
        assert!(Bug::ALL.iter().all(|bug| !is_active(*bug)));
    }
}
