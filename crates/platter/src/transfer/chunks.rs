//! A run cut into chunks (P1), by what both disks know without reading.

use super::extents::{Content, Known};
use super::fault::Fault;
use std::ops::Range;

/// A part of a run. Of a part that has to be read at all it is at most as long as chunks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// In bytes.
    pub(crate) range: Range<u64>,
    pub(crate) first: Content,
    pub(crate) second: Content,
}

impl Chunk {
    pub(crate) fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Both disks read zero.
    pub(crate) fn is_zero(&self) -> bool {
        (self.first, self.second) == (Content::Zero, Content::Zero)
    }

    fn is_followed_by(&self, next: &Self) -> bool {
        (self.first, self.second) == (next.first, next.second)
    }
}

/// The measures of a run, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measures {
    /// A power of two, at least each of the sector sizes.
    pub(crate) granule: u64,
    /// A multiple of the granule.
    pub(crate) chunk: u64,
    /// Where the run ends.
    pub(crate) end: u64,
}

/// The chunks of a run, front to back.
pub(crate) struct Chunks<'a> {
    first: Known<'a>,
    /// None counts as zeros throughout.
    second: Option<Known<'a>>,
    measures: Measures,
    at: u64,
    /// Looked at already, but not handed out.
    ahead: Option<Chunk>,
}

impl<'a> Chunks<'a> {
    pub(crate) fn new(first: Known<'a>, second: Option<Known<'a>>, measures: Measures) -> Self {
        Self {
            first,
            second,
            measures,
            at: 0,
            ahead: None,
        }
    }

    /// The next chunk, or none at the end of the run.
    pub(crate) async fn next(&mut self) -> Result<Option<Chunk>, Fault> {
        let Some(mut chunk) = self.next_run().await? else {
            return Ok(None);
        };
        // What nobody has to read needs no cutting, and no joining either.
        if chunk.is_zero() {
            return Ok(Some(chunk));
        }
        let end_max = (chunk.range.start / self.measures.chunk + 1) * self.measures.chunk;
        while chunk.range.end < end_max {
            match self.next_run().await? {
                Some(next) if chunk.is_followed_by(&next) => chunk.range.end = next.range.end,
                next => {
                    self.ahead = next;
                    break;
                }
            }
        }
        if chunk.range.end > end_max {
            self.ahead = Some(Chunk {
                range: end_max..chunk.range.end,
                ..chunk
            });
            chunk.range.end = end_max;
        }
        Ok(Some(chunk))
    }

    /// A run of whole granules of which the same is known. Of a granule that is partly zero nothing is known.
    async fn next_run(&mut self) -> Result<Option<Chunk>, Fault> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        let Measures { granule, end, .. } = self.measures;
        if self.at == end {
            return Ok(None);
        }
        let (first, first_end) = self.first.at(self.at).await?;
        let (second, second_end) = match &mut self.second {
            Some(second) => second.at(self.at).await?,
            None => (Content::Zero, u64::MAX),
        };
        let known_end = first_end.min(second_end).min(end);
        let whole_end = match known_end == end {
            true => end,
            false => known_end - known_end % granule,
        };
        let start = self.at;
        if whole_end > start {
            self.at = whole_end;
            return Ok(Some(Chunk {
                range: start..whole_end,
                first,
                second,
            }));
        }
        self.at = end.min(start + granule);
        let second = match self.second {
            Some(_) => Content::Unread,
            None => Content::Zero,
        };
        Ok(Some(Chunk {
            range: start..self.at,
            first: Content::Unread,
            second,
        }))
    }
}
