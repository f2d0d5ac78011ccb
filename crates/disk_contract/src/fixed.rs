//! The cases that every disk goes through, in this order.

use crate::Clause;
use crate::alone::complete_alone;
use crate::illegal::{Illegal, MemoryFault};
use crate::subject::{Checked, Subject};
use disk_backend::DiskIo;
use futures_lite::future::poll_once;
use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

/// Whether a disk's size can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resizing {
    Unsupported,
    Supported,
}

/// A fresh disk that takes changes. `must_resize`: it has to support a change of its size.
pub(crate) async fn writable<T: DiskIo>(
    subject: &mut Subject<'_, T>,
    must_resize: bool,
    stall_limit: Duration,
) -> Checked<Resizing> {
    subject.verify_initial().await?;
    reads(subject).await?;
    refusals(subject).await?;
    // First of all, while most of the disk still holds what it began with.
    unmaps(subject).await?;
    zeroes(subject).await?;
    writes(subject).await?;
    subject.flush().await?;
    resizes(subject, must_resize, stall_limit).await
}

/// A fresh disk that refuses changes.
pub(crate) async fn read_only<T: DiskIo>(subject: &mut Subject<'_, T>) -> Checked {
    subject.verify_initial().await?;
    reads(subject).await?;
    refusals(subject).await?;
    subject.flush().await?;
    let sector_count = subject.sector_count();
    if subject.disk().resize(sector_count + 1).await.is_ok() {
        return Err(subject.violation(Clause::C1, "a read-only disk was resized"));
    }
    subject.verify_initial().await
}

/// One sector, the edges, and everything.
fn ranges(sector_count: u64) -> Vec<Range<u64>> {
    let middle = sector_count / 2;
    let mut ranges = vec![
        0..1,
        0..sector_count.min(3),
        middle..middle + 1,
        sector_count.saturating_sub(5)..sector_count,
        sector_count - 1..sector_count,
        0..sector_count,
    ];
    ranges.dedup();
    ranges
}

async fn reads<T: DiskIo>(subject: &mut Subject<'_, T>) -> Checked {
    let sector_count = subject.sector_count();
    for sector in [0, sector_count / 2, sector_count] {
        subject.empty_requests(sector).await?;
    }
    for range in ranges(sector_count) {
        subject.read(range.clone()).await?;
        subject.status(range).await?;
    }
    // Each sector by itself, where they are few.
    for sector in 0..sector_count.min(100) {
        subject.read(sector..sector + 1).await?;
    }
    Ok(())
}

async fn refusals<T: DiskIo>(subject: &mut Subject<'_, T>) -> Checked {
    for request in subject.bounds().illegal_requests() {
        subject.refuse(request).await?;
    }
    subject.compare_all().await
}

async fn writes<T: DiskIo>(subject: &mut Subject<'_, T>) -> Checked {
    for range in ranges(subject.sector_count()) {
        for fua in [false, true] {
            subject.write(range.clone(), fua).await?;
            subject.compare_all().await?;
        }
        subject.status(range).await?;
    }
    Ok(())
}

async fn zeroes<T: DiskIo>(subject: &mut Subject<'_, T>) -> Checked {
    let sector_count = subject.sector_count();
    for range in ranges(sector_count) {
        for bits in 0..8 {
            let options = [bits & 1 > 0, bits & 2 > 0, bits & 4 > 0];
            // Over data, and over the zeros that are then there.
            for _ in 0..2 {
                subject.write_zeroes(range.clone(), options).await?;
                subject.read(around(&range, sector_count)).await?;
            }
            subject.status(range.clone()).await?;
            subject.write(range.clone(), false).await?;
        }
    }
    subject.compare_all().await
}

async fn unmaps<T: DiskIo>(subject: &mut Subject<'_, T>) -> Checked {
    let sector_count = subject.sector_count();
    for range in ranges(sector_count) {
        for block_level_only in [false, true] {
            for _ in 0..2 {
                subject.unmap(range.clone(), block_level_only).await?;
                subject.read(around(&range, sector_count)).await?;
                subject.read(around(&range, sector_count)).await?;
            }
            subject.status(range.clone()).await?;
            subject.write(range.start..range.start + 1, true).await?;
            subject.compare_all().await?;
            subject.write(range.clone(), false).await?;
            subject.read(around(&range, sector_count)).await?;
        }
    }
    Ok(())
}

/// Grows, shrinks, and grows again, with somebody waiting for it.
async fn resizes<T: DiskIo>(
    subject: &mut Subject<'_, T>,
    must_resize: bool,
    stall_limit: Duration,
) -> Checked<Resizing> {
    let disk = subject.disk();
    let first = subject.sector_count();
    let mut waiter = pin!(disk.wait_resize(first));
    if let Some(size) = poll_once(&mut waiter).await {
        let what = format!("a wait for another size than {first} ended with {size}");
        return Err(subject.violation(Clause::C10, what));
    }
    differs_at_once(subject, first + 1, stall_limit)?;
    if !subject.resize(first + 9).await? {
        return match must_resize {
            true => Err(subject.violation(Clause::C10, "the disk cannot be resized, but must")),
            false => Ok(Resizing::Unsupported),
        };
    }
    if complete_alone(waiter, stall_limit) != Some(first + 9) {
        let what = "a wait for another size did not end with the new one";
        return Err(subject.violation(Clause::C10, what));
    }
    subject.compare_all().await?;
    subject.status(0..first + 9).await?;
    for sector_count in [
        first + 3,
        first.div_ceil(2),
        first,
        first.div_ceil(2),
        first + 5,
    ] {
        subject.write(0..subject.sector_count(), false).await?;
        subject.resize(sector_count).await?;
        differs_at_once(subject, sector_count + 1, stall_limit)?;
        subject.compare_all().await?;
        subject.status(0..sector_count).await?;
        for is_write in [false, true] {
            subject.refuse(one_beyond(subject, is_write)).await?;
        }
    }
    subject.write(0..first + 5, true).await?;
    subject.compare_all().await?;
    Ok(Resizing::Supported)
}

/// The first sector that is not there.
fn one_beyond<T: DiskIo>(subject: &Subject<'_, T>, is_write: bool) -> Illegal {
    Illegal::Data {
        is_write,
        sector: subject.sector_count(),
        bytes: subject.bounds().sector_size as usize,
        memory: MemoryFault::Sound,
    }
}

/// Who waits for a size that the disk does not have need not wait.
fn differs_at_once<T: DiskIo>(
    subject: &Subject<'_, T>,
    sector_count: u64,
    stall_limit: Duration,
) -> Checked {
    let waiter = pin!(subject.disk().wait_resize(sector_count));
    let found = complete_alone(waiter, stall_limit);
    match found == Some(subject.sector_count()) {
        true => Ok(()),
        false => Err(subject.violation(
            Clause::C10,
            format!("the size is not {sector_count}, but who waits for that gets {found:?}"),
        )),
    }
}

/// The range and a sector on each side.
pub(crate) fn around(range: &Range<u64>, sector_count: u64) -> Range<u64> {
    range.start.saturating_sub(1)..(range.end + 1).min(sector_count)
}
