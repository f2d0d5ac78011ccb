//! Sequences of random requests against the model.

use crate::fixed::{Resizing, around};
use crate::ledger::Kind;
use crate::subject::{Checked, Subject};
use disk_backend::DiskIo;
use std::ops::Range;

/// The longest request but for those over the whole disk, in bytes.
const REQUEST_BYTES_MAX: u64 = 1 << 20;

/// A request that is dropped was polled at most so often.
const POLLS_BEFORE_DROP_MAX: u32 = 8;

/// The whole disk is compared after so many steps.
const STEPS_BETWEEN_COMPARISONS: u32 = 40;

/// Makes `steps` random requests.
pub(crate) async fn sequence<T: DiskIo>(
    subject: &mut Subject<'_, T>,
    steps: u32,
    resizing: Resizing,
) -> Checked {
    subject.verify_initial().await?;
    let sector_count_max = subject.sector_count() * 2;
    for step in 1..=steps {
        request(subject, resizing, sector_count_max).await?;
        if step % STEPS_BETWEEN_COMPARISONS == 0 {
            subject.compare_all().await?;
        }
    }
    subject.flush().await?;
    subject.status(0..subject.sector_count()).await?;
    subject.compare_all().await
}

async fn request<T: DiskIo>(
    subject: &mut Subject<'_, T>,
    resizing: Resizing,
    sector_count_max: u64,
) -> Checked {
    let range = random_range(subject);
    let changed = range.clone();
    match subject.rng().u32(0..100) {
        0..26 => {
            let fua = subject.rng().u8(0..8) == 0;
            subject.write(range, fua).await?;
        }
        26..46 => return subject.read(range).await,
        46..58 => {
            let options = std::array::from_fn(|_| subject.rng().bool());
            subject.write_zeroes(range, options).await?;
        }
        58..74 => {
            let block_level_only = subject.rng().bool();
            subject.unmap(range, block_level_only).await?;
        }
        74..83 => return subject.status(range).await,
        83..86 => return subject.flush().await,
        86..89 => {
            let requests = subject.bounds().illegal_requests();
            let request = requests[subject.rng().usize(0..requests.len())];
            return subject.refuse(request).await;
        }
        89..91 => return subject.empty_requests(range.end).await,
        91..96 => {
            let kind = match subject.rng().u8(0..5) {
                0 => Kind::WriteZeroes,
                1 => Kind::Unmap,
                _ => Kind::Write,
            };
            let poll_count = subject.rng().u32(1..=POLLS_BEFORE_DROP_MAX);
            subject.drop_change(range, kind, poll_count).await?;
        }
        96 => {
            subject.drain().await;
            return Ok(());
        }
        97 => {
            let poll_count = subject.rng().u32(1..=POLLS_BEFORE_DROP_MAX);
            return subject.drop_read(range, poll_count).await;
        }
        _ if resizing == Resizing::Supported => {
            let sector_count = subject.rng().u64(1..=sector_count_max);
            subject.resize(sector_count).await?;
            return subject.compare_all().await;
        }
        _ => return subject.compare_all().await,
    }
    // Often at once, so that a difference is found in the step that made it; not always, so that effects can pile up.
    match subject.rng().u8(0..4) {
        0 | 1 => subject.read(around(&changed, subject.sector_count())).await,
        2 => {
            subject
                .status(around(&changed, subject.sector_count()))
                .await
        }
        _ => Ok(()),
    }
}

/// A range that is not empty: the ends of the disk, single sectors and the whole come up more often than by chance.
fn random_range<T: DiskIo>(subject: &mut Subject<'_, T>) -> Range<u64> {
    let sector_count = subject.sector_count();
    let bytes_max = REQUEST_BYTES_MAX.max(subject.bounds().sector_size.into());
    let count_max = (bytes_max / u64::from(subject.bounds().sector_size)).min(sector_count);
    let rng = subject.rng();
    let small_max = count_max.min(12);
    let count = match rng.u8(0..10) {
        0 if rng.u8(0..4) == 0 => return 0..sector_count,
        0..3 => 1,
        3..8 => rng.u64(1..=small_max),
        _ => rng.u64(1..=count_max),
    };
    let last_start = sector_count - count;
    let start = match rng.u8(0..6) {
        0 => 0,
        1 => last_start,
        _ => rng.u64(0..=last_start),
    };
    start..start + count
}
