//! What the kernel knows about a running process.

use std::time::{Duration, Instant};

use super::{LOOK_INTERVAL, TIME_MAX};

/// Everything a process does when it runs at all: processor time, and how often it got or gave up a
/// processor. Equal readings mean that no thread of it ran in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Activity {
    /// User and system time, in the kernel's ticks.
    pub(crate) ticks: u64,
    /// Of all threads, voluntary or not.
    pub(crate) context_switch_count: u64,
}

/// What the process has done so far.
pub(crate) fn activity(pid: u32) -> Activity {
    let mut activity = Activity::default();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    for task in tasks {
        let folder = task.expect("threads can be listed").path();
        // A thread may end between the listing and the reading: it then shows as a change, which it is.
        let read = |name| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        let (stat, status) = (read("stat"), read("status"));
        // The name in parentheses may hold anything; after it, user and system time are the 12th and 13th.
        let fields = stat
            .rsplit_once(')')
            .map_or("", |(_, fields)| fields)
            .split_whitespace();
        activity.ticks += fields
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().unwrap())
            .sum::<u64>();
        activity.context_switch_count += number(&status, "voluntary_ctxt_switches:").unwrap_or(0)
            + number(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
    }
    activity
}

/// The largest amount of memory that the process ever had resident, in bytes.
pub(crate) fn resident_bytes_max(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    number(&status, "VmHWM:").expect("the kernel reports the high-water mark") * 1024
}

/// The amount of memory that the process has resident now, in bytes, without what it shares with others.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    number(&status, "RssAnon:").expect("the kernel reports anonymous memory") * 1024
}

/// The number after `name` at the start of a line.
fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Waits until no thread of the process runs for as long as `window`; panics if that never comes.
#[track_caller]
pub(crate) fn wait_until_still(pid: u32, window: Duration) {
    let begun = Instant::now();
    let mut last = (activity(pid), Instant::now());
    let mut wake_ups = Vec::new();
    while last.1.elapsed() < window {
        std::thread::sleep(LOOK_INTERVAL);
        let now = activity(pid);
        if now != last.0 {
            last = (now, Instant::now());
            wake_ups.push(begun.elapsed());
        }
        let recent = &wake_ups[wake_ups.len().saturating_sub(10)..];
        assert!(
            begun.elapsed() < TIME_MAX,
            "never still for {window:?}; ran lately at {recent:?}"
        );
    }
}
