//! The guest's first and only file system in memory: busybox, the modules, and what it runs.

use super::cpio::Archive;
use super::kit::Kit;
use super::modules;
use crate::Fallible;

const INIT: &str = include_str!("init.sh");

/// What `init.sh` calls.
const APPLETS: &[&str] = &[
    "cp", "dd", "head", "insmod", "md5sum", "mkdir", "mount", "mv", "poweroff", "rm", "seq", "sh",
    "stty", "sync", "touch", "umount",
];

/// What a disk with a file system needs, unless the kernel has it built in.
const MODULES: &[&str] = &["virtio_pci", "crc32c_generic", "ext4", "virtio_blk"];

pub(crate) fn make(kit: &Kit) -> Fallible<Vec<u8>> {
    let failed = |error| format!("cannot read {}: {error}", kit.busybox.display());
    let busybox = std::fs::read(&kit.busybox).map_err(failed)?;
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "mnt", "modules", "proc", "tmp"] {
        archive.folder(folder);
    }
    archive.file("bin/busybox", &busybox);
    for applet in APPLETS {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    let mut list = String::new();
    for module in modules::to_load(&kit.modules()?, MODULES)? {
        archive.file(&format!("modules/{}", module.name), &module.bytes);
        list += &format!("{}\n", module.name);
    }
    archive.file("modules/list", list.as_bytes());
    archive.file("init", INIT.as_bytes());
    Ok(archive.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_is_there_because_it_is_called() {
        let words: Vec<_> = INIT.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        for applet in APPLETS {
            assert!(words.contains(applet), "{applet} is called nowhere");
        }
    }
}
