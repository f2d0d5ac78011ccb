//! Reads what QEMU's `blklogwrites` has written: all changes of a disk, in order, with its flushes.
//!
//! The form is that of Linux's `dm-log-writes`, in sectors of the size that the first one tells, little-endian:
//!
//! | Where | What |
//! | --- | --- |
//! | sector 0 | magic, version (1), number of entries: 8 bytes each; size of a sector: 4 bytes |
//! | from sector 1 | entries: a sector with the head, then the sectors that were written |
//!
//! A head is four numbers of 8 bytes: first sector, number of sectors, flags, and a length that is not used here. A discard has no
//! sectors behind its head. The number of entries is brought up to date with each flush.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::Fallible;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

/// A change, or a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: EntryKind,
    /// What came before it is durable.
    pub(crate) is_flush: bool,
    /// It is durable by itself.
    pub(crate) is_fua: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// Bytes of the disk, which are in the log from `log_offset` on. May be none.
    Write {
        offset: u64,
        len: u64,
        log_offset: u64,
    },
    /// What the sectors hold is nobody's matter any more.
    Discard,
    /// A name that somebody gave to this place of the log.
    Mark,
}

#[derive(Debug)]
pub(crate) struct WriteLog {
    file: File,
    pub(crate) entries: Vec<Entry>,
}

impl WriteLog {
    pub(crate) fn read(path: &Path) -> Fallible<Self> {
        let file = open(path)?;
        let read = |error| format!("cannot read {}: {error}", path.display());
        let (entry_count, sector_bytes) = head(&file)?;
        let mut entries = Vec::new();
        let mut log_offset = sector_bytes;
        for _ in 0..entry_count {
            let mut bytes = [0; 32];
            file.read_exact_at(&mut bytes, log_offset).map_err(read)?;
            let [sector, sector_count, flags, _] = numbers(&bytes);
            log_offset += sector_bytes;
            let len = sector_count
                .checked_mul(sector_bytes)
                .ok_or_else(|| format!("{}: an entry has no end", path.display()))?;
            let kind = match flags {
                flags if flags & DISCARD != 0 => EntryKind::Discard,
                flags if flags & MARK != 0 => EntryKind::Mark,
                _ => EntryKind::Write {
                    offset: sector * sector_bytes,
                    len,
                    log_offset,
                },
            };
            if kind != EntryKind::Discard {
                log_offset += len;
            }
            entries.push(Entry {
                kind,
                is_flush: flags & FLUSH != 0,
                is_fua: flags & FUA != 0,
            });
        }
        Ok(Self { file, entries })
    }

    /// Does to `image` what the entry says was done.
    pub(crate) fn apply(&self, entry: &Entry, image: &File) -> Fallible {
        let EntryKind::Write {
            offset,
            len,
            log_offset,
        } = entry.kind
        else {
            return Ok(());
        };
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| "an entry is too long")?];
        self.file
            .read_exact_at(&mut bytes, log_offset)
            .and_then(|()| image.write_all_at(&bytes, offset))
            .map_err(|error| format!("cannot replay a write of {len} bytes: {error}"))
    }
}

/// How many entries a log had at its last flush; none if it has just been made.
pub(crate) fn entry_count(path: &Path) -> Fallible<u64> {
    let file = open(path)?;
    let len = file.metadata().map_or(0, |metadata| metadata.len());
    match len {
        0 => Ok(0),
        _ => head(&file).map(|(entry_count, _)| entry_count),
    }
}

fn open(path: &Path) -> Fallible<File> {
    File::open(path).map_err(|error| format!("cannot open {}: {error}", path.display()))
}

/// The number of entries, and the size of a sector.
fn head(file: &File) -> Fallible<(u64, u64)> {
    let mut bytes = [0; 32];
    file.read_exact_at(&mut bytes, 0)
        .map_err(|error| format!("cannot read the head of a log of writes: {error}"))?;
    let [magic, version, entry_count, sector_bytes] = numbers(&bytes);
    let sector_bytes = sector_bytes & u64::from(u32::MAX);
    if magic != MAGIC || version != VERSION || !sector_bytes.is_power_of_two() {
        return Err("a log of writes does not begin as it should".into());
    }
    Ok((entry_count, sector_bytes))
}

fn numbers(bytes: &[u8; 32]) -> [u64; 4] {
    std::array::from_fn(|index| {
        let bytes = &bytes[index * 8..][..8];
        u64::from_le_bytes(bytes.try_into().expect("a number has 8 bytes"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sectors of 512 bytes: a number in each 8 bytes, then zeros.
    fn sector(numbers: &[u64]) -> Vec<u8> {
        let mut bytes: Vec<_> = numbers.iter().flat_map(|one| one.to_le_bytes()).collect();
        bytes.resize(512, 0);
        bytes
    }

    fn log(entries: &[Vec<u8>]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, entries.concat()).unwrap();
        (folder, path)
    }

    #[test]
    fn a_log_is_read_and_replayed() {
        let (folder, path) = log(&[
            sector(&[MAGIC, VERSION, 4, 512]),
            sector(&[3, 2, FUA, 0]),
            vec![7; 1024],
            sector(&[3, 1, DISCARD, 0]),
            sector(&[0, 0, FLUSH, 0]),
            sector(&[4, 1, 0, 0]),
            vec![9; 512],
        ]);
        assert_eq!(entry_count(&path), Ok(4));
        let log = WriteLog::read(&path).unwrap();
        let flags: Vec<_> = log
            .entries
            .iter()
            .map(|one| (one.is_flush, one.is_fua))
            .collect();
        let (none, flush, fua) = ((false, false), (true, false), (false, true));
        assert_eq!(flags, [fua, none, flush, none]);
        let image = folder.path().join("image");
        let file = File::create(&image).unwrap();
        for entry in &log.entries {
            log.apply(entry, &file).unwrap();
        }
        let mut expected = vec![0; 512 * 3];
        expected.extend([7; 512]);
        expected.extend([9; 512]);
        assert_eq!(std::fs::read(&image).unwrap(), expected);
    }

    #[test]
    fn what_is_no_log_or_ends_too_early_is_refused() {
        let (_folder, path) = log(&[sector(&[MAGIC + 1, VERSION, 0, 512])]);
        assert!(WriteLog::read(&path).is_err());
        let (_folder, path) = log(&[sector(&[MAGIC, VERSION, 1, 512])]);
        assert!(WriteLog::read(&path).is_err());
        let (_folder, path) = log(&[]);
        assert_eq!(entry_count(&path), Ok(0));
    }
}
