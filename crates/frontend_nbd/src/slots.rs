//! The steps of one connection that are under way.
//!
//! Each lives in a slot whose memory and waker are kept for the next one, so that starting a step allocates nothing.
//!
//! - T1: a slot is either free and empty, or taken and holds a future that has been polled and is not finished.

use crate::wakeup::{Ready, SOURCES_MAX, Wakeup};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The most steps that one connection can have under way; the numbers above belong to others.
pub(crate) const SLOTS_MAX: usize = SOURCES_MAX - 1;

/// The slots of one connection; `G` is what the connection wants to be told with a step's outcome.
pub(crate) struct Slots<F, G> {
    slots: Vec<Slot<F, G>>,
    free: Vec<usize>,
    wakeup: Arc<Wakeup>,
}

struct Slot<F, G> {
    future: Pin<Box<Option<F>>>,
    tag: Option<G>,
    waker: Waker,
}

impl<F: Future, G> Slots<F, G> {
    pub(crate) fn new(wakeup: Arc<Wakeup>) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            wakeup,
        }
    }

    /// How many steps are under way.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Begins a step, and returns its outcome if it had to wait for nothing. There must be room: fewer than [`SLOTS_MAX`].
    pub(crate) fn start(&mut self, tag: G, future: F) -> Option<(G, F::Output)> {
        let index = self.free.pop().unwrap_or_else(|| self.grow());
        let slot = &mut self.slots[index];
        slot.future.set(Some(future));
        slot.tag = Some(tag);
        self.poll(index)
    }

    /// Polls the steps of `ready`, one after the other, until one is finished.
    pub(crate) fn next_done(
        &mut self,
        ready: &mut impl Iterator<Item = usize>,
    ) -> Option<(G, F::Output)> {
        ready.find_map(|index| self.poll(index))
    }

    /// What was woken, as [`next_done`](Self::next_done) wants it.
    pub(crate) fn ready(&self) -> Ready {
        self.wakeup.take_ready()
    }

    /// A slot may be free, or not be ours at all: wakers may be woken late, and more than once.
    fn poll(&mut self, index: usize) -> Option<(G, F::Output)> {
        let slot = self.slots.get_mut(index)?;
        let future = slot.future.as_mut().as_pin_mut()?;
        match future.poll(&mut Context::from_waker(&slot.waker)) {
            Poll::Pending => None,
            Poll::Ready(output) => {
                slot.future.set(None);
                self.free.push(index);
                let tag = slot.tag.take().expect("a taken slot has a tag (T1)");
                Some((tag, output))
            }
        }
    }

    fn grow(&mut self) -> usize {
        let index = self.slots.len();
        assert!(index < SLOTS_MAX, "more steps than there are wakers");
        self.slots.push(Slot {
            future: Box::pin(None),
            tag: None,
            waker: self.wakeup.waker(index),
        });
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use event_listener::Event;

    async fn wait_for(event: &Event) -> u32 {
        event.listen().await;
        7
    }

    fn slots<F: Future>() -> Slots<F, char> {
        Slots::new(Arc::new(Wakeup::new().unwrap()))
    }

    #[test]
    fn a_step_that_waits_for_nothing_is_done_at_once_and_its_slot_is_used_again() {
        let mut slots = slots();
        for tag in ['a', 'b', 'c'] {
            assert_eq!(slots.start(tag, std::future::ready(1)), Some((tag, 1)));
        }
        assert_eq!((slots.slots.len(), slots.len()), (1, 0));
    }

    #[test]
    fn woken_steps_are_done_in_any_order() {
        let events: [Event; 3] = Default::default();
        let mut slots = slots();
        for (event, tag) in events.iter().zip(['a', 'b', 'c']) {
            assert_eq!(slots.start(tag, wait_for(event)), None);
        }
        assert_eq!(slots.len(), 3);
        events[2].notify(1);
        events[0].notify(1);
        let mut ready = slots.ready().iter();
        assert_eq!(slots.next_done(&mut ready), Some(('a', 7)));
        assert_eq!(slots.next_done(&mut ready), Some(('c', 7)));
        assert_eq!(slots.next_done(&mut ready), None);
        assert_eq!(slots.len(), 1);
        events[1].notify(1);
        let mut ready = slots.ready().iter();
        assert_eq!(slots.next_done(&mut ready), Some(('b', 7)));
        assert!(slots.is_empty());
    }

    #[test]
    fn a_late_wake_up_of_a_free_slot_does_nothing() {
        let wakeup = Arc::new(Wakeup::new().unwrap());
        let mut slots = Slots::new(Arc::clone(&wakeup));
        assert_eq!(slots.start('a', std::future::ready(1)), Some(('a', 1)));
        wakeup.waker(0).wake();
        wakeup.waker(SLOTS_MAX).wake();
        let mut ready = slots.ready().iter();
        assert_eq!(slots.next_done(&mut ready), None);
    }
}
