//! What a disk knows of itself without reading, from its first sector to its last.

use super::fault::Fault;
use super::view::View;
use disk_backend::{BlockState, BlockStatus, LayerId};
use std::ops::Range;

/// A run of bytes of which the same is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) range: Range<u64>,
    pub(crate) state: BlockState,
    pub(crate) layer: Option<LayerId>,
}

impl Extent {
    /// Whether the same is known of both, wherever they lie.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (self.state, self.layer) == (other.state, other.layer)
    }
}

/// All extents of a disk in order, a bounded batch at a time.
pub(crate) struct Extents<'a> {
    view: View<'a>,
    at: u64,
    batch: BlockStatus,
    /// How many of the batch were handed out.
    taken: usize,
}

impl<'a> Extents<'a> {
    pub(crate) fn new(view: View<'a>) -> Self {
        Self {
            view,
            at: 0,
            batch: BlockStatus::default(),
            taken: 0,
        }
    }

    /// The next extent, or none at the end of the disk. Neighbours may be alike where a batch ended between them.
    pub(crate) async fn next(&mut self) -> Result<Option<Extent>, Fault> {
        if self.at == self.view.size_bytes() {
            return Ok(None);
        }
        if self.taken == self.batch.extents().len() {
            self.batch = self.view.status(self.at).await?;
            self.taken = 0;
        }
        let extent = self.batch.extents()[self.taken];
        self.taken += 1;
        let end = self.at + extent.sector_count * self.view.sector_size();
        let range = std::mem::replace(&mut self.at, end)..end;
        Ok(Some(Extent {
            range,
            state: extent.state,
            layer: extent.layer,
        }))
    }
}

/// What a run of bytes reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Zeros; it need not be read.
    Zero,
    /// What reading it tells.
    Unread,
}

/// What is known of the bytes of a disk, asked for from front to back.
pub(crate) struct Known<'a> {
    extents: Extents<'a>,
    content: Content,
    end: u64,
    /// What is said of the bytes behind the disk.
    beyond: Content,
}

impl<'a> Known<'a> {
    pub(crate) fn new(view: View<'a>, beyond: Content) -> Self {
        Self {
            extents: Extents::new(view),
            content: beyond,
            end: 0,
            beyond,
        }
    }

    /// The content of the bytes from `at` on, and where what is known of them ends. `at` never goes back.
    pub(crate) async fn at(&mut self, at: u64) -> Result<(Content, u64), Fault> {
        while self.end <= at {
            match self.extents.next().await? {
                Some(extent) => {
                    self.end = extent.range.end;
                    self.content = match extent.state {
                        BlockState::Data => Content::Unread,
                        BlockState::Zero | BlockState::Hole => Content::Zero,
                    };
                }
                None => {
                    self.end = u64::MAX;
                    self.content = self.beyond;
                }
            }
        }
        Ok((self.content, self.end))
    }
}
