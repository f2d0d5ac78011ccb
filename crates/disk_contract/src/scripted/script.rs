//! What is to happen to which request.

use super::Gate;
use disk_backend::DiskError;
use futures_lite::future::yield_now;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;

/// What a request of a disk or layer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// A read.
    Read,
    /// A write.
    Write,
    /// A `write_zeroes`.
    WriteZeroes,
    /// An unmap.
    Unmap,
    /// The filling of a cache: a `write_no_overwrite`.
    Fill,
    /// The throwing away of a copy.
    Evict,
    /// A flush.
    Flush,
    /// A question about the status of sectors.
    Status,
    /// A change of the size.
    Resize,
}

/// Where in a request something is to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before the disk or layer has done anything.
    Before,
    /// When all is done, and before the caller learns of it.
    After,
}

/// What is to happen to the requests of a [`ScriptedDisk`](super::ScriptedDisk) or a
/// [`ScriptedLayer`](super::ScriptedLayer). Clones are the same script; what is added holds for requests that reach it later.
///
/// Without any rules requests pass unhindered. Nothing depends on time: a request is told by its kind, and by how many of that
/// kind come before it.
#[derive(Debug, Clone, Default)]
pub struct Script(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    stutter: u32,
}

#[derive(Debug)]
struct Rule {
    operation: Operation,
    when: When,
    /// How many requests pass before this one.
    pass_count: u32,
    action: Action,
}

enum Action {
    Hold(Gate),
    Fail,
    /// Applies to every request, not to one.
    Run(Arc<dyn Fn() + Send + Sync>),
}

impl Script {
    /// A script that lets every request pass.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the next request of this kind wait until the gate is opened.
    pub fn hold(&self, operation: Operation, when: When) -> Gate {
        self.hold_nth(0, operation, when)
    }

    /// Lets `nth` requests of this kind pass, and the one after them wait until the gate is opened.
    pub fn hold_nth(&self, nth: u32, operation: Operation, when: When) -> Gate {
        let gate = Gate::default();
        self.add(operation, when, nth, Action::Hold(gate.clone()));
        gate
    }

    /// Lets `nth` requests of this kind pass, and the one after them fail with [`DiskError::Io`]. [`When::Before`]: it has
    /// changed nothing. [`When::After`]: it has done all it should, and says that it failed.
    pub fn fail_nth(&self, nth: u32, operation: Operation, when: When) {
        self.add(operation, when, nth, Action::Fail);
    }

    /// Calls `action` in every request of this kind. It may use the disk or layer, and the script.
    pub fn run(&self, operation: Operation, when: When, action: impl Fn() + Send + Sync + 'static) {
        self.add(operation, when, 0, Action::Run(Arc::new(action)));
    }

    /// Lets every request wait so many polls before it begins, and as many when it is done.
    pub fn stutter(&self, poll_count: u32) {
        self.0.lock().stutter = poll_count;
    }

    /// Forgets all rules. Who waits at a gate waits on.
    pub fn clear(&self) {
        *self.0.lock() = State::default();
    }

    /// Whether a rule for a single request is still to come true.
    pub fn is_pending(&self) -> bool {
        let state = self.0.lock();
        let mut rules = state.rules.iter();
        rules.any(|rule| !matches!(rule.action, Action::Run(_)))
    }

    fn add(&self, operation: Operation, when: When, pass_count: u32, action: Action) {
        self.0.lock().rules.push(Rule {
            operation,
            when,
            pass_count,
            action,
        });
    }

    /// Does one request as the script has it.
    pub(super) async fn play<R>(
        &self,
        operation: Operation,
        request: impl Future<Output = Result<R, DiskError>>,
    ) -> Result<R, DiskError> {
        self.pass(operation, When::Before).await?;
        let result = request.await?;
        self.pass(operation, When::After).await?;
        Ok(result)
    }

    async fn pass(&self, operation: Operation, when: When) -> Result<(), DiskError> {
        let (stutter, actions) = self.take(operation, when);
        for _ in 0..stutter {
            yield_now().await;
        }
        for action in actions {
            match action {
                Action::Hold(gate) => gate.pass().await,
                Action::Run(action) => action(),
                Action::Fail => {
                    let what = format!("the script lets this {operation:?} fail");
                    return Err(DiskError::Io(std::io::Error::other(what)));
                }
            }
        }
        Ok(())
    }

    /// What is to happen now. Counts down the rules for requests to come, and removes those for this one.
    fn take(&self, operation: Operation, when: When) -> (u32, Vec<Action>) {
        let mut state = self.0.lock();
        let mut actions = Vec::new();
        state.rules.retain_mut(|rule| {
            if (rule.operation, rule.when) != (operation, when) {
                return true;
            }
            if rule.pass_count > 0 {
                rule.pass_count -= 1;
                return true;
            }
            match &rule.action {
                Action::Hold(gate) => actions.push(Action::Hold(gate.clone())),
                Action::Fail => actions.push(Action::Fail),
                Action::Run(action) => {
                    actions.push(Action::Run(Arc::clone(action)));
                    return true;
                }
            }
            false
        });
        (state.stutter, actions)
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hold(_) => "Hold",
            Self::Fail => "Fail",
            Self::Run(_) => "Run",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};
    use std::pin::pin;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn request(
        script: &Script,
        operation: Operation,
    ) -> impl Future<Output = Result<(), DiskError>> {
        script.play(operation, std::future::ready(Ok(())))
    }

    #[test]
    fn a_rule_is_for_one_request_of_its_kind() {
        let script = Script::new();
        script.fail_nth(1, Operation::Write, When::Before);
        block_on(request(&script, Operation::Read)).unwrap();
        block_on(request(&script, Operation::Write)).unwrap();
        assert!(script.is_pending());
        block_on(request(&script, Operation::Write)).unwrap_err();
        assert!(!script.is_pending());
        block_on(request(&script, Operation::Write)).unwrap();
    }

    #[test]
    fn a_held_request_goes_on_when_its_gate_is_open() {
        let script = Script::new();
        let gate = script.hold(Operation::Read, When::After);
        let mut held = pin!(request(&script, Operation::Read));
        assert!(!gate.is_reached());
        for _ in 0..3 {
            assert!(block_on(poll_once(&mut held)).is_none());
            assert!(gate.is_reached());
        }
        gate.open();
        block_on(held).unwrap();
    }

    #[test]
    fn a_stuttering_request_takes_that_many_polls_at_both_ends() {
        let script = Script::new();
        script.stutter(2);
        let mut request = pin!(request(&script, Operation::Flush));
        for _ in 0..4 {
            assert!(block_on(poll_once(&mut request)).is_none());
        }
        assert!(block_on(poll_once(&mut request)).unwrap().is_ok());
    }

    #[test]
    fn what_is_run_is_run_in_every_request() {
        let script = Script::new();
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        script.run(Operation::Status, When::Before, move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        for _ in 0..3 {
            block_on(request(&script, Operation::Status)).unwrap();
        }
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }
}
