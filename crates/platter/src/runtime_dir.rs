//! Where sockets go that nobody named.

use rustix::fs::Mode;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The directory for this user's sockets: `$XDG_RUNTIME_DIR`, or else `platter-UID` in the directory for temporary files,
/// made if it is not there. Nobody else may have access to the latter.
///
/// # Errors
/// If the directory cannot be made, or is not this user's alone.
pub(crate) fn runtime_dir() -> io::Result<PathBuf> {
    if let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)
        && dir.is_absolute()
        && dir.is_dir()
    {
        return Ok(dir);
    }
    let uid = rustix::process::getuid().as_raw();
    let dir = std::env::temp_dir().join(format!("platter-{uid}"));
    match rustix::fs::mkdir(&dir, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    check_private(&dir, uid)?;
    Ok(dir)
}

/// Somebody else might have made the directory first, to get at the sockets in it.
fn check_private(dir: &Path, uid: u32) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(dir)?;
    let mode = metadata.permissions().mode() & 0o777;
    match metadata.is_dir() && metadata.uid() == uid && mode & 0o077 == 0 {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "{} is not a directory that only you have access to: remove it, or name a socket with --listen unix:PATH",
            dir.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_others_can_enter_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let uid = rustix::process::getuid().as_raw();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        check_private(dir.path(), uid).unwrap();
        check_private(dir.path(), uid + 1).unwrap_err();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o710)).unwrap();
        check_private(dir.path(), uid).unwrap_err();
    }
}
