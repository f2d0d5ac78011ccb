//! The configuration of a file disk.

use crate::{FileDisk, FileDiskOptions, OpenError};
use disk_backend::Disk;
use disk_backend::resolve::{DiskHandleKind, ResolveDiskParameters, ResolvedDisk};
use resource::{ByteSize, Failure, ResolveContext, ResourceHandle};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A raw image in a file, or a block device.
///
/// The file is locked while it is used, so that neither QEMU nor another disk spoils it: any number may read it, or one may
/// write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileDiskHandle {
    /// The file or the device, relative to the file that holds this description.
    pub path: PathBuf,
    /// Refuse writes, and open the file for reading alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// If the file is missing or empty, make it `size` long and all zeros. If it is there, it must have that size.
    #[serde(default, skip_serializing_if = "is_false")]
    pub create: bool,
    /// The size of the file to create.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
    /// The size of a sector in bytes: a power of two from 512 to 65536.
    #[serde(default = "sector_size_default")]
    pub sector_size: u32,
    /// Go past the page cache (`O_DIRECT`). Then `sector_size` must be at least the block size of the file's direct I/O, which often is
    /// 512 bytes and sometimes 4096.
    #[serde(default, skip_serializing_if = "is_false")]
    pub direct: bool,
    /// Let io_uring do what has to wait for the medium, as it does unless this is `false`. Where the system allows none, threads do.
    #[serde(default = "io_uring_default", skip_serializing_if = "is_true")]
    pub io_uring: bool,
    /// Let io_uring or a thread make each write that might wait. Without this, the thread that serves a client makes short writes into the page
    /// cache itself, as long as that hardly ever waits.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hand_over_writes: bool,
}

impl FileDiskHandle {
    /// An existing file, read and written in sectors of 512 bytes.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            read_only: false,
            create: false,
            size: None,
            sector_size: sector_size_default(),
            direct: false,
            io_uring: io_uring_default(),
            hand_over_writes: false,
        }
    }
}

fn io_uring_default() -> bool {
    FileDiskOptions::default().io_uring
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "what serde calls takes a reference"
)]
fn is_true(value: &bool) -> bool {
    *value
}

fn sector_size_default() -> u32 {
    FileDiskOptions::default().sector_size
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "what serde calls takes a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}

#[resource::async_trait]
impl ResourceHandle<DiskHandleKind> for FileDiskHandle {
    const ID: &'static str = "file";

    async fn resolve(
        self,
        context: &ResolveContext<'_>,
        wanted: ResolveDiskParameters,
    ) -> Result<ResolvedDisk, Failure> {
        if self.path.as_os_str().is_empty() {
            let message = "the path is empty: name a file or a block device";
            return Err(context.bad_value("path", message).into());
        }
        let path = context.join(&self.path);
        let mut options = FileDiskOptions {
            read_only: self.read_only || wanted.read_only,
            create: self.create,
            size_bytes: self.size.map(ByteSize::bytes),
            sector_size: self.sector_size,
            direct: self.direct,
            io_uring: self.io_uring,
            hand_over_writes: self.hand_over_writes,
        };
        let says_more = options.create || options.size_bytes.is_some();
        let may_make = wanted.may_make && !says_more;
        let opened = blocking::unblock(move || {
            // Read-only it is not made, and the error says that it would be.
            if may_make && is_to_be_made(&path, options.read_only) {
                options.create = true;
                options.size_bytes = Some(u64::from(options.sector_size).max(MADE_BYTES));
            }
            FileDisk::open(&path, &options)
        });
        let opened = opened.await;
        let disk = opened.map_err(|error| context.failed_at(key_to_blame(&error), error))?;
        Ok(ResolvedDisk(Disk::new(disk)?))
    }
}

/// The length of a file that is made for somebody who will make it longer.
const MADE_BYTES: u64 = 4096;

fn is_to_be_made(path: &Path, read_only: bool) -> bool {
    match std::fs::metadata(path) {
        Ok(metadata) => !read_only && metadata.is_file() && metadata.len() == 0,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// The key of the description that the error is about.
fn key_to_blame(error: &OpenError) -> &'static str {
    match error {
        OpenError::InvalidSectorSize(_)
        | OpenError::SectorSmallerThanDevice { .. }
        | OpenError::SectorSmallerThanDirect { .. } => "sector_size",
        OpenError::DirectUnsupported(_) => "direct",
        OpenError::CreateNeedsSize(_) => "create",
        OpenError::SizeNeedsCreate(_)
        | OpenError::InvalidCreateSize { .. }
        | OpenError::ExistsWithOtherSize { .. } => "size",
        _ => "path",
    }
}

resource::register! { FileDiskHandle: DiskHandleKind }
