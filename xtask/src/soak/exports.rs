//! The four exports, what of them a restart keeps, and who has which part of each.

use std::ops::Range;
use std::path::Path;

use serde_json::{Value, json};

use super::content::{Content, Place, SECTOR_BYTES, SECTOR_LEN};
use crate::Fallible;

pub(crate) const MIB: u64 = 1 << 20;

/// The size of each export in the beginning; the first MiBs of it belong to clients.
pub(crate) const SIZE_BYTES: u64 = 32 * MIB;
/// Where the part begins that the resizer cuts off and adds again.
pub(crate) const TAIL_BYTES: u64 = 28 * MIB;
pub(crate) const SIZE_BYTES_MAX: u64 = 36 * MIB;

/// The generation of the stamps that an image has before anybody writes.
const BASE: Content = Content::Stamp(0);

/// An export that the daemon has from its document.
#[derive(Debug)]
pub(crate) struct Export {
    pub(crate) name: &'static str,
    /// Where its faulty disk is in the inspection tree; the one in memory has none.
    pub(crate) fault_path: Option<&'static str>,
    /// Whether the faulty disk sees writes.
    pub(crate) fault_writes: bool,
    /// Whether a flush may be made to fail. Not where `qemu-io` works: it needs them to succeed.
    pub(crate) fault_flushes: bool,
    /// The image that keeps what was written, through restarts as well. Without one, what was written is gone after a restart.
    pub(crate) image: Option<&'static str>,
    /// What a sector holds that nobody wrote.
    pub(crate) unwritten: Content,
}

pub(crate) const BASE_IMAGE: &str = "base.raw";
/// The indexes of the exports, for whoever is choosy.
pub(crate) const RAM: usize = 0;
pub(crate) const OVERLAY: usize = 1;
pub(crate) const CACHED: usize = 2;
pub(crate) const NESTED: usize = 3;

pub(crate) const EXPORTS: [Export; 4] = [
    Export {
        name: "ram",
        fault_path: None,
        fault_writes: false,
        fault_flushes: false,
        image: None,
        unwritten: Content::Zero,
    },
    Export {
        name: "overlay",
        fault_path: Some("exports/overlay/disk/layers/1/backing"),
        fault_writes: false,
        fault_flushes: false,
        image: None,
        unwritten: BASE,
    },
    Export {
        name: "cached",
        fault_path: Some("exports/cached/disk/layers/1/backing"),
        fault_writes: true,
        fault_flushes: false,
        image: Some("cached.raw"),
        unwritten: BASE,
    },
    Export {
        name: "nested",
        fault_path: Some("exports/nested/disk/layers/0/backing"),
        fault_writes: true,
        fault_flushes: true,
        image: Some("nested.raw"),
        unwritten: BASE,
    },
];

/// The document of the daemon. Images are in its folder.
pub(crate) fn document(seed: u64) -> Value {
    let file = |path: &str| json!({ "type": "file", "path": path });
    let fault = |disk: Value| json!({ "type": "fault", "seed": seed & 0xffff_ffff, "disk": disk });
    let layered = |layers: Value| json!({ "type": "layered", "layers": layers });
    let disks = [
        layered(json!([{ "type": "ram", "size": SIZE_BYTES }])),
        layered(json!([{ "type": "ram" }, fault(file(BASE_IMAGE))])),
        layered(
            json!([{ "type": "ram", "read_cache": true, "write_through": true },
                       fault(file("cached.raw"))]),
        ),
        layered(json!([fault(layered(json!([file("nested.raw")])))])),
    ];
    let exports = EXPORTS.iter().zip(disks);
    let exports: Vec<_> = exports
        .map(|(export, disk)| json!({ "name": export.name, "disk": disk }))
        .collect();
    json!({ "exports": exports })
}

/// Makes the images as they are in the beginning.
pub(crate) fn make_images(folder: &Path) -> Fallible {
    for (export, name) in [
        (OVERLAY, BASE_IMAGE),
        (CACHED, "cached.raw"),
        (NESTED, "nested.raw"),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, unwritten(export, 0..SIZE_BYTES / SECTOR_BYTES))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

/// The bytes of sectors that nobody wrote.
pub(crate) fn unwritten(export: usize, sectors: Range<u64>) -> Vec<u8> {
    let count = usize::try_from(sectors.end - sectors.start).expect("an export is small");
    let mut bytes = vec![0; count * SECTOR_LEN];
    for (sector, bytes) in sectors.zip(bytes.chunks_mut(SECTOR_LEN)) {
        EXPORTS[export]
            .unwritten
            .put(Place { export, sector }, bytes);
    }
    bytes
}

/// The part of every export that a client has: so many MiBs from there on.
pub(crate) const fn part(start_mib: u64, mib_count: u64) -> Range<u64> {
    let sectors_per_mib = MIB / SECTOR_BYTES;
    start_mib * sectors_per_mib..(start_mib + mib_count) * sectors_per_mib
}

/// Clients that die; the only ones whom errors are made for.
pub(crate) const MORTAL_PARTS: [Range<u64>; 2] = [part(0, 2), part(2, 2)];
pub(crate) const QEMU_IO_PARTS: [Range<u64>; 2] = [part(4, 2), part(6, 2)];
pub(crate) const FIO_PARTS: [Range<u64>; 2] = [part(8, 4), part(12, 4)];
/// Nobody writes here.
pub(crate) const UNTOUCHED_PART: Range<u64> = part(16, TAIL_BYTES / MIB - 16);

/// Sectors of `whole` that none of `parts` covers.
pub(crate) fn uncovered(whole: Range<u64>, parts: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut parts: Vec<_> = parts.to_vec();
    parts.sort_by_key(|part| part.start);
    let mut gaps = Vec::new();
    let mut at = whole.start;
    for part in parts {
        if part.start > at {
            gaps.push(at..part.start.min(whole.end));
        }
        at = at.max(part.end);
    }
    if at < whole.end {
        gaps.push(at..whole.end);
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_do_not_overlap_and_leave_no_sector_out() {
        let parts: Vec<_> = [
            &MORTAL_PARTS[..],
            &QEMU_IO_PARTS,
            &FIO_PARTS,
            &[UNTOUCHED_PART],
        ]
        .concat();
        let total: u64 = parts.iter().map(|part| part.end - part.start).sum();
        assert_eq!(total, TAIL_BYTES / SECTOR_BYTES);
        assert_eq!(uncovered(part(0, TAIL_BYTES / MIB), &parts), []);
    }

    #[test]
    fn what_nobody_covers_is_found() {
        assert_eq!(uncovered(0..10, &[2..4, 0..3, 5..9]), [4..5, 9..10]);
        assert_eq!(uncovered(0..10, &[2..4, 6..10]), [0..2, 4..6]);
        assert_eq!(uncovered(0..10, &[]).len(), 1);
    }

    #[test]
    fn an_export_with_an_image_or_a_base_begins_with_stamps() {
        let bytes = unwritten(CACHED, 5..6);
        let place = Place {
            export: CACHED,
            sector: 5,
        };
        assert!(BASE.is(place, &bytes));
        assert!(unwritten(RAM, 5..6).iter().all(|byte| *byte == 0));
    }
}
