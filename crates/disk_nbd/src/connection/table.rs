//! What is in flight, by cookie: requests that wait for their sectors, and requests that wait for their answer.
//!
//! - T1: a request is sent once its sectors are locked, and they stay locked until it is answered (N1).
//! - T2: only what was sent is answered. A cookie names one request, and no other for the next 2^48.

use super::coverage::Coverage;
use super::output::{Message, Output};
use super::promise::{Answer, Extents, Promise};
use super::{Operation, Shared, Submission};
use crate::server_error;
use disk_backend::{BlockStatus, DiskError};
use nbd_protocol::{Command, Extent, Request};
use parking_lot::Mutex;
use range_lock::{RangeGuard, RangeLock};
use scsi_buffers::PinnedBuffers;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// How many bits of a cookie are the index of its slot; the rest counts requests.
const INDEX_BITS: u32 = 16;

/// The most extents of a status that are kept: they join at most to what an answer may have.
const EXTENTS_MAX: usize = 4 * BlockStatus::EXTENTS_MAX;

/// What the server did wrong. The connection ends, since nothing that follows can be trusted.
pub(super) type Violation = String;

/// All requests that the thread has.
pub(super) struct Table {
    shared: Arc<Shared>,
    /// By byte of the export.
    locks: RangeLock,
    slots: Vec<Option<InFlight>>,
    free: Vec<usize>,
    request_count: u64,
    /// Cookies of those whose sectors have come free.
    ready: Arc<Mutex<Vec<u64>>>,
}

/// A request that was submitted.
struct InFlight {
    cookie: u64,
    operation: Operation,
    promise: Promise,
    claim: Claim,
    coverage: Coverage,
    extents: Extents,
    failure: Option<DiskError>,
}

/// A request's right to be sent.
enum Claim {
    Waiting(Pin<Box<dyn Future<Output = RangeGuard> + Send>>),
    Sent { _sectors: Option<RangeGuard> },
}

impl Table {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            locks: RangeLock::new(),
            slots: Vec::new(),
            free: Vec::new(),
            request_count: 0,
            ready: Arc::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Takes a request in, and sends it unless it has to wait for its sectors.
    pub(super) fn begin(&mut self, submission: Submission, output: &mut Output) {
        let Submission { operation, promise } = submission;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.request_count += 1;
        let cookie = self.request_count << INDEX_BITS | index as u64;
        let claim = self.claim(&operation);
        let request = self.slots[index].insert(InFlight {
            cookie,
            operation,
            promise,
            claim,
            coverage: Coverage::default(),
            extents: Extents::new(),
            failure: None,
        });
        match request.claim {
            Claim::Sent { .. } => output.push(request.message(), self.shared.framing),
            Claim::Waiting(_) => {
                self.shared.counters.waits_for_sectors.add(1);
                // Takes its place in the queue.
                self.advance(cookie, output);
            }
        }
    }

    fn claim(&self, operation: &Operation) -> Claim {
        let range = operation.offset..operation.offset + operation.len;
        let locks = &self.locks;
        let guard = match operation.command {
            Command::Read | Command::BlockStatus => locks.try_read(range.clone()),
            Command::Write | Command::WriteZeroes | Command::Trim => locks.try_write(range.clone()),
            // A flush is about what was answered before.
            _ => return Claim::Sent { _sectors: None },
        };
        match guard {
            Some(guard) => Claim::Sent {
                _sectors: Some(guard),
            },
            None => Claim::Waiting(wait_for(locks.clone(), range, !operation.command.changes())),
        }
    }

    /// Sends those whose sectors have come free.
    pub(super) fn send_ready(&mut self, output: &mut Output) {
        loop {
            let Some(cookie) = self.ready.lock().pop() else {
                return;
            };
            self.advance(cookie, output);
        }
    }

    /// Looks whether a request that waits has its sectors, and sends it if so.
    fn advance(&mut self, cookie: u64, output: &mut Output) {
        let ready = Arc::clone(&self.ready);
        let framing = self.shared.framing;
        let Some(request) = self.slot(cookie) else {
            return;
        };
        // Whoever was woken twice was sent once.
        let Claim::Waiting(waiting) = &mut request.claim else {
            return;
        };
        let waker = Waker::from(Arc::new(Ready { ready, cookie }));
        if let Poll::Ready(guard) = waiting.as_mut().poll(&mut Context::from_waker(&waker)) {
            request.claim = Claim::Sent {
                _sectors: Some(guard),
            };
            output.push(request.message(), framing);
        }
    }

    fn slot(&mut self, cookie: u64) -> Option<&mut InFlight> {
        let index = (cookie & ((1 << INDEX_BITS) - 1)) as usize;
        let slot = self.slots.get_mut(index)?.as_mut();
        slot.filter(|request| request.cookie == cookie)
    }

    /// The request that a reply with this cookie answers (T2).
    fn sent(&mut self, cookie: u64) -> Result<&mut InFlight, Violation> {
        self.slot(cookie)
            .filter(|request| matches!(request.claim, Claim::Sent { .. }))
            .ok_or_else(|| "it answers a request that was never sent".to_owned())
    }

    /// What a reply with this cookie is about: the command, and the bytes.
    pub(super) fn request(&mut self, cookie: u64) -> Result<(Command, Range<u64>), Violation> {
        let operation = &self.sent(cookie)?.operation;
        Ok((
            operation.command,
            operation.offset..operation.offset + operation.len,
        ))
    }

    /// Announces `run`, in bytes of a read, not empty and inside it: each byte comes once.
    pub(super) fn expect(&mut self, cookie: u64, run: Range<u32>) -> Result<(), Violation> {
        let request = self.sent(cookie)?;
        Ok(request.coverage.add(run)?)
    }

    /// Puts data of a read into its memory; `at` counts from the beginning of the read.
    pub(super) fn put(&mut self, cookie: u64, at: u32, data: &[u8]) -> Result<(), Violation> {
        use guestmem::MemoryWrite;
        let memory = self.sent(cookie)?.memory()?.clone();
        let part = memory.buffers().subrange(at as usize, data.len());
        part.writer()
            .write(data)
            .map_err(|error| format!("the memory of a read has gone: {error}"))
    }

    /// The same for zeros.
    pub(super) fn put_zeros(&mut self, cookie: u64, run: Range<u32>) -> Result<(), Violation> {
        use guestmem::MemoryWrite;
        let memory = self.sent(cookie)?.memory()?.clone();
        let part = memory.buffers().subrange(run.start as usize, run.len());
        part.writer()
            .zero(run.len())
            .map_err(|error| format!("the memory of a read has gone: {error}"))
    }

    /// Keeps what a status says.
    pub(super) fn keep_extents(
        &mut self,
        cookie: u64,
        context_id: u32,
        extents: impl Iterator<Item = Extent>,
    ) -> Result<(), Violation> {
        let is_ours = self.shared.allocation_context == Some(context_id);
        let request = self.sent(cookie)?;
        if is_ours && request.extents.is_empty() {
            request.extents.extend(extents.take(EXTENTS_MAX));
        }
        Ok(())
    }

    /// Notes that the server cannot do it. The first error counts.
    pub(super) fn fail(&mut self, cookie: u64, code: u32, message: &str) -> Result<(), Violation> {
        let shared = Arc::clone(&self.shared);
        let request = self.sent(cookie)?;
        if request.failure.is_none() {
            shared.counters.errors.add(1);
            let error = server_error::disk_error(&shared.uri, &request.operation, code, message);
            request.failure = Some(error);
        }
        Ok(())
    }

    /// Answers a request of which everything has come.
    pub(super) fn finish(&mut self, cookie: u64) -> Result<(), Violation> {
        let request = self.sent(cookie)?;
        let result = request.result()?;
        let index = (cookie & ((1 << INDEX_BITS) - 1)) as usize;
        let request = self.slots[index].take().expect("it was just there");
        self.free.push(index);
        let InFlight { claim, promise, .. } = request;
        // Those behind it may go on, also if nobody ever takes the answer.
        drop(claim);
        promise.fulfil(result);
        Ok(())
    }
}

impl InFlight {
    fn message(&mut self) -> Message {
        let operation = &mut self.operation;
        let request = Request {
            command: operation.command,
            flags: operation.flags,
            cookie: self.cookie,
            offset: operation.offset,
            len: operation.len,
        };
        let payload = match operation.command {
            Command::Write => operation.memory.take(),
            _ => None,
        };
        Message { request, payload }
    }

    fn memory(&self) -> Result<&PinnedBuffers, Violation> {
        let memory = self.operation.memory.as_ref();
        memory.ok_or_else(|| "it sends data where none was asked for".to_owned())
    }

    fn result(&mut self) -> Result<Result<Answer, DiskError>, Violation> {
        if let Some(error) = self.failure.take() {
            return Ok(Err(error));
        }
        // Data in one request is bounded far below 4 GiB.
        let len = self.operation.len as u32;
        Ok(Ok(match self.operation.command {
            Command::Read if !self.coverage.is_complete(len) => {
                return Err("it ends a read without all of its data".to_owned());
            }
            Command::BlockStatus if self.extents.is_empty() => {
                return Err("it ends a block status without a word about it".to_owned());
            }
            Command::BlockStatus => Answer::Extents(std::mem::take(&mut self.extents)),
            _ => Answer::Done,
        }))
    }
}

fn wait_for(
    locks: RangeLock,
    range: Range<u64>,
    is_read: bool,
) -> Pin<Box<dyn Future<Output = RangeGuard> + Send>> {
    Box::pin(async move {
        match is_read {
            true => locks.read(range).await,
            false => locks.write(range).await,
        }
    })
}

/// Tells that a request's sectors may have come free.
struct Ready {
    ready: Arc<Mutex<Vec<u64>>>,
    cookie: u64,
}

impl Wake for Ready {
    /// On the thread itself: nobody else has guards to drop.
    fn wake(self: Arc<Self>) {
        self.ready.lock().push(self.cookie);
    }
}
