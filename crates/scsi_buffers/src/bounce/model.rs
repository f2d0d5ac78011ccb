//! Random use of a pool against a model of its books.

use super::pool::size_class;
use super::*;
use crate::PinnedBuffers;
use futures_lite::future::block_on;
use futures_lite::future::poll_once;
use guestmem::PAGE_SIZE_BYTES;
use proptest::prelude::*;
use std::future::Future;
use std::pin::Pin;

const BYTES_MAX: usize = 10 * PAGE_SIZE_BYTES;

#[derive(Clone, Debug)]
enum Step {
    Allocate {
        len: usize,
    },
    TryAllocate {
        len: usize,
    },
    PollWaiter {
        index: usize,
    },
    DropWaiter {
        index: usize,
    },
    /// Drops a buffer and keeps a pin of it.
    Pin {
        index: usize,
    },
    DropHolder {
        index: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = 1..BYTES_MAX + BYTES_MAX / 10;
    let step = (0..8, len, 0_usize..64).prop_map(|(kind, len, index)| match kind {
        0..3 => Step::Allocate { len },
        3 => Step::TryAllocate { len },
        4 => Step::PollWaiter { index },
        5 => Step::DropWaiter { index },
        6 => Step::Pin { index },
        _ => Step::DropHolder { index },
    });
    proptest::collection::vec(step, 1..150)
}

/// What keeps memory of the pool in use.
enum Holder {
    Buffer(BounceBuffer),
    Pin(#[expect(dead_code, reason = "held for its drop")] PinnedBuffers),
}

struct Waiter<'a> {
    bytes: usize,
    is_granted: bool,
    future: Pin<Box<dyn Future<Output = Result<BounceBuffer, BounceError>> + 'a>>,
}

#[derive(Default)]
struct Model<'a> {
    bytes_in_use: usize,
    /// In the order in which they asked.
    waiters: Vec<Waiter<'a>>,
    holders: Vec<(usize, Holder)>,
}

impl<'a> Model<'a> {
    fn is_free(&self, bytes: usize) -> bool {
        self.waiters.iter().all(|waiter| waiter.is_granted)
            && self.bytes_in_use + bytes <= BYTES_MAX
    }

    fn hold(&mut self, bytes: usize, buffer: BounceBuffer) {
        self.holders.push((bytes, Holder::Buffer(buffer)));
    }

    fn free(&mut self, bytes: usize) {
        self.bytes_in_use -= bytes;
        self.grant();
    }

    fn grant(&mut self) {
        for waiter in self.waiters.iter_mut().filter(|waiter| !waiter.is_granted) {
            if self.bytes_in_use + waiter.bytes > BYTES_MAX {
                break;
            }
            waiter.is_granted = true;
            self.bytes_in_use += waiter.bytes;
        }
    }

    fn allocate(&mut self, pool: &'a BouncePool, len: usize) -> Result<(), TestCaseError> {
        let bytes = size_class(len).min(BYTES_MAX);
        let mut future: Pin<Box<dyn Future<Output = _>>> = Box::pin(pool.allocate(len));
        let outcome = block_on(poll_once(future.as_mut()));
        if len > BYTES_MAX {
            let too_large = BounceError::TooLarge {
                len,
                bytes_max: BYTES_MAX,
            };
            prop_assert_eq!(outcome.unwrap().unwrap_err(), too_large);
        } else if self.is_free(bytes) {
            self.bytes_in_use += bytes;
            self.hold(bytes, outcome.expect("it was free").unwrap());
        } else {
            prop_assert!(outcome.is_none());
            self.waiters.push(Waiter {
                bytes,
                is_granted: false,
                future,
            });
        }
        Ok(())
    }

    fn try_allocate(&mut self, pool: &BouncePool, len: usize) -> Result<(), TestCaseError> {
        let bytes = size_class(len).min(BYTES_MAX);
        let outcome = pool.try_allocate(len);
        prop_assert_eq!(outcome.is_err(), len > BYTES_MAX);
        let Ok(buffer) = outcome else {
            return Ok(());
        };
        prop_assert_eq!(buffer.is_some(), self.is_free(bytes));
        if let Some(buffer) = buffer {
            self.bytes_in_use += bytes;
            self.hold(bytes, buffer);
        }
        Ok(())
    }

    fn poll_waiter(&mut self, index: usize) -> Result<(), TestCaseError> {
        let waiter = &mut self.waiters[index];
        let outcome = block_on(poll_once(waiter.future.as_mut()));
        prop_assert_eq!(outcome.is_some(), waiter.is_granted);
        if let Some(buffer) = outcome {
            let bytes = self.waiters.remove(index).bytes;
            self.hold(bytes, buffer.unwrap());
        }
        Ok(())
    }

    fn drop_waiter(&mut self, index: usize) {
        let waiter = self.waiters.remove(index);
        drop(waiter.future);
        if waiter.is_granted {
            self.bytes_in_use -= waiter.bytes;
        }
        self.grant();
    }

    fn step(&mut self, pool: &'a BouncePool, step: Step) -> Result<(), TestCaseError> {
        let (waiters, holders) = (self.waiters.len(), self.holders.len());
        match step {
            Step::Allocate { len } => self.allocate(pool, len)?,
            Step::TryAllocate { len } => self.try_allocate(pool, len)?,
            Step::PollWaiter { index } if waiters > 0 => self.poll_waiter(index % waiters)?,
            Step::DropWaiter { index } if waiters > 0 => self.drop_waiter(index % waiters),
            Step::Pin { index } if holders > 0 => {
                let holder = &mut self.holders[index % holders].1;
                if let Holder::Buffer(buffer) = holder {
                    *holder = Holder::Pin(buffer.buffers(true).pin().unwrap());
                }
            }
            Step::DropHolder { index } if holders > 0 => {
                let (bytes, holder) = self.holders.remove(index % holders);
                drop(holder);
                self.free(bytes);
            }
            // Nobody is there to whom it could be done.
            Step::PollWaiter { .. }
            | Step::DropWaiter { .. }
            | Step::Pin { .. }
            | Step::DropHolder { .. } => {}
        }
        Ok(())
    }
}

fn figure(pool: &BouncePool, name: &str) -> usize {
    let value = block_on(inspect::inspect(name, None, pool)).unwrap();
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

proptest! {
    #[test]
    fn any_use_of_a_pool_does_what_the_model_does(steps in steps()) {
        let pool = BouncePool::new(BYTES_MAX);
        let mut model = Model::default();
        for step in steps {
            model.step(&pool, step)?;
            let waiting = model.waiters.iter().filter(|waiter| !waiter.is_granted).count();
            prop_assert_eq!(figure(&pool, "bytes_in_use"), model.bytes_in_use);
            prop_assert_eq!(figure(&pool, "waiters"), waiting);
        }
        drop(model);
        prop_assert_eq!(figure(&pool, "bytes_in_use"), 0);
        prop_assert_eq!(figure(&pool, "waiters"), 0);
    }
}
