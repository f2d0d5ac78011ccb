//! Serves a disk that stores nothing, over NBD: what the client, the protocol and the frontend cost by themselves.
//!
//! Row 10: a tool. `cargo xtask bench nbd` measures it beside the servers that store data. Where `platter serve` is as fast as this, a
//! faster store would change nothing. A read leaves the buffers as they are, and a write is dropped, so no byte of the content is
//! touched but by the socket.

use std::path::PathBuf;

use clap::Parser;
use disk_backend::{Disk, DiskError, DiskIo, Persistence, UnmapBehavior};
use frontend_nbd::{Export, Limits, ListenAddress, Server};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;

/// Serve a disk of 1 GiB that stores nothing.
#[derive(Debug, Parser)]
struct Args {
    /// The Unix socket to listen on
    socket: PathBuf,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let disk = Disk::new(NullDisk)?;
    let mut server = Server::new([Export::new("", disk)?], Limits::default())?;
    server.listen(&ListenAddress::Unix(args.socket))?;
    server.serve()?;
    Ok(())
}

const SECTOR_BYTES: u32 = 512;
const DISK_BYTES: u64 = 1 << 30;

/// A disk that forgets what it is told, and makes up what it is asked for.
#[derive(Debug, Inspect)]
struct NullDisk;

impl NullDisk {
    /// Nothing was checked before a request that needs no waiting: see [`DiskIo::try_read`].
    fn is_legal(buffers: &RequestBuffers<'_>, sector: u64) -> bool {
        let len = buffers.len() as u64;
        let disk = DISK_BYTES / u64::from(SECTOR_BYTES);
        let end = sector.checked_add(len / u64::from(SECTOR_BYTES));
        len.is_multiple_of(u64::from(SECTOR_BYTES)) && end.is_some_and(|end| end <= disk)
    }
}

impl DiskIo for NullDisk {
    fn disk_type(&self) -> &str {
        "null"
    }

    fn sector_count(&self) -> u64 {
        DISK_BYTES / u64::from(SECTOR_BYTES)
    }

    fn sector_size(&self) -> u32 {
        SECTOR_BYTES
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        None
    }

    fn physical_sector_size(&self) -> u32 {
        SECTOR_BYTES
    }

    fn is_fua_respected(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn persistence(&self) -> Persistence {
        Persistence::Volatile
    }

    async fn unmap(&self, _: u64, _: u64, _: bool) -> Result<(), DiskError> {
        Ok(())
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        UnmapBehavior::Ignored
    }

    fn try_read(&self, buffers: &RequestBuffers<'_>, sector: u64) -> bool {
        Self::is_legal(buffers, sector)
    }

    fn try_write(&self, buffers: &RequestBuffers<'_>, sector: u64, _: bool) -> bool {
        Self::is_legal(buffers, sector)
    }

    async fn read_vectored(&self, _: &RequestBuffers<'_>, _: u64) -> Result<(), DiskError> {
        Ok(())
    }

    async fn write_vectored(
        &self,
        _: &RequestBuffers<'_>,
        _: u64,
        _: bool,
    ) -> Result<(), DiskError> {
        Ok(())
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        Ok(())
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        if sector_count != self.sector_count() {
            return self.sector_count();
        }
        std::future::pending().await
    }
}
