//! What the daemon uses: memory, descriptors and threads; and the verdicts on that, which know nothing of daemons.

use std::collections::BTreeMap;
use std::path::Path;

use super::control::{Control, sum_of};
use super::exports::MIB;
use crate::Fallible;

/// How many there are of each kind.
pub(crate) type Counts = BTreeMap<String, usize>;

/// Memory at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) resident_bytes: u64,
    /// What the layers in memory say that they hold.
    pub(crate) data_bytes: u64,
}

impl Memory {
    pub(crate) fn beyond_data(self) -> u64 {
        self.resident_bytes.saturating_sub(self.data_bytes)
    }
}

/// Beyond its data, an idle daemon needs less than this.
pub(crate) const AT_REST_BYTES_MAX: u64 = 64 * MIB;
/// The same for one at work: requests under way, and writes that are kept back.
pub(crate) const AT_WORK_BYTES_MAX: u64 = 256 * MIB;
/// What may be added from the first third of a daemon's life to the last one: allocator and kernel keep for a while what the busiest
/// moment so far has needed.
pub(crate) const GROWTH_BYTES_MAX: u64 = 16 * MIB;
/// With fewer looks than this there is nothing to be said of growth.
const LOOK_COUNT_MIN: usize = 6;

pub(crate) fn memory(pid: u32, control: &mut Control) -> Fallible<Memory> {
    let data = sum_of(&control.inspect("exports")?, "committed_size");
    Ok(Memory {
        resident_bytes: resident_bytes(pid)?,
        data_bytes: data,
    })
}

/// Without what it shares with others.
pub(crate) fn resident_bytes(pid: u32) -> Fallible<u64> {
    let path = format!("/proc/{pid}/status");
    let status = crate::workspace::read(Path::new(&path))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(1024 * kib.ok_or_else(|| format!("{path} tells no RssAnon"))?)
}

pub(crate) fn descriptors(pid: u32) -> Fallible<Counts> {
    count(&format!("/proc/{pid}/fd"), |path| {
        std::fs::read_link(path).map(|to| to.display().to_string())
    })
}

pub(crate) fn threads(pid: u32) -> Fallible<Counts> {
    count(&format!("/proc/{pid}/task"), |path| {
        std::fs::read_to_string(path.join("comm"))
    })
}

fn count(folder: &str, kind: impl Fn(&Path) -> std::io::Result<String>) -> Fallible<Counts> {
    let failed = |error| format!("cannot read {folder}: {error}");
    let mut counts = Counts::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        // One that is gone again is none.
        if let Ok(kind) = kind(&entry.map_err(failed)?.path()) {
            *counts.entry(without_numbers(&kind)).or_default() += 1;
        }
    }
    Ok(counts)
}

/// Threads of the pool that files are read and written with. They come with work and stay, up to a limit.
const POOL: &str = "blocking";
/// Far below the pool's own limit; the work here never needs more.
const POOL_THREAD_COUNT_MAX: usize = 64;

pub(crate) fn in_pool(threads: &Counts) -> usize {
    threads.get(POOL).copied().unwrap_or(0)
}

pub(crate) fn judge_pool(thread_count: usize) -> Result<(), String> {
    match thread_count > POOL_THREAD_COUNT_MAX {
        false => Ok(()),
        true => Err(format!(
            "the pool for files has {thread_count} threads, and {POOL_THREAD_COUNT_MAX} are enough"
        )),
    }
}

/// `socket:[123]` and `blocking-4` by their kind.
fn without_numbers(name: &str) -> String {
    let is_number = |c: char| c.is_ascii_digit() || "[]-\n".contains(c);
    match name.starts_with('/') {
        true => name.to_owned(),
        false => name.trim_end_matches(is_number).to_owned(),
    }
}

/// Threads of the kernel's that do what a ring was asked and would wait. They come with work and go some seconds after it.
const RING_WORKER: &str = "iou-wrk";

/// Whatever there is more of than in the beginning; threads that come with work on files apart.
pub(crate) fn left_over(what: &str, before: &Counts, now: &Counts) -> Result<(), String> {
    let more: Vec<_> = now
        .iter()
        .filter(|(kind, _)| ![POOL, RING_WORKER].contains(&kind.as_str()))
        .filter_map(|(kind, count)| {
            let was = before.get(kind).copied().unwrap_or(0);
            (*count > was).then(|| format!("{count} of `{kind}` instead of {was}"))
        })
        .collect();
    match more.is_empty() {
        true => Ok(()),
        false => Err(format!("{what} were left: {}", more.join(", "))),
    }
}

/// Judges the looks at one daemon's memory beyond its data while it was at rest, first to last.
pub(crate) fn judge_at_rest(beyond_data: &[u64]) -> Result<(), String> {
    if let Some(most) = beyond_data.iter().find(|bytes| **bytes > AT_REST_BYTES_MAX) {
        return Err(format!(
            "at rest the daemon has {} beyond its data, and {} are allowed",
            mib(*most),
            mib(AT_REST_BYTES_MAX)
        ));
    }
    let grown = growth(beyond_data);
    match grown > GROWTH_BYTES_MAX {
        false => Ok(()),
        true => Err(format!(
            "the daemon's memory beyond its data has grown by {} at least; at rest it was, in MiB: {}",
            mib(grown),
            beyond_data
                .iter()
                .map(|bytes| format!("{:.1}", bytes_as_mib(*bytes)))
                .collect::<Vec<_>>()
                .join(" ")
        )),
    }
}

/// By how much the least of the last third is above the most of the first third: what goes up and down has not grown.
pub(crate) fn growth(looks: &[u64]) -> u64 {
    if looks.len() < LOOK_COUNT_MIN {
        return 0;
    }
    let third = looks.len() / 3;
    let first_most = looks[..third].iter().max();
    let last_least = looks[looks.len() - third..].iter().min();
    let (Some(first_most), Some(last_least)) = (first_most, last_least) else {
        return 0;
    };
    last_least.saturating_sub(*first_most)
}

pub(crate) fn judge_at_work(memory: Memory) -> Result<(), String> {
    match memory.beyond_data() > AT_WORK_BYTES_MAX {
        false => Ok(()),
        true => Err(format!(
            "at work the daemon has {} beyond its data of {}, and {} are allowed",
            mib(memory.beyond_data()),
            mib(memory.data_bytes),
            mib(AT_WORK_BYTES_MAX)
        )),
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn bytes_as_mib(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes_as_mib(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, usize)]) -> Counts {
        of.iter()
            .map(|(kind, count)| ((*kind).to_owned(), *count))
            .collect()
    }

    #[test]
    fn a_planted_leak_of_memory_is_found_and_what_goes_up_and_down_is_none() {
        let steady: Vec<_> = (0..30).map(|look| 4 * MIB + look % 4 * MIB).collect();
        assert_eq!(judge_at_rest(&steady), Ok(()));
        // Almost two MiB more at each look.
        let leaking: Vec<_> = (0..)
            .zip(&steady)
            .map(|(look, bytes)| bytes + look * MIB * 9 / 5)
            .collect();
        let error = judge_at_rest(&leaking).unwrap_err();
        assert!(error.contains("has grown by"), "{error}");
    }

    #[test]
    fn a_start_that_fills_its_pools_is_no_growth() {
        let mut looks = vec![2 * MIB, 9 * MIB];
        looks.extend([10 * MIB; 10]);
        assert_eq!(growth(&looks), 0);
        assert_eq!(judge_at_rest(&looks), Ok(()));
    }

    #[test]
    fn too_much_memory_is_found_at_once() {
        let error = judge_at_rest(&[MIB, AT_REST_BYTES_MAX + 1]).unwrap_err();
        assert!(error.contains("beyond its data"), "{error}");
        let memory = Memory {
            resident_bytes: 300 * MIB,
            data_bytes: 43 * MIB,
        };
        assert!(judge_at_work(memory).unwrap_err().contains("257.0 MiB"));
        assert_eq!(
            judge_at_work(Memory {
                data_bytes: 44 * MIB,
                ..memory
            }),
            Ok(())
        );
    }

    #[test]
    fn a_planted_descriptor_is_found_and_named() {
        let before = counts(&[("socket:", 3), ("/a", 1)]);
        assert_eq!(left_over("descriptors", &before, &before), Ok(()));
        assert_eq!(
            left_over("descriptors", &before, &counts(&[("socket:", 2)])),
            Ok(())
        );
        let error = left_over(
            "descriptors",
            &before,
            &counts(&[("socket:", 4), ("/b", 1)]),
        );
        assert_eq!(
            error.unwrap_err(),
            "descriptors were left: 1 of `/b` instead of 0, 4 of `socket:` instead of 3"
        );
    }

    #[test]
    fn threads_of_the_pool_stay_and_have_a_bound_of_their_own() {
        let before = counts(&[("control", 1), (POOL, 2)]);
        let now = counts(&[("control", 1), (POOL, 5)]);
        assert_eq!(left_over("threads", &before, &now), Ok(()));
        assert!(left_over("threads", &before, &counts(&[("control", 2)])).is_err());
        assert_eq!(judge_pool(in_pool(&now)), Ok(()));
        assert!(judge_pool(POOL_THREAD_COUNT_MAX + 1).is_err());
    }

    #[test]
    fn a_descriptor_and_a_thread_of_our_own_are_seen() {
        let own = std::process::id();
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        assert_eq!(descriptors(own).unwrap()[&path], 1);
        drop(file);
        assert!(!descriptors(own).unwrap().contains_key(&path));
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("planted-7".into());
        let thread = thread.spawn(move || receiver.recv()).unwrap();
        while !threads(own).unwrap().contains_key("planted") {
            std::thread::yield_now();
        }
        drop(sender);
        let _ = thread.join().unwrap();
        assert!(resident_bytes(own).unwrap() > 0);
    }

    #[test]
    fn kinds_have_no_numbers() {
        for (name, kind) in [
            ("socket:[123]", "socket:"),
            ("anon_inode:[eventfd]", "anon_inode:[eventfd"),
            ("blocking-12\n", "blocking"),
            ("/images/disk-7", "/images/disk-7"),
        ] {
            assert_eq!(without_numbers(name), kind);
        }
    }
}
