//! One connection: many callers on one side, one thread with one socket on the other.
//!
//! Callers put requests into a queue and wait for their promises; the thread does all of the input and output. It sleeps while
//! nothing is to be done, and works on whether anybody polls or not.
//!
//! - N1: requests on the same sectors, of which one changes them, are sent one after the other, in the order in which they were
//!   submitted: a server may execute what is in flight in any order, and tear what overlaps.
//! - N2: the thread touches only memory that the request owns (a pin or a copy), and writes to none of a request that was
//!   answered.
//! - N3: what is in flight is bounded ([`room`]), and so is what a server can make the thread hold ([`input`]).
//! - N4: every request that was submitted is answered: by the server, or with the reason for which the connection ended.

mod coverage;
mod input;
mod output;
mod promise;
mod room;
mod table;
mod worker;

pub(crate) use promise::{Answer, Pending};
pub(crate) use room::{Admission, BYTES_MAX};

use crate::NbdUri;
use crate::counters::Counters;
use crate::handshake::Terms;
use disk_backend::DiskError;
use disk_backend::in_flight::InFlight;
use event_listener::Event;
use nbd_protocol::{Command, Framing};
use parking_lot::Mutex;
use promise::Promise;
use room::Room;
use rustix::event::{EventfdFlags, eventfd};
use scsi_buffers::PinnedBuffers;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

/// A request of the protocol, and its memory.
pub(crate) struct Operation {
    pub(crate) command: Command,
    /// Of [`nbd_protocol::command_flag`].
    pub(crate) flags: u16,
    /// In bytes.
    pub(crate) offset: u64,
    /// In bytes; below 2^32.
    pub(crate) len: u64,
    /// As long as the request: where a read puts its data, where a write takes it from, at some time until it is answered.
    pub(crate) memory: Option<PinnedBuffers>,
}

/// The callers' end. Dropped, the connection ends as soon as nothing is in flight.
#[derive(Debug)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    uri: NbdUri,
    framing: Framing,
    allocation_context: Option<u32>,
    socket: OwnedFd,
    /// Ends the thread's sleep.
    wakeup: OwnedFd,
    state: Mutex<State>,
    /// Notified when those who found no room may try again, and when there never will be.
    has_room: Event,
    in_flight: Arc<InFlight>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct State {
    submitted: VecDeque<Submission>,
    room: Room,
    /// The thread must be woken to see what is new.
    is_asleep: bool,
    /// Nobody will submit any more.
    is_closing: bool,
    /// Why nothing is taken any more.
    end: Option<Arc<str>>,
}

/// A request on its way to the thread.
struct Submission {
    operation: Operation,
    promise: Promise,
}

impl Connection {
    /// Takes over a socket on which `terms` were agreed, and starts its thread.
    pub(crate) fn start(uri: NbdUri, socket: OwnedFd, terms: &Terms) -> io::Result<Self> {
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared {
            uri,
            framing: terms.framing,
            allocation_context: terms.allocation_context,
            socket,
            wakeup,
            state: Mutex::default(),
            has_room: Event::new(),
            in_flight: Arc::default(),
            counters: Counters::default(),
        });
        let worker = worker::Worker::new(Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("nbd-disk".to_owned())
            .spawn(move || worker.run())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Waits until there is room for a request with so many bytes of data. Nothing is held while it waits.
    ///
    /// # Errors
    /// [`DiskError::Io`] once the connection has ended.
    pub(crate) async fn admit(&self, bytes: usize) -> Result<Admission, DiskError> {
        loop {
            let may_try_again = {
                let mut state = self.shared.state.lock();
                if let Some(reason) = &state.end {
                    return Err(lost(&self.shared.uri, reason));
                }
                if state.room.enter(bytes) {
                    return Ok(Admission::new(Arc::clone(&self.shared), bytes));
                }
                // Under the lock, so that no notification is missed.
                self.shared.has_room.listen()
            };
            self.shared.counters.waits_for_room.add(1);
            may_try_again.await;
        }
    }

    /// Hands a request over. From here on it happens, or the connection ends, whoever polls what.
    pub(crate) fn submit(&self, admission: Admission, operation: Operation) -> Pending {
        let (promise, pending) = Promise::new(admission);
        let submission = Submission { operation, promise };
        let refused = {
            let mut state = self.shared.state.lock();
            match state.end {
                Some(_) => Some(submission),
                None => {
                    state.submitted.push_back(submission);
                    self.shared.wake(&mut state);
                    None
                }
            }
        };
        // Its promise says that the connection is lost; that takes the lock.
        drop(refused);
        pending
    }

    /// Waits until what was admitted before the call has been answered.
    pub(crate) async fn drain(&self) {
        self.shared.in_flight.drain().await;
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    pub(crate) fn uri(&self) -> &NbdUri {
        &self.shared.uri
    }
}

impl Drop for Connection {
    /// Waits for the goodbye to be sent where that takes no time.
    fn drop(&mut self) {
        let is_idle = {
            let mut state = self.shared.state.lock();
            state.is_closing = true;
            self.shared.wake(&mut state);
            state.room.requests() == 0
        };
        let Some(thread) = self.thread.take() else {
            return;
        };
        // The last owner may be a task that the thread itself has just woken.
        let is_own_thread = thread.thread().id() == std::thread::current().id();
        if is_idle && !is_own_thread && thread.join().is_err() {
            tracing::error!("{}: the thread of the connection panicked", self.shared.uri);
        }
    }
}

impl Shared {
    fn wake(&self, state: &mut State) {
        if std::mem::take(&mut state.is_asleep) {
            // It can only fail because it was written before.
            let _ = rustix::io::write(&self.wakeup, &1_u64.to_ne_bytes());
        }
    }

    /// Ends everything for `reason`, unless it has ended before.
    fn end(&self, reason: &str) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            state.end = Some(reason.into());
        }
        let submitted = std::mem::take(&mut state.submitted);
        drop(state);
        self.has_room.notify(usize::MAX);
        // Their promises say so; that takes the lock.
        drop(submitted);
    }

    /// Why no answer will come.
    fn lost(&self) -> DiskError {
        let reason = self.state.lock().end.clone();
        lost(&self.uri, reason.as_deref().unwrap_or("it ended"))
    }
}

fn lost(uri: &NbdUri, reason: &str) -> DiskError {
    DiskError::Io(io::Error::new(
        io::ErrorKind::ConnectionAborted,
        format!("{uri}: the connection is lost: {reason}; the disk has to be opened anew"),
    ))
}

impl std::fmt::Debug for Submission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Submission({:?})", self.operation.command)
    }
}

impl inspect::Inspect for Connection {
    fn inspect(&self, request: inspect::Request<'_>) {
        let shared = &self.shared;
        let state = shared.state.lock();
        let end = state.end.as_deref();
        request
            .respond()
            .field("is_connected", &end.is_none())
            .field("lost_because", &end.map(str::to_owned))
            .field("framing", &format!("{:?}", shared.framing).to_lowercase())
            .field("in_flight", &state.room)
            .field("counters", &shared.counters);
    }
}
