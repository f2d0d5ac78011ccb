//! Finding out where two disks differ.

use super::chunks::Chunks;
use super::content;
use super::copy::{measures, pool};
use super::drive::drive;
use super::extents::Known;
use super::fault::{Fault, Side};
use super::view::View;
use super::{Effort, Watch};
use disk_backend::Disk;
use std::ops::ControlFlow;

/// A comparison to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Comparison<'a> {
    pub(crate) first: &'a Disk,
    /// None: with zeros.
    pub(crate) second: Option<&'a Disk>,
    /// How many bytes are compared; beyond its end a disk reads zero.
    pub(crate) end: u64,
    /// Whether to end at the first difference.
    pub(crate) only_first: bool,
}

/// What a comparison found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Differences {
    /// The offset of the first byte that differs.
    pub(crate) first_offset: Option<u64>,
    /// How many bytes differ, as far as they were compared.
    pub(crate) different_bytes: u64,
    /// How many bytes were compared, by reading or by what is known of them.
    pub(crate) compared_bytes: u64,
    pub(crate) first_read_bytes: u64,
    pub(crate) second_read_bytes: u64,
    /// Whether all was compared.
    pub(crate) is_complete: bool,
}

impl Differences {
    fn add(&mut self, other: &Self) {
        self.first_offset = match (self.first_offset, other.first_offset) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.different_bytes += other.different_bytes;
        self.compared_bytes += other.compared_bytes;
        self.first_read_bytes += other.first_read_bytes;
        self.second_read_bytes += other.second_read_bytes;
    }
}

impl Comparison<'_> {
    /// Compares.
    ///
    /// # Errors
    /// The first fault by offset.
    pub(crate) async fn run(
        &self,
        effort: Effort,
        watch: &dyn Watch,
    ) -> Result<Differences, Fault> {
        let first = View::new(self.first, Side::First);
        let second = self.second.map(|disk| View::new(disk, Side::Second));
        let views: Vec<View<'_>> = [first].into_iter().chain(second).collect();
        let measures = measures(effort, self.end, &views);
        let chunks = Chunks::new(Known::new(first), second.map(Known::new), measures);
        let pool = pool(effort, &measures);
        let mut all = Differences::default();
        let driven = drive(
            chunks,
            effort,
            watch,
            async |chunk| {
                let mut found = Differences {
                    compared_bytes: chunk.len(),
                    ..Differences::default()
                };
                if chunk.is_zero() {
                    return Ok(found);
                }
                let pair = content::load(&pool, (first, second), chunk, &measures).await?;
                found.first_read_bytes = pair.first_read_bytes;
                found.second_read_bytes = pair.second_read_bytes;
                if let Some((at, count)) =
                    content::differences(&pair, chunk.len(), measures.granule)
                {
                    found.first_offset = Some(chunk.range.start + at);
                    found.different_bytes = count;
                }
                Ok(found)
            },
            |found| {
                all.add(&found);
                match self.only_first && all.first_offset.is_some() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            },
        );
        let is_complete = match driven.await {
            Ok(is_complete) => is_complete,
            Err(mut fault) => {
                for view in &views {
                    fault = view.pinpoint(fault).await;
                }
                return Err(fault);
            }
        };
        Ok(Differences { is_complete, ..all })
    }
}
