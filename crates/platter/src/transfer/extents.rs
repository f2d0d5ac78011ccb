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
    fn is_like(&self, other: &Self) -> bool {
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

/// All extents of a disk in order, of which no two neighbours are alike.
pub(crate) struct Joined<'a> {
    extents: Extents<'a>,
    ahead: Option<Extent>,
}

impl<'a> Joined<'a> {
    pub(crate) fn new(view: View<'a>) -> Self {
        Self {
            extents: Extents::new(view),
            ahead: None,
        }
    }

    /// The next extent, or none at the end of the disk.
    pub(crate) async fn next(&mut self) -> Result<Option<Extent>, Fault> {
        let first = match self.ahead.take() {
            Some(ahead) => Some(ahead),
            None => self.extents.next().await?,
        };
        let Some(mut extent) = first else {
            return Ok(None);
        };
        while let Some(next) = self.extents.next().await? {
            if !next.is_like(&extent) {
                self.ahead = Some(next);
                break;
            }
            extent.range.end = next.range.end;
        }
        Ok(Some(extent))
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

/// What is known of the bytes of a disk, asked for from front to back. Behind its end there are zeros.
pub(crate) struct Known<'a> {
    extents: Extents<'a>,
    content: Content,
    end: u64,
}

impl<'a> Known<'a> {
    pub(crate) fn new(view: View<'a>) -> Self {
        Self {
            extents: Extents::new(view),
            content: Content::Zero,
            end: 0,
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
                    self.content = Content::Zero;
                }
            }
        }
        Ok((self.content, self.end))
    }
}
