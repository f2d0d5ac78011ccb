//! Requests that a rule strikes.

use crate::action::Action;
use crate::dice::Dice;
use crate::disk::{FaultDisk, ZeroOptions};
use crate::rules::{Strike, Verdict};
use disk_backend::DiskError;
use guestmem::{MemoryRead, MemoryWrite};
use scsi_buffers::RequestBuffers;
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::ops::Range;

/// In how many pieces a write is cut, at most, to leave out some of them.
const PIECES_MAX: u64 = 64;

impl FaultDisk {
    /// For requests that can only wait or fail.
    pub(crate) async fn wait_or_fail(&self, verdict: Verdict) -> Result<(), DiskError> {
        self.wait(&verdict).await;
        verdict.end.map_or(Ok(()), |strike| strike.fail_if_told())
    }

    pub(crate) async fn faulty_read(
        &self,
        verdict: Verdict,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        self.wait(&verdict).await;
        let Some(mut strike) = verdict.end else {
            return self.core.store.read(buffers, sector).await;
        };
        strike.fail_if_told()?;
        let sectors = self.range_of(buffers, sector);
        match strike.rule.rule.action {
            Action::Misdirect => {
                let other = self.elsewhere(&sectors, &mut strike.dice);
                self.core.store.read(buffers, other).await
            }
            Action::FlipBits(count) => {
                self.core.store.read(buffers, sector).await?;
                let overlap = strike.rule.rule.overlap(&sectors);
                let flipped = self.core.store.part(buffers, sector, &overlap);
                Ok(flip_bits(&flipped, count, &mut strike.dice)?)
            }
            _ => self.core.store.read(buffers, sector).await,
        }
    }

    pub(crate) async fn faulty_write(
        &self,
        verdict: Verdict,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        self.wait(&verdict).await;
        let Some(mut strike) = verdict.end else {
            return self.core.store.write(buffers, sector, fua).await;
        };
        strike.fail_if_told()?;
        let sectors = self.range_of(buffers, sector);
        match strike.rule.rule.action {
            Action::Drop => Ok(()),
            Action::Partial | Action::PartialError(_) => {
                for piece in strike.kept_pieces(&sectors) {
                    let data = self.core.store.part(buffers, sector, &piece);
                    self.core.store.write(&data, piece.start, fua).await?;
                }
                strike.fail_after_part()
            }
            Action::Misdirect => {
                let other = self.elsewhere(&sectors, &mut strike.dice);
                self.core.store.write(buffers, other, fua).await
            }
            Action::SkipFlush => self.core.store.write(buffers, sector, false).await,
            Action::Reorder(writes_max) => {
                self.core
                    .store
                    .keep(buffers, sector, writes_max as usize)
                    .await
            }
            _ => self.core.store.write(buffers, sector, fua).await,
        }
    }

    pub(crate) async fn faulty_zeroes(
        &self,
        verdict: Verdict,
        sectors: Range<u64>,
        mut options: ZeroOptions,
    ) -> Result<(), DiskError> {
        self.wait(&verdict).await;
        let Some(mut strike) = verdict.end else {
            return self.zero(sectors, options).await;
        };
        strike.fail_if_told()?;
        match strike.rule.rule.action {
            Action::Drop => Ok(()),
            Action::Partial | Action::PartialError(_) => {
                for piece in strike.kept_pieces(&sectors) {
                    self.zero(piece, options).await?;
                }
                strike.fail_after_part()
            }
            Action::Misdirect => {
                let other = self.elsewhere(&sectors, &mut strike.dice);
                let count = sectors.end - sectors.start;
                self.zero(other..other + count, options).await
            }
            Action::SkipFlush => {
                options.fua = false;
                self.zero(sectors, options).await
            }
            _ => self.zero(sectors, options).await,
        }
    }

    pub(crate) async fn faulty_unmap(
        &self,
        verdict: Verdict,
        sector: u64,
        count: u64,
        block_level_only: bool,
    ) -> Result<(), DiskError> {
        self.wait(&verdict).await;
        if let Some(strike) = verdict.end {
            strike.fail_if_told()?;
            if matches!(strike.rule.rule.action, Action::Drop) {
                return Ok(());
            }
        }
        self.core
            .store
            .unmap(sector..sector + count, block_level_only)
            .await
    }

    pub(crate) async fn faulty_flush(&self, verdict: Verdict) -> Result<(), DiskError> {
        self.wait(&verdict).await;
        if let Some(strike) = verdict.end {
            strike.fail_if_told()?;
            if matches!(strike.rule.rule.action, Action::SkipFlush) {
                return Ok(());
            }
        }
        self.core.store.flush().await
    }

    async fn wait(&self, verdict: &Verdict) {
        for Strike { rule, dice } in &verdict.waits {
            match &rule.rule.action {
                Action::Delay(delay) => {
                    let duration = delay.draw(&mut dice.clone());
                    self.core.rules.clock.sleep(duration).await;
                }
                _ => rule.hold().await,
            }
        }
    }

    fn range_of(&self, buffers: &RequestBuffers<'_>, sector: u64) -> Range<u64> {
        sector..sector + (buffers.len() as u64 >> self.core.store.disk.sector_shift())
    }

    /// Where a request for `sectors` goes instead. If the disk has been cut off meanwhile so that there is no other place, the
    /// request goes where it wanted to, and fails there.
    fn elsewhere(&self, sectors: &Range<u64>, dice: &mut Dice) -> u64 {
        let count = sectors.end - sectors.start;
        let last = self.core.store.disk.sector_count().saturating_sub(count);
        if last == 0 || last < sectors.start {
            return sectors.start;
        }
        // All places from 0 to `last` but the one that was asked for.
        let place = dice.below(last);
        place + u64::from(place >= sectors.start)
    }
}

impl Strike {
    /// The error that the request fails with before anything is done.
    fn fail_if_told(&self) -> Result<(), DiskError> {
        match self.rule.rule.action {
            Action::Error(error) | Action::FailForever(error) => {
                Err(error.to_disk_error(self.rule.id))
            }
            _ => Ok(()),
        }
    }

    /// The error that the request fails with after a part of it was done.
    fn fail_after_part(&self) -> Result<(), DiskError> {
        match self.rule.rule.action {
            Action::PartialError(error) => Err(error.to_disk_error(self.rule.id)),
            _ => Ok(()),
        }
    }

    /// Which of the request's sectors are written.
    fn kept_pieces(&mut self, sectors: &Range<u64>) -> SmallVec<[Range<u64>; 4]> {
        let overlap = self.rule.rule.overlap(sectors);
        let mut kept = SmallVec::new();
        append(&mut kept, sectors.start..overlap.start);
        for piece in some_pieces(&overlap, &mut self.dice) {
            append(&mut kept, piece);
        }
        append(&mut kept, overlap.end..sectors.end);
        kept
    }
}

/// Not all of `range`, and of several sectors not none.
fn some_pieces(range: &Range<u64>, dice: &mut Dice) -> impl Iterator<Item = Range<u64>> {
    let count = range.end - range.start;
    let piece_sectors = count.div_ceil(PIECES_MAX).max(1);
    let piece_count = count.div_ceil(piece_sectors);
    let all = u64::MAX >> (PIECES_MAX - piece_count.clamp(1, PIECES_MAX));
    let (left_out, written) = (dice.below(piece_count), dice.below(piece_count.max(2) - 1));
    let mut kept = dice.next() & all & !(1 << left_out);
    if kept == 0 && piece_count > 1 {
        kept = 1 << (written + u64::from(written >= left_out));
    }
    let Range { start, end } = *range;
    let is_kept = move |index: &u64| kept >> index & 1 == 1;
    (0..piece_count).filter(is_kept).map(move |index| {
        let from = start + index * piece_sectors;
        from..end.min(from + piece_sectors)
    })
}

/// Adds a range at the end, joined to the last one where they meet.
fn append(ranges: &mut SmallVec<[Range<u64>; 4]>, range: Range<u64>) {
    match ranges.last_mut() {
        _ if range.is_empty() => {}
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

/// Changes `count` different bits.
fn flip_bits(
    buffers: &RequestBuffers<'_>,
    count: u32,
    dice: &mut Dice,
) -> Result<(), guestmem::AccessError> {
    let bits = buffers.len() as u64 * 8;
    let mut flipped = BTreeSet::new();
    // Floyd's way: each set of `count` bits is as likely.
    for bit in bits.saturating_sub(u64::from(count))..bits {
        let other = dice.below(bit + 1);
        if !flipped.insert(other) {
            flipped.insert(bit);
        }
    }
    for bit in flipped {
        // Below the length of the buffers in bits.
        let place = buffers.subrange((bit / 8) as usize, 1);
        let mut byte = [0];
        place.reader().read(&mut byte)?;
        place.writer().write(&[byte[0] ^ (1 << (bit % 8))])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_always_left_out_and_of_several_sectors_something_is_written() {
        for count in [1, 2, 3, 63, 64, 65, 1000, 1 << 40] {
            for seed in 0..200 {
                let range = 7..7 + count;
                let mut dice = Dice::new(seed, 0, 0);
                let mut at = range.start;
                let mut written = 0;
                for piece in some_pieces(&range, &mut dice) {
                    assert!(piece.start >= at && !piece.is_empty() && piece.end <= range.end);
                    at = piece.end;
                    written += piece.end - piece.start;
                }
                assert!(written < count, "{count} sectors, seed {seed}");
                assert!(written > 0 || count == 1, "{count} sectors, seed {seed}");
            }
        }
    }
}
