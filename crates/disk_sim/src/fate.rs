//! What becomes of a future: it is run to its end, dropped, or forgotten.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// What is to become of a future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is run to its end.
    Completes,
    /// It is dropped when it has been pending after so many polls; with 0, before the first.
    DroppedAfter(u32),
    /// It is never polled again, nor dropped, when it has been pending after so many polls.
    ForgottenAfter(u32),
}

/// What became of a future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending<T> {
    /// It completed with this.
    Completed(T),
    /// It was dropped before.
    Dropped,
    /// It was forgotten before.
    Forgotten,
}

impl<T> Ending<T> {
    /// Whether the future is gone.
    pub fn is_over(&self) -> bool {
        !matches!(self, Self::Forgotten)
    }
}

/// Where forgotten futures are kept, so that nothing is leaked by the run as a whole. Clones are the same place.
#[derive(Clone, Default)]
pub struct Graveyard<'a>(Rc<RefCell<Vec<Box<dyn Forgotten + 'a>>>>);

/// Any future, of which nobody wants to know anything any more.
trait Forgotten {}

impl<T> Forgotten for T {}

impl Graveyard<'_> {
    /// How many were forgotten.
    pub fn count(&self) -> usize {
        self.0.borrow().len()
    }
}

impl fmt::Debug for Graveyard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Graveyard").field(&self.count()).finish()
    }
}

/// A future that meets its fate.
pub struct Fated<'a, T> {
    future: Option<Pin<Box<dyn Future<Output = T> + 'a>>>,
    fate: Fate,
    polls: u32,
    graveyard: Graveyard<'a>,
}

impl<'a, T: 'a> Fated<'a, T> {
    /// Lets `fate` happen to the future; if it is to be forgotten, it ends up in the graveyard.
    pub fn new(
        future: impl Future<Output = T> + 'a,
        fate: Fate,
        graveyard: &Graveyard<'a>,
    ) -> Self {
        Self {
            future: Some(Box::pin(future)),
            fate,
            polls: 0,
            graveyard: graveyard.clone(),
        }
    }
}

impl<'a, T: 'a> Future for Fated<'a, T> {
    type Output = Ending<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending<T>> {
        let this = &mut *self;
        if this.fate != Fate::DroppedAfter(0) && this.fate != Fate::ForgottenAfter(0) {
            let future = this.future.as_mut().expect("not polled after its end");
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                this.future = None;
                return Poll::Ready(Ending::Completed(output));
            }
            this.polls += 1;
        }
        match this.fate {
            Fate::DroppedAfter(polls) if this.polls >= polls => {
                this.future = None;
                Poll::Ready(Ending::Dropped)
            }
            Fate::ForgottenAfter(polls) if this.polls >= polls => {
                let future = this.future.take().expect("not polled after its end");
                this.graveyard.0.borrow_mut().push(Box::new(future));
                Poll::Ready(Ending::Forgotten)
            }
            _ => Poll::Pending,
        }
    }
}

impl<T> fmt::Debug for Fated<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fated")
            .field("fate", &self.fate)
            .field("polls", &self.polls)
            .finish_non_exhaustive()
    }
}
