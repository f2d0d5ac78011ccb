//! The transmission phase: requests in, replies out, in whatever order disks and clients allow.
//!
//! One thread does everything for one connection, in rounds: finish the steps that were woken, take in requests as long as
//! there is room, send replies, then receive more or sleep. A request whose disk answers at once is answered in the same
//! round, with neither a queue nor another thread between.
//!
//! - X1: the thread sleeps in `receive` only while no step is under way and no reply is waiting, and not for long; else in
//!   `wait`, which the end of a step interrupts.
//! - X2: steps that have begun are finished, whatever happens to the client.

mod admission;
mod input;
mod intake;
mod output;
mod requests;
mod stopwatch;

use crate::activity::Activity;
use crate::export::Export;
use crate::limits::LiveLimits;
use crate::protocol::contexts::ContextSet;
use crate::protocol::errno::Purpose;
use crate::session::{End, SessionError};
use crate::slots::{SLOTS_MAX, Slots};
use crate::step::{Done, Payload, Step, StepError, Tools};
use crate::transport::{Interest, NAP, Transport};
use crate::wakeup::Wakeup;
use input::Input;
use intake::{Front, Stuck};
use nbd_protocol::{Command, Errno, Framing, reply};
use output::Output;
use requests::{Delivery, Requests};
use scsi_buffers::BouncePool;
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;
use stopwatch::Stopwatch;

/// What a connection works with.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) export: &'a Export,
    pub(crate) framing: Framing,
    /// What a block status tells.
    pub(crate) contexts: ContextSet,
    pub(crate) limits: &'a LiveLimits,
    /// The connection's memory.
    pub(crate) pool: &'a BouncePool,
    pub(crate) activity: &'a Activity,
    pub(crate) wakeup: &'a Arc<Wakeup>,
    /// For the log.
    pub(crate) peer: &'a str,
}

/// Serves requests until the client leaves or the server stops.
pub(crate) fn run<T: Transport>(
    session: &Session<'_>,
    transport: &mut T,
) -> Result<End, SessionError> {
    let mut transmission = Transmission {
        session,
        transport,
        pool: session.pool,
        perform: crate::step::perform,
        input: Input::new(),
        front: Front::Header,
        front_waker: session.wakeup.waker(SLOTS_MAX),
        requests: Requests::default(),
        steps: Slots::new(Arc::clone(session.wakeup)),
        output: Output::default(),
        stopwatch: Stopwatch::default(),
        idle_since: None,
        stopping: None,
    };
    let result = transmission.serve();
    transmission.finish_steps();
    session.activity.set_requests_in_flight(0);
    result
}

/// How many replies may wait for their client before no more requests are taken in.
const REPLIES_MAX: usize = 512;
/// How many bytes wait before they are sent in the middle of a round, so that the client need not wait for all of it.
const SEND_BYTES: usize = 128 * 1024;
/// How much a client may still send after the server began to stop, in bytes.
const STOP_BYTES_MAX: usize = 64 << 20;

struct Transmission<'a, T, F> {
    session: &'a Session<'a>,
    transport: &'a mut T,
    pool: &'a BouncePool,
    perform: fn(Tools<'a>, Step) -> F,
    input: Input,
    front: Front,
    front_waker: Waker,
    requests: Requests,
    steps: Slots<F, Part>,
    output: Output,
    stopwatch: Stopwatch,
    /// When it was first noticed that nothing happens; looked at only if there is a limit.
    idle_since: Option<Instant>,
    stopping: Option<Stopping>,
}

/// What a step does of its request.
struct Part {
    request: usize,
    offset: u64,
}

/// What is left of the time and the bytes that a stop allows.
struct Stopping {
    deadline: Instant,
    bytes_left: usize,
}

impl<'a, T: Transport, F> Transmission<'a, T, F>
where
    F: Future<Output = Result<Done, StepError>>,
{
    fn serve(&mut self) -> Result<End, SessionError> {
        loop {
            self.stopwatch.forget();
            self.finish_woken_steps()?;
            self.notice_stop()?;
            let stuck = self.take_in()?;
            let has_sent = self.output.send(self.transport)?;
            if has_sent {
                self.idle_since = None;
            }
            let in_flight = self.requests.len();
            self.session.activity.set_requests_in_flight(in_flight);
            match stuck {
                Stuck::Ended(end) if self.steps.is_empty() && self.output.is_empty() => {
                    return Ok(end);
                }
                Stuck::NeedsInput => self.receive_or_sleep()?,
                // There is room now.
                Stuck::NeedsRoom if has_sent => {}
                Stuck::NeedsRoom | Stuck::Ended(_) => self.sleep(false)?,
            }
        }
    }

    fn finish_woken_steps(&mut self) -> Result<(), SessionError> {
        let mut ready = self.steps.ready().iter();
        while let Some((part, result)) = self.steps.next_done(&mut ready) {
            self.finish_step(part, result)?;
        }
        Ok(())
    }

    /// Looks at the stop after the wake-ups were taken, so that none is forgotten.
    fn notice_stop(&mut self) -> Result<(), SessionError> {
        if !self.session.wakeup.is_stopping() {
            return Ok(());
        }
        let grace = self.session.limits.stop_grace();
        let stopping = self.stopping.get_or_insert_with(|| Stopping {
            deadline: Instant::now() + grace,
            bytes_left: STOP_BYTES_MAX,
        });
        if !self.output.is_empty() && Instant::now() >= stopping.deadline {
            return Err(SessionError::Unresponsive);
        }
        Ok(())
    }

    fn receive_or_sleep(&mut self) -> Result<(), SessionError> {
        let may_wait = self.steps.is_empty() && self.output.is_empty() && self.stopping.is_none();
        match self.receive(may_wait && self.may_nap()) {
            Ok(0) => self.end_of_input(),
            Ok(len) => {
                self.idle_since = None;
                match &mut self.stopping {
                    Some(stopping) if stopping.bytes_left <= len => self.end_of_input(),
                    Some(stopping) => {
                        stopping.bytes_left -= len;
                        Ok(())
                    }
                    None => Ok(()),
                }
            }
            // What was sent before the stop has all been received.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.stopping {
                Some(_) => self.end_of_input(),
                None => self.sleep(true),
            },
            Err(error) => Err(error.into()),
        }
    }

    fn sleep(&mut self, for_input: bool) -> Result<(), SessionError> {
        let interest = Interest {
            readable: for_input,
            writable: !self.output.is_empty(),
        };
        let deadline = match &self.stopping {
            // Only a client can be late. A disk is waited for.
            Some(stopping) => Some(stopping.deadline).filter(|_| interest.writable),
            None => self.idle_deadline(),
        };
        if self.stopping.is_none() && deadline.is_some_and(|at| Instant::now() >= at) {
            return self.end_of_patience();
        }
        self.transport.wait(interest, deadline)?;
        Ok(())
    }

    /// Whether a sleep in `receive`, which no change of the limits ends, is short enough.
    fn may_nap(&self) -> bool {
        let timeout = self.session.limits.idle_timeout();
        timeout.is_none_or(|timeout| timeout >= NAP)
    }

    /// Until when the client may do nothing. While a request is worked on it is not its turn, unless replies are waiting for it.
    fn idle_deadline(&mut self) -> Option<Instant> {
        if !self.steps.is_empty() && self.output.is_empty() {
            self.idle_since = None;
            return None;
        }
        let timeout = self.session.limits.idle_timeout()?;
        Some(*self.idle_since.get_or_insert_with(Instant::now) + timeout)
    }

    /// Neither does the client ask for anything nor does it take its replies.
    fn end_of_patience(&mut self) -> Result<(), SessionError> {
        if !self.output.is_empty() {
            return Err(SessionError::Unresponsive);
        }
        self.front = Front::Ended(End::Idle);
        Ok(())
    }

    /// Begins a step of the request numbered `request`.
    fn start_step(&mut self, request: usize, offset: u64, step: Step) -> Result<(), SessionError> {
        self.requests.get(request).steps += 1;
        let tools = Tools {
            export: self.session.export,
            pool: self.pool,
            wakeup: self.session.wakeup,
        };
        let future = (self.perform)(tools, step);
        match self.steps.start(Part { request, offset }, future) {
            Some((part, result)) => self.finish_step(part, result),
            None => Ok(()),
        }
    }

    fn finish_step(
        &mut self,
        part: Part,
        result: Result<Done, StepError>,
    ) -> Result<(), SessionError> {
        self.requests.get(part.request).steps -= 1;
        match result {
            Ok(Done::Nothing) => {}
            Ok(Done::Data(payload)) => self.deliver(&part, payload)?,
            Ok(Done::Extents(found)) => {
                let request = self.requests.get(part.request).request;
                let framing = self.session.framing;
                let last = found.len() - 1;
                for (index, (context, extents)) in found.iter().enumerate() {
                    let is_last = index == last;
                    let id = context.id();
                    let chunk = reply::block_status(framing, is_last, &request, id, extents);
                    self.output.push(chunk, None);
                }
            }
            Err(error) => self.note_failure(part.request, &error),
        }
        self.settle(part.request)
    }

    /// Sends data of a read, unless the read has already failed.
    fn deliver(&mut self, part: &Part, mut payload: Payload) -> Result<(), SessionError> {
        payload.settle()?;
        let pending = self.requests.get(part.request);
        if pending.failure.is_some() {
            return Ok(());
        }
        let request = pending.request;
        let len = payload.len() as u32;
        self.session.activity.add_bytes(request.command, len.into());
        let is_last = pending.is_over();
        let head = reply::data(self.session.framing, is_last, &request, part.offset, len);
        match &mut pending.delivery {
            Delivery::Stream { begun } => {
                if !std::mem::replace(begun, true) {
                    self.output.begin_stream(head);
                }
                self.output.push_stream(payload);
            }
            _ => self.output.push(head, Some(payload)),
        }
        Ok(())
    }

    fn note_failure(&mut self, index: usize, error: &StepError) {
        let pending = self.requests.get(index);
        let command = pending.request.command;
        let errno = match error {
            StepError::Disk(error) => Purpose::of(&pending.request).errno(error),
            StepError::Memory(_) => Errno::Io,
            StepError::Stopped => Errno::Shutdown,
        };
        let message = with_sources(error);
        // One line per connection: a guest on a broken disk would fill the log.
        let is_first = self.session.activity.errors() == 0;
        if is_first && errno == Errno::Io {
            tracing::warn!(
                export = self.session.export.name(),
                peer = self.session.peer,
                "{} at {} failed: {message}; further errors of this connection are only counted",
                command.name(),
                pending.request.offset,
            );
        }
        pending.fail(errno, message);
    }

    /// Answers a request that is over.
    fn settle(&mut self, index: usize) -> Result<(), SessionError> {
        let pending = self.requests.get(index);
        if !pending.is_over() {
            return Ok(());
        }
        if pending.failure.is_none() && pending.delivery == Delivery::AtEndFlushed {
            pending.delivery = Delivery::AtEnd;
            return self.start_step(index, 0, Step::Flush);
        }
        let pending = self.requests.remove(index);
        let framing = self.session.framing;
        let request = &pending.request;
        let activity = self.session.activity;
        let has_failed = pending.failure.is_some();
        let now = self.stopwatch.read();
        activity.end(request.command, pending.began, now, has_failed);
        if let Some(failure) = pending.failure {
            if pending.delivery == (Delivery::Stream { begun: true }) {
                return Err(SessionError::BrokenReply(failure.message));
            }
            let reply = reply::error(framing, request, failure.errno, &failure.message);
            self.output.push(reply, None);
            return Ok(());
        }
        match pending.delivery {
            Delivery::Stream { begun: true } => self.output.end_stream(),
            Delivery::AtEnd | Delivery::AtEndFlushed => {
                let reply = match request.command {
                    Command::Read => reply::no_data(framing, request),
                    _ => reply::success(framing, request),
                };
                if request.command != Command::Read {
                    activity.add_bytes(request.command, request.len);
                }
                self.output.push(reply, None);
            }
            // The data was the reply.
            Delivery::Whole | Delivery::Chunks | Delivery::Stream { begun: false } => {}
        }
        Ok(())
    }

    /// Waits for the steps that are under way, now that nobody waits for their replies (X2).
    fn finish_steps(&mut self) {
        // Memory that steps may be waiting for.
        self.output.clear();
        self.front = Front::Header;
        loop {
            let mut ready = self.steps.ready().iter();
            while self.steps.next_done(&mut ready).is_some() {}
            if self.steps.is_empty() {
                return;
            }
            let nothing = Interest {
                readable: false,
                writable: false,
            };
            if let Err(error) = self.transport.wait(nothing, None) {
                tracing::error!(
                    peer = self.session.peer,
                    "cannot wait for {} requests to finish: {error}",
                    self.steps.len()
                );
                return;
            }
        }
    }
}

/// An error and what caused it, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    use std::fmt::Write;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}
