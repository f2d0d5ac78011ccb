//! Making a new image, and unmaking it if nothing comes of it.

use crate::{FileDiskOptions, OpenError};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Makes an empty file if one is wanted and none is there.
pub(crate) fn create_if_missing(
    path: &Path,
    options: &FileDiskOptions,
) -> Result<Option<File>, OpenError> {
    if !options.create {
        return Ok(None);
    }
    if options.read_only {
        return match path.try_exists() {
            Ok(false) => Err(OpenError::CreateReadOnly(path.to_owned())),
            _ => Ok(None),
        };
    }
    match OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
    {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(OpenError::io(path, "create it")(error)),
    }
}

/// A file that was not there before, and is removed again unless the disk comes about.
///
/// Only whoever has the file locked may have one: without the lock, the file may be another's disk already.
pub(crate) struct NotKeptYet {
    path: Option<PathBuf>,
}

impl NotKeptYet {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: Some(path.to_owned()),
        }
    }

    pub(crate) fn keep(mut self) {
        self.path = None;
    }
}

impl Drop for NotKeptYet {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!(path = %path.display(), %error, "a new image that did not become a disk is left behind");
        }
    }
}

/// Makes a new image durable, its name included: a flush of the disk says nothing about the directory.
pub(crate) fn make_durable(file: &File, path: &Path) -> Result<(), OpenError> {
    file.sync_all()
        .map_err(OpenError::io(path, "make the new image durable"))?;
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    match File::open(directory).and_then(|directory| directory.sync_all()) {
        // Not every file system knows how to sync a directory; those that do not, need not.
        Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(OpenError::io(
            path,
            "make the new image's name durable",
        )(error)),
        _ => Ok(()),
    }
}
