//! Requests of a disk as requests of the protocol: cut into pieces, several of which are under way at once.
//!
//! Memory that can be pinned is handed to the connection as it is. What cannot is copied, at the poll that submits a write and at
//! the poll that takes a read's answer: nothing but the polling of its own future ever touches borrowed memory (C9).

use crate::connection::{Answer, Operation, Pending};
use crate::disk::NbdDisk;
use disk_backend::DiskError;
use nbd_protocol::Command;
use scsi_buffers::{BounceBuffer, BounceError, PinnedBuffers, RequestBuffers};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;

/// How many pieces of one request are under way at once: enough to keep the server busy, and few beside those of others.
const PIECES_AT_ONCE: usize = 4;

/// A piece that can be submitted, and the borrowed memory that its data goes to in the end.
type Prepared<'a> = (Operation, Option<Bounced<'a>>);

/// Data of a read on its way to borrowed memory.
struct Bounced<'a> {
    to: RequestBuffers<'a>,
    from: BounceBuffer,
}

/// The pieces of one request that are under way, oldest first, and what went wrong so far.
struct Pieces<'a> {
    under_way: VecDeque<(Pending, Option<Bounced<'a>>)>,
    failure: Option<DiskError>,
}

impl Pieces<'_> {
    async fn settle_oldest(&mut self) {
        let Some((pending, _)) = self.under_way.front_mut() else {
            return;
        };
        let answered = pending.await;
        let bounced = self.under_way.pop_front().and_then(|(_, bounced)| bounced);
        let settled = match (answered, bounced) {
            (Ok(_), Some(Bounced { to, from })) => {
                to.copy_from(&from.buffers(false)).map_err(DiskError::from)
            }
            (answered, _) => answered.map(drop),
        };
        if let Err(error) = settled {
            self.failure.get_or_insert(error);
        }
    }

    /// Waits for all of them also after an error: who is told of it may use its memory again.
    async fn settle_all(mut self) -> Result<(), DiskError> {
        while !self.under_way.is_empty() {
            self.settle_oldest().await;
        }
        self.failure.map_or(Ok(()), Err)
    }
}

impl NbdDisk {
    pub(crate) async fn read(
        &self,
        buffers: &RequestBuffers<'_>,
        offset: u64,
    ) -> Result<(), DiskError> {
        let range = offset..offset + buffers.len() as u64;
        let piece_bytes = self.properties.piece_bytes;
        let prepare = |piece: Range<u64>| {
            let part = part_of(buffers, offset, &piece);
            let counters = self.connection.counters();
            counters.reads.add(1);
            counters.read_bytes.add(part.len() as u64);
            let (memory, bounced) = match part.pin() {
                Some(pinned) => (pinned, None),
                None => {
                    let from = self.bounce_buffer(part.len())?;
                    (pin(&from, true), Some(Bounced { to: part, from }))
                }
            };
            Ok((operation(Command::Read, 0, &piece, Some(memory)), bounced))
        };
        self.in_pieces(range, piece_bytes, true, prepare).await
    }

    /// `flags` are of [`nbd_protocol::command_flag`].
    pub(crate) async fn write(
        &self,
        buffers: &RequestBuffers<'_>,
        offset: u64,
        flags: u16,
    ) -> Result<(), DiskError> {
        let range = offset..offset + buffers.len() as u64;
        let piece_bytes = self.properties.piece_bytes;
        let prepare = |piece: Range<u64>| {
            let part = part_of(buffers, offset, &piece);
            let counters = self.connection.counters();
            counters.writes.add(1);
            counters.written_bytes.add(part.len() as u64);
            let memory = match part.pin() {
                Some(pinned) => pinned,
                None => {
                    let copy = self.bounce_buffer(part.len())?;
                    copy.buffers(true).copy_from(&part)?;
                    pin(&copy, false)
                }
            };
            Ok((operation(Command::Write, flags, &piece, Some(memory)), None))
        };
        self.in_pieces(range, piece_bytes, true, prepare).await
    }

    /// A command without data, for each piece of `range`.
    pub(crate) async fn each_piece(
        &self,
        command: Command,
        flags: u16,
        range: Range<u64>,
        piece_bytes: u32,
    ) -> Result<(), DiskError> {
        let prepare = |piece: Range<u64>| Ok((operation(command, flags, &piece, None), None));
        self.in_pieces(range, piece_bytes, false, prepare).await
    }

    async fn in_pieces<'a>(
        &self,
        range: Range<u64>,
        piece_bytes: u32,
        has_data: bool,
        prepare: impl Fn(Range<u64>) -> Result<Prepared<'a>, DiskError> + Send,
    ) -> Result<(), DiskError> {
        let mut pieces = Pieces {
            under_way: VecDeque::new(),
            failure: None,
        };
        for piece in cut(range, piece_bytes) {
            if pieces.under_way.len() == PIECES_AT_ONCE {
                pieces.settle_oldest().await;
            }
            if pieces.failure.is_some() {
                break;
            }
            let data_len = match has_data {
                true => (piece.end - piece.start) as usize,
                false => 0,
            };
            let admitted = self.connection.admit(data_len).await;
            // Memory is taken only once there is room, so that it is bounded with the room.
            match admitted.and_then(|admission| Ok((admission, prepare(piece)?))) {
                Ok((admission, (operation, bounced))) => {
                    let pending = self.connection.submit(admission, operation);
                    pieces.under_way.push_back((pending, bounced));
                }
                Err(error) => pieces.failure = Some(error),
            }
        }
        pieces.settle_all().await
    }

    /// A single command without data.
    pub(crate) async fn ask(
        &self,
        command: Command,
        range: Range<u64>,
    ) -> Result<Answer, DiskError> {
        let admission = self.connection.admit(0).await?;
        let operation = operation(command, 0, &range, None);
        self.connection.submit(admission, operation).await
    }

    fn bounce_buffer(&self, len: usize) -> Result<BounceBuffer, DiskError> {
        let out_of_memory =
            |error: BounceError| DiskError::Io(io::Error::new(io::ErrorKind::OutOfMemory, error));
        // What has been read counts until it is taken. That is the caller's affair, and must not hold up others.
        match self.bounce.try_allocate(len).map_err(out_of_memory)? {
            Some(buffer) => Ok(buffer),
            None => BounceBuffer::unpooled(len).map_err(out_of_memory),
        }
    }
}

fn operation(
    command: Command,
    flags: u16,
    range: &Range<u64>,
    memory: Option<PinnedBuffers>,
) -> Operation {
    Operation {
        command,
        flags,
        offset: range.start,
        len: range.end - range.start,
        memory,
    }
}

/// The memory of a piece of a request that begins at `offset`.
fn part_of<'a>(
    buffers: &RequestBuffers<'a>,
    offset: u64,
    piece: &Range<u64>,
) -> RequestBuffers<'a> {
    // Inside the buffers, so a usize.
    buffers.subrange(
        (piece.start - offset) as usize,
        (piece.end - piece.start) as usize,
    )
}

fn pin(buffer: &BounceBuffer, is_writable: bool) -> PinnedBuffers {
    let pinned = buffer.buffers(is_writable).pin();
    pinned.expect("bounce buffers can be pinned")
}

/// Cuts a range at multiples of `piece_bytes`, so that all but the first and the last piece are aligned.
fn cut(range: Range<u64>, piece_bytes: u32) -> impl Iterator<Item = Range<u64>> + Send {
    let piece_bytes = u64::from(piece_bytes);
    let mut at = range.start;
    std::iter::from_fn(move || {
        let start = at;
        at = (start - start % piece_bytes)
            .saturating_add(piece_bytes)
            .min(range.end);
        (start < range.end).then_some(start..at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_at_multiples_of_their_size_and_leave_no_gap() {
        let pieces: Vec<_> = cut(1000..3500, 1024).collect();
        assert_eq!(pieces, [1000..1024, 1024..2048, 2048..3072, 3072..3500]);
        let last = u64::MAX - 1000..u64::MAX;
        for whole in [0..1024, 512..600, last] {
            assert!(cut(whole.clone(), 1024).eq([whole]));
        }
        assert_eq!(cut(5..5, 1024).count(), 0);
        // Sizes that are no power of two come from servers with odd limits.
        assert_eq!(
            cut(0..5000, 3072).collect::<Vec<_>>(),
            [0..3072, 3072..5000]
        );
    }
}
