//! The future of somebody who sleeps.

use crate::sleepers::Sleeper;
use crate::{Moment, Time};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A sleep that has begun; see [`Clock::sleep`](crate::Clock::sleep). Dropping it ends it; it may be polled after its end.
#[must_use = "nobody sleeps unless this is awaited"]
pub struct Sleep {
    moment: Moment,
    /// None if there is nothing to wait for any more.
    asleep: Option<(Arc<dyn Time>, Sleeper)>,
}

impl Sleep {
    pub(crate) fn begin(time: &Arc<dyn Time>, moment: Moment) -> Self {
        let mut asleep = None;
        if moment > time.now() {
            let (sleeper, is_first) = time.sleepers().add(moment);
            if is_first {
                time.reconsider();
            }
            asleep = Some((Arc::clone(time), sleeper));
            // Time may have moved there before it could see the sleeper.
            if moment <= time.now() {
                time.sleepers().remove(sleeper);
                asleep = None;
            }
        }
        Self { moment, asleep }
    }

    /// When it ends.
    pub fn until(&self) -> Moment {
        self.moment
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some((time, sleeper)) = &self.asleep {
            if !time.sleepers().is_woken(*sleeper, context.waker()) {
                return Poll::Pending;
            }
            self.asleep = None;
        }
        Poll::Ready(())
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((time, sleeper)) = &self.asleep {
            time.sleepers().remove(*sleeper);
        }
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep")
            .field("moment", &self.moment)
            .field("is_over", &self.asleep.is_none())
            .finish()
    }
}
