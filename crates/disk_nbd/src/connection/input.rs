//! Bytes from the server, taken apart as they come. Whatever they are, what is held of them is bounded: a buffer, and one
//! chunk's payload of at most [`PAYLOAD_LEN_MAX`] bytes, for which memory is taken as it comes.

use super::table::{Table, Violation};
use nbd_protocol::reply::ChunkPayload;
use nbd_protocol::{ChunkHeader, ChunkKind, Command, Framing, Malformed, ReplyHeader};
use std::ops::Range;

/// Room for a good many small replies, and for a large part of a long one.
const CAPACITY: usize = 256 * 1024;

/// The longest payload that is collected before it is taken apart, in bytes: a million extents.
const PAYLOAD_LEN_MAX: u64 = 16 << 20;

/// A queue of bytes, and what the next of them must be.
pub(super) struct Input {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    framing: Framing,
    expected: Expected,
}

enum Expected {
    Header,
    /// The offset at the beginning of data.
    DataOffset(ChunkHeader),
    /// Data of a read; the run counts from the beginning of the read.
    Data {
        cookie: u64,
        run: Range<u32>,
        is_last: bool,
    },
    Payload {
        chunk: ChunkHeader,
        collected: Vec<u8>,
    },
}

impl Input {
    pub(super) fn new(framing: Framing) -> Self {
        Self {
            bytes: vec![0; CAPACITY].into_boxed_slice(),
            start: 0,
            end: 0,
            framing,
            expected: Expected::Header,
        }
    }

    /// Where to receive more; never empty.
    pub(super) fn room(&mut self) -> &mut [u8] {
        // Less than a header is left whenever more is wanted.
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        &mut self.bytes[self.end..]
    }

    /// Takes in `len` bytes that were received into [`room`](Self::room).
    pub(super) fn received(&mut self, len: usize, table: &mut Table) -> Result<(), Violation> {
        self.end += len;
        while self.advance(table)? {}
        Ok(())
    }

    /// Whether the stream may end here.
    pub(super) fn is_between_replies(&self) -> bool {
        self.start == self.end && matches!(self.expected, Expected::Header)
    }

    fn available(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Takes the next step; returns whether there was enough for one.
    fn advance(&mut self, table: &mut Table) -> Result<bool, Violation> {
        match &self.expected {
            Expected::Header => self.take_header(table),
            Expected::DataOffset(_) => self.take_data_offset(table),
            Expected::Data { .. } => self.take_data(table),
            Expected::Payload { .. } => self.take_payload(table),
        }
    }

    fn take_header(&mut self, table: &mut Table) -> Result<bool, Violation> {
        let available = self.available();
        let Some(magic) = available.first_chunk() else {
            return Ok(false);
        };
        let len = ReplyHeader::len(*magic).map_err(malformed)?;
        let Some(header) = available.get(..len) else {
            return Ok(false);
        };
        let header = ReplyHeader::decode(header).map_err(malformed)?;
        if !header.allowed_in(self.framing) {
            return Err(format!(
                "it sends a reply of a kind that was not agreed on ({:?})",
                self.framing
            ));
        }
        self.start += len;
        self.expected = match header {
            ReplyHeader::Simple { errno, cookie } => self.simple(errno, cookie, table)?,
            ReplyHeader::Chunk(chunk) => begin_chunk(chunk, table)?,
        };
        Ok(true)
    }

    fn simple(&self, errno: u32, cookie: u64, table: &mut Table) -> Result<Expected, Violation> {
        let (command, bytes) = table.request(cookie)?;
        if errno != 0 {
            table.fail(cookie, errno, "")?;
        } else if command == Command::Read {
            if self.framing.has_chunks() {
                return Err("it sends the data of a read without a chunk".to_owned());
            }
            // Data in one request is bounded far below 4 GiB.
            let run = 0..(bytes.end - bytes.start) as u32;
            table.expect(cookie, run.clone())?;
            return Ok(Expected::Data {
                cookie,
                run,
                is_last: true,
            });
        }
        table.finish(cookie)?;
        Ok(Expected::Header)
    }

    fn take_data_offset(&mut self, table: &mut Table) -> Result<bool, Violation> {
        let Expected::DataOffset(chunk) = &self.expected else {
            unreachable!("an offset is expected");
        };
        let Some(offset) = self.available().first_chunk() else {
            return Ok(false);
        };
        let offset = ChunkPayload::data_offset(*offset);
        let len = chunk.payload_len - ReplyHeader::DATA_OFFSET_LEN as u64;
        let run = run_of_read(chunk.cookie, offset, len, table)?;
        table.expect(chunk.cookie, run.clone())?;
        self.expected = Expected::Data {
            cookie: chunk.cookie,
            run,
            is_last: chunk.is_last,
        };
        self.start += ReplyHeader::DATA_OFFSET_LEN;
        Ok(true)
    }

    fn take_data(&mut self, table: &mut Table) -> Result<bool, Violation> {
        let Expected::Data {
            cookie,
            run,
            is_last,
        } = &mut self.expected
        else {
            unreachable!("data is expected");
        };
        let (cookie, is_last) = (*cookie, *is_last);
        let data = &self.bytes[self.start..self.end];
        let data = &data[..data.len().min(run.len())];
        if data.is_empty() {
            return Ok(false);
        }
        table.put(cookie, run.start, data)?;
        // No longer than the run.
        run.start += data.len() as u32;
        self.start += data.len();
        if run.start == run.end {
            self.expected = Expected::Header;
            if is_last {
                table.finish(cookie)?;
            }
        }
        Ok(true)
    }

    fn take_payload(&mut self, table: &mut Table) -> Result<bool, Violation> {
        let Expected::Payload { chunk, collected } = &mut self.expected else {
            unreachable!("a payload is expected");
        };
        let missing = chunk.payload_len as usize - collected.len();
        let taken = missing.min(self.end - self.start);
        collected.extend_from_slice(&self.bytes[self.start..self.start + taken]);
        self.start += taken;
        if taken < missing {
            return Ok(false);
        }
        let chunk = *chunk;
        let payload = std::mem::take(collected);
        self.expected = Expected::Header;
        take_chunk(&chunk, &payload, table)?;
        if chunk.is_last {
            table.finish(chunk.cookie)?;
        }
        Ok(true)
    }
}

fn begin_chunk(chunk: ChunkHeader, table: &mut Table) -> Result<Expected, Violation> {
    let (command, _) = table.request(chunk.cookie)?;
    let is_about = match chunk.kind {
        ChunkKind::OffsetData | ChunkKind::OffsetHole => command == Command::Read,
        ChunkKind::BlockStatus | ChunkKind::BlockStatusExtended => command == Command::BlockStatus,
        _ => true,
    };
    if !is_about {
        return Err(format!(
            "it answers a {} with a chunk of another command ({:?})",
            command.name(),
            chunk.kind
        ));
    }
    if chunk.kind == ChunkKind::OffsetData {
        if chunk.payload_len <= ReplyHeader::DATA_OFFSET_LEN as u64 {
            return Err("it sends a chunk of data without data".to_owned());
        }
        return Ok(Expected::DataOffset(chunk));
    }
    if chunk.payload_len > PAYLOAD_LEN_MAX {
        return Err(format!(
            "it sends a chunk of {} bytes that are not data",
            chunk.payload_len
        ));
    }
    Ok(Expected::Payload {
        chunk,
        collected: Vec::new(),
    })
}

fn take_chunk(chunk: &ChunkHeader, payload: &[u8], table: &mut Table) -> Result<(), Violation> {
    match ChunkPayload::decode(chunk.kind, payload).map_err(malformed)? {
        ChunkPayload::Hole { offset, len } => {
            let run = run_of_read(chunk.cookie, offset, len.into(), table)?;
            table.expect(chunk.cookie, run.clone())?;
            table.put_zeros(chunk.cookie, run)
        }
        ChunkPayload::BlockStatus {
            context_id,
            extents,
        } => table.keep_extents(chunk.cookie, context_id, extents),
        ChunkPayload::Error { errno, message, .. } => {
            table.fail(chunk.cookie, errno.code(), message)
        }
        ChunkPayload::Data { .. } => unreachable!("data is not collected"),
        ChunkPayload::None | ChunkPayload::Unknown => Ok(()),
    }
}

/// The part of a read that `len` bytes at `offset` of the export are; they have to lie in it.
fn run_of_read(
    cookie: u64,
    offset: u64,
    len: u64,
    table: &mut Table,
) -> Result<Range<u32>, Violation> {
    let (_, bytes) = table.request(cookie)?;
    let end = offset.checked_add(len);
    match end {
        // A read is far shorter than 4 GiB.
        Some(end) if bytes.start <= offset && end <= bytes.end => {
            Ok((offset - bytes.start) as u32..(end - bytes.start) as u32)
        }
        _ => Err(format!(
            "it sends {len} bytes from {offset} on, where {} to {} were asked for",
            bytes.start, bytes.end
        )),
    }
}

fn malformed(error: Malformed) -> Violation {
    error.to_string()
}
