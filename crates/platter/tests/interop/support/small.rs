//! A file system that is soon full.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::peers;
use super::tool::skip;

/// A file system in memory, until it is dropped. Declared before the daemons that use it, so that they have ended by then.
pub(crate) struct SmallFileSystem {
    folder: TempDir,
}

impl SmallFileSystem {
    /// None where this is not allowed, which has been reported then.
    #[track_caller]
    pub(crate) fn new(size_bytes: u64) -> Option<Self> {
        let [mount, _] = peers(["mount", "umount"])?;
        let folder = tempfile::tempdir().expect("a folder");
        let output = Command::new(mount)
            .args(["-t", "tmpfs", "-o", &format!("size={size_bytes}"), "tmpfs"])
            .arg(folder.path())
            .output()
            .expect("mount starts");
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            skip(&format!("needs to mount: {}", said.trim_end()));
            return None;
        }
        Some(Self { folder })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        let output = Command::new("umount").arg(self.path()).output();
        // In a failing test, its own message is the one to see.
        assert!(
            output.is_ok_and(|output| output.status.success()) || std::thread::panicking(),
            "{} stays behind",
            self.path().display()
        );
    }
}
