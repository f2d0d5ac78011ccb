//! What the system knows of block devices beside their content.

use rustix::fs::{major, minor};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// A number from the device's request queue, as in `physical_block_size`; none where the system does not tell.
///
/// A partition has no queue of its own: its disk's is asked.
pub(crate) fn queue_attribute(device: u64, name: &str) -> Option<u64> {
    let node = format!("/sys/dev/block/{}:{}", major(device), minor(device));
    let read = |path: String| fs::read_to_string(path).ok()?.trim().parse().ok();
    read(format!("{node}/queue/{name}")).or_else(|| read(format!("{node}/../queue/{name}")))
}

/// Where the device is mounted, as far as this process can see.
pub(crate) fn mount_point_of(device: u64) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let number = format!("{}:{}", major(device), minor(device));
    mounts.lines().find_map(|line| {
        let (of_mount, of_source) = line.split_once(" - ")?;
        let fields: Vec<&str> = of_mount.split(' ').collect();
        let [_, _, mounted_number, _, mount_point, ..] = fields[..] else {
            return None;
        };
        // Some file systems have a number of their own, and only name the device they are on.
        let is_same = mounted_number == number || {
            let source = of_source.split(' ').nth(1)?;
            source.starts_with('/')
                && fs::metadata(source).is_ok_and(|found| found.rdev() == device)
        };
        is_same.then(|| mount_point.to_owned())
    })
}
