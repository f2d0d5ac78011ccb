//! Taking requests in: one is at the front at a time, until all of its steps have begun.

use super::requests::Delivery;
use super::{REPLIES_MAX, SEND_BYTES, Transmission, admission};
use crate::session::{End, SessionError};
use crate::span::Span;
use crate::step::{Asked, Done, Payload, Step, StepError, WriteAs};
use crate::transport::Transport;
use nbd_protocol::command_flag::{DF, FAST_ZERO, FUA, NO_HOLE, REQ_ONE};
use nbd_protocol::{Command, Framing, Request};
use scsi_buffers::{BounceBuffer, BounceError};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

/// How long the pieces are at most that long reads and writes are cut into, in bytes. Shorter ones are worse for both: each piece of a read
/// costs a client several calls, and with writes the disk's turn comes again and again while the client has filled the socket, which holds
/// some 200 KiB, so that both sides sleep and wait to be woken more often. Where client and server have a processor each, writes of 1 MiB are
/// a quarter faster in one piece than in pieces of 128 or 512 KiB.
const PIECE_BYTES: usize = 1 << 20;
/// How many pieces of one read may be under way at once.
const PIECES_AHEAD_MAX: usize = 4;
/// From how many missing bytes on a payload is received to its place, past the input.
const DIRECT_BYTES_MIN: usize = 4096;

/// What is at the front of the input.
pub(super) enum Front {
    /// A header, or nothing yet.
    Header,
    /// A read of which not all pieces have begun.
    Read(Progress),
    /// A write of which not all pieces have been received.
    Write(Progress, Piece),
    /// The payload of a write that failed before all of it was there.
    Skip { request: usize, bytes_left: u64 },
    /// Nothing will come any more.
    Ended(End),
}

/// How far a request has been taken in: the rest is from `next` to `end`, in bytes of the export.
#[derive(Clone, Copy)]
pub(super) struct Progress {
    request: usize,
    next: u64,
    end: u64,
}

/// The piece of a write that is being received; it begins where its write has got to.
pub(super) enum Piece {
    /// There is no memory for it yet.
    Wanted,
    /// It waits for memory.
    Waiting(Pin<Box<dyn Future<Output = Result<BounceBuffer, BounceError>>>>),
    /// The first `filled` bytes are there.
    Filling { payload: Payload, filled: usize },
}

/// Why nothing more can be taken in now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stuck {
    /// For want of bytes.
    NeedsInput,
    /// Until a step ends or a reply leaves.
    NeedsRoom,
    /// For good.
    Ended(End),
}

impl<'a, T: Transport, F> Transmission<'a, T, F>
where
    F: Future<Output = Result<Done, StepError>>,
{
    /// Takes in as much as possible.
    pub(super) fn take_in(&mut self) -> Result<Stuck, SessionError> {
        loop {
            let stuck = match &self.front {
                Front::Ended(end) => Some(Stuck::Ended(*end)),
                Front::Header => self.take_header()?,
                Front::Read(progress) => self.take_read(*progress)?,
                Front::Write(progress, _) => self.take_write(*progress)?,
                Front::Skip { .. } => self.take_skip()?,
            };
            if let Some(stuck) = stuck {
                return Ok(stuck);
            }
            if self.output.bytes() >= SEND_BYTES {
                self.output.send(self.transport)?;
                self.stopwatch.forget();
            }
        }
    }

    /// Receives to where the next bytes belong. Nothing that was received before is waiting there.
    pub(super) fn receive(&mut self, may_wait: bool) -> io::Result<usize> {
        if let Front::Write(_, Piece::Filling { payload, filled }) = &mut self.front
            && payload.len() - *filled >= DIRECT_BYTES_MIN
            && let Some(room) = payload.room(*filled)
        {
            let len = self.transport.receive(room, may_wait)?;
            *filled += len;
            return Ok(len);
        }
        let len = self.transport.receive(self.input.room(), may_wait)?;
        self.input.received(len);
        Ok(len)
    }

    /// The client, or the stop of the server, has closed the input.
    pub(super) fn end_of_input(&mut self) -> Result<(), SessionError> {
        let end = match (&self.front, &self.stopping) {
            (_, Some(_)) => End::Stopped,
            (Front::Header, None) if self.input.is_empty() => End::HungUp,
            (Front::Header, None) => return Err(SessionError::ClosedEarly("a request")),
            _ => return Err(SessionError::ClosedEarly("the payload of a request")),
        };
        self.front = Front::Ended(end);
        Ok(())
    }

    /// Whether no further step may begin.
    fn is_full(&self) -> bool {
        self.steps.len() >= self.session.limits.requests_in_flight_max()
    }

    fn take_header(&mut self) -> Result<Option<Stuck>, SessionError> {
        if self.is_full() || self.output.len() >= REPLIES_MAX {
            return Ok(Some(Stuck::NeedsRoom));
        }
        let header_len = self.session.framing.request_len();
        let Some(header) = self.input.take_header(header_len) else {
            return Ok(Some(Stuck::NeedsInput));
        };
        let request = Request::decode(header)
            .map_err(|bad_magic| SessionError::Violation(bad_magic.to_string()))?;
        if request.command == Command::Disconnect {
            self.front = Front::Ended(End::Disconnected);
            return Ok(None);
        }
        let now = self.stopwatch.recent();
        self.session.activity.begin(request.command, now);
        self.begin(request, now)?;
        Ok(None)
    }

    /// Refuses a request, or begins as much of it as has neither pieces nor a payload.
    fn begin(&mut self, request: Request, now: Instant) -> Result<(), SessionError> {
        let session = self.session;
        let unfragmented_max = self.unfragmented_max();
        let index = self.requests.insert(request, self.delivery(&request), now);
        let admitted = admission::check(
            &request,
            session.export,
            session.framing,
            session.contexts,
            unfragmented_max,
        );
        if let Err((errno, message)) = admitted {
            self.requests.get(index).fail(errno, message.to_owned());
            self.front = Front::Skip {
                request: index,
                bytes_left: request.payload_len(session.framing),
            };
            return Ok(());
        }
        let progress = Progress {
            request: index,
            next: request.offset,
            end: request.offset + request.len,
        };
        let Request { offset, len, .. } = request;
        let is_fua = request.has(FUA);
        let step = match request.command {
            Command::Flush => Step::Flush,
            _ if len == 0 => return self.answer_empty(index),
            Command::Read => {
                self.front = Front::Read(progress);
                return Ok(());
            }
            Command::Write => {
                self.front = Front::Write(progress, Piece::Wanted);
                return Ok(());
            }
            Command::Trim => Step::Trim {
                offset,
                len,
                is_fua,
            },
            Command::WriteZeroes => Step::Zero {
                offset,
                len,
                is_fua,
                may_unmap: !request.has(NO_HOLE),
                no_fallback: request.has(FAST_ZERO),
            },
            Command::Cache => Step::Cache { offset, len },
            Command::BlockStatus => Step::Status {
                offset,
                len,
                how: Asked {
                    only_one: request.has(REQ_ONE),
                    contexts: session.contexts,
                    is_wide: session.framing == Framing::Extended,
                },
            },
            Command::Disconnect | Command::Unknown(_) => {
                unreachable!("answered before a step is made")
            }
        };
        self.requests.get(index).is_taken_in = true;
        self.start_step(index, offset, step)
    }

    /// A request for nothing succeeds.
    fn answer_empty(&mut self, index: usize) -> Result<(), SessionError> {
        let pending = self.requests.get(index);
        pending.delivery = Delivery::AtEnd;
        pending.is_taken_in = true;
        self.settle(index)
    }

    /// The longest read that is answered in one piece, in bytes: all of its sectors fit into the connection's memory,
    /// wherever it begins.
    fn unfragmented_max(&self) -> usize {
        self.pool.bytes_max() - 2 * self.session.export.disk().sector_size() as usize
    }

    fn delivery(&self, request: &Request) -> Delivery {
        let fits = |len_max: usize| request.len <= len_max as u64;
        match request.command {
            Command::Read if self.session.framing.has_chunks() => {
                match request.has(DF) || fits(self.read_piece_len()) {
                    true => Delivery::Whole,
                    false => Delivery::Chunks,
                }
            }
            Command::Read if fits(self.unfragmented_max()) => Delivery::Whole,
            Command::Read => Delivery::Stream { begun: false },
            Command::BlockStatus => Delivery::Whole,
            // One flush at the end costs less than a durable write for each piece.
            Command::Write if request.has(FUA) && !fits(self.write_piece_len(request)) => {
                Delivery::AtEndFlushed
            }
            _ => Delivery::AtEnd,
        }
    }

    fn take_read(&mut self, progress: Progress) -> Result<Option<Stuck>, SessionError> {
        let Progress { request, next, end } = progress;
        let is_full = self.is_full();
        let is_line_taken = self.output.is_streaming();
        let pending = self.requests.get(request);
        if pending.failure.is_some() {
            pending.is_taken_in = true;
            self.front = Front::Header;
            return self.settle(request).map(|()| None);
        }
        let is_blocked = match pending.delivery {
            Delivery::Stream { begun } => pending.steps > 0 || (is_line_taken && !begun),
            _ => pending.steps >= PIECES_AHEAD_MAX,
        };
        if is_full || is_blocked {
            return Ok(Some(Stuck::NeedsRoom));
        }
        let piece_end = match pending.delivery {
            Delivery::Whole => end,
            _ => self.piece_end(next, end, self.read_piece_len()),
        };
        if piece_end == end {
            self.requests.get(request).is_taken_in = true;
            self.front = Front::Header;
        } else {
            let next = piece_end;
            self.front = Front::Read(Progress { next, ..progress });
        }
        let step = Step::Read {
            offset: next,
            len: piece_end - next,
        };
        self.start_step(request, next, step)?;
        Ok(None)
    }

    fn read_piece_len(&self) -> usize {
        PIECE_BYTES.min(self.unfragmented_max())
    }

    /// Half of the connection's memory at most, so that what is under way has room while the client is slow with a piece. Whole sectors, and
    /// one where half is less. What is not whole sectors needs room for one more, and for two that are read first; the memory is never
    /// less than four sectors.
    fn write_piece_len(&self, request: &Request) -> usize {
        let sector_size = self.session.export.disk().sector_size() as usize;
        let memory_len = self.pool.bytes_max();
        let is_aligned = (request.offset | request.len).is_multiple_of(sector_size as u64);
        let room = match is_aligned {
            true => memory_len / 2,
            false => (memory_len / 2).min(memory_len - 3 * sector_size),
        };
        let sectors = (PIECE_BYTES.min(room) / sector_size).max(1);
        sectors * sector_size
    }

    /// Where the piece of up to `piece_len` bytes from `next` on ends: between two sectors, unless it is the last.
    fn piece_end(&self, next: u64, end: u64, piece_len: usize) -> u64 {
        let piece_len = piece_len as u64;
        if end - next <= piece_len {
            return end;
        }
        let shift = self.session.export.disk().sector_shift();
        (next + piece_len) >> shift << shift
    }

    fn take_write(&mut self, progress: Progress) -> Result<Option<Stuck>, SessionError> {
        let Progress { request, next, end } = progress;
        let whole = self.requests.get(request).request;
        let piece_len = self.write_piece_len(&whole);
        let piece_end = self.piece_end(next, end, piece_len);
        let pending = self.requests.get(request);
        let has_failed = pending.failure.is_some();
        let has_pieces = whole.len > piece_len as u64;
        let is_fua = whole.has(FUA) && !has_pieces;
        if has_failed {
            return self.give_up_write(progress).map(|()| None);
        }
        let shift = self.session.export.disk().sector_shift();
        let span = Span::new(next, piece_end - next, shift);
        let Front::Write(_, piece) = &mut self.front else {
            unreachable!("a write is at the front");
        };
        let (mut payload, mut filled) = match std::mem::replace(piece, Piece::Wanted) {
            Piece::Filling { payload, filled } => (payload, filled),
            wanted => match self.poll_memory(wanted, &span) {
                Poll::Ready(Ok(buffer)) => (Payload::new(buffer, &span), 0),
                Poll::Ready(Err(error)) => {
                    self.note_failure(request, &StepError::Memory(error));
                    return Ok(None);
                }
                Poll::Pending => return Ok(Some(Stuck::NeedsRoom)),
            },
        };
        let room = payload.room(filled);
        filled += self
            .input
            .take_into(room.expect("memory is lent after it was filled"));
        let is_filled = filled == payload.len();
        if !is_filled || self.is_full() {
            self.front = Front::Write(progress, Piece::Filling { payload, filled });
            return Ok(Some(match is_filled {
                true => Stuck::NeedsRoom,
                false => Stuck::NeedsInput,
            }));
        }
        if piece_end == end {
            self.requests.get(request).is_taken_in = true;
            self.front = Front::Header;
        } else {
            let next = piece_end;
            self.front = Front::Write(Progress { next, ..progress }, Piece::Wanted);
        }
        let to = WriteAs {
            offset: next,
            is_fua,
        };
        self.start_step(request, next, Step::Write(payload, to))?;
        Ok(None)
    }

    /// Memory for the piece at the front, which is still wanted, or waiting.
    fn poll_memory(
        &mut self,
        piece: Piece,
        span: &Span,
    ) -> Poll<Result<BounceBuffer, BounceError>> {
        let len = Payload::len_for_write(span);
        let mut waiting = match piece {
            Piece::Waiting(waiting) => waiting,
            Piece::Wanted | Piece::Filling { .. } => match self.pool.try_allocate(len) {
                Ok(Some(buffer)) => return Poll::Ready(Ok(buffer)),
                Ok(None) => {
                    let pool = self.pool.clone();
                    Box::pin(async move { pool.allocate(len).await })
                }
                Err(error) => return Poll::Ready(Err(error)),
            },
        };
        let result = waiting
            .as_mut()
            .poll(&mut Context::from_waker(&self.front_waker));
        if result.is_pending()
            && let Front::Write(_, piece) = &mut self.front
        {
            *piece = Piece::Waiting(waiting);
        }
        result
    }

    /// Reads past what is still to come of a write that has failed.
    fn give_up_write(&mut self, progress: Progress) -> Result<(), SessionError> {
        let filled = match &self.front {
            Front::Write(_, Piece::Filling { filled, .. }) => *filled as u64,
            _ => 0,
        };
        self.front = Front::Skip {
            request: progress.request,
            bytes_left: progress.end - progress.next - filled,
        };
        Ok(())
    }

    fn take_skip(&mut self) -> Result<Option<Stuck>, SessionError> {
        let Front::Skip {
            request,
            bytes_left,
        } = &mut self.front
        else {
            unreachable!("something to skip is at the front");
        };
        let len = usize::try_from(*bytes_left).unwrap_or(usize::MAX);
        *bytes_left -= self.input.skip(len) as u64;
        if *bytes_left > 0 {
            return Ok(Some(Stuck::NeedsInput));
        }
        let request = *request;
        self.front = Front::Header;
        self.requests.get(request).is_taken_in = true;
        self.settle(request)?;
        Ok(None)
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "Header",
            Self::Read(_) => "Read",
            Self::Write(..) => "Write",
            Self::Skip { .. } => "Skip",
            Self::Ended(_) => "Ended",
        })
    }
}
