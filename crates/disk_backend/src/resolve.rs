//! Disks as resources: how a description becomes a [`Disk`].

use crate::Disk;
use resource::{NoReserved, ResourceKind};

/// The kind of descriptions that describe disks.
#[derive(Debug)]
pub enum DiskHandleKind {}

impl ResourceKind for DiskHandleKind {
    const NAME: &'static str = "disk";
    type Reserved = NoReserved;
    type Input = ResolveDiskParameters;
    type Output = ResolvedDisk;
}

/// What the surroundings want of a disk, whatever its description says.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct ResolveDiskParameters {
    /// Nobody will write, so the disk is opened read-only, and refuses writes.
    pub read_only: bool,
    /// Where there is nothing, a small disk of zeros may be made: who asks will make it as long as it has to be. A type that cannot make
    /// one need not.
    pub may_make: bool,
}

impl ResolveDiskParameters {
    /// For a disk that is written, unless `read_only`.
    pub fn new(read_only: bool) -> Self {
        Self {
            read_only,
            may_make: false,
        }
    }

    /// May be made, if it is not there.
    #[must_use]
    pub fn made_if_missing(mut self) -> Self {
        self.may_make = true;
        self
    }
}

/// A disk that was built from its description.
#[derive(Debug, Clone)]
pub struct ResolvedDisk(pub Disk);
