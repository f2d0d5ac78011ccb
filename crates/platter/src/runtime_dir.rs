//! Where sockets go that nobody named.

use crate::exit::Failure;
use rustix::fs::Mode;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
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

/// Where the control socket of this process goes by default.
///
/// # Errors
/// As [`runtime_dir`].
pub(crate) fn control_socket() -> io::Result<PathBuf> {
    let name = format!("{CONTROL_PREFIX}{}{CONTROL_SUFFIX}", std::process::id());
    Ok(runtime_dir()?.join(name))
}

const CONTROL_PREFIX: &str = "platter-";
const CONTROL_SUFFIX: &str = ".control";

/// The control socket in the runtime directory behind which somebody listens, if there is exactly one.
///
/// # Errors
/// If there is none, or there are several.
pub(crate) fn only_control_socket() -> Result<PathBuf, Failure> {
    let dir = runtime_dir().map_err(Failure::running)?;
    let mut live = live_control_sockets(&dir).map_err(Failure::running)?;
    match live.len() {
        1 => Ok(live.remove(0)),
        0 => Err(Failure::running(format!(
            "there is no control socket in {}: start the daemon with --control auto, or name its socket with --control SOCKET",
            dir.display()
        ))),
        _ => {
            let live: Vec<_> = live.iter().map(|path| path.display().to_string()).collect();
            let live = live.join(", ");
            Err(Failure::running(format!(
                "several daemons have a control socket: choose one with --control SOCKET: {live}"
            )))
        }
    }
}

/// Those that daemons left behind refuse to be connected to.
fn live_control_sockets(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut live = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_one = name.starts_with(CONTROL_PREFIX) && name.ends_with(CONTROL_SUFFIX);
        if is_one && UnixStream::connect(entry.path()).is_ok() {
            live.push(entry.path());
        }
    }
    live.sort();
    Ok(live)
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
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_sockets_that_answer_count() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        drop(UnixListener::bind(at("platter-1.control")).unwrap());
        let _other = UnixListener::bind(at("platter.sock")).unwrap();
        assert_eq!(
            live_control_sockets(dir.path()).unwrap(),
            [] as [PathBuf; 0]
        );
        let _live = UnixListener::bind(at("platter-2.control")).unwrap();
        assert_eq!(
            live_control_sockets(dir.path()).unwrap(),
            [at("platter-2.control")]
        );
    }

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
