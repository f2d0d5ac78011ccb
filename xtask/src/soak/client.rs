//! What all clients have in common: they work in steps, know what they have written, and can be asked for it.

use std::fmt::Display;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::world::World;

/// Why a step was not completed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The daemon did not do what was asked. It may be so while it ends, and is a failure at all other times.
    Cut(String),
    /// Something that may never be.
    Wrong(String),
}

pub(crate) type Step<T = ()> = Result<T, Trouble>;

impl Trouble {
    pub(crate) fn cut(what: impl Display, error: impl Display) -> Self {
        Self::Cut(format!("{what}: {error}"))
    }
}

pub(crate) trait Client: Send {
    fn name(&self) -> String;

    /// Some work of a few seconds at most. Where it is cut off, what is known of the bytes stays true.
    fn step(&mut self, world: &World) -> Step;

    /// The daemon has ended, and another one runs.
    fn restarted(&mut self, world: &World) -> Step;

    /// Called while nothing else happens: makes known again what a death has left unknown.
    fn settle(&mut self, world: &World) -> Step;

    /// Compares all that it has in an export with what is there, and returns which sectors those are.
    fn verify(&mut self, export: usize, content: &[u8]) -> Result<Vec<Range<u64>>, String>;
}

/// A client on a thread of its own. While the gate is closed and nobody works it can be asked things from outside.
pub(crate) struct Employed {
    client: Arc<Mutex<Box<dyn Client>>>,
    thread: JoinHandle<()>,
}

impl Employed {
    pub(crate) fn begin(client: Box<dyn Client>, world: &Arc<World>) -> Self {
        let client = Arc::new(Mutex::new(client));
        let thread = {
            let (client, world) = (client.clone(), world.clone());
            std::thread::spawn(move || work(&client, &world))
        };
        Self { client, thread }
    }

    pub(crate) fn client(&self) -> MutexGuard<'_, Box<dyn Client>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn end(self) {
        // A panic was reported when it happened.
        let _ = self.thread.join();
    }
}

fn work(client: &Mutex<Box<dyn Client>>, world: &World) {
    while world.gate.enter() {
        let _leave = Leave(world);
        let mut client = client.lock().unwrap_or_else(PoisonError::into_inner);
        match client.step(world) {
            Ok(()) => {}
            Err(Trouble::Cut(_)) if world.gate.is_ending() => {
                world.tally.add("steps cut off by a stop", 1);
            }
            Err(Trouble::Cut(what) | Trouble::Wrong(what)) => {
                world.gate.fail(format!("{}: {what}", client.name()));
            }
        }
    }
}

/// Leaves the gate, also by a panic.
struct Leave<'a>(&'a World);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0
                .gate
                .fail("a client panicked; its message is above".to_owned());
        }
        self.0.gate.leave();
    }
}
