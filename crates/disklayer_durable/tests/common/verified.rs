//! A layer that verifies its data.

use super::{tight, try_read};
use disk_backend::{DiskError, MediumErrorDetails};
use disk_layered::LayerIo;
use disklayer_durable::{CheckReport, FormatOptions, Verify};

pub(crate) const SECTORS: u64 = 24;
const LOG_BLOCKS: u32 = 15;

/// Stripes of eight sectors, and a log of 15 blocks.
pub(crate) fn verified() -> FormatOptions {
    let mut options = tight(SECTORS, 512);
    options.log_blocks = Some(LOG_BLOCKS);
    options.verify = Verify::Data;
    options.layer_id = Some([0xab; 16]);
    options
}

/// Where the data of a sector lies.
pub(crate) fn place(sector: u64) -> u64 {
    let stripe = 8192 + u64::from(LOG_BLOCKS) * 4096 + sector / 8 * (4096 + 8 * 512);
    stripe + 4096 + sector % 8 * 512
}

/// What is said of a sector that has rotted.
pub(crate) async fn rot(layer: &impl LayerIo, sector: u64) -> String {
    match try_read(layer, sector).await {
        Err(DiskError::MediumError(error, MediumErrorDetails::UnrecoveredReadError)) => {
            error.to_string()
        }
        other => panic!("sector {sector}: {other:?}"),
    }
}

/// How many sectors are verified, are not, and are bad.
pub(crate) fn counts(report: &CheckReport) -> (u64, u64, u64) {
    (
        report.verified_sectors,
        report.unverified_sectors,
        report.bad_sectors,
    )
}
